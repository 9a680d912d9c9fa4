//! A line that shows how large things are, on a logarithmic scale.

use crate::map::MemoryMap;
use crate::paint::{Ink, Paint};
use crate::row::{Row, What};
use crate::scale;
use crate::table::{ink, is_read_only};

/// The characters of a line, where the terminal does not say how many it has.
const WIDTH: usize = 96;

/// The letter that stands for a row: `a` to `z`, then `aa`, `ab`, ...
pub(crate) fn key(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index;
    loop {
        let letter = u8::try_from(rest % 26).unwrap_or_default();
        letters.push(char::from(b'a'.saturating_add(letter)));
        match (rest / 26).checked_sub(1) {
            Some(more) => rest = more,
            None => return letters.iter().rev().collect(),
        }
    }
}

/// Draws the rows side by side, each at least one character wide, with their letters below.
pub(crate) fn draw(map: &MemoryMap, rows: &[Row], paint: Paint) -> String {
    let line = paint.width().map_or(WIDTH, usize::from).clamp(8, 160);
    let lengths: Vec<u64> = rows.iter().map(|row| row.range.len()).collect();
    let widths = widths(&lengths, line);
    let mut cells: Vec<(char, Ink, char)> = Vec::new();
    for ((index, row), width) in rows.iter().enumerate().zip(widths) {
        let letters = key(index);
        // A letter that is cut off would be the letter of another row.
        let fits = letters.len() < width || (letters.len() == 1 && width == 1);
        let letters = if fits { letters } else { String::new() };
        let letters = letters.chars().chain(std::iter::repeat(' '));
        let letters = letters.take(width);
        cells.extend(letters.map(|letter| (glyph(map, row), ink(map, row), letter)));
    }
    let mut text = String::new();
    for cells in cells.chunks(line) {
        for run in cells.chunk_by(|left, right| left.1 == right.1) {
            let glyphs: String = run.iter().map(|(glyph, ..)| glyph).collect();
            let ink = run.first().map_or(Ink::Dim, |(_, ink, _)| *ink);
            text.push_str(&paint.paint(ink, &glyphs));
        }
        text.push('\n');
        let letters: String = cells.iter().map(|(.., letter)| letter).collect();
        text.push_str(&paint.paint(Ink::Dim, letters.trim_end()));
        text.push('\n');
    }
    let legend = "█ writable  ▓ read-only  ░ hole  · nothing  (widths are logarithmic)";
    text.push_str(&paint.paint(Ink::Dim, legend));
    text
}

fn glyph(map: &MemoryMap, row: &Row) -> char {
    match &row.what {
        What::Visible(index) => match map.view.get(*index) {
            Some(visible) if is_read_only(&visible.permissions) => '▓',
            _ => '█',
        },
        What::Hole(_) => '░',
        What::Mmio | What::Nothing => '·',
    }
}

/// Divides `line` characters among ranges by the logarithm of their lengths, at least one each; if
/// there are more ranges than characters, each gets one.
fn widths(lengths: &[u64], line: usize) -> Vec<usize> {
    let spare = line.saturating_sub(lengths.len());
    let weights: Vec<f64> = lengths.iter().map(|&len| scale::weight(len)).collect();
    let all: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let mut given = 0;
    weights
        .iter()
        .map(|weight| {
            // Rounding the running sum, rather than each share, ends exactly at the last character.
            sum += weight;
            let share = if all > 0.0 { sum / all } else { 0.0 };
            let until = (share * spare as f64).round() as usize;
            let width = 1 + until.saturating_sub(given);
            given = given.max(until);
            width
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn letters_go_on_after_z() {
        let keys = [0, 1, 25, 26, 27, 51, 52, 701, 702].map(key);
        assert_eq!(keys, ["a", "b", "z", "aa", "ab", "az", "ba", "zz", "aaa"]);
    }

    proptest! {
        #[test]
        fn every_range_is_seen_and_the_line_is_full(
            lengths in prop::collection::vec(1_u64.., 1..200),
            line in 8_usize..160,
        ) {
            let widths = widths(&lengths, line);
            prop_assert!(widths.iter().all(|&width| width >= 1));
            let sum: usize = widths.iter().sum();
            if lengths.iter().any(|&len| len > 4096) {
                prop_assert_eq!(sum, line.max(lengths.len()));
            } else {
                prop_assert!(sum <= line.max(lengths.len()));
            }
        }

        #[test]
        fn longer_ranges_are_not_narrower(a in 1_u64.., b in 1_u64..) {
            let widths = widths(&[a, b], 80);
            prop_assert!(a <= b || widths[0] + 1 >= widths[1]);
        }
    }
}
