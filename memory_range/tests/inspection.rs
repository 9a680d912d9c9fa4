//! How ranges look in an inspection tree.

#![cfg(feature = "inspect")]

use memory_range::Access;
use memory_range::MemoryRange;
use memory_range::RangeMap;

#[test]
fn ranges_and_access_are_text() {
    let range = MemoryRange::new(0xf0000..0x100000);
    assert_eq!(inspect::inspect(&range).to_string(), "0xf0000-0x100000");
    assert_eq!(inspect::inspect(&Access::ReadOnly).to_string(), "ro");
    assert_eq!(inspect::inspect(&Access::ReadWrite).to_string(), "rw");
}

#[test]
fn a_map_is_a_directory_in_ascending_order() {
    let map: RangeMap<Access> = [
        (MemoryRange::new(0x100000..0x4000000), Access::ReadWrite),
        (MemoryRange::new(0xf0000..0x100000), Access::ReadOnly),
    ]
    .into_iter()
    .collect();
    assert_eq!(
        inspect::inspect(&map).to_string(),
        "0xf0000-0x100000: ro\n0x100000-0x4000000: rw"
    );
}
