//! Neighbours of a region manager that keep the rules of the real ones, and a naive model.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses another part of it"
)]

pub mod random;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{
    ListenerError, MappingSink, Permissions, RegionListener, SinkError, Slot, VaOp,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Pages of guest physical address space in these tests.
pub const PAGES: u64 = 48;
pub const SPACE: u64 = PAGES * PAGE_SIZE;

/// A backing is a small number here.
pub type Backing = u32;

/// What stands at one page of host addresses: backing, page number in it, protection.
pub type VaPage = Option<(Backing, u64, Access)>;

/// The world outside the manager: host addresses and the slots of each listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outside {
    pub va: Vec<VaPage>,
    pub slots: BTreeMap<&'static str, BTreeMap<u64, Slot>>,
    /// Per listener: which page contents it has pinned (backing, page), by page of GPA.
    pub pinned: BTreeMap<&'static str, BTreeMap<u64, VaPage>>,
}

/// Shared with the fakes; counts their calls and makes the n-th fail.
#[derive(Clone, Debug, Default)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
pub struct Inner {
    pub outside: Outside,
    pub calls: Vec<String>,
    /// Calls to go until one fails; `None`: none fails.
    pub fail_after: Option<usize>,
    /// How many calls fail from there on.
    pub fail_count: usize,
}

impl World {
    pub fn new() -> Self {
        let world = Self::default();
        world.lock().outside.va = vec![None; PAGES as usize];
        world
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn sink(&self) -> Box<dyn MappingSink<Backing>> {
        Box::new(FakeSink(self.clone()))
    }

    pub fn listener(&self, name: &'static str) -> Box<dyn RegionListener> {
        let mut inner = self.lock();
        inner.outside.slots.entry(name).or_default();
        inner.outside.pinned.entry(name).or_default();
        Box::new(FakeListener {
            name,
            world: self.clone(),
        })
    }

    pub fn outside(&self) -> Outside {
        self.lock().outside.clone()
    }

    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    /// Makes `count` calls fail after the next `after` have succeeded.
    pub fn fail(&self, after: usize, count: usize) {
        let mut inner = self.lock();
        inner.fail_after = Some(after);
        inner.fail_count = count;
    }

    pub fn fail_never(&self) {
        self.lock().fail_after = None;
    }
}

impl Inner {
    fn enter(&mut self, call: String) -> Result<(), String> {
        self.calls.push(call);
        match &mut self.fail_after {
            Some(0) if self.fail_count > 0 => {
                self.fail_count -= 1;
                Err("made to fail".to_owned())
            }
            Some(0) | None => Ok(()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

struct FakeSink(World);

fn pages(range: MemoryRange) -> impl Iterator<Item = usize> {
    range.page_numbers().map(|page| page as usize)
}

impl MappingSink<Backing> for FakeSink {
    fn apply(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        let mut inner = self.0.lock();
        inner.enter(op.to_string())?;
        let va = &mut inner.outside.va;
        for (index, page) in pages(op.range()).enumerate() {
            va[page] = match op {
                VaOp::Map {
                    backing,
                    offset,
                    access,
                    ..
                } => Some((*backing, offset / PAGE_SIZE + index as u64, *access)),
                VaOp::Protect { access, .. } => {
                    let (backing, offset, _) = va[page].expect("protects only what is mapped");
                    Some((backing, offset, *access))
                }
                VaOp::Reserve { .. } => None,
            };
        }
        // Mapping over a page drops every pin on it.
        if !matches!(op, VaOp::Protect { .. }) {
            for pinned in inner.outside.pinned.values_mut() {
                for page in pages(op.range()) {
                    pinned.remove(&(page as u64));
                }
            }
        }
        Ok(())
    }

    fn undo(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.apply(op)
    }
}

struct FakeListener {
    name: &'static str,
    world: World,
}

impl FakeListener {
    fn pin(&self, inner: &mut Inner, range: MemoryRange) {
        for page in pages(range) {
            let contents = inner.outside.va[page];
            assert!(contents.is_some(), "a slot over a hole at page {page}");
            let pinned = inner.outside.pinned.get_mut(self.name).unwrap();
            pinned.insert(
                page as u64,
                contents.map(|(b, p, _)| (b, p, Access::ReadOnly)),
            );
        }
    }
}

impl RegionListener for FakeListener {
    fn name(&self) -> &str {
        self.name
    }

    fn remove(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: remove slot {slot}", self.name))?;
        let slots = inner.outside.slots.get_mut(self.name).unwrap();
        let held = slots.remove(&slot.range.start());
        assert_eq!(held, Some(*slot), "removes exactly what was added");
        let pinned = inner.outside.pinned.get_mut(self.name).unwrap();
        for page in pages(slot.range) {
            pinned.remove(&(page as u64));
        }
        Ok(())
    }

    fn add(&mut self, slot: &Slot) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: add slot {slot}", self.name))?;
        let slots = inner.outside.slots.get_mut(self.name).unwrap();
        assert!(
            slots.values().all(|held| !held.range.overlaps(&slot.range)),
            "{slot} overlaps one of {slots:?}"
        );
        slots.insert(slot.range.start(), *slot);
        for page in pages(slot.range) {
            let (_, _, access) = inner.outside.va[page].expect("a slot shows memory");
            assert_eq!(access, slot.permissions.access, "slot and protection agree");
        }
        self.pin(&mut inner, slot.range);
        Ok(())
    }

    fn contents_replaced(&mut self, range: MemoryRange) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: contents replaced {range}", self.name))?;
        self.pin(&mut inner, range);
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: detach", self.name))?;
        inner.outside.slots.insert(self.name, BTreeMap::new());
        inner.outside.pinned.insert(self.name, BTreeMap::new());
        Ok(())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        req.value("fake");
    }
}

/// A region of the naive model.
#[derive(Clone, Debug)]
pub struct ModelRegion {
    pub priority: u8,
    pub mapped: Option<(u64, Permissions)>,
    /// One entry a page.
    pub pages: Vec<VaPage>,
}

/// What the model paints at one page: backing, page in it, permissions.
pub type Painted = Option<(Backing, u64, Permissions)>;

/// Paints the regions page by page: the slow and clear version of the overlay.
pub fn paint<'a>(regions: impl Iterator<Item = &'a ModelRegion>) -> Vec<Painted> {
    let mut canvas: Vec<Painted> = vec![None; PAGES as usize];
    // In creation order; a later region covers an earlier one only if its priority is higher.
    let mut priorities: Vec<Option<u8>> = vec![None; PAGES as usize];
    for region in regions {
        let Some((first, permissions)) = region.mapped else {
            continue;
        };
        for (index, page) in region.pages.iter().enumerate() {
            let at = first as usize + index;
            if priorities[at].is_some_and(|other| other >= region.priority) {
                continue;
            }
            priorities[at] = Some(region.priority);
            canvas[at] = page.map(|(backing, offset, access)| {
                let writable = access.is_writable() && permissions.access.is_writable();
                let access = Access::from_writable(writable);
                (
                    backing,
                    offset,
                    Permissions {
                        access,
                        ..permissions
                    },
                )
            });
        }
    }
    canvas
}

/// Spreads a list of slots over the pages.
pub fn spread(slots: impl Iterator<Item = Slot>) -> Vec<Option<Permissions>> {
    let mut spread = vec![None; PAGES as usize];
    for slot in slots {
        for page in pages(slot.range) {
            assert_eq!(spread[page], None, "slots don't overlap");
            spread[page] = Some(slot.permissions);
        }
    }
    spread
}
