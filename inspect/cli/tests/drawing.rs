//! What saved trees look like, as tables and as drawings.
//!
//! With `UPDATE_EXPECT=1` the expected files are written anew, the picture in `docs` among them.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use expect_test::{expect, expect_file};
use inspect::{Node, Path};
use inspect_cli::{
    MapError, MemoryMap, Paint, SvgOptions, Theme, describe, diff, draw_svg, draw_svg_diff,
    draw_table,
};
use serde_json::{Value as Json, json};

const DEMO: &str = include_str!("trees/demo.json");
const AFTER: &str = include_str!("trees/demo-after.json");
const SMALL: &str = include_str!("trees/small.json");

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn map(text: &str) -> MemoryMap {
    MemoryMap::find(&Node::from_json(&json(text))).unwrap()
}

#[test]
fn the_table_of_a_small_map() {
    expect![[r#"
        ██████████·························░█░░······················███████████████████████████████████
        a         b                        cde f                     g
        █ writable  ▓ read-only  ░ hole  · nothing  (widths are logarithmic)
        ┌───┬───────────────────────────┬──────────┬─────────────────────────────────┬──────────┬────────┬─────────────────┬────────────────────────────────────────┐
        │   ┆ guest physical            ┆     size ┆ what                            ┆ priority ┆ access ┆ backing         ┆ slot in                                │
        │   ┆                           ┆          ┆                                 ┆          ┆        ┆                 ┆ vm                                     │
        ╞═══╪═══════════════════════════╪══════════╪═════════════════════════════════╪══════════╪════════╪═════════════════╪════════════════════════════════════════╡
        │ a ┆ 0x0-0xa0000               ┆  640 KiB ┆ ram                             ┆      255 ┆ rwx    ┆ memfd           ┆ 0                                      │
        │   ┆   0x9000-0xa000           ┆    4 KiB ┆   └ option, unmapped            ┆        0 ┆ rw     ┆ rom image       ┆                                        │
        │ b ┆ 0xa0000-0xe0000000        ┆ 3.49 GiB ┆ · nothing                       ┆          ┆        ┆                 ┆                                        │
        │ c ┆ 0xe0000000-0xe0001000     ┆    4 KiB ┆ · hole in window                ┆          ┆        ┆                 ┆                                        │
        │   ┆   0xe0000000-0xe0001000   ┆    4 KiB ┆   └ "rom \u{1b}[31m<&>", hidden ┆        0 ┆ ro     ┆ rom image       ┆                                        │
        │ d ┆ 0xe0001000-0xe0002000     ┆    4 KiB ┆ window                          ┆        0 ┆ rwx    ┆ dax + 0x5000    ┆ 1 rox prefetch (stray: should be gone) │
        │ e ┆ 0xe0002000-0xe0004000     ┆    8 KiB ┆ · hole in window                ┆          ┆        ┆                 ┆                                        │
        │ f ┆ 0xe0004000-0x100000000    ┆  511 MiB ┆ · nothing                       ┆          ┆        ┆                 ┆                                        │
        │ g ┆ 0x100000000-0x10100000000 ┆    1 TiB ┆ high ram                        ┆      255 ┆ rwx    ┆ memfd + 0xa0000 ┆ ?                                      │
        └───┴───────────────────────────┴──────────┴─────────────────────────────────┴──────────┴────────┴─────────────────┴────────────────────────────────────────┘"#]].assert_eq(&draw_table(&map(SMALL), Paint::PLAIN));
}

#[test]
fn the_table_of_the_demo() {
    expect_file!["pictures/demo.txt"].assert_eq(&draw_table(&map(DEMO), Paint::PLAIN));
}

#[test]
fn colours_change_no_letter() {
    let mut plain = String::new();
    let coloured = draw_table(&map(SMALL), Paint::COLOUR);
    let mut parts = coloured.split('\x1b');
    plain.push_str(parts.next().unwrap());
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    assert_ne!(plain, coloured);
    assert_eq!(plain, draw_table(&map(SMALL), Paint::PLAIN));
}

#[test]
fn the_picture_of_a_small_map() {
    let options = SvgOptions::new().theme(Theme::Light).title("small <&>");
    expect_file!["pictures/small.svg"].assert_eq(&draw_svg(&map(SMALL), &options));
}

#[test]
fn the_picture_in_the_documents_is_that_of_the_demo() {
    let picture = draw_svg(&map(DEMO), &SvgOptions::new());
    expect_file!["../../../docs/memory-map.svg"].assert_eq(&picture);
}

#[test]
fn the_picture_of_a_change() {
    let picture = draw_svg_diff(&map(DEMO), &map(AFTER), &SvgOptions::new());
    expect_file!["pictures/change.svg"].assert_eq(&picture);
}

#[test]
fn a_change_in_words() {
    expect![[r#"
        flat view
          - 0xe8000-0xec000             16 KiB  ram 0xe8000-0xec000  rwx  guest-ram + 0xe8000
          ~ 0xf0000-0x100000            64 KiB  ram 0xf0000-0x100000  rox → rwx  guest-ram + 0xf0000
          + 0x3400000-0x3404000         16 KiB  bar0  rwx  bar0
          - 0x3800000-0x3804000         16 KiB  bar0  rwx  bar0
        regions, priority 255
          ~ 0xe8000-0xec000             16 KiB  ram 0xe8000-0xec000  rw → unmapped  guest-ram + 0xe8000
          ~ 0xf0000-0x100000            64 KiB  ram 0xf0000-0x100000  ro → rw  guest-ram + 0xf0000
        regions, priority 0
          + 0x3400000-0x3404000         16 KiB  bar0  rw  bar0
          - 0x3800000-0x3804000         16 KiB  bar0  rw  bar0
        mappings
          - 0xe8000-0xec000             16 KiB  rw  guest-ram + 0xe8000
          ~ 0xf0000-0x100000            64 KiB  ro → rw  guest-ram + 0xf0000
          + 0x3400000-0x3404000         16 KiB  rw  bar0
          - 0x3800000-0x3804000         16 KiB  rw  bar0
        slots, vtl0 kvm
          - 0xe8000-0xec000             16 KiB  #12  rwx
          ~ 0xf0000-0x100000            64 KiB  #14  rox → rwx
          + 0x3400000-0x3404000         16 KiB  #16  rwx
          - 0x3800000-0x3804000         16 KiB  #16  rwx
        slots, vtl2 kvm
          - 0xe8000-0xec000             16 KiB  #12  rwx
          ~ 0xf0000-0x100000            64 KiB  #14  rox → rwx
          + 0x3400000-0x3404000         16 KiB  #16  rwx
          - 0x3800000-0x3804000         16 KiB  #16  rwx
        slots, vtl2 kvm (alias map) at +0x80000000
          - 0xe8000-0xec000             16 KiB  #31  rwx
          ~ 0xf0000-0x100000            64 KiB  #33  rox → rwx
          + 0x3400000-0x3404000         16 KiB  #35  rwx
          - 0x3800000-0x3804000         16 KiB  #35  rwx"#]].assert_eq(&describe(&diff(&map(DEMO), &map(AFTER)), Paint::PLAIN));
    expect!["no difference between the two memory maps"]
        .assert_eq(&describe(&diff(&map(DEMO), &map(DEMO)), Paint::PLAIN));
}

#[test]
fn regions_without_a_place_are_compared_too() {
    let mut after = json(SMALL);
    after["regions"]["5"]["name"] = json!("renamed");
    let after = MemoryMap::find(&Node::from_json(&after)).unwrap();
    expect![[r#"
        regions without a place
          ~ spare → renamed  priority 3, 0 mappings"#]]
    .assert_eq(&describe(&diff(&map(SMALL), &after), Paint::PLAIN));
}

#[test]
fn a_view_is_found_wherever_it_is() {
    let document = json!({ "steps": {}, "deep": { "inspection": json(DEMO) } });
    let tree = Node::from_json(&document);
    let found = MemoryMap::find(&tree).unwrap();
    assert_eq!(found, map(DEMO));
    let path: Path = "deep/inspection/view".parse().unwrap();
    assert_eq!(MemoryMap::read(&tree, &path), Ok(found));
    let missing = MemoryMap::read(&tree, &"deep/x".parse().unwrap());
    assert_eq!(
        missing,
        Err(MapError::Missing {
            path: "deep/x".into()
        })
    );
}

#[test]
fn an_alias_shows_what_its_target_shows() {
    let mut tree = json(SMALL);
    tree["regions"]["6"] = json!({
        "name": "alias", "priority": 7, "len": 0x2000, "mapped": { "access": "ro" },
        "placed_at": "0xd0000000-0xd0002000", "alias": { "of": 2, "offset": 0x1000 },
    });
    // An alias of an alias: the hole that follows the one page.
    tree["regions"]["7"] = json!({
        "name": "again", "priority": 7, "len": 0x1000, "mapped": null,
        "placed_at": "nowhere", "alias": { "of": 6, "offset": 0x800 },
    });
    let map = MemoryMap::find(&Node::from_json(&tree)).unwrap();
    let shown = |id| {
        let mappings = map.region(id).unwrap().mappings.iter();
        mappings
            .map(|mapping| {
                format!(
                    "{} {} {:#x}",
                    mapping.range, mapping.backing, mapping.offset
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(6), ["0x0-0x1000 dax 0x5000"]);
    assert_eq!(shown(7), ["0x0-0x800 dax 0x5800"]);
    assert!(draw_svg(&map, &SvgOptions::new()).contains("alias of window + 0x1000"));

    tree["regions"]["6"]["alias"]["of"] = json!(7);
    let error = MemoryMap::find(&Node::from_json(&tree)).unwrap_err();
    expect!["`regions/6` is not an alias of a region that is older"].assert_eq(&error.to_string());
}

/// Damages a copy of the small tree and returns the error.
fn damaged(damage: impl FnOnce(&mut Json)) -> String {
    let mut tree = json!({ "vm": json(SMALL) });
    damage(&mut tree["vm"]);
    MemoryMap::find(&Node::from_json(&tree))
        .unwrap_err()
        .to_string()
}

fn remove(json: &mut Json, name: &str) {
    json.as_object_mut().unwrap().remove(name);
}

#[test]
fn errors_name_the_path() {
    let missing = damaged(|tree| remove(&mut tree["regions"]["2"], "priority"));
    expect!["`vm/regions/2/priority` is missing"].assert_eq(&missing);
    let missing = damaged(|tree| remove(tree, "address_space"));
    expect!["`vm/address_space` is missing"].assert_eq(&missing);
    let missing = damaged(|tree| remove(&mut tree["flat_view"]["0x0-0xa0000"], "region"));
    expect!["`vm/flat_view/0x0-0xa0000/region` is missing"].assert_eq(&missing);
    let wrong = damaged(|tree| tree["regions"]["2"]["priority"] = json!(-1));
    expect!["`vm/regions/2/priority` is not a number that is not negative"].assert_eq(&wrong);
    let wrong = damaged(|tree| tree["regions"]["x"] = json!({}));
    expect!["`vm/regions/x` is not named by the number of a region"].assert_eq(&wrong);
    let wrong = damaged(|tree| tree["regions"]["2"]["placed_at"] = json!("0x2-0x1"));
    expect![[r#"`vm/regions/2/placed_at` has no range: "0x2-0x1""#]].assert_eq(&wrong);
    let wrong = damaged(|tree| tree["listeners"]["0 vm"]["pieces"]["?"] = json!("rwx"));
    expect![[r#"`vm/listeners/0 vm/pieces/?` has no range: "?""#]].assert_eq(&wrong);
    let closed = damaged(|tree| tree["regions"]["2"]["mappings"] = json!({ "...": null }));
    expect!["`vm/regions/2/mappings` was not opened: the tree was taken with too little depth"]
        .assert_eq(&closed);
    let overlap = damaged(|tree| {
        tree["flat_view"]["0x9f000-0xb0000"] = tree["flat_view"]["0x0-0xa0000"].clone();
    });
    expect!["0x0-0xa0000 and 0x9f000-0xb0000 overlap in `vm/flat_view`"].assert_eq(&overlap);
    let none = damaged(|tree| remove(tree, "regions"));
    assert!(none.starts_with("no memory map in the tree"), "{none}");
}

#[test]
fn both_themes_are_in_a_picture_unless_one_is_chosen() {
    let draw = |theme| draw_svg(&map(SMALL), &SvgOptions::new().theme(theme));
    let (auto, light, dark) = (draw(Theme::Auto), draw(Theme::Light), draw(Theme::Dark));
    assert!(auto.contains("@media (prefers-color-scheme: dark)"));
    assert!(!light.contains("@media") && !dark.contains("@media"));
    assert_ne!(light, dark);
}
