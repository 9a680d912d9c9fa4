//! From a memory map to a picture of it.

use crate::map::{Mapping, MemoryMap, Region};
use crate::paint::clean;
use crate::picture::{Block, Column, Fill, Ground, Kind, Look, Picture, Status};
use crate::range::ByteRange;
use crate::row::{Row, What};
use crate::table::{gap_name, is_read_only};
use std::collections::BTreeSet;

impl Picture {
    pub(crate) fn of(map: &MemoryMap) -> Self {
        let backings = backings(map);
        let hue = |name: &str| Fill::Hue(backings.iter().position(|one| one == name).unwrap_or(0));
        let mut columns = vec![view(map, hue)];
        columns.extend(regions(map, hue));
        columns.extend(mappings(map, hue));
        columns.extend(slots(map));
        Self {
            space: map.space,
            columns,
            backings,
        }
    }
}

/// The names of all backings, in the order in which the address space first shows them.
fn backings(map: &MemoryMap) -> Vec<String> {
    let visible = map.view.iter().map(|visible| &visible.backing);
    let mapped = map.mappings.iter().map(|mapping| &mapping.backing);
    let regions = map.regions.iter().flat_map(|region| &region.mappings);
    let all = visible
        .chain(mapped)
        .chain(regions.map(|mapping| &mapping.backing));
    let mut seen = BTreeSet::new();
    all.filter(|name| seen.insert(name.as_str()))
        .cloned()
        .collect()
}

fn view(map: &MemoryMap, hue: impl Fn(&str) -> Fill) -> Column {
    let blocks = map.view.iter().map(|visible| Block {
        range: visible.range,
        key: 0,
        name: clean(&map.region_name(visible.region)),
        detail: clean(&visible.permissions),
        shows: Some(shows(&visible.backing, visible.offset, visible.range)),
        look: Look {
            fill: hue(&visible.backing),
            read_only: is_read_only(&visible.permissions),
            faded: false,
        },
        status: Status::Same,
    });
    let blocks = blocks.collect();
    let rows = Row::all(map).into_iter();
    let ground = rows.filter(|row| !matches!(row.what, What::Visible(_)));
    Column {
        key: "view".to_owned(),
        heading: "flat view".to_owned(),
        kind: Kind::View,
        blocks,
        ground: ground
            .map(|row| {
                let hole = matches!(row.what, What::Hole(_));
                Ground {
                    range: row.range,
                    name: gap_name(&row.what),
                    hole,
                }
            })
            .collect(),
    }
}

/// One column for each priority, the highest first.
fn regions(map: &MemoryMap, hue: impl Fn(&str) -> Fill) -> Vec<Column> {
    let priorities: BTreeSet<u64> = map.regions.iter().map(|region| region.priority).collect();
    let columns = priorities.into_iter().rev().map(|priority| {
        let regions = map
            .regions
            .iter()
            .filter(|region| region.priority == priority);
        let blocks: Vec<Block> = regions
            .filter_map(|region| Some(region_block(map, region, region.placed?, &hue)))
            .collect();
        Column {
            key: format!("regions {priority}"),
            heading: format!("regions, priority {priority}"),
            kind: Kind::Regions,
            blocks,
            ground: Vec::new(),
        }
    });
    columns.filter(|column| !column.blocks.is_empty()).collect()
}

fn region_block(
    map: &MemoryMap,
    region: &Region,
    range: ByteRange,
    hue: impl Fn(&str) -> Fill,
) -> Block {
    let from = map
        .view
        .partition_point(|visible| visible.range.end() <= range.start());
    let seen = map.view.iter().skip(from);
    let mut seen = seen.take_while(|visible| visible.range.start() < range.end());
    let hidden = seen.all(|visible| visible.region != region.id) && !region.mappings.is_empty();
    let (detail, read_only) = match &region.mapped {
        None => ("unmapped".to_owned(), false),
        Some(access) if hidden => (format!("{}, hidden", clean(access)), is_read_only(access)),
        Some(access) => (clean(access), is_read_only(access)),
    };
    let detail = match &region.alias {
        Some(alias) => {
            let target = clean(&map.region_name(alias.of));
            match alias.offset {
                0 => format!("{detail}, alias of {target}"),
                offset => format!("{detail}, alias of {target} + {offset:#x}"),
            }
        }
        None => detail,
    };
    let detail = match region.one_slot {
        true => format!("{detail}, one slot"),
        false => detail,
    };
    let whole =
        |mapping: &Mapping| mapping.range.start() == 0 && mapping.range.len() == range.len();
    let one = region.mappings.first().filter(|mapping| whole(mapping));
    let same = region
        .mappings
        .windows(2)
        .all(|pair| pair.first().map(|one| &one.backing) == pair.last().map(|one| &one.backing));
    let fill = match region.mappings.first() {
        _ if region.mapped.is_none() => Fill::Frame,
        Some(first) if same => hue(&first.backing),
        Some(_) => Fill::Neutral,
        None => Fill::Frame,
    };
    let detail = match region.mappings.len() {
        0 => format!("{detail}, hole"),
        1 if one.is_some() => detail,
        1 => format!("{detail}, 1 mapping"),
        more => format!("{detail}, {more} mappings"),
    };
    Block {
        range,
        key: region.id,
        name: clean(&region.name),
        detail,
        shows: one.map(|mapping| shows(&mapping.backing, mapping.offset, range)),
        look: Look {
            fill,
            read_only,
            faded: hidden || region.mapped.is_none(),
        },
        status: Status::Same,
    }
}

/// What host addresses show; where the tree has no VA mapper, what the mapped regions contain.
fn mappings(map: &MemoryMap, hue: impl Fn(&str) -> Fill) -> Option<Column> {
    let block = |key, mapping: &Mapping| Block {
        range: mapping.range,
        key,
        name: String::new(),
        detail: clean(&mapping.access),
        shows: Some(shows(&mapping.backing, mapping.offset, mapping.range)),
        look: Look {
            fill: hue(&mapping.backing),
            read_only: is_read_only(&mapping.access),
            faded: false,
        },
        status: Status::Same,
    };
    let blocks: Vec<Block> = match map.mappings.is_empty() {
        false => map
            .mappings
            .iter()
            .map(|mapping| block(0, mapping))
            .collect(),
        true => {
            let mapped = map.regions.iter().filter(|region| region.mapped.is_some());
            let all = mapped.flat_map(|region| {
                let shown = region
                    .placed
                    .into_iter()
                    .flat_map(|range| region.shown_in(range));
                shown
                    .map(|mapping| block(region.id, &mapping))
                    .collect::<Vec<_>>()
            });
            all.collect()
        }
    };
    (!blocks.is_empty()).then(|| Column {
        key: "mappings".to_owned(),
        heading: "mappings".to_owned(),
        kind: Kind::Mappings,
        blocks,
        ground: Vec::new(),
    })
}

/// One column for each listener.
fn slots(map: &MemoryMap) -> impl Iterator<Item = Column> {
    map.listeners.iter().map(|listener| {
        let blocks = listener.slots.iter().map(|slot| Block {
            range: slot.range,
            key: 0,
            name: match slot.id {
                Some(id) => format!("#{id}"),
                None => "slot".to_owned(),
            },
            detail: match slot.note.as_str() {
                "" => clean(&slot.permissions),
                note => format!("{} {}", clean(&slot.permissions), clean(note)),
            },
            shows: None,
            look: Look {
                fill: match slot.note.contains("stray") || slot.note.contains("missing") {
                    true => Fill::Alarm,
                    false => Fill::Neutral,
                },
                read_only: is_read_only(&slot.permissions),
                faded: false,
            },
            status: Status::Same,
        });
        let name = clean(&listener.name);
        Column {
            key: format!("slots {}", listener.key),
            heading: match listener.offset {
                0 => format!("slots, {name}"),
                offset => format!("slots, {name} at +{offset:#x}"),
            },
            kind: Kind::Slots,
            blocks: blocks.collect(),
            ground: Vec::new(),
        }
    })
}

fn shows(backing: &str, offset: u64, range: ByteRange) -> (String, u64) {
    (backing.to_owned(), offset.wrapping_sub(range.start()))
}
