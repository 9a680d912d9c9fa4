//! The memory map, drawn from the inspection tree alone: what is visible where, what lies hidden
//! under it, and which slots of which partition show it.

use comfy_table::{CellAlignment, Table, presets};
use guest_memory_manager::MemoryRange;
use inspect::{Node, Value};
use serde_json::json;

/// A line of the map.
struct Row {
    range: MemoryRange,
    what: What,
}

enum What {
    /// Seen by the guest.
    Visible {
        region: String,
        permissions: String,
        backing: String,
        /// For each partition: its name, and the ids of the slots that show the range.
        slots: Vec<(String, Vec<u64>)>,
        hidden: Vec<Hidden>,
    },
    /// Nothing is visible; a load or store is an MMIO exit.
    Gap {
        name: &'static str,
        hidden: Vec<Hidden>,
    },
}

/// A region that is not seen where it lies.
struct Hidden {
    range: MemoryRange,
    region: String,
    priority: u64,
    why: &'static str,
}

/// A region as the tree tells of it.
struct Region {
    id: String,
    name: String,
    priority: u64,
    placed: MemoryRange,
    mapped: bool,
}

/// The map as a table, with a column of slot ids for each way in which a partition sees it.
pub fn draw(tree: &Node) -> String {
    let names: Vec<String> = listeners(tree).map(|one| text(one, "name")).collect();
    let header = ["guest physical", "size", "what", "access", "backing"];
    let slots = names.iter().map(|name| format!("slot in\n{name}"));
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header.into_iter().map(str::to_owned).chain(slots));
    for row in rows(tree) {
        let (range, size) = (row.range.to_string(), size(row.range.len()));
        let hidden = match row.what {
            What::Visible {
                region,
                permissions,
                backing,
                slots,
                hidden,
            } => {
                let ids = names.iter().map(|name| {
                    let found = slots.iter().find(|(partition, _)| partition == name);
                    let ids = found.into_iter().flat_map(|(_, ids)| ids);
                    let ids: Vec<String> = ids.map(u64::to_string).collect();
                    ids.join(" ")
                });
                table.add_row(
                    [range, size, region, permissions, backing]
                        .into_iter()
                        .chain(ids),
                );
                hidden
            }
            What::Gap { name, hidden } => {
                table.add_row([range, size, format!("· {name}")]);
                hidden
            }
        };
        for one in hidden {
            table.add_row([
                format!("  {}", one.range),
                self::size(one.range.len()),
                format!("  └ {}, {}", one.region, one.why),
                String::new(),
                format!("(priority {})", one.priority),
            ]);
        }
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// The map for programs.
pub fn json(tree: &Node) -> serde_json::Value {
    let hidden = |hidden: &[Hidden]| -> Vec<serde_json::Value> {
        let hidden = hidden.iter().map(|one| {
            json!({
                "range": one.range.to_string(),
                "region": one.region,
                "priority": one.priority,
                "why": one.why,
            })
        });
        hidden.collect()
    };
    let rows = rows(tree).into_iter().map(|row| match row.what {
        What::Visible {
            region,
            permissions,
            backing,
            slots,
            hidden: below,
        } => {
            let slots = slots
                .into_iter()
                .map(|(partition, ids)| json!({ "partition": partition, "ids": ids }));
            json!({
                "range": row.range.to_string(),
                "region": region,
                "permissions": permissions,
                "backing": backing,
                "slots": slots.collect::<Vec<_>>(),
                "hidden": hidden(&below),
            })
        }
        What::Gap {
            name,
            hidden: below,
        } => json!({
            "range": row.range.to_string(),
            "gap": name,
            "hidden": hidden(&below),
        }),
    });
    rows.collect()
}

/// Reads the map out of the tree.
fn rows(tree: &Node) -> Vec<Row> {
    let Some(view) = tree.child("view") else {
        return Vec::new();
    };
    let regions = regions(view);
    let mut rows = Vec::new();
    let mut end_of_last = 0;
    for (name, visible) in children(view, "flat_view") {
        let Ok(range) = name.parse::<MemoryRange>() else {
            continue;
        };
        push_gap(&mut rows, end_of_last, range.start(), &regions);
        end_of_last = range.end();
        let id = number(visible, "region").to_string();
        let region = regions.iter().find(|region| region.id == id);
        let offset = number(visible, "offset");
        rows.push(Row {
            range,
            what: What::Visible {
                region: region.map_or_else(|| id.clone(), |region| region.name.clone()),
                permissions: text(visible, "permissions"),
                backing: format!("{} + {offset:#x}", text(visible, "backing")),
                slots: slots(tree, range),
                hidden: hidden(&regions, range, Some(&id)),
            },
        });
    }
    let space: Option<MemoryRange> = text(view, "address_space").parse().ok();
    if let Some(space) = space {
        push_gap(&mut rows, end_of_last, space.end(), &regions);
    }
    rows
}

fn push_gap(rows: &mut Vec<Row>, start: u64, end: u64, regions: &[Region]) {
    if let Ok(range) = MemoryRange::try_new(start..end)
        && !range.is_empty()
    {
        rows.push(Row {
            range,
            what: What::Gap {
                name: "nothing: MMIO exits",
                hidden: hidden(regions, range, None),
            },
        });
    }
}

fn regions(view: &Node) -> Vec<Region> {
    let regions = children(view, "regions").filter_map(|(id, region)| {
        Some(Region {
            id: id.to_owned(),
            name: text(region, "name"),
            priority: number(region, "priority"),
            placed: text(region, "placed_at").parse().ok()?,
            mapped: region.child("mapped")?.as_directory().is_some(),
        })
    });
    regions.collect()
}

/// Every region that lies in a range and is not the one that shows.
fn hidden(regions: &[Region], range: MemoryRange, visible: Option<&str>) -> Vec<Hidden> {
    let mut hidden: Vec<Hidden> = regions
        .iter()
        .filter(|region| Some(region.id.as_str()) != visible && region.placed.overlaps(&range))
        .map(|region| Hidden {
            range: region.placed.intersection(&range),
            region: region.name.clone(),
            priority: region.priority,
            why: if region.mapped { "hidden" } else { "unmapped" },
        })
        .collect();
    hidden.sort_by_key(|one| std::cmp::Reverse(one.priority));
    hidden
}

/// The slots that show a range, for each listener that has any. A listener with an offset holds
/// them that much higher.
fn slots(tree: &Node, range: MemoryRange) -> Vec<(String, Vec<u64>)> {
    let mut found = Vec::new();
    for listener in listeners(tree) {
        let Some(shown) = range.shifted(number(listener, "offset")) else {
            continue;
        };
        let Some(partition) = listener.child("partition") else {
            continue;
        };
        let slots = children(partition, "slots").filter(|(_, slot)| {
            let gpa: Option<MemoryRange> = text(slot, "gpa").parse().ok();
            gpa.is_some_and(|gpa| gpa.overlaps(&shown))
        });
        let ids: Vec<u64> = slots.map(|(_, slot)| number(slot, "id")).collect();
        if !ids.is_empty() {
            found.push((text(listener, "name"), ids));
        }
    }
    found
}

/// Whoever follows the view: a partition, once or (with an alias map) twice.
fn listeners(tree: &Node) -> impl Iterator<Item = &Node> {
    let view = tree.child("view").into_iter();
    view.flat_map(|view| children(view, "listeners"))
        .map(|(_, listener)| listener)
}

fn children<'a>(node: &'a Node, name: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    let directory = node.child(name).and_then(Node::as_directory);
    directory.into_iter().flat_map(|directory| directory.iter())
}

fn number(node: &Node, name: &str) -> u64 {
    let value = node.child(name).and_then(Node::as_value);
    value.and_then(Value::as_u64).unwrap_or_default()
}

fn text(node: &Node, name: &str) -> String {
    let value = node.child(name).and_then(Node::as_value);
    let text = value.and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// A length in the largest unit that it is a whole number of.
fn size(len: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if len >= 1 << shift && len.trailing_zeros() >= shift {
            return format!("{} {unit}", len >> shift);
        }
    }
    format!("{len} B")
}
