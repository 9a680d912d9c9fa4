//! What to do after a fault: try once more where a change was under way, or say what is wrong.

use super::GuestMemory;
use crate::error::{AccessError, Cause, Operation};
use crate::table::MappingTable;
use sparse_alloc::access::{CopyFault, Fault, FaultKind};

/// An access as errors name it.
#[derive(Copy, Clone)]
pub(super) struct Attempt {
    pub(super) operation: Operation,
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
        let done = |fault: Fault| self.gpa_of(fault).saturating_sub(attempt.gpa);
        self.settle(
            attempt,
            CopyFault {
                done: done(fault) as usize,
                fault,
            },
            |_| again().map_err(|fault| CopyFault { done: 0, fault }),
        )
    }

    /// Goes on with a bulk access that faulted: `from(done)` does what is left.
    #[cold]
    #[inline(never)]
    pub(super) fn retry_bulk(
        &self,
        attempt: Attempt,
        fault: CopyFault,
        from: impl Fn(usize) -> Result<(), CopyFault>,
    ) -> Result<(), AccessError> {
        self.settle(attempt, fault, |done| {
            from(done).map_err(|fault| fault.after(done))
        })
    }

    /// Looks at the mappings. If they say that the access is legal, it met a change, or a change
    /// was made since: it is made once more while no change can be, so that the answer is
    /// certain and nothing is ever tried a third time.
    fn settle<T>(
        &self,
        attempt: Attempt,
        first: CopyFault,
        again: impl Fn(usize) -> Result<T, CopyFault>,
    ) -> Result<T, AccessError> {
        let table = self.mapper.read_table();
        let writes = attempt.operation != Operation::Read;
        let fault = match self.refusal(&table, attempt, first, writes) {
            Some(cause) => return Err(self.error(attempt, first.done, cause)),
            None => match again(first.done) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            },
        };
        let cause = self
            .refusal(&table, attempt, fault, writes)
            .unwrap_or_else(|| self.hardware_or_page(fault.fault));
        Err(self.error(attempt, fault.done, cause))
    }

    /// Why the table says that the access cannot go on, if it does.
    fn refusal(
        &self,
        table: &MappingTable,
        attempt: Attempt,
        at: CopyFault,
        writes: bool,
    ) -> Option<Cause> {
        let gpa = attempt.gpa.saturating_add(at.done as u64);
        let Some((range, mapping)) = table.get(gpa) else {
            return Some(Cause::Hole { gpa });
        };
        if writes && !mapping.access.is_writable() {
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

    fn hardware_or_page(&self, fault: Fault) -> Cause {
        let gpa = self.gpa_of(fault);
        match fault.kind() {
            FaultKind::HardwareError { .. } => Cause::Hardware { gpa },
            _ => Cause::NoPage { gpa },
        }
    }

    fn gpa_of(&self, fault: Fault) -> u64 {
        fault.address().saturating_sub(self.base.as_ptr().addr()) as u64
    }

    pub(super) fn error(&self, attempt: Attempt, done: usize, cause: Cause) -> AccessError {
        let Attempt {
            operation,
            gpa,
            len,
        } = attempt;
        AccessError::new(self.name(), operation, gpa, len, done as u64, cause)
    }
}
