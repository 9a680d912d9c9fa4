//! The recovery table: which instructions may fault, and where to go on when they do.
//!
//! Every access leaves a [`Record`] in a section of the binary; the linker puts them side by side
//! in no useful order. [`RecoveryTable::read`] turns them into a sorted list once, so that the
//! signal handler only searches, and allocates nothing.

use super::install_error::InstallError;
use super::x86_64::{self, STATUS_REGISTERS};

/// One entry as the assembler writes it. The first three are relative to where they stand, so
/// that the table needs no relocation when the binary is loaded.
#[repr(C)]
struct Record {
    start: i32,
    end: i32,
    resume: i32,
    /// The index of the status register, or -1.
    status: i32,
}

/// What to do when an instruction in `start..end` faults.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Recovery {
    start: usize,
    end: usize,
    /// Where to go on.
    pub(super) resume: usize,
    /// The index of the register that takes the fault, if one does.
    pub(super) status: Option<usize>,
}

/// Every place where an access may fault, sorted by address; no two overlap.
#[derive(Debug)]
pub(super) struct RecoveryTable {
    entries: Box<[Recovery]>,
}

impl RecoveryTable {
    /// Reads the table of the running binary (or shared object).
    pub(super) fn read() -> Result<Self, InstallError> {
        let (start, end) = x86_64::recovery_section();
        let bytes = end.wrapping_sub(start);
        if !bytes.is_multiple_of(size_of::<Record>()) {
            return Err(InstallError::MalformedTable);
        }
        let first = std::ptr::with_exposed_provenance::<Record>(start);
        // SAFETY: the linker's symbols enclose the section, which is aligned to 4, is a whole
        // number of records as just checked, and is never written.
        let records = unsafe { std::slice::from_raw_parts(first, bytes / size_of::<Record>()) };
        Self::new(records.iter().map(Recovery::from_record).collect())
    }

    /// Sorts the entries. Fails if they can't be what the accesses wrote.
    fn new(entries: Option<Vec<Recovery>>) -> Result<Self, InstallError> {
        let mut entries = entries.ok_or(InstallError::MalformedTable)?;
        entries.sort_unstable_by_key(|entry| entry.start);
        if entries.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(InstallError::MalformedTable);
        }
        Ok(Self {
            entries: entries.into_boxed_slice(),
        })
    }

    /// Returns all the entries.
    #[cfg(test)]
    pub(super) fn entries(&self) -> &[Recovery] {
        &self.entries
    }

    /// Finds the entry for an instruction. Safe in a signal handler: it neither allocates nor
    /// panics.
    pub(super) fn find(&self, instruction: usize) -> Option<Recovery> {
        let after = self
            .entries
            .partition_point(|entry| entry.start <= instruction);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (instruction < entry.end).then_some(*entry)
    }
}

impl Recovery {
    /// Returns the address of the first instruction.
    #[cfg(test)]
    pub(super) fn first_instruction(&self) -> usize {
        self.start
    }

    /// Makes the addresses absolute. `None` if the record is nonsense.
    fn from_record(record: &Record) -> Option<Self> {
        let absolute = |field: &i32| {
            std::ptr::from_ref(field)
                .addr()
                .wrapping_add_signed(*field as isize)
        };
        let entry = Self {
            start: absolute(&record.start),
            end: absolute(&record.end),
            resume: absolute(&record.resume),
            status: usize::try_from(record.status).ok(),
        };
        let register_exists = match entry.status {
            Some(index) => index < STATUS_REGISTERS,
            None => record.status == -1,
        };
        (register_exists && entry.start < entry.end).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static WORD: u32 = 7;

    fn entry(start: usize, end: usize) -> Recovery {
        Recovery {
            start,
            end,
            resume: end,
            status: None,
        }
    }

    #[test]
    fn finds_exactly_the_instructions_inside() {
        let entries = vec![entry(0x30, 0x38), entry(0x10, 0x14), entry(0x14, 0x18)];
        let table = RecoveryTable::new(Some(entries.clone())).unwrap();
        for address in 0..0x50 {
            let model = entries
                .iter()
                .find(|entry| (entry.start..entry.end).contains(&address));
            assert_eq!(table.find(address), model.copied(), "{address:#x}");
        }
        assert_eq!(RecoveryTable::new(Some(vec![])).unwrap().find(0), None);
    }

    #[test]
    fn refuses_overlapping_entries() {
        let overlapping = vec![entry(0x10, 0x14), entry(0x13, 0x18)];
        assert!(matches!(
            RecoveryTable::new(Some(overlapping)),
            Err(InstallError::MalformedTable)
        ));
    }

    #[test]
    fn refuses_a_record_without_sense() {
        let good = Record {
            start: 0x10,
            end: 0x20,
            resume: 0x20,
            status: 13,
        };
        let read = Recovery::from_record(&good).unwrap();
        assert_eq!(read.status, Some(13));
        // The end is relative to a field 4 bytes further on.
        assert_eq!(read.end - read.start, 0x14);
        for (end, status) in [(0x20, 15), (0x20, -2), (0, 13), (0x20, i32::MAX)] {
            let bad = Record {
                end,
                status,
                ..good
            };
            assert_eq!(Recovery::from_record(&bad), None, "{end} {status}");
        }
    }

    #[test]
    fn the_binary_has_a_table() {
        // SAFETY: the source is readable.
        assert_eq!(unsafe { super::super::load(&raw const WORD) }, Ok(7));
        let table = RecoveryTable::read().unwrap();
        assert!(!table.entries.is_empty());
    }
}
