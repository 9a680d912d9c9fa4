//! Who maps the visible memory for DMA, or hands it to another process.

use crate::diff::{Bytes, Difference};
use crate::ledger::Held;
use crate::region::MemoryKind;
use crate::view::Attributes;
use crate::{ListenerError, ListenerId};
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use std::fmt;

/// A range that shows one backing throughout, as a DMA listener holds it.
///
/// It never spans the border of a region that lay there when it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct SubMapping<B> {
    /// The guest physical addresses; never empty.
    pub range: MemoryRange,
    /// The handle of what holds the bytes.
    pub backing: B,
    /// The offset in the backing, in bytes, of the range's first byte; page aligned.
    pub offset: u64,
    /// Whether the range may be written: no more than the mapping and its region both allow.
    pub access: Access,
    /// RAM or device memory, as the region says.
    pub kind: MemoryKind,
}

impl<B: fmt::Display> fmt::Display for SubMapping<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            range,
            backing,
            offset,
            access,
            kind,
        } = self;
        write!(f, "{range} {access} {kind} from {backing} at {offset:#x}")
    }
}

impl<B: fmt::Display> Inspect for SubMapping<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .display("range", &self.range)
            .display("backing", &self.backing)
            .hex("offset", self.offset)
            .display("access", &self.access)
            .display("kind", &self.kind);
    }
}

impl<B: Clone + PartialEq> Held<B> for SubMapping<B> {
    fn range(&self) -> MemoryRange {
        self.range
    }

    fn differs(difference: &Difference<B>) -> bool {
        let dma = |attributes: Attributes| (attributes.access, attributes.kind);
        difference.has_fresh_bytes() || difference.old.map(dma) != difference.attributes().map(dma)
    }

    fn part(&self, range: MemoryRange) -> Self {
        let skipped = range.start().saturating_sub(self.range.start());
        Self {
            range,
            // Does not wrap: offset + length was checked when the mapping was added.
            offset: self.offset.wrapping_add(skipped),
            ..self.clone()
        }
    }

    fn after(
        difference: &Difference<B>,
        range: MemoryRange,
        before: Option<&Self>,
    ) -> Option<Self> {
        let (attributes, bytes) = difference.new.as_ref()?;
        let mut after = match bytes {
            // Bytes that stay were visible before, so they lie in a sub-mapping.
            Bytes::Kept => before?.part(range),
            Bytes::Fresh(backing, offset) => {
                let skipped = range.start().saturating_sub(difference.range.start());
                Self {
                    range,
                    backing: backing.clone(),
                    offset: offset.wrapping_add(skipped),
                    access: attributes.access,
                    kind: attributes.kind,
                }
            }
        };
        after.access = attributes.access;
        after.kind = attributes.kind;
        Some(after)
    }

    fn absorb(&mut self, next: &Self) -> bool {
        let continues = self.offset.checked_add(self.range.len()) == Some(next.offset)
            && self.access == next.access
            && self.kind == next.kind
            && self.backing == next.backing;
        match MemoryRange::try_new(self.range.start()..next.range.end()) {
            Ok(both) if continues => {
                self.range = both;
                true
            }
            _ => false,
        }
    }
}

/// How a change ended that a DMA listener was told of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followed {
    /// The change is complete.
    Completed,
    /// The change failed, and the listener was told to take back what it had done; or what could
    /// not be taken back then was taken back now.
    Undone,
}

/// Holds sub-mappings in step with the flat view: an IOMMU's mappings, a vhost memory table.
///
/// Every call is made under the manager's change lock, on the thread that makes the change, as for
/// a [`RegionListener`](crate::RegionListener).
///
/// A sub-mapping stays while its whole range keeps backing, offset, access and kind. Where one of them
/// changes it is unmapped whole, and what remains of it is mapped anew.
///
/// The order of calls within one change: [`check`](Self::check); then every [`unmap`](Self::unmap),
/// after all slots that go are gone; then the host addresses change; then every [`map`](Self::map),
/// before slots are given; then [`finish`](Self::finish). To undo, the manager makes the opposite
/// calls in the opposite order.
///
/// A call that returns an error must have changed nothing: the manager undoes only the steps that
/// succeeded.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use region_manager::{
///     DmaListener, ListenerError, MapParams, RegionManager, RegionSpec, SubMapping, recording_sink,
/// };
/// use std::sync::{Arc, Mutex};
///
/// /// An IOMMU that only keeps a list.
/// struct Iommu(Arc<Mutex<Vec<String>>>);
///
/// impl DmaListener<&'static str> for Iommu {
///     fn name(&self) -> &str {
///         "iommu"
///     }
///
///     fn unmap(&mut self, mapping: &SubMapping<&'static str>) -> Result<(), ListenerError> {
///         let mut list = self.0.lock().map_err(|_| "poisoned")?;
///         list.retain(|held| *held != mapping.to_string());
///         Ok(())
///     }
///
///     fn map(&mut self, mapping: &SubMapping<&'static str>) -> Result<(), ListenerError> {
///         self.0.lock().map_err(|_| "poisoned")?.push(mapping.to_string());
///         Ok(())
///     }
///
///     fn detach(self: Box<Self>) -> Result<(), ListenerError> {
///         Ok(())
///     }
///
///     fn inspect(&self, req: inspect::Request<'_>) {
///         req.value("a list");
///     }
/// }
///
/// let manager = RegionManager::new(0x10_0000, recording_sink().0)?;
/// let list = Arc::new(Mutex::new(Vec::new()));
/// manager.add_dma_listener(Box::new(Iommu(list.clone())))?;
///
/// let mut change = manager.transaction()?;
/// let ram = change.create_region(RegionSpec::new("ram", 0x4000, 255).ram())?;
/// change.add_mapping(ram, MemoryRange::new(0..0x4000), "memfd", 0, Access::ReadWrite)?;
/// change.map_region(ram, MapParams::new(0x8000, Access::ReadWrite))?;
/// let _ = change.commit()?;
/// assert_eq!(*list.lock().unwrap(), ["0x8000-0xc000 rw ram from memfd at 0x0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait DmaListener<B>: Send {
    /// Names the listener in errors and in inspection.
    fn name(&self) -> &str;

    /// Says whether the listener could follow a change: whether its table is long enough, for one.
    /// Every listener is asked before anything is changed, and one that is registered before it maps
    /// what there is. Must change nothing.
    ///
    /// Both lists are sorted by address. `removed` may name device memory that this listener had
    /// refused to map.
    ///
    /// # Errors
    ///
    /// The change is not made, whatever kinds of memory it is about, and nothing needs to be
    /// undone.
    fn check(
        &mut self,
        removed: &[SubMapping<B>],
        added: &[SubMapping<B>],
    ) -> Result<(), ListenerError> {
        let _ = (removed, added);
        Ok(())
    }

    /// Unmaps a sub-mapping that was mapped before, exactly as it was mapped.
    ///
    /// The host addresses still show what they did.
    ///
    /// # Errors
    ///
    /// The sub-mapping is still there; the change is undone.
    fn unmap(&mut self, mapping: &SubMapping<B>) -> Result<(), ListenerError>;

    /// Maps a sub-mapping: host addresses show it already.
    ///
    /// # Errors
    ///
    /// The sub-mapping is not there. For [RAM](MemoryKind::Ram) the change is undone. For
    /// [device memory](MemoryKind::Device) the failure is logged, shown by
    /// [`dma_failures`](crate::RegionManager::dma_failures) and by inspection until the sub-mapping
    /// goes, and tolerated; the listener is not asked to unmap it.
    fn map(&mut self, mapping: &SubMapping<B>) -> Result<(), ListenerError>;

    /// Says that a change is over in which something was unmapped or mapped here: who sends whole
    /// tables sends one now.
    ///
    /// Called once after such a change, after a change that was undone, too, and after the listener
    /// was given what there was when it was registered.
    fn finish(&mut self, result: Followed) {
        let _ = result;
    }

    /// Gives up everything it holds, because it was taken out of its manager.
    ///
    /// A listener that is merely dropped must do the same; here it can say what went wrong.
    ///
    /// # Errors
    ///
    /// Some of it could not be given up. The listener is gone all the same, and must have seen to it
    /// that the host addresses are never used for anything else.
    fn detach(self: Box<Self>) -> Result<(), ListenerError>;

    /// Copies what [`inspect`](Self::inspect) shows.
    ///
    /// It is called under the change lock, and the copy is asked when the lock is free again. So a
    /// listener with much to show copies it here as it is, and writes and sorts it there. Without a
    /// copy, `inspect` is called under the lock, later than the rest of the manager's state is copied.
    fn inspection_copy(&self) -> Option<Box<dyn Inspect>> {
        None
    }

    /// Adds the listener's own state to the manager's tree.
    fn inspect(&self, req: inspect::Request<'_>);
}

/// Device memory that a DMA listener could not map, and goes without.
#[derive(Clone, Debug, PartialEq)]
pub struct DmaFailure<B> {
    /// The listener.
    pub listener: ListenerId,
    /// The listener's name.
    pub name: String,
    /// What it could not map.
    pub mapping: SubMapping<B>,
    /// Why, as text.
    pub cause: String,
}

impl<B: fmt::Display> Inspect for DmaFailure<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("listener", &self.name)
            .display("mapping", &self.mapping)
            .field("cause", &self.cause);
    }
}
