//! Draws the memory map of a guest from an inspection tree alone, live or saved.
//!
//! [`MemoryMap`] reads what a tree says of a view: its regions, what is visible, what host addresses
//! show, and the slots of each listener. [`draw_table`] draws it for the terminal, [`draw_svg`] as a
//! picture, and [`diff`] tells two states apart, which [`draw_svg_diff`] draws. The program of this
//! package, `guest-inspect`, does all that for the socket of a running VMM or for a file, and shows
//! any other part of the tree.
//!
//! ```
//! use inspect::Node;
//! use inspect_cli::{MemoryMap, Paint, draw_table};
//!
//! let saved = serde_json::json!({
//!     "address_space": "0x0-0x100000",
//!     "regions": {
//!         "0": {
//!             "name": "ram", "priority": 255, "len": 0xa0000,
//!             "placed_at": "0x0-0xa0000", "mapped": {"access": "rw"},
//!             "mappings": {"0x0-0xa0000": {"backing": "memfd", "offset": 0, "access": "rw"}},
//!         },
//!     },
//!     "flat_view": {
//!         "0x0-0xa0000": {"region": 0, "backing": "memfd", "offset": 0, "permissions": "rwx"},
//!     },
//! });
//! let map = MemoryMap::find(&Node::from_json(&saved))?;
//! assert_eq!(map.region_name(map.view[0].region), "ram");
//! let table = draw_table(&map, Paint::PLAIN);
//! assert!(table.contains("640 KiB"));
//! # Ok::<(), inspect_cli::MapError>(())
//! ```
//!
//! The crate uses none of the layers: what it knows of a view is what the tree says, in the form that
//! `region_manager`, `mapping_manager` and `partition_mapper` give it. What a tree has beyond that is
//! ignored, and what it lacks is an error that names the path.

#![forbid(unsafe_code)]

#[cfg(test)]
mod arbitrary;
mod diff;
mod map;
mod paint;
mod picture;
mod range;
mod row;
mod scale;
mod strip;
mod table;

pub use diff::{Change, describe, diff};
pub use map::{Alias, Listener, MapError, Mapping, MemoryMap, Region, Slot, Visible};
pub use paint::{Ink, Paint};
pub use picture::{SvgOptions, Theme, draw as draw_svg, draw_diff as draw_svg_diff};
pub use range::{ByteRange, RangeError};
pub use row::{Hidden, Row, What, Why};
pub use table::draw as draw_table;
