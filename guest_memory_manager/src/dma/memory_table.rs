//! The memory table of a vhost device.

use super::{DmaMapping, DmaTarget, DmaTargetError};
use memory_range::MemoryRange;
use sparse_alloc::{HostRange, Mappable};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use thiserror::Error;

/// Keeps a table of memory for a consumer that wants the whole of it at once, as vhost
/// (`VHOST_SET_MEM_TABLE`) and vhost-user do, and calls a function with the new table after each
/// change in which it differs.
///
/// What lies side by side, in guest physical addresses, in host addresses and in one file, is one
/// entry, since such consumers take few: 64 in the kernel, 8 in vhost-user without its extension. Whether
/// the table would stay within the limit is known before anything is changed: a change that
/// would exceed it is refused ([`TableFull`]), and so is attaching.
///
/// Memory that is read-only now is left out: a table cannot say so, and the device would write there.
///
/// Between the moment when a range goes and the one when the table is sent, the consumer has the
/// old one. It reaches nothing but the guest's own addresses and files by it, which stay reserved and
/// open; it may see there what the guest sees after the change.
///
/// ```
/// use guest_memory_manager::{DmaOptions, GuestMemoryBuilder, MemoryLayout, MemoryTable};
/// use memory_range::MemoryRange;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let table = MemoryTable::new("net0", 8, |entries| {
///     for entry in entries {
///         println!("{} from {:#x} of the file", entry.gpa(), entry.offset());
///     }
///     Ok(())
/// });
/// // Sixteen regions of one memfd: one entry.
/// memory.attach_dma_target(Box::new(table), DmaOptions::new())?;
/// # Ok(())
/// # }
/// ```
pub struct MemoryTable {
    name: String,
    limit: usize,
    /// What there is, not merged, by where it starts.
    mappings: BTreeMap<u64, DmaMapping>,
    /// What the consumer was told last.
    sent: Vec<MemoryTableEntry>,
    send: Box<SendTable>,
}

type SendTable = dyn FnMut(&[MemoryTableEntry]) -> Result<(), DmaTargetError> + Send;

/// An entry of a [`MemoryTable`]: memory that lies in one piece in every respect, and can be written.
#[derive(Clone, Debug)]
pub struct MemoryTableEntry {
    gpa: MemoryRange,
    host: HostRange,
    file: Mappable,
    offset: u64,
}

/// A table has not room for what a change would put in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the memory table of {table:?} takes {limit} entries, and {needed} are needed")]
pub struct TableFull {
    /// The table's name.
    pub table: String,
    /// How many entries the consumer takes.
    pub limit: usize,
    /// How many the table would have.
    pub needed: usize,
}

impl MemoryTable {
    /// Makes a table for a consumer that takes `limit` entries. `send` tells it the whole table, by
    /// address; the last one, when the table is detached, is empty.
    ///
    /// If `send` fails the consumer is taken to have what it had before, and is told again at the end
    /// of the next change.
    pub fn new(
        name: impl Into<String>,
        limit: usize,
        send: impl FnMut(&[MemoryTableEntry]) -> Result<(), DmaTargetError> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            limit,
            mappings: BTreeMap::new(),
            sent: Vec::new(),
            send: Box::new(send),
        }
    }

    fn must_fit(&self, table: &[MemoryTableEntry]) -> Result<(), DmaTargetError> {
        if table.len() <= self.limit {
            return Ok(());
        }
        Err(Box::new(TableFull {
            table: self.name.clone(),
            limit: self.limit,
            needed: table.len(),
        }))
    }
}

impl DmaTarget for MemoryTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(
        &mut self,
        removed: &[DmaMapping],
        added: &[DmaMapping],
    ) -> Result<(), DmaTargetError> {
        let mut after: BTreeMap<u64, &DmaMapping> =
            self.mappings.iter().map(|(at, one)| (*at, one)).collect();
        for one in removed {
            after.remove(&one.gpa().start());
        }
        let added = added.iter().filter(|one| one.access().is_writable());
        after.extend(added.map(|one| (one.gpa().start(), one)));
        self.must_fit(&merged(after.into_values()))
    }

    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        if mapping.access().is_writable() {
            self.mappings.insert(mapping.gpa().start(), mapping.clone());
        }
        Ok(())
    }

    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        self.mappings.remove(&mapping.gpa().start());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaTargetError> {
        let table = merged(self.mappings.values());
        if table != self.sent {
            // A change was asked about before; being attached was not.
            self.must_fit(&table)?;
            (self.send)(&table)?;
            self.sent = table;
        }
        Ok(())
    }
}

/// Joins what continues one another.
fn merged<'a>(mappings: impl IntoIterator<Item = &'a DmaMapping>) -> Vec<MemoryTableEntry> {
    let mut table: Vec<MemoryTableEntry> = Vec::new();
    let mut last: Option<&DmaMapping> = None;
    for mapping in mappings {
        let continues = last.is_some_and(|last| last.is_continued_by(mapping));
        last = Some(mapping);
        let entry = MemoryTableEntry::of(mapping);
        match table.last_mut() {
            Some(before) if continues => match before.and(&entry) {
                Some(both) => *before = both,
                None => table.push(entry),
            },
            _ => table.push(entry),
        }
    }
    table
}

impl MemoryTableEntry {
    fn of(mapping: &DmaMapping) -> Self {
        Self {
            gpa: mapping.gpa(),
            host: mapping.host().clone(),
            file: mapping.file().clone(),
            offset: mapping.offset(),
        }
    }

    /// This entry as far as the end of the next one.
    fn and(&self, next: &Self) -> Option<Self> {
        let gpa = MemoryRange::try_new(self.gpa.start()..next.gpa.end()).ok()?;
        let (region, offset) = (self.host.region().clone(), self.host.offset());
        Some(Self {
            gpa,
            host: HostRange::new(region, offset, gpa.len()).ok()?,
            ..self.clone()
        })
    }

    /// The guest physical addresses, the target's offset added.
    pub fn gpa(&self) -> MemoryRange {
        self.gpa
    }

    /// The host addresses.
    pub fn host(&self) -> &HostRange {
        &self.host
    }

    /// What holds the bytes. The same file is the same mappable.
    pub fn file(&self) -> &Mappable {
        &self.file
    }

    /// The file's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The offset of the first byte in the file, in bytes; page aligned.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// Equal entries are the same addresses and the same bytes.
impl PartialEq for MemoryTableEntry {
    fn eq(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.gpa, one.host.as_ptr(), one.offset);
        place(self) == place(other) && self.file == other.file
    }
}

impl Eq for MemoryTableEntry {}

impl std::fmt::Debug for MemoryTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryTable")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
