//! Who is told what can be reached for DMA.

use super::DmaMapping;

/// The cause for which a DMA target refuses.
pub type DmaTargetError = Box<dyn std::error::Error + Send + Sync>;

/// Follows what of guest memory can be reached by DMA: an IOMMU's mappings (VFIO), the memory table of
/// a vhost device, another process.
///
/// It is attached with [`attach_dma_target`](crate::GuestMemoryManager::attach_dma_target) and given
/// what there is; then it is called within each change that concerns it, on the thread that makes
/// the change, and cannot make a change of its own (`LockError::Reentrant`). Within one change the
/// order is: partitions lose slots; [`unmap`](Self::unmap); host addresses change; [`map`](Self::map);
/// partitions get slots; [`finish`](Self::finish). A mapping of which anything changes (place, file,
/// offset, permissions) is unmapped whole, and what remains of it is mapped anew.
///
/// A call that fails must have changed nothing.
///
/// ```
/// use guest_memory_manager::{
///     DmaMapping, DmaOptions, DmaTarget, DmaTargetError, GuestMemoryBuilder, MemoryLayout,
/// };
///
/// /// Would do these with `VFIO_IOMMU_MAP_DMA` and `VFIO_IOMMU_UNMAP_DMA`.
/// struct Iommu;
///
/// impl DmaTarget for Iommu {
///     fn name(&self) -> &str {
///         "iommu"
///     }
///     fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
///         println!("{} is at {:?}", mapping.gpa(), mapping.host().as_ptr());
///         Ok(())
///     }
///     fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
///         println!("{} is gone", mapping.gpa());
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
/// let id = memory.attach_dma_target(Box::new(Iommu), DmaOptions::new())?;
/// memory.detach_dma_target(id)?;
/// # Ok(())
/// # }
/// ```
pub trait DmaTarget: Send {
    /// Names the target in errors and in inspection.
    fn name(&self) -> &str;

    /// Says whether the target could follow a change, before anything is changed. Must change nothing.
    /// Both lists are sorted by address; the first may have device memory in it that the target had
    /// refused.
    ///
    /// # Errors
    ///
    /// The change is not made.
    fn check(
        &mut self,
        removed: &[DmaMapping],
        added: &[DmaMapping],
    ) -> Result<(), DmaTargetError> {
        let _ = (removed, added);
        Ok(())
    }

    /// Makes memory reachable.
    ///
    /// # Errors
    ///
    /// It is not reachable. For RAM the change is undone; memory of devices is then left out, which
    /// [`dma_failures`](crate::GuestMemoryManager::dma_failures) tells.
    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError>;

    /// Makes memory unreachable, exactly as it was mapped. When it returns, no access is under way.
    ///
    /// # Errors
    ///
    /// It is still reachable; the change is undone.
    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError>;

    /// Ends a change in which something was mapped or unmapped, also one that was undone, and ends
    /// being attached or detached.
    ///
    /// # Errors
    ///
    /// Being attached fails. A change stays, and so does the error, among the
    /// [`dma_failures`](crate::GuestMemoryManager::dma_failures), until a later call succeeds, which
    /// is made at the end of the next change.
    fn finish(&mut self) -> Result<(), DmaTargetError> {
        Ok(())
    }
}
