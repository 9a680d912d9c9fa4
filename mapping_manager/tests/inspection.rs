//! What the tree tells of a VA mapper while it changes, and of accesses that fault.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use inspect::Node;
use mapping_manager::VaMapper;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::sync::atomic::{AtomicBool, Ordering};

const LOW: MemoryRange = MemoryRange::new(0x1000..0x2000);
const HIGH: MemoryRange = MemoryRange::new(0x8000..0xb000);

fn text(tree: &Node, path: &str) -> String {
    tree.get(&path.parse().unwrap())
        .unwrap()
        .compact()
        .to_string()
}

#[test]
fn faults_are_counted_by_what_came_of_them() {
    let mapper = VaMapper::new("guest", 0x10000, Alignment::Page).unwrap();
    let ram = SharedMemory::new("ram", 0x1000).unwrap();
    mapper
        .map(LOW, &Backing::from(&ram), 0, Access::ReadOnly)
        .unwrap();
    let memory = mapper.guest_memory();
    memory.read_plain::<u8>(0x1000).unwrap();
    // Out of bounds is no fault.
    memory.read_plain::<u8>(0x10000).unwrap_err();
    let tree = inspect::inspect(&*mapper);
    let faults = "{recovered: 0, then_failed: 0, then_succeeded: 0}";
    assert_eq!(text(&tree, "faults"), faults);

    memory.read_plain::<u8>(0x4000).unwrap_err();
    memory.write_plain(0x1000, &1_u8).unwrap_err();
    memory.read_at(0x1ff0, &mut [0; 64]).unwrap_err();
    let tree = inspect::inspect(&*mapper);
    let faults = "{recovered: 3, then_failed: 3, then_succeeded: 0}";
    assert_eq!(text(&tree, "faults"), faults);
    assert_eq!(text(&tree, "process"), std::process::id().to_string());
    assert_eq!(text(&tree, "lag"), "0");
}

/// At every moment the low range shows one of two backings. The parts of a tree must agree.
#[test]
fn a_tree_is_of_one_moment() {
    let mapper = VaMapper::new("guest", 0x10000, Alignment::Page).unwrap();
    let [first, second] = ["first", "second"].map(|name| SharedMemory::new(name, 0x3000).unwrap());
    let both = [Backing::from(&first), Backing::from(&second)];
    mapper.map(LOW, &both[0], 0, Access::ReadWrite).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (backing, other) in [(1, HIGH), (0, LOW)].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                mapper
                    .map(LOW, &both[backing], 0, Access::ReadWrite)
                    .unwrap();
                match other == HIGH {
                    true => mapper.map(HIGH, &both[1], 0, Access::ReadWrite).unwrap(),
                    false => mapper.unmap(HIGH).unwrap(),
                }
            }
        });
        let _stopper = Stopper(&stop);
        let mut seen = [0_u32; 2];
        while seen.iter().any(|times| *times < 50) {
            let tree = inspect::inspect(&*mapper);
            let backings = tree.get(&"mappings".parse().unwrap()).unwrap();
            let mappings = backings.as_directory().unwrap();
            let ranges = text(&tree, "reservation/mapped_ranges");
            assert_eq!(ranges, mappings.len().to_string(), "{tree}");
            let has_high = mappings.len() == 2;
            let bytes = if has_high { "0x4000" } else { "0x1000" };
            assert_eq!(text(&tree, "reservation/mapped_bytes"), bytes);
            // Backings that are mapped are just those of the mappings.
            let mut names: Vec<String> = mappings
                .iter()
                .map(|(_, mapping)| mapping.child("backing").unwrap().to_string())
                .collect();
            names.sort();
            names.dedup();
            let leases = tree.get(&"leases/backings".parse().unwrap()).unwrap();
            let leased: Vec<String> = leases
                .as_directory()
                .unwrap()
                .iter()
                .map(|(_, lease)| lease.child("name").unwrap().to_string())
                .collect();
            assert_eq!(leased, names, "{tree}");
            seen[usize::from(has_high)] += 1;
        }
    });
}

/// Ends the other thread, also where this one stops at a surprise.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
