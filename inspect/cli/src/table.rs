//! The memory map as a table for the terminal.

use crate::map::{Mapping, MemoryMap};
use crate::paint::{Ink, Paint, clean};
use crate::range::ByteRange;
use crate::row::{Hidden, Row, What, Why};
use crate::strip;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// Draws the address space: a strip that shows proportions on a logarithmic scale, and a table with
/// one row for each visible range and each gap, and, indented, what lies hidden under it.
///
/// Names are quoted where they would act on a terminal. There is no line break at the end.
#[must_use]
pub fn draw(map: &MemoryMap, paint: Paint) -> String {
    let rows = Row::all(map);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if paint.has_colour() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if let Some(width) = paint.width() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    let fixed = [
        "",
        "guest physical",
        "size",
        "what",
        "priority",
        "access",
        "backing",
    ];
    let listeners = map.listeners.iter().map(|listener| {
        let offset = match listener.offset {
            0 => String::new(),
            offset => format!("\nat +{offset:#x}"),
        };
        format!("slot in\n{}{offset}", clean(&listener.name))
    });
    table.set_header(fixed.into_iter().map(str::to_owned).chain(listeners));
    for (index, row) in rows.iter().enumerate() {
        table.add_row(line(map, index, row));
        for hidden in &row.hidden {
            table.add_row(hidden_line(map, hidden));
        }
    }
    for column in [2, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let table = table.trim_fmt();
    let strip = strip::draw(map, &rows, paint);
    format!("{strip}\n{table}")
}

fn line(map: &MemoryMap, index: usize, row: &Row) -> Vec<Cell> {
    let key = Cell::new(strip::key(index)).add_attribute(Attribute::Dim);
    let range = Cell::new(row.range);
    let size = Cell::new(row.range.size());
    let visible = match &row.what {
        What::Visible(index) => map.view.get(*index),
        _ => None,
    };
    let Some(visible) = visible else {
        let name = format!("· {}", gap_name(&row.what));
        return vec![
            key,
            range.add_attribute(Attribute::Dim),
            size.add_attribute(Attribute::Dim),
            Cell::new(name).add_attribute(Attribute::Dim),
        ];
    };
    let priority = map.region(visible.region);
    let priority = priority.map_or_else(String::new, |region| region.priority.to_string());
    let access = Cell::new(clean(&visible.permissions)).fg(access_colour(&visible.permissions));
    let mut cells = vec![
        key,
        range,
        size,
        Cell::new(clean(&map.region_name(visible.region))).add_attribute(Attribute::Bold),
        Cell::new(priority),
        access,
        Cell::new(backing(&visible.backing, visible.offset)),
    ];
    cells.extend(map.listeners.iter().map(|listener| {
        let slots = listener.slots.as_slice();
        let from = slots.partition_point(|slot| slot.range.end() <= row.range.start());
        let found = slots.iter().skip(from);
        let found = found.take_while(|slot| slot.range.start() < row.range.end());
        let texts: Vec<String> = found
            .map(|slot| {
                let id = slot.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
                // A slot that allows something else than what is visible is worth a look.
                let differs = slot.permissions != visible.permissions;
                let permissions = differs.then(|| clean(&slot.permissions));
                let note = (!slot.note.is_empty()).then(|| clean(&slot.note));
                let words = [Some(id), permissions, note];
                words.into_iter().flatten().collect::<Vec<_>>().join(" ")
            })
            .collect();
        Cell::new(texts.join(", "))
    }));
    cells
}

fn hidden_line(map: &MemoryMap, hidden: &Hidden) -> Vec<Cell> {
    let why = match hidden.why {
        Why::Hidden => "hidden",
        Why::Unmapped => "unmapped",
    };
    let region = map.region(hidden.region);
    let priority = region.map_or_else(String::new, |region| region.priority.to_string());
    let access: Vec<&str> = hidden
        .mappings
        .iter()
        .map(|one| one.access.as_str())
        .collect();
    let access = match access.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => clean(first),
        Some(_) => "mixed".to_owned(),
        None => String::new(),
    };
    let name = clean(&map.region_name(hidden.region));
    let texts = [
        String::new(),
        format!("  {}", hidden.range),
        hidden.range.size().to_string(),
        format!("  └ {name}, {why}"),
        priority,
        access,
        backings(&hidden.mappings, hidden.range),
    ];
    texts
        .into_iter()
        .map(|text| Cell::new(text).add_attribute(Attribute::Dim))
        .collect()
}

/// Says what is seen where nothing is visible.
pub(crate) fn gap_name(what: &What) -> String {
    match what {
        What::Hole(region) => format!("hole in {}", clean(region)),
        What::Mmio => "MMIO gap".to_owned(),
        What::Nothing | What::Visible(_) => "nothing".to_owned(),
    }
}

pub(crate) fn backing(name: &str, offset: u64) -> String {
    match offset {
        0 => clean(name),
        offset => format!("{} + {offset:#x}", clean(name)),
    }
}

/// Says what several mappings show in `range`, in as many words as fit a line.
pub(crate) fn backings(mappings: &[Mapping], range: ByteRange) -> String {
    match mappings {
        [] => "hole".to_owned(),
        [one] if one.range == range => backing(&one.backing, one.offset),
        [one] => format!("{}, holes", backing(&one.backing, one.offset)),
        [first, rest @ ..] => {
            format!(
                "{} and {} more",
                backing(&first.backing, first.offset),
                rest.len()
            )
        }
    }
}

fn access_colour(permissions: &str) -> Color {
    match is_read_only(permissions) {
        true => Color::Yellow,
        false => Color::Green,
    }
}

/// Tells whether permissions, as trees write them, allow no write.
pub(crate) fn is_read_only(permissions: &str) -> bool {
    !permissions.contains('w')
}

/// The ink of a row in the strip.
pub(crate) fn ink(map: &MemoryMap, row: &Row) -> Ink {
    match &row.what {
        What::Visible(index) => match map.view.get(*index) {
            Some(visible) if is_read_only(&visible.permissions) => Ink::Yellow,
            _ => Ink::Green,
        },
        _ => Ink::Dim,
    }
}
