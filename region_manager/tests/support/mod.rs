//! Neighbours of a region manager that keep the rules of the real ones, and a naive model.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses another part of it"
)]

pub mod cases;
pub mod dma;
pub mod history;
pub mod ops;
pub mod paint;
pub mod replay;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{
    ListenerError, MappingSink, RegionListener, SinkError, Slot, SlotChange, SubMapping, VaOp,
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
    /// Who keeps vCPUs from running.
    pub paused: Vec<&'static str>,
    /// The sub-mappings of each DMA listener, by address.
    pub dma: BTreeMap<&'static str, BTreeMap<u64, SubMapping<Backing>>>,
    /// DMA listeners that changed something and don't know yet that it is over.
    pub unfinished: Vec<&'static str>,
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
    /// What calls contain that fail whenever they are made.
    pub fail_named: Option<&'static str>,
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

    /// Makes every call fail whose text contains `name`.
    pub fn fail_named(&self, name: &'static str) {
        self.lock().fail_named = Some(name);
    }

    pub fn fail_never(&self) {
        let mut inner = self.lock();
        inner.fail_after = None;
        inner.fail_named = None;
    }
}

impl Inner {
    pub fn enter(&mut self, call: String) -> Result<(), String> {
        let named = self.fail_named.is_some_and(|name| call.contains(name));
        self.calls.push(call);
        if named {
            return Err("made to fail".to_owned());
        }
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

pub fn pages(range: MemoryRange) -> impl Iterator<Item = usize> {
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

    fn check(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        let (removed, added) = (change.removed().len(), change.added().len());
        inner.enter(format!("{}: check -{removed} +{added}", self.name))?;
        let held = &inner.outside.slots[self.name];
        for slot in change.removed() {
            assert_eq!(held.get(&slot.range.start()), Some(slot), "held before");
        }
        Ok(())
    }

    fn pause(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        assert!(!change.gaps().is_empty(), "paused without need");
        inner.enter(format!("{}: pause", self.name))?;
        inner.outside.paused.push(self.name);
        Ok(())
    }

    fn resume(&mut self) {
        let mut inner = self.world.lock();
        inner.calls.push(format!("{}: resume", self.name));
        assert_eq!(inner.outside.paused.pop(), Some(self.name), "was paused");
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
            let allows = slot.permissions.access.is_writable() || !access.is_writable();
            assert!(allows, "host addresses of {slot} allow more than the slot");
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
