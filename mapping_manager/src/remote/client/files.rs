//! The files that ranges refer to.

use super::error::{ManagerLost, Violation};
use crate::remote::message::FileInfo;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use sparse_alloc::{Backing, Mappable};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What tells a regular file from every other one that is open now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    access: OFlags,
}

impl Identity {
    /// `None` for what is no regular file: others may share an inode number without being the same.
    fn of(fd: impl AsFd) -> Result<Option<Self>, rustix::io::Errno> {
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            access: fcntl_getfl(&fd)? & OFlags::ACCMODE,
        }))
    }
}

struct File {
    identity: Option<Identity>,
    mappable: Mappable,
}

/// The files by the numbers that the manager gave them. Each holds one descriptor; so there are as
/// many as the process may open.
#[derive(Default)]
pub(super) struct Files {
    by_id: BTreeMap<u32, File>,
    /// Those of the manager before, to be recognised when the next one sends them.
    former: Vec<File>,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes a file in. The same file as one that is there, whatever its number, is the same mappable:
    /// so what shows it already need not be mapped anew.
    pub(super) fn add(&mut self, info: FileInfo, fd: OwnedFd) -> Result<(), ManagerLost> {
        let FileInfo { id, name, .. } = info;
        if self.by_id.contains_key(&id) {
            return Err(Violation::FileTwice { id }.into());
        }
        let identity = Identity::of(&fd).map_err(ManagerLost::io)?;
        let known = identity.and_then(|identity| self.find(identity));
        let mappable = match known {
            Some(mappable) => mappable,
            None => Mappable::confidential(name, fd)
                .map_err(|source| ManagerLost::File(Arc::new(source)))?,
        };
        self.by_id.insert(id, File { identity, mappable });
        Ok(())
    }

    fn find(&self, identity: Identity) -> Option<Mappable> {
        let mut files = self.former.iter().chain(self.by_id.values());
        let file = files.find(|file| file.identity == Some(identity))?;
        Some(file.mappable.clone())
    }

    pub(super) fn get(&self, id: u32) -> Result<Backing, Violation> {
        let file = self.by_id.get(&id).ok_or(Violation::NoFile { id })?;
        Ok(Backing::Mappable(file.mappable.clone()))
    }

    pub(super) fn forget(&mut self, ids: &[u32]) -> Result<(), Violation> {
        for &id in ids {
            self.by_id.remove(&id).ok_or(Violation::NoFile { id })?;
        }
        Ok(())
    }

    /// Another manager begins: its numbers mean nothing yet.
    pub(super) fn begin_anew(&mut self) {
        let former = std::mem::take(&mut self.by_id);
        self.former.extend(former.into_values());
    }

    /// Nothing of the manager before is needed any more.
    pub(super) fn forget_former(&mut self) {
        self.former = Vec::new();
    }
}
