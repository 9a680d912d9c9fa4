//! Where everything stands.

use crate::picture::{Block, Column, Ground, Kind, Picture, Status};
use crate::range::ByteRange;
use crate::scale::{Heights, Piece, Scale};
use std::collections::BTreeMap;

/// The size of the larger and of the smaller letters.
pub(crate) const FONT: f64 = 11.0;
/// How wide a letter of a monospaced font is, compared with its height.
const LETTER: f64 = 0.605;
/// The height of a line of text, and so the least distance of two labels.
pub(crate) const LINE: f64 = 14.0;
/// The height from which a block has room for two lines.
const TWO_LINES: f64 = 31.0;
const PAD: f64 = 7.0;
const MARGIN: f64 = 24.0;
const COLUMN_GAP: f64 = 22.0;
/// Room for the title and for the headings of columns.
const TOP: f64 = 92.0;
/// From a block's edge to where the label of its leader begins.
const LEADER: f64 = 22.0;
/// The most letters of a label beside its block; the tooltip has all of them.
const LONGEST: usize = 38;
/// The width of a lane, where blocks of one column overlap. A column is two lanes wide at least.
const LANE: f64 = 108.0;

#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A picture with positions.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) width: f64,
    /// Where the columns end, and the legend may begin.
    pub(crate) bottom: f64,
    pub(crate) axis: Axis,
    pub(crate) columns: Vec<PlacedColumn<'a>>,
}

#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) x: f64,
    pub(crate) marks: Vec<Mark>,
}

/// An address on the axis. Its label stands left of the axis.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) y: f64,
    pub(crate) text: String,
    pub(crate) label: Rect,
}

#[derive(Debug)]
pub(crate) struct PlacedColumn<'a> {
    pub(crate) x: f64,
    /// Without the labels beside it.
    pub(crate) width: f64,
    /// The heading, in lines.
    pub(crate) heading: Vec<String>,
    pub(crate) boxes: Vec<PlacedBlock<'a>>,
    pub(crate) ground: Vec<PlacedGround<'a>>,
}

#[derive(Debug)]
pub(crate) struct PlacedGround<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) rect: Rect,
    pub(crate) texts: Vec<Text>,
}

#[derive(Debug)]
pub(crate) struct PlacedBlock<'a> {
    pub(crate) block: &'a Block,
    pub(crate) rect: Rect,
    pub(crate) texts: Vec<Text>,
    /// Where the line to a label that did not fit inside begins and ends. It is level, in the middle.
    pub(crate) leader: Option<(f64, f64)>,
}

/// A piece of text: where it is, and of what kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) rect: Rect,
    pub(crate) text: String,
    pub(crate) class: &'static str,
}

impl Rect {
    pub(crate) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(crate) fn middle(&self) -> f64 {
        self.y + self.height / 2.0
    }
}

/// Returns how wide a text is. What is not ASCII counts as two letters, which is right for the widest
/// and does no harm to others.
pub(crate) fn text_width(text: &str) -> f64 {
    let letters: usize = text
        .chars()
        .map(|letter| if letter.is_ascii() { 1 } else { 2 })
        .sum();
    letters as f64 * FONT * LETTER
}

impl<'a> Layout<'a> {
    pub(crate) fn of(picture: &'a Picture) -> Self {
        let scale = scale(picture);
        let axis = axis(&scale);
        let columns = place(picture, &scale, axis.x);
        let right = columns
            .iter()
            .map(PlacedColumn::right)
            .fold(axis.x, f64::max);
        Self {
            width: right + MARGIN,
            bottom: TOP + scale.height(),
            axis,
            columns,
        }
    }
}

impl PlacedColumn<'_> {
    /// The right edge, labels included.
    fn right(&self) -> f64 {
        let texts = self.boxes.iter().flat_map(|placed| &placed.texts);
        texts
            .map(|text| text.rect.right())
            .fold(self.x + self.width, f64::max)
    }
}

fn scale(picture: &Picture) -> Scale {
    let mut borders = vec![picture.space.start(), picture.space.end()];
    // How many blocks begin and end at each address, all of them and those that changed.
    let mut events: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
    for column in &picture.columns {
        for block in &column.blocks {
            let marked = i64::from(block.status != Status::Same);
            for (address, sign) in [(block.range.start(), 1), (block.range.end(), -1)] {
                let event = events.entry(address).or_default();
                event.0 += sign;
                event.1 += sign * marked;
                borders.push(address);
            }
        }
        borders.extend(
            column
                .ground
                .iter()
                .flat_map(|ground| [ground.range.start(), ground.range.end()]),
        );
    }
    let mut depth = (0, 0);
    let depths = events.into_iter().map(|(address, event)| {
        depth = (depth.0 + event.0, depth.1 + event.1);
        (address, depth)
    });
    let depths: Vec<(u64, (i64, i64))> = depths.collect();
    let piece = |range: ByteRange| {
        let index = depths.partition_point(|(address, _)| *address <= range.start());
        let depth = index.checked_sub(1).and_then(|index| depths.get(index));
        match depth {
            Some((_, (_, 1..))) => Piece::Marked,
            Some((_, (1.., _))) => Piece::Something,
            _ => Piece::Nothing,
        }
    };
    borders.sort_unstable();
    borders.dedup();
    // No row is too low for a line of text. So labels, of which each stands at its own row, inside
    // its block or beside the column, can't overlap.
    let least = match borders.len() {
        0..=400 => 19.0,
        _ => LINE + 1.0,
    };
    let heights = Heights {
        least,
        doubling: 2.6,
        empty: 30.0,
        marked: 14.0,
    };
    Scale::new(borders, heights, piece)
}

fn axis(scale: &Scale) -> Axis {
    let borders: Vec<(u64, f64)> = scale.borders().collect();
    let texts = borders.iter().map(|(address, _)| format!("{address:#x}"));
    let texts: Vec<String> = texts.collect();
    let widest = texts
        .iter()
        .map(|text| text_width(text))
        .fold(0.0, f64::max);
    let x = MARGIN + widest + LEADER;
    let marks = texts.into_iter().zip(borders).map(|(text, (_, y))| {
        let width = text_width(&text);
        Mark {
            y: TOP + y,
            label: Rect {
                x: x - LEADER - width,
                y: TOP + y - LINE / 2.0,
                width,
                height: LINE,
            },
            text,
        }
    });
    Axis {
        x,
        marks: marks.collect(),
    }
}

fn place<'a>(picture: &'a Picture, scale: &Scale, from: f64) -> Vec<PlacedColumn<'a>> {
    let mut x = from + COLUMN_GAP / 2.0;
    let mut columns = Vec::new();
    for column in &picture.columns {
        let placed = place_column(column, scale, x);
        x = placed.right() + COLUMN_GAP;
        columns.push(placed);
    }
    columns
}

fn place_column<'a>(column: &'a Column, scale: &Scale, x: f64) -> PlacedColumn<'a> {
    let lanes = lanes(&column.blocks);
    let most = lanes.iter().map(|lane| lane.of).max().unwrap_or(1);
    let width = match column.kind {
        Kind::View => 270.0,
        Kind::Slots => 104.0,
        Kind::Regions | Kind::Mappings => LANE * most.max(2) as f64,
    };
    let rect = |range: ByteRange, lane: Lane| {
        let (top, bottom) = (scale.at(range.start()), scale.at(range.end()));
        let lane_width = width / lane.of.max(1) as f64;
        let last = lane.index + 1 >= lane.of;
        Rect {
            x: x + lane_width * lane.index as f64,
            y: TOP + top + 1.0,
            width: lane_width - if last { 0.0 } else { 4.0 },
            height: (bottom - top - 2.0).max(1.0),
        }
    };
    let mut boxes: Vec<PlacedBlock<'a>> = column
        .blocks
        .iter()
        .zip(lanes)
        .map(|(block, lane)| {
            let rect = rect(block.range, lane);
            // The line to a label beside the column would cross the blocks in between.
            let beside = lane.index + 1 >= lane.of;
            PlacedBlock {
                block,
                rect,
                texts: inside(column.kind, block, rect, beside),
                leader: None,
            }
        })
        .collect();
    for placed in boxes.iter_mut().filter(|placed| placed.texts.is_empty()) {
        label_beside(placed, x + width);
    }
    let ground = column.ground.iter().map(|ground| {
        let rect = rect(ground.range, Lane { index: 0, of: 1 });
        let size = ground.range.size().to_string();
        let name = [(shorten(&ground.name, rect), "gap")];
        PlacedGround {
            ground,
            rect,
            texts: line(rect, rect.middle(), &name, Some(&size)).unwrap_or_default(),
        }
    });
    PlacedColumn {
        x,
        width,
        heading: wrap(&column.heading, width),
        ground: ground.collect(),
        boxes,
    }
}

/// The place of a block beside those that it overlaps.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Lane {
    index: usize,
    /// How many lanes the blocks have that overlap it, or overlap what overlaps it, and so on.
    of: usize,
}

/// Gives each block the first lane in which nothing overlaps it. Blocks that touch no other share
/// the width among fewer lanes, and so a block that overlaps none has all of it.
fn lanes(blocks: &[Block]) -> Vec<Lane> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&index| blocks.get(index).map(|block| (block.range, block.key)));
    let mut lanes = vec![Lane::default(); blocks.len()];
    let mut cluster: Vec<usize> = Vec::new();
    let mut ends: Vec<u64> = Vec::new();
    let finish = |cluster: &mut Vec<usize>, ends: &mut Vec<u64>, lanes: &mut Vec<Lane>| {
        for index in cluster.drain(..) {
            if let Some(lane) = lanes.get_mut(index) {
                lane.of = ends.len();
            }
        }
        ends.clear();
    };
    for index in order {
        let Some(block) = blocks.get(index) else {
            continue;
        };
        if ends.iter().all(|&end| end <= block.range.start()) {
            finish(&mut cluster, &mut ends, &mut lanes);
        }
        let free = ends.iter().position(|&end| end <= block.range.start());
        let lane = free.unwrap_or(ends.len());
        match ends.get_mut(lane) {
            Some(end) => *end = block.range.end(),
            None => ends.push(block.range.end()),
        }
        if let Some(place) = lanes.get_mut(index) {
            place.index = lane;
        }
        cluster.push(index);
    }
    finish(&mut cluster, &mut ends, &mut lanes);
    lanes
}

/// What can be said of a block, the most important first.
fn words(block: &Block) -> Vec<(String, &'static str)> {
    let backing = block.shown_text();
    let name = (!block.name.is_empty()).then(|| (block.name.clone(), "name"));
    let detail = (!block.detail.is_empty()).then(|| (block.detail.clone(), "detail"));
    match name {
        // A mapping has no name but that of what it shows.
        None => backing
            .map(|text| (text, "name"))
            .into_iter()
            .chain(detail)
            .collect(),
        name => {
            let backing = backing.map(|text| (format!("· {text}"), "detail"));
            name.into_iter().chain(detail).chain(backing).collect()
        }
    }
}

/// The label of a block, if it fits inside. If it can't stand beside, its name is cut to fit.
fn inside(kind: Kind, block: &Block, rect: Rect, beside: bool) -> Vec<Text> {
    let mut words = words(block);
    if !beside && let Some((name, _)) = words.first_mut() {
        *name = shorten(name, rect);
    }
    let size = block.range.size().to_string();
    let size = (kind == Kind::View).then_some(size.as_str());
    let was = match &block.status {
        Status::Changed { gone, .. } if !gone.is_empty() => Some(format!("was {gone}")),
        _ => None,
    };
    if rect.height >= TWO_LINES {
        let (first, second) = match &was {
            Some(was) => (words.as_slice(), vec![(was.clone(), "was")]),
            None => {
                // What has no room beside the name goes below it.
                let both = words.iter().take(2).map(|(text, _)| text_width(text) + PAD);
                let fit = both.sum::<f64>() + PAD <= rect.width;
                let (first, second) = words.split_at(words.len().min(if fit { 2 } else { 1 }));
                (first, second.to_vec())
            }
        };
        let upper = rect.middle() - LINE / 2.0;
        if let Some(mut texts) = line(rect, upper, first, size) {
            let shortened = second.iter().enumerate().map(|(index, (text, class))| {
                // What separates it from the word before is not wanted at the start of a line.
                let text = match index {
                    0 => text.strip_prefix("· ").unwrap_or(text),
                    _ => text,
                };
                (shorten(text, rect), *class)
            });
            let shortened: Vec<_> = shortened.collect();
            if !shortened.is_empty() {
                texts.extend(line(rect, upper + LINE, &shortened, None).unwrap_or_default());
            } else {
                // One line stands in the middle.
                return line(rect, rect.middle(), first, size).unwrap_or_default();
            }
            return texts;
        }
    }
    if rect.height < LINE - 1.0 {
        return Vec::new();
    }
    line(rect, rect.middle(), &words, size).unwrap_or_default()
}

/// Cuts a text to the width of a block, with three dots for what is missing.
fn shorten(text: &str, rect: Rect) -> String {
    let mut text = text.to_owned();
    if text_width(&text) <= rect.width - 2.0 * PAD {
        return text;
    }
    while !text.is_empty() && text_width(&text) > rect.width - 2.0 * PAD - text_width("…") {
        text.pop();
    }
    text.push('…');
    text
}

/// Sets words into one line of a block: the first must fit, others may be left out. `right` stands
/// at the right edge, if it fits too.
fn line(
    rect: Rect,
    middle: f64,
    words: &[(String, &'static str)],
    right: Option<&str>,
) -> Option<Vec<Text>> {
    let mut x = rect.x + PAD;
    let limit = rect.right() - PAD;
    let mut texts = Vec::new();
    let place = |x: f64, text: &str, class| Text {
        rect: Rect {
            x,
            y: middle - LINE / 2.0 + 0.5,
            width: text_width(text),
            height: LINE - 1.0,
        },
        text: text.to_owned(),
        class,
    };
    for (index, (text, class)) in words.iter().enumerate() {
        let text = place(x, text, class);
        if text.rect.right() > limit {
            if index == 0 {
                return None;
            }
            break;
        }
        x = text.rect.right() + PAD;
        texts.push(text);
    }
    if let Some(right) = right {
        let start = limit - text_width(right);
        // With some distance, so that it does not read as one with what stands at the left.
        if start >= x + PAD {
            texts.push(place(start, right, "size"));
        }
    }
    Some(texts)
}

/// Puts a label that did not fit inside right of the column, at the end of a line from its block.
fn label_beside(placed: &mut PlacedBlock<'_>, edge: f64) {
    let words = words(placed.block).into_iter().map(|(text, _)| text);
    let all = words.collect::<Vec<_>>().join("  ");
    let mut text: String = all.chars().take(LONGEST).collect();
    if text.len() < all.len() {
        text.push('…');
    }
    let y = placed.rect.middle();
    placed.leader = Some((placed.rect.right(), edge + LEADER - 4.0));
    placed.texts = vec![Text {
        rect: Rect {
            x: edge + LEADER,
            y: y - LINE / 2.0,
            width: text_width(&text),
            height: LINE,
        },
        text,
        class: "beside",
    }];
}

/// Breaks a heading into lines that are as wide as the column, three at most.
fn wrap(heading: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in heading.split(' ') {
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(word) + FONT * LETTER <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.truncate(3);
    let rect = Rect {
        x: 0.0,
        y: 0.0,
        width: width + 2.0 * PAD,
        height: LINE,
    };
    lines.iter().map(|line| shorten(line, rect)).collect()
}
