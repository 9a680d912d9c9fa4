//! All that can be seen of a world: by its own account, by devices, by each guest.

use super::world::{ALIAS, Guest, World};
use crate::{Cause, GuestAccess, GuestMemory, GuestMemoryManager, SoftwarePartition};
use memory_range::{MemoryRange, PAGE_SIZE};
use sparse_alloc::MappedRegion;
use std::fmt::Debug;
use std::sync::Arc;

/// All that can be seen of a [`World`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// The facade's account of itself, without addresses and without what counts attempts.
    tree: String,
    damaged: Vec<MemoryRange>,
    /// What a device sees, page by page.
    devices: Vec<DevicePage>,
    /// Which addresses are locked in memory, relative to the first.
    locked: Vec<MemoryRange>,
    /// Id, and the rest, for each partition.
    slots: [Vec<(u32, String)>; 3],
    /// What each guest sees, page by page, the alias map included.
    guests: [Vec<GuestPage>; 3],
    /// What the DMA target has.
    dma: Vec<String>,
}

impl State {
    pub(super) fn of(world: &World) -> Self {
        let memory = world.manager.client().guest_memory_now();
        let base = memory.mapper().reservation().base().addr().get() as u64;
        let end = world.manager.layout().end();
        // In the region that no operation here touches, some of the pages will do.
        let probed: Vec<u64> = (0..end / PAGE_SIZE)
            .filter(|page| *page < 8 || *page >= 0x98 || page % 16 == 0)
            .map(|page| page * PAGE_SIZE)
            .collect();
        let seen = |guest: &Arc<Guest>| {
            let mirror = probed.iter().map(|gpa| ALIAS + gpa);
            let all = probed.iter().copied().chain(mirror);
            all.map(|gpa| guest_page(guest.inner(), gpa)).collect()
        };
        let slots = |guest: &Arc<Guest>| {
            let slots = guest.inner().slots().into_iter();
            slots
                .map(|slot| {
                    let text = format!("{} {} +{:#x}", slot.gpa, slot.permissions, slot.hva - base);
                    (slot.id, text)
                })
                .collect()
        };
        for guest in world.guests() {
            assert_eq!(guest.inner().broken_rules(), []);
        }
        Self {
            tree: tree(&world.manager),
            damaged: world.manager.damaged().unwrap(),
            devices: probed
                .iter()
                .map(|gpa| device_page(&memory, *gpa))
                .collect(),
            locked: locked(base, end),
            slots: world.guests().map(slots),
            guests: world.guests().map(seen),
            dma: world.dma.lock().unwrap().held(),
        }
    }

    /// As `assert_eq`, part by part, so that the difference can be found.
    #[track_caller]
    pub(super) fn must_equal(&self, other: &Self, when: &str) {
        assert_eq!(self.damaged, other.damaged, "{when}");
        for nth in 0..3 {
            must_equal(
                &self.slots[nth],
                &other.slots[nth],
                &format!("{when}: slots of {nth}"),
            );
            let pages = (&self.guests[nth], &other.guests[nth]);
            must_equal(pages.0, pages.1, &format!("{when}: what guest {nth} sees"));
        }
        must_equal(&self.dma, &other.dma, &format!("{when}: what has DMA"));
        must_equal(
            &self.locked,
            &other.locked,
            &format!("{when}: what is locked"),
        );
        must_equal(
            &self.devices,
            &other.devices,
            &format!("{when}: what devices see"),
        );
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        must_equal(
            &lines(&self.tree),
            &lines(&other.tree),
            &format!("{when}: inspection"),
        );
    }

    /// The same without slot ids, and without the partitions' own account of their slots, which
    /// is by id.
    pub(super) fn without_slot_ids(&self) -> Self {
        let mut state = self.clone();
        state.slots.iter_mut().flatten().for_each(|(id, _)| *id = 0);
        let mut in_partition = false;
        let kept = state.tree.lines().filter(|line| {
            in_partition = *line == "  partition:" || in_partition && line.starts_with("    ");
            !in_partition
        });
        state.tree = kept.collect::<Vec<_>>().join("\n");
        state
    }
}

#[track_caller]
fn must_equal<T: PartialEq + Debug>(left: &[T], right: &[T], what: &str) {
    let longest = left.len().max(right.len());
    if let Some(at) = (0..longest).find(|at| left.get(*at) != right.get(*at)) {
        let (left, right) = (left.get(at), right.get(at));
        panic!("{what}: entry {at:#x} is {left:?}, not {right:?}");
    }
}

/// What a guest meets at a page.
#[derive(Copy, Clone, Debug, PartialEq)]
struct GuestPage {
    gpa: u64,
    /// The first word, where a load reaches memory.
    load: Option<u64>,
    /// Whether a store reaches memory.
    store: bool,
}

/// What a device meets at the start of a page: what it reads, and whether it can write.
type DevicePage = (u64, Result<u64, Cause>, Result<(), Cause>);

/// Loads and stores at a page. What was there is there again afterwards.
fn guest_page(guest: &SoftwarePartition, gpa: u64) -> GuestPage {
    let mut found = [0; 8];
    let load = guest.load(gpa, &mut found).unwrap();
    let other = found.map(|byte: u8| !byte);
    let store = guest.store(gpa, &other).unwrap();
    let mut again = [0; 8];
    assert_eq!(guest.load(gpa, &mut again).unwrap(), load);
    let stored = store == GuestAccess::Done;
    assert_eq!(again, if stored { other } else { found }, "at {gpa:#x}");
    if stored {
        assert_eq!(guest.store(gpa, &found).unwrap(), GuestAccess::Done);
    }
    GuestPage {
        gpa,
        load: (load == GuestAccess::Done).then(|| u64::from_le_bytes(found)),
        store: stored,
    }
}

/// Reads and writes at a page. What was there is there again afterwards.
fn device_page(memory: &GuestMemory, gpa: u64) -> DevicePage {
    let read = memory.read_plain::<u64>(gpa).map_err(|error| error.cause());
    let write = memory
        .write_plain(gpa, &read.map_or(0, |value| !value))
        .map_err(|error| error.cause());
    if let (Ok(value), Ok(())) = (read, write) {
        assert_eq!(memory.read_plain::<u64>(gpa), Ok(!value));
        memory.write_plain(gpa, &value).unwrap();
    }
    (gpa, read, write)
}

/// What is locked of so many bytes of host addresses.
fn locked(base: u64, len: u64) -> Vec<MemoryRange> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut locked = Vec::new();
    let mut vma = "";
    for line in smaps.lines() {
        // A VMA begins with its addresses in lower-case digits, and a property with a capital.
        if !line.starts_with(|first: char| first.is_ascii_uppercase()) {
            vma = line;
        } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "lo") {
            let (start, rest) = vma.split_once('-').unwrap();
            let (end, _) = rest.split_once(' ').unwrap();
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            locked.push(MemoryRange::new(hex(start)..hex(end)));
        }
    }
    let space = MemoryRange::new(base..base + len);
    let inside = locked.iter().map(|vma| vma.intersection(&space));
    let offsets: Vec<MemoryRange> = inside.filter_map(|vma| vma.shifted_down(base)).collect();
    memory_range::sorted::flatten(&offsets)
}

fn tree(manager: &GuestMemoryManager) -> String {
    let tree = inspect::inspect(manager);
    let paths = [
        "layout",
        "backing",
        "mapper/mappings",
        "view/regions",
        "view/flat_view",
        "view/slots",
        "view/slot_count",
        "view/listeners",
        "view/damage",
        "visibility",
    ];
    let mut lines = Vec::new();
    for path in paths {
        let node = tree
            .get(&path.parse().unwrap())
            .expect("a part of the state");
        lines.push(path.to_owned());
        // Where the process happens to have address space is no state of the guest's memory.
        let text = node.to_string();
        let kept = text.lines().filter(|line| {
            let name = line.trim();
            !name.starts_with("base: ") && !name.starts_with("hva: ")
        });
        for line in kept {
            // A listener is named by a number that is never used again, and its name.
            let number = line.find(|c: char| c != ' ').unwrap_or(0);
            let listener = path == "view/listeners" && number == 0;
            lines.push(match line.split_once(' ') {
                Some((_, name)) if listener => name.to_owned(),
                _ => line.to_owned(),
            });
        }
    }
    lines.join("\n")
}
