use super::*;
use crate::arbitrary::{self, Model, PAGES, address, owner};
use proptest::prelude::*;

fn page_range(page: usize) -> ByteRange {
    ByteRange::try_new(address(page), address(page + 1)).expect("not empty")
}

/// What the rows say of a page, checked against what the model says.
fn check_page(rows: &[Row], map: &MemoryMap, models: &[Model], page: usize) {
    let range = page_range(page);
    let here: Vec<&Row> = rows
        .iter()
        .filter(|row| row.range.overlaps(range))
        .collect();
    let [row] = here.as_slice() else {
        panic!("page {page} is in {} rows", here.len());
    };
    assert!(row.range.contains(range));
    let winner = owner(models, page);
    match (&row.what, winner) {
        (What::Visible(index), Some(winner)) => {
            assert_eq!(map.view[*index].region, winner as u64);
            assert!(!models[winner].is_hole(page));
        }
        (What::Hole(name), Some(winner)) => {
            assert_eq!(*name, models[winner].name);
            assert!(models[winner].is_hole(page));
        }
        (What::Nothing, None) => {}
        (what, winner) => panic!("page {page} shows {what:?}, and belongs to {winner:?}"),
    }
    let hidden = row
        .hidden
        .iter()
        .filter(|hidden| hidden.range.overlaps(range));
    let mut hidden: Vec<(u64, Why)> = hidden.map(|hidden| (hidden.region, hidden.why)).collect();
    hidden.sort_by_key(|(region, _)| *region);
    let expected = models.iter().enumerate();
    let expected = expected.filter(|(index, model)| model.covers(page) && Some(*index) != winner);
    let expected: Vec<(u64, Why)> = expected
        .map(|(index, model)| {
            let why = if model.mapped {
                Why::Hidden
            } else {
                Why::Unmapped
            };
            (index as u64, why)
        })
        .collect();
    assert_eq!(hidden, expected, "page {page}");
}

proptest! {
    #[test]
    fn every_byte_is_in_one_row_and_says_what_the_model_says(models in arbitrary::models()) {
        let map = arbitrary::map(&models);
        let rows = Row::all(&map);
        let first = rows.first().map(|row| row.range.start());
        prop_assert_eq!(first, Some(map.space.start()));
        prop_assert_eq!(rows.last().map(|row| row.range.end()), Some(map.space.end()));
        for pair in rows.windows(2) {
            prop_assert_eq!(pair[0].range.end(), pair[1].range.start());
        }
        for page in 0..PAGES {
            check_page(&rows, &map, &models, page);
        }
    }

    #[test]
    fn what_is_hidden_lies_in_its_row_and_shows_its_own_bytes(models in arbitrary::models()) {
        let map = arbitrary::map(&models);
        for row in Row::all(&map) {
            for hidden in &row.hidden {
                prop_assert!(row.range.contains(hidden.range));
                let base = map.region(hidden.region).and_then(|region| region.placed);
                let base = base.expect("placed").start();
                for mapping in &hidden.mappings {
                    prop_assert!(hidden.range.contains(mapping.range));
                    prop_assert_eq!(mapping.offset, mapping.range.start() - base);
                }
            }
        }
    }
}
