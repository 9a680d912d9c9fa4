//! What to do after a fault: try once more where a change was under way, or say what is wrong.

use super::GuestMemory;
use crate::error::{AccessError, Cause, Operation};
use crate::fetch::Asked;
use crate::table::TableReader;
use sparse_alloc::MappedRegion;
use sparse_alloc::access::{CopyFault, Fault, FaultKind};

/// An access as errors name it.
#[derive(Copy, Clone)]
pub(super) struct Attempt {
    pub(super) operation: Operation,
    /// As its view counts it.
    pub(super) gpa: u64,
    pub(super) len: u64,
}

impl Attempt {
    #[inline(always)]
    pub(super) fn new(operation: Operation, gpa: u64, len: usize) -> Self {
        Self {
            operation,
            gpa,
            len: len as u64,
        }
    }
}

impl GuestMemory {
    /// Goes on with a word access that faulted.
    #[cold]
    #[inline(never)]
    pub(super) fn retry_word<T>(
        &self,
        attempt: Attempt,
        fault: Fault,
        again: impl Fn() -> Result<T, Fault>,
    ) -> Result<T, AccessError> {
        // The address in the fault is that of the first byte out of reach.
        let done = |fault: Fault| self.gpa_of(fault).saturating_sub(self.gpa(attempt.gpa));
        let settled = self.settle(
            attempt,
            CopyFault {
                done: done(fault) as usize,
                fault,
            },
            |_| {
                again().map_err(|fault| CopyFault {
                    done: done(fault) as usize,
                    fault,
                })
            },
        );
        // A word is written whole or not at all.
        match attempt.operation.writes() {
            true => settled.map_err(AccessError::nothing_done),
            false => settled,
        }
    }

    /// Goes on with a bulk access that faulted: `from(done)` does what is left.
    #[cold]
    #[inline(never)]
    pub(super) fn retry_bulk<T>(
        &self,
        attempt: Attempt,
        fault: CopyFault,
        from: impl Fn(usize) -> Result<T, CopyFault>,
    ) -> Result<T, AccessError> {
        self.settle(attempt, fault, |done| {
            from(done).map_err(|fault| fault.after(done))
        })
    }

    /// Looks at the mappings. If they say that the access is legal, it met a change, or a change
    /// was made since: it is made once more while no change can be, so that the answer is
    /// certain and nothing is ever tried a third time. In a lazy mapper a hole is asked about, and
    /// the access goes on from there as if it had just met it.
    fn settle<T>(
        &self,
        attempt: Attempt,
        first: CopyFault,
        again: impl Fn(usize) -> Result<T, CopyFault>,
    ) -> Result<T, AccessError> {
        let mut at = first;
        let mut asked = Asked::default();
        loop {
            let table = self.mapper.read_table();
            let mut cause = self.refusal(&table, attempt, at);
            if cause.is_none() {
                at = match again(at.done) {
                    Ok(value) => {
                        self.mapper.faults.retried();
                        return Ok(value);
                    }
                    Err(fault) => fault,
                };
                cause = self.refusal(&table, attempt, at);
            }
            drop(table);
            let cause = cause.unwrap_or_else(|| self.hardware_or_page(at.fault));
            match self.fetched(&mut asked, attempt, at.done, cause) {
                Ok(()) => {}
                Err(cause) => {
                    self.mapper.faults.failed();
                    return Err(self.error(attempt, at.done, cause));
                }
            }
        }
    }

    /// Has a hole filled, if that is what stopped an access after `done` bytes, and if the mapper is
    /// lazy. No table may be locked.
    ///
    /// # Errors
    ///
    /// The access fails, for this reason.
    pub(super) fn fetched(
        &self,
        asked: &mut Asked,
        attempt: Attempt,
        done: usize,
        cause: Cause,
    ) -> Result<(), Cause> {
        let Cause::Hole { gpa } = cause else {
            return Err(cause);
        };
        let left = attempt.len.saturating_sub(done as u64);
        match asked.ask(&self.mapper, gpa, left) {
            Ok(true) => Ok(()),
            Ok(false) => Err(cause),
            Err(why) => Err(Cause::NotFetched { gpa, why }),
        }
    }

    /// Why the table says that the access cannot go on, if it does.
    pub(super) fn refusal(
        &self,
        table: &TableReader<'_>,
        attempt: Attempt,
        at: CopyFault,
    ) -> Option<Cause> {
        let gpa = self.gpa(attempt.gpa).saturating_add(at.done as u64);
        let Some((range, mapping)) = table.get(gpa) else {
            return Some(Cause::Hole { gpa });
        };
        if attempt.operation.writes() && !mapping.access.is_writable() {
            return Some(Cause::ReadOnly { gpa });
        }
        match at.fault.kind() {
            FaultKind::Misaligned => Some(Cause::Unaligned { len: attempt.len }),
            FaultKind::HardwareError { .. } => Some(self.hardware_or_page(at.fault)),
            FaultKind::Bus => {
                let len = mapping.backing.as_mappable()?.len().ok()??;
                let into = gpa.saturating_sub(range.start());
                let wanted = mapping.offset.saturating_add(into);
                // The last page of a file is there to its end, whatever the file's length.
                let there = len.checked_next_multiple_of(memory_range::PAGE_SIZE)?;
                (wanted >= there).then_some(Cause::Truncated { gpa })
            }
            _ => None,
        }
    }

    pub(super) fn hardware_or_page(&self, fault: Fault) -> Cause {
        let gpa = self.gpa_of(fault);
        match fault.kind() {
            FaultKind::HardwareError { .. } => Cause::Hardware { gpa },
            _ => Cause::NoPage { gpa },
        }
    }

    /// The address of a fault in the whole address space.
    fn gpa_of(&self, fault: Fault) -> u64 {
        let base = self.mapper.reservation().base();
        fault.address().saturating_sub(base.as_ptr().addr()) as u64
    }

    /// The address in the whole address space of an offset in this view; `u64::MAX` if it wraps.
    pub(super) fn gpa(&self, offset: u64) -> u64 {
        self.origin().saturating_add(offset)
    }

    pub(super) fn error(&self, attempt: Attempt, done: usize, cause: Cause) -> AccessError {
        let Attempt {
            operation,
            gpa,
            len,
        } = attempt;
        let whole = self.gpa(gpa);
        let error = AccessError::new(self.name(), operation, whole, len, done as u64, cause);
        match self.is_whole() {
            true => error,
            false => error.in_view(gpa, self.gpa_range()),
        }
    }
}
