//! What a DMA target is given.

use memory_range::{Access, MemoryRange};
use region_manager::MemoryKind;
use sparse_alloc::{HostRange, Mappable};
use std::os::fd::{AsFd, BorrowedFd};

/// A range of guest physical addresses, and the memory that it shows: one piece of one file, with the
/// same permissions throughout.
///
/// It can be reached in two ways: at its [host addresses](Self::host), as VFIO and kernel vhost do, or
/// through the [file](Self::file) and the offset in it, as other processes do. It has a share of
/// both: while a clone of it lives the addresses stay reserved and the file stays open.
#[derive(Clone, Debug)]
pub struct DmaMapping {
    pub(super) gpa: MemoryRange,
    pub(super) host: HostRange,
    pub(super) file: Mappable,
    pub(super) offset: u64,
    pub(super) access: Access,
    pub(super) kind: MemoryKind,
}

impl DmaMapping {
    /// The addresses by which the target knows it: the guest's, and the target's offset added.
    pub fn gpa(&self) -> MemoryRange {
        self.gpa
    }

    /// The host addresses, which show this memory until it is unmapped, and show what else the guest
    /// sees there afterwards.
    pub fn host(&self) -> &HostRange {
        &self.host
    }

    /// What holds the bytes. The same file is the same mappable, for whoever passes descriptors on.
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

    /// Whether the target may write there.
    pub fn access(&self) -> Access {
        self.access
    }

    /// RAM, or memory of a device.
    pub fn kind(&self) -> MemoryKind {
        self.kind
    }

    /// Whether it is the same piece of the same file at the same place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.gpa, one.host.as_ptr(), one.offset, one.access, one.kind);
        place(self) == place(other) && self.file == other.file
    }

    /// Whether the other one begins where this one ends, in every respect.
    pub(super) fn is_continued_by(&self, other: &Self) -> bool {
        let len = self.gpa.len();
        let host = |one: &Self| one.host.as_ptr().addr() as u64;
        self.gpa.end() == other.gpa.start()
            && self.file == other.file
            && self.offset.checked_add(len) == Some(other.offset)
            && host(self).checked_add(len) == Some(host(other))
    }
}
