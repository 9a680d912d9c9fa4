//! What changed between two states of the memory map, in words.

use crate::map::MemoryMap;
use crate::paint::{Ink, Paint, clean};
use crate::picture::{Picture, Status, combine};
use crate::range::ByteRange;
use std::fmt;

/// Holds one difference between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Where it was seen: `flat view`, `regions, priority 0`, `mappings`, `slots, vtl0 kvm`.
    pub part: String,
    /// The addresses; `None` for a region that has no place in either state.
    pub range: Option<ByteRange>,
    /// What was there before; `None` if nothing.
    pub before: Option<String>,
    /// What is there after; `None` if nothing.
    pub after: Option<String>,
}

/// Lists the differences between two states, part by part and by address.
#[must_use]
pub fn diff(before: &MemoryMap, after: &MemoryMap) -> Vec<Change> {
    let combined = combine(&Picture::of(before), &Picture::of(after));
    let mut changes = Vec::new();
    for column in &combined.columns {
        for block in &column.blocks {
            let text = block.text();
            let (before, after) = match &block.status {
                Status::Same => continue,
                Status::Added => (None, Some(text)),
                Status::Removed => (Some(text), None),
                Status::Changed { before, .. } => (Some(before.clone()), Some(text)),
            };
            changes.push(Change {
                part: column.heading.clone(),
                range: Some(block.range),
                before,
                after,
            });
        }
    }
    changes.extend(unplaced(before, after));
    changes
}

/// Regions that no picture has.
fn unplaced(before: &MemoryMap, after: &MemoryMap) -> Vec<Change> {
    let text = |map: &MemoryMap, id| {
        let region = map.region(id).filter(|region| region.placed.is_none())?;
        let count = region.mappings.len();
        let name = clean(&region.name);
        Some(format!(
            "{name}  priority {}, {count} mappings",
            region.priority
        ))
    };
    let mut ids: Vec<u64> = before
        .regions
        .iter()
        .chain(&after.regions)
        .map(|one| one.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let changes = ids.into_iter().map(|id| Change {
        part: "regions without a place".to_owned(),
        range: None,
        before: text(before, id),
        after: text(after, id),
    });
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

/// Writes differences as lines: `+` added, `-` removed, `~` changed. There is no line break at the
/// end.
#[must_use]
pub fn describe(changes: &[Change], paint: Paint) -> String {
    if changes.is_empty() {
        return "no difference between the two memory maps".to_owned();
    }
    let mut lines = Vec::new();
    for part in changes.chunk_by(|left, right| left.part == right.part) {
        if let Some(first) = part.first() {
            lines.push(paint.paint(Ink::Bold, &first.part));
        }
        lines.extend(part.iter().map(|change| line(change, paint)));
    }
    lines.join("\n")
}

fn line(change: &Change, paint: Paint) -> String {
    let (sign, ink, text) = match (&change.before, &change.after) {
        (Some(before), Some(after)) => ('~', Ink::Yellow, from_to(before, after)),
        (Some(before), None) => ('-', Ink::Red, before.clone()),
        (None, after) => ('+', Ink::Green, after.clone().unwrap_or_default()),
    };
    let range = match change.range {
        Some(range) => format!("{range:<24}{:>10}  ", range.size()),
        None => String::new(),
    };
    paint.paint(ink, &format!("  {sign} {range}{text}"))
}

/// Writes what two descriptions have in common once, and an arrow where they differ.
fn from_to(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split("  ").collect(), after.split("  ").collect());
    let same = |(left, right): &(&&str, &&str)| left == right;
    let head = old.iter().zip(&new).take_while(same).count();
    let rest = old.len().min(new.len()).saturating_sub(head);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(same)
        .count();
    let middle = |words: &[&str]| {
        let end = words.len().saturating_sub(tail);
        let words = words.get(head..end).unwrap_or_default();
        match words {
            // What came or went altogether.
            [] => "nothing".to_owned(),
            words => words.join("  "),
        }
    };
    let changed = format!("{} → {}", middle(&old), middle(&new));
    let common = |from: usize, to: usize| new.get(from..to).unwrap_or_default().iter().copied();
    let words = common(0, head).chain([changed.as_str()]);
    let words = words.chain(common(new.len().saturating_sub(tail), new.len()));
    words.collect::<Vec<_>>().join("  ")
}

/// Writes the change as one line without colours.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.part, line(self, Paint::PLAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::from_to;

    #[test]
    fn what_is_common_is_said_once() {
        let check = |before, after, expected| assert_eq!(from_to(before, after), expected);
        check("ram  rox  a", "ram  rwx  a", "ram  rox → rwx  a");
        check("ram  rox", "rom  rox", "ram → rom  rox");
        check("ram  rw", "ram  rw  a + 0x1", "ram  rw  nothing → a + 0x1");
        check("a", "b", "a → b");
        check("a  a", "a", "a  a → nothing");
    }
}
