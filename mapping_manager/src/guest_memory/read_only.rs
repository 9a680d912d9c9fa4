//! The separately named write into memory that the guest may only read.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Cause, Operation};
use crate::fetch::Asked;
use crate::table::ActiveMapping;
use memory_range::MemoryRange;
use sparse_alloc::{Backing, MappedRegion, access};

impl GuestMemory {
    /// Writes `bytes` at `gpa`, also where what is visible there is read-only.
    ///
    /// For loaders: the bytes of a ROM image, or of RAM that is read-only now, change through
    /// the linear view of their backing, so that no protection is ever lifted. Devices use
    /// [`write_at`](Self::write_at), which refuses such memory.
    ///
    /// Changes of the mappings wait while this runs.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is written), or reaches a hole, or a
    /// backing that cannot be written at all (a file opened read-only; zero pages). Then
    /// [`AccessError::done`] says how much was written.
    pub fn write_read_only_at(&self, gpa: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::WriteReadOnly, gpa, bytes.len());
        let Some(window) = self.checked_to_write(attempt) else {
            let write = |memory: &Self| memory.write_read_only_at(gpa, bytes);
            return self.write_aside(attempt, write, |()| true);
        };
        let mut table = self.mapper.read_table();
        let mut asked = Asked::default();
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = self.gpa(gpa).saturating_add(done as u64);
            let failed = |done, cause| Err(self.error(attempt, done, cause));
            let Some((range, mapping)) = table.get(at) else {
                drop(table);
                let hole = Cause::Hole { gpa: at };
                if let Err(cause) = self.fetched(&mut asked, attempt, done, hole) {
                    return failed(done, cause);
                }
                table = self.mapper.read_table();
                continue;
            };
            let here = usize::try_from(range.end().saturating_sub(at)).unwrap_or(rest.len());
            let part = rest.get(..here).unwrap_or(rest);
            let dst = if mapping.access.is_writable() {
                window.wrapping_add(done)
            } else {
                match linear(&mapping, range, at, part.len() as u64) {
                    Some(dst) => dst,
                    None => return failed(done, Cause::ReadOnlyBacking { gpa: at }),
                }
            };
            // SAFETY: `dst` lies in the reservation (G1) or, found by `linear`, in a linear view that
            // the mapping's backing keeps; both hold raw bytes only. The source is a slice.
            if let Err(fault) = unsafe { access::copy_to(dst, part.as_ptr(), part.len()) } {
                let at = at.saturating_add(fault.done as u64);
                let cause = match fault.fault.kind() {
                    access::FaultKind::HardwareError { .. } => Cause::Hardware { gpa: at },
                    _ => Cause::Truncated { gpa: at },
                };
                return failed(done.saturating_add(fault.done), cause);
            }
            done = done.saturating_add(part.len());
        }
        Ok(())
    }
}

/// Where `len` bytes at `gpa`, shown by `mapping` at `range`, lie in a writable linear view.
fn linear(mapping: &ActiveMapping, range: MemoryRange, gpa: u64, len: u64) -> Option<*mut u8> {
    let Backing::Mappable(mappable) = &mapping.backing else {
        return None;
    };
    let view = mappable.linear_view().ok()?;
    if !view.access().is_writable() {
        return None;
    }
    let offset = mapping
        .offset
        .checked_add(gpa.checked_sub(range.start())?)?;
    if offset.checked_add(len)? > view.len() {
        return None;
    }
    Some(view.base().as_ptr().wrapping_add(offset as usize))
}
