//! A DMA listener that keeps the rules.

use super::{Backing, Inner, VaPage, World, pages};
use memory_range::PAGE_SIZE;
use region_manager::{DmaListener, Followed, ListenerError, MemoryKind, SubMapping};
use std::collections::BTreeMap;

/// What a DMA listener does with device memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DeviceMemory {
    /// It maps it, unless a call is made to fail.
    Mapped,
    /// It refuses what starts at an odd page, and maps the rest; neither counts as a call that can
    /// be made to fail.
    OddRefused,
}

impl World {
    pub fn dma(
        &self,
        name: &'static str,
        device_memory: DeviceMemory,
    ) -> Box<dyn DmaListener<Backing>> {
        self.lock().outside.dma.entry(name).or_default();
        Box::new(FakeDma {
            name,
            device_memory,
            world: self.clone(),
        })
    }
}

/// Whether a listener of the sort [`DeviceMemory::OddRefused`] goes without this.
pub fn is_odd_device(mapping: &SubMapping<Backing>) -> bool {
    mapping.kind == MemoryKind::Device && (mapping.range.start() / PAGE_SIZE) % 2 == 1
}

struct FakeDma {
    name: &'static str,
    device_memory: DeviceMemory,
    world: World,
}

impl FakeDma {
    fn held<'a>(&self, inner: &'a mut Inner) -> &'a mut BTreeMap<u64, SubMapping<Backing>> {
        inner.outside.dma.get_mut(self.name).unwrap()
    }

    fn touched(&self, inner: &mut Inner) {
        if !inner.outside.unfinished.contains(&self.name) {
            inner.outside.unfinished.push(self.name);
        }
    }
}

/// Host addresses show what the sub-mapping says, page by page.
fn assert_shown(inner: &Inner, mapping: &SubMapping<Backing>) {
    for (index, page) in pages(mapping.range).enumerate() {
        let first = mapping.offset / PAGE_SIZE;
        let said: VaPage = Some((mapping.backing, first + index as u64, mapping.access));
        assert_eq!(inner.outside.va[page], said, "page {page} of {mapping}");
    }
}

impl DmaListener<Backing> for FakeDma {
    fn name(&self) -> &str {
        self.name
    }

    fn check(
        &mut self,
        removed: &[SubMapping<Backing>],
        added: &[SubMapping<Backing>],
    ) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        assert!(
            !removed.is_empty() || !added.is_empty(),
            "asked for nothing"
        );
        let unfinished = inner.outside.unfinished.contains(&self.name);
        assert!(!unfinished, "the last change was never finished");
        let (removed, added) = (removed.len(), added.len());
        Ok(inner.enter(format!("{}: check DMA -{removed} +{added}", self.name))?)
    }

    fn unmap(&mut self, mapping: &SubMapping<Backing>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: unmap {mapping}", self.name))?;
        assert_shown(&inner, mapping);
        let held = self.held(&mut inner).remove(&mapping.range.start());
        assert_eq!(
            held.as_ref(),
            Some(mapping),
            "unmaps exactly what was mapped"
        );
        self.touched(&mut inner);
        Ok(())
    }

    fn map(&mut self, mapping: &SubMapping<Backing>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        let call = format!("{}: map {mapping}", self.name);
        if self.device_memory == DeviceMemory::OddRefused && mapping.kind == MemoryKind::Device {
            inner.calls.push(call);
            if is_odd_device(mapping) {
                return Err("no device memory at odd pages".into());
            }
        } else {
            inner.enter(call)?;
        }
        assert_shown(&inner, mapping);
        let held = self.held(&mut inner);
        let free = held.values().all(|one| !one.range.overlaps(&mapping.range));
        assert!(free, "{mapping} overlaps one of {held:?}");
        held.insert(mapping.range.start(), mapping.clone());
        self.touched(&mut inner);
        Ok(())
    }

    fn finish(&mut self, result: Followed) {
        let mut inner = self.world.lock();
        inner
            .calls
            .push(format!("{}: finish {result:?}", self.name));
        let unfinished = &mut inner.outside.unfinished;
        let index = unfinished.iter().position(|name| *name == self.name);
        unfinished.remove(index.expect("something was changed since the last time"));
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        let mut inner = self.world.lock();
        inner.enter(format!("{}: detach", self.name))?;
        inner.outside.dma.insert(self.name, BTreeMap::new());
        Ok(())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        req.value("fake DMA");
    }
}
