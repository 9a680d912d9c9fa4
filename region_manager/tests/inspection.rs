//! What the tree tells of a manager, and what a change has to wait for while it is made.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use inspect::{Inspect, Node, Request};
use memory_range::{Access, MemoryRange};
use region_manager::{
    DmaListener, ListenerError, MapParams, RegionId, RegionListener, RegionManager, RegionSpec,
    Slot, SubMapping, recording_sink,
};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

const PAGE: u64 = 0x1000;

fn manager() -> RegionManager<&'static str> {
    RegionManager::new(0x100_0000, recording_sink().0).unwrap()
}

fn text(tree: &Node, path: &str) -> String {
    let node = tree.get(&path.parse().unwrap());
    node.unwrap_or_else(|| panic_at(path)).compact().to_string()
}

#[allow(clippy::panic, reason = "a path that leads nowhere is a failed test")]
fn panic_at(path: &str) -> ! {
    panic!("nothing at {path}")
}

/// A region of some pages that shows one backing throughout.
fn region(manager: &RegionManager<&'static str>, name: &str, pages: u64) -> RegionId {
    let mut change = manager.transaction().unwrap();
    let id = change
        .create_region(RegionSpec::new(name, pages * PAGE, 1))
        .unwrap();
    let all = MemoryRange::new(0..pages * PAGE);
    change
        .add_mapping(id, all, "file", 0, Access::ReadWrite)
        .unwrap();
    let _ = change.commit().unwrap();
    id
}

#[test]
fn a_change_is_told_with_its_reason() {
    let manager = manager();
    let tree = inspect::inspect(&manager);
    assert_eq!(text(&tree, "last_change/reason"), "nothing was asked for");

    let bar = region(&manager, "bar0", 2);
    let tree = inspect::inspect(&manager);
    assert_eq!(
        text(&tree, "last_change/reason"),
        "\"create bar0, and 1 more edit\""
    );

    let mut change = manager.transaction().unwrap();
    change
        .map_region(bar, MapParams::new(0x8000, Access::ReadOnly))
        .unwrap();
    // Abandoned: nobody's reason.
    drop(change);
    let mut change = manager.transaction().unwrap();
    change
        .map_region(bar, MapParams::new(0x4000, Access::ReadOnly))
        .unwrap();
    let _ = change.commit().unwrap();
    let tree = inspect::inspect(&manager);
    assert_eq!(text(&tree, "last_change/reason"), "map bar0 at 0x4000 ro");
    assert_eq!(text(&tree, "last_change/edits"), "1");
    assert_eq!(text(&tree, "last_failure"), "none");

    let mut change = manager.transaction().unwrap();
    change.unmap_region(bar).unwrap();
    change.remove_region(bar).unwrap();
    let _ = change.commit().unwrap();
    let tree = inspect::inspect(&manager);
    assert_eq!(
        text(&tree, "last_change/reason"),
        "\"unmap region 0, which is gone, and 1 more edit\""
    );
}

#[test]
fn a_change_is_timed_where_that_is_wanted_or_costs_nothing() {
    let manager = manager();
    let ids: Vec<RegionId> = (0..24)
        .map(|index| region(&manager, &format!("r{index}"), 1))
        .collect();
    let map = |ids: &[RegionId], gpa: u64| {
        let mut change = manager.transaction().unwrap();
        for (id, at) in ids.iter().zip(0..) {
            let params = MapParams::new(gpa + at * 2 * PAGE, Access::ReadWrite);
            change.map_region(*id, params).unwrap();
        }
        let _ = change.commit().unwrap();
        let tree = inspect::inspect(&manager);
        let path = "last_change/duration".parse().unwrap();
        let duration = tree.get(&path).unwrap().as_value().unwrap();
        matches!(duration, inspect::Value::Duration(_))
    };
    assert!(!map(&ids[..1], 0x10_0000));
    assert!(map(&ids, 0x20_0000));
    assert!(!map(&ids[..1], 0x10_0000));
    inspect::update(&manager, &"time_changes".parse().unwrap(), "true").unwrap();
    assert!(map(&ids[..1], 0x20_0000));
    manager.time_changes(false);
    assert!(!map(&ids[..1], 0x10_0000));
}

/// Refuses every slot.
struct Refusing;

impl RegionListener for Refusing {
    fn name(&self) -> &str {
        "refusing"
    }

    fn remove(&mut self, _: &Slot) -> Result<(), ListenerError> {
        Ok(())
    }

    fn add(&mut self, _: &Slot) -> Result<(), ListenerError> {
        Err("no room".into())
    }

    fn contents_replaced(&mut self, _: MemoryRange) -> Result<(), ListenerError> {
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn inspect(&self, req: Request<'_>) {
        req.value("under the lock");
    }
}

#[test]
fn a_change_that_failed_is_told_beside_the_last_that_did_not() {
    let manager = manager();
    let bar = region(&manager, "bar0", 1);
    manager.add_listener(Box::new(Refusing)).unwrap();
    let mut change = manager.transaction().unwrap();
    change
        .map_region(bar, MapParams::new(0, Access::ReadWrite))
        .unwrap();
    let _ = change.commit().unwrap_err();
    let tree = inspect::inspect(&manager);
    assert_eq!(text(&tree, "last_failure/reason"), "map bar0 at 0x0 rw");
    assert_eq!(
        text(&tree, "last_failure/error"),
        "cannot add slot 0x0-0x1000 rwx (refusing): no room"
    );
    assert_eq!(
        text(&tree, "last_change/reason"),
        "\"create bar0, and 1 more edit\""
    );
    assert_eq!(text(&tree, "counters/failed_changes"), "1");
    // A listener without a copy is asked all the same.
    assert_eq!(text(&tree, "listeners"), "{0 refusing: under the lock}");
}

/// A manager that a backing and a listener try to change while they are written.
static LIVE: OnceLock<Arc<RegionManager<Prying>>> = OnceLock::new();
/// How often the lock was free, and how often not.
static FREE: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);

fn pry() {
    if let Some(manager) = LIVE.get() {
        // From inside the lock it is an error.
        let counter = match manager.transaction() {
            Ok(_) => &FREE,
            Err(_) => &HELD,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Prying;

impl fmt::Display for Prying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pry();
        f.write_str("prying")
    }
}

impl Inspect for Prying {
    fn inspect(&self, req: Request<'_>) {
        req.display(self);
    }
}

struct Copying;

impl RegionListener for Copying {
    fn name(&self) -> &str {
        "copying"
    }

    fn remove(&mut self, _: &Slot) -> Result<(), ListenerError> {
        Ok(())
    }

    fn add(&mut self, _: &Slot) -> Result<(), ListenerError> {
        Ok(())
    }

    fn contents_replaced(&mut self, _: MemoryRange) -> Result<(), ListenerError> {
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn inspection_copy(&self) -> Option<Box<dyn Inspect>> {
        Some(Box::new(Prying))
    }

    fn inspect(&self, req: Request<'_>) {
        req.display(&Prying);
    }
}

impl DmaListener<Prying> for Copying {
    fn name(&self) -> &str {
        "copying"
    }

    fn unmap(&mut self, _: &SubMapping<Prying>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn map(&mut self, _: &SubMapping<Prying>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(())
    }

    fn inspection_copy(&self) -> Option<Box<dyn Inspect>> {
        Some(Box::new(Prying))
    }

    fn inspect(&self, req: Request<'_>) {
        req.display(&Prying);
    }
}

#[test]
fn nothing_is_written_under_the_lock() {
    let manager = RegionManager::new(0x100_0000, recording_sink().0).unwrap();
    manager.add_listener(Box::new(Copying)).unwrap();
    manager.add_dma_listener(Box::new(Copying)).unwrap();
    let mut change = manager.transaction().unwrap();
    let id = change.create_region(RegionSpec::new("r", PAGE, 1)).unwrap();
    let all = MemoryRange::new(0..PAGE);
    change
        .add_mapping(id, all, Prying, 0, Access::ReadWrite)
        .unwrap();
    change
        .map_region(id, MapParams::new(0, Access::ReadWrite))
        .unwrap();
    let _ = change.commit().unwrap();
    let manager = Arc::new(manager);
    assert!(LIVE.set(manager.clone()).is_ok());
    let tree = inspect::inspect(&*manager);
    assert_eq!(
        text(&tree, "listeners"),
        "{0 copying: prying, 1 copying: prying}"
    );
    assert_eq!(HELD.load(Ordering::Relaxed), 0);
    // Mapping, flat view, sub-mapping, the plan's two lines with a backing, two listeners.
    assert_eq!(FREE.load(Ordering::Relaxed), 7);
}

/// Two regions of which just one is mapped, always, at the same place; every tree must say so
/// in each of its parts.
#[test]
fn a_tree_is_of_one_moment() {
    let manager = manager();
    let pair = [region(&manager, "a", 4), region(&manager, "b", 4)];
    // So that regions are copied in several holds of the lock, and the pair in the first of them.
    for index in 0..1200 {
        region(&manager, &format!("other {index}"), 1);
    }
    let params = MapParams::new(0x4000, Access::ReadWrite);
    let mut change = manager.transaction().unwrap();
    change.map_region(pair[0], params).unwrap();
    let _ = change.commit().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut guest = None;
            for on in [1, 0].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut change = manager.transaction().unwrap();
                change.unmap_region(pair[1 - on]).unwrap();
                change.map_region(pair[on], params).unwrap();
                // One that lives while the second of the pair shows, in a place that comes last.
                if on == 1 {
                    let spec = RegionSpec::new("guest", PAGE, 1).placed_at(0);
                    guest = Some(change.create_region(spec).unwrap());
                } else if let Some(guest) = guest.take() {
                    change.remove_region(guest).unwrap();
                }
                let _ = change.commit().unwrap();
            }
        });
        let _stopper = Stopper(&stop);
        let mut seen = [0_u32; 2];
        while seen.iter().any(|times| *times < 20) {
            let tree = inspect::inspect(&manager);
            let mapped: Vec<bool> = ["regions/0/mapped", "regions/1/mapped"]
                .map(|path| text(&tree, path) != "none")
                .into();
            assert_ne!(mapped[0], mapped[1], "{tree}");
            let on = usize::from(mapped[1]);
            assert_eq!(
                text(&tree, "flat_view/0x4000-0x8000/region"),
                on.to_string()
            );
            assert_eq!(text(&tree, "slots"), "{0x4000-0x8000: rwx}");
            let regions = tree.child("regions").and_then(Node::as_directory).unwrap();
            let guests = regions.iter().filter(|(_, region)| {
                let name = region.child("name").and_then(Node::as_value);
                name.and_then(inspect::Value::as_str) == Some("guest")
            });
            assert_eq!(guests.count(), on);
            assert_eq!(regions.len(), 1202 + on);
            let reason = text(&tree, "last_change/reason");
            let expected = format!("\"unmap {}, and 2 more edits\"", ["b", "a"][on]);
            assert!(
                reason == expected || reason.starts_with("map a at 0x4000"),
                "{reason}"
            );
            seen[on] += 1;
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
