//! Geometry: whatever the map, everything can be seen and read.

use super::*;
use crate::arbitrary;
use crate::map::MemoryMap;
use crate::picture::layout::{LINE, Layout, PlacedColumn, Rect};
use crate::range::ByteRange;
use inspect::Node;
use proptest::prelude::*;
use serde_json::json;

const TOLERANCE: f64 = 1e-6;

fn overlap(left: Rect, right: Rect) -> bool {
    left.x + TOLERANCE < right.right()
        && right.x + TOLERANCE < left.right()
        && left.y + TOLERANCE < right.y + right.height
        && right.y + TOLERANCE < left.y + left.height
}

fn inside(inner: Rect, outer: Rect) -> bool {
    inner.x >= outer.x - TOLERANCE
        && inner.right() <= outer.right() + TOLERANCE
        && inner.y >= outer.y - TOLERANCE - 1.0
        && inner.y + inner.height <= outer.y + outer.height + TOLERANCE + 1.0
}

fn texts(column: &PlacedColumn<'_>) -> Vec<Rect> {
    let of_blocks = column.boxes.iter().flat_map(|placed| &placed.texts);
    let of_ground = column.ground.iter().flat_map(|placed| &placed.texts);
    of_blocks.chain(of_ground).map(|text| text.rect).collect()
}

fn check(picture: &Picture) {
    let layout = Layout::of(picture);
    let mut labels: Vec<Rect> = layout.axis.marks.iter().map(|mark| mark.label).collect();
    for column in &layout.columns {
        labels.extend(texts(column));
        for placed in &column.boxes {
            assert!(placed.rect.height >= 11.0, "{placed:?} can't be seen");
            assert!(!placed.texts.is_empty(), "{placed:?} has no label");
            match placed.leader {
                None => {
                    for text in &placed.texts {
                        assert!(inside(text.rect, placed.rect), "{placed:?}");
                    }
                }
                Some((from, to)) => {
                    let label = placed.texts[0].rect;
                    assert!((placed.rect.middle() - label.middle()).abs() < TOLERANCE);
                    assert!(from >= placed.rect.right() - TOLERANCE && to <= label.x);
                    // On its way it crosses no other block.
                    let way = Rect {
                        x: from,
                        y: label.middle() - 0.5,
                        width: to - from,
                        height: 1.0,
                    };
                    for other in column
                        .boxes
                        .iter()
                        .filter(|other| other.rect != placed.rect)
                    {
                        assert!(!overlap(way, other.rect), "{placed:?}\n{other:?}");
                    }
                }
            }
            for text in &placed.texts {
                assert!(text.rect.right() <= layout.width, "{placed:?} is cut off");
                assert!(
                    text.rect.y + LINE <= layout.bottom + LINE,
                    "{placed:?} is too low"
                );
            }
        }
        for (index, one) in column.boxes.iter().enumerate() {
            for other in column.boxes.iter().skip(index + 1) {
                assert!(!overlap(one.rect, other.rect), "{one:?}\n{other:?}");
            }
        }
    }
    for (index, one) in labels.iter().enumerate() {
        for other in labels.iter().skip(index + 1) {
            assert!(!overlap(*one, *other), "{one:?}\n{other:?}");
        }
    }
    for pair in layout.columns.windows(2) {
        assert!(pair[0].x + pair[0].width < pair[1].x);
    }
}

/// The blocks of a column that cover a range, less those that were removed.
fn covering(column: &Column, range: ByteRange, removed: bool) -> usize {
    let blocks = column
        .blocks
        .iter()
        .filter(|block| block.range.contains(range));
    blocks
        .filter(|block| (block.status == Status::Removed) == removed)
        .count()
}

/// What a column says of a range in the older state or in the newer one. What has changed is
/// described anew by the newer state; of the older one it is known that there was something.
fn said(column: &Column, range: ByteRange, is_old: bool) -> Vec<(u64, Option<Said>)> {
    let absent = if is_old {
        Status::Added
    } else {
        Status::Removed
    };
    let blocks = column.blocks.iter();
    let blocks = blocks.filter(|block| block.range.contains(range) && block.status != absent);
    let mut said: Vec<(u64, Option<Said>)> = blocks
        .map(|block| {
            let known = !is_old || !matches!(block.status, Status::Changed { .. });
            let words = (
                block.name.clone(),
                block.detail.clone(),
                block.shows.clone(),
            );
            (block.key, known.then_some(words))
        })
        .collect();
    said.sort();
    said
}

type Said = (String, String, Option<(String, u64)>);

proptest! {
    // Each case compares all labels with all others.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_overlaps_and_nothing_is_lost(models in arbitrary::models()) {
        check(&Picture::of(&arbitrary::map(&models)));
    }

    #[test]
    fn nor_in_a_comparison((before, after) in arbitrary::two_states()) {
        let before = Picture::of(&arbitrary::map(&before));
        let after = Picture::of(&arbitrary::map(&after));
        check(&combine(&before, &after));
    }

    #[test]
    fn the_flat_view_and_its_gaps_cover_each_page_once(models in arbitrary::models()) {
        let picture = Picture::of(&arbitrary::map(&models));
        let column = &picture.columns[0];
        for page in 0..arbitrary::PAGES {
            let page = (arbitrary::address(page), arbitrary::address(page + 1));
            let page = ByteRange::try_new(page.0, page.1).expect("not empty");
            let ground = column.ground.iter().filter(|ground| ground.range.contains(page)).count();
            prop_assert_eq!(covering(column, page, false) + ground, 1);
        }
    }

    #[test]
    fn a_comparison_has_both_states_in_it((before, after) in arbitrary::two_states()) {
        let (before, after) =
            (Picture::of(&arbitrary::map(&before)), Picture::of(&arbitrary::map(&after)));
        let both = combine(&before, &after);
        for (picture, is_old) in [(&before, true), (&after, false)] {
            for column in &picture.columns {
                let combined = both.columns.iter().find(|one| one.key == column.key);
                let combined = combined.expect("no column is lost");
                for page in 0..arbitrary::PAGES {
                    let page = (arbitrary::address(page), arbitrary::address(page + 1));
                    let page = ByteRange::try_new(page.0, page.1).expect("not empty");
                    let (combined, own) = (said(combined, page, is_old), said(column, page, is_old));
                    prop_assert_eq!(combined.len(), own.len());
                    for ((key, combined), (own_key, own)) in combined.into_iter().zip(own) {
                        prop_assert_eq!(key, own_key);
                        prop_assert!(combined.is_none() || combined == own);
                    }
                }
            }
        }
    }

    #[test]
    fn a_state_is_like_itself(models in arbitrary::models()) {
        let map = arbitrary::map(&models);
        let picture = Picture::of(&map);
        let mut both = combine(&picture, &picture);
        for (column, original) in both.columns.iter_mut().zip(&picture.columns) {
            column.blocks.sort_by_key(|block| (block.key, block.range));
            let mut blocks = original.blocks.clone();
            blocks.sort_by_key(|block| (block.key, block.range));
            prop_assert_eq!(&column.blocks, &blocks);
        }
        prop_assert_eq!(crate::diff(&map, &map), vec![]);
    }

    #[test]
    fn whatever_the_names_it_is_well_formed(models in arbitrary::models()) {
        let svg = draw(&arbitrary::map(&models), &SvgOptions::new());
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("each tag is closed");
            prop_assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'));
            // Every `&` begins an entity.
            for entity in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| entity.starts_with(name));
                prop_assert!(known, "{entity}");
            }
            match tag.strip_prefix('/') {
                Some(name) => prop_assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().expect("a name")),
            }
        }
        prop_assert!(open.is_empty());
    }
}

/// A view in which `count` windows of a page each lie in a terabyte.
fn many(count: u64) -> MemoryMap {
    let mut regions = serde_json::Map::new();
    let mut view = serde_json::Map::new();
    for index in 0..count {
        let start = index * 0x1000_0000;
        let range = format!("{start:#x}-{:#x}", start + 0x1000);
        let region = json!({
            "name": format!("a window with a rather long name, number {index}"),
            "priority": 0, "len": 0x1000, "mapped": {"access": "rw"}, "placed_at": range, "mappings": {
                "0x0-0x1000": {"backing": "b", "offset": 0, "access": "rw"},
            },
        });
        regions.insert(index.to_string(), region);
        let visible = json!({"region": index, "backing": "b", "offset": 0, "permissions": "rwx"});
        view.insert(range, visible);
    }
    let tree = json!({
        "address_space": "0x0-0x10000000000", "regions": regions, "flat_view": view,
    });
    MemoryMap::find(&Node::from_json(&tree)).expect("a view")
}

#[test]
fn a_long_list_keeps_its_labels_apart() {
    check(&Picture::of(&many(500)));
}

#[test]
fn a_page_beside_a_terabyte_is_seen() {
    let tree = json!({
        "address_space": "0x0-0x10000001000",
        "regions": {},
        "flat_view": {
            "0x0-0x1000": {"region": 0, "backing": "page", "offset": 0, "permissions": "rox"},
            "0x1000-0x10000001000": {"region": 1, "backing": "ram", "offset": 0, "permissions": "rwx"},
        },
    });
    let picture = Picture::of(&MemoryMap::find(&Node::from_json(&tree)).expect("a view"));
    let layout = Layout::of(&picture);
    let heights: Vec<f64> = layout.columns[0]
        .boxes
        .iter()
        .map(|placed| placed.rect.height)
        .collect();
    assert!(heights[0] > LINE && heights[1] > 2.0 * heights[0] && heights[1] < 10.0 * heights[0]);
    check(&picture);
}
