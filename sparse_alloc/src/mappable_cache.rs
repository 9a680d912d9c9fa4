//! One mappable for one file, however often the file is named.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

use crate::MappableError;
use crate::mappable::{Mappable, WeakMappable};

/// Finds the mappable that was made of a file before, while anyone still uses it.
///
/// A device that shows many pieces of one file would otherwise hold a descriptor for each piece,
/// and a process has few; and neighbouring pieces of one mappable are one VMA.
///
/// Two descriptors are the same file if device and inode number agree, and if both were opened
/// with the same access. Only regular files (memfds included) are recognised: other kinds may
/// share an inode number without being the same. The cache keeps nothing alive.
///
/// ```
/// use sparse_alloc::MappableCache;
///
/// let cache = MappableCache::default();
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let first = cache.get("program", &file)?;
/// let again = cache.get("program", &file.try_clone()?)?;
/// assert_eq!(first, again);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MappableCache {
    known: Mutex<BTreeMap<FileIdentity, WeakMappable>>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileIdentity {
    device: u64,
    inode: u64,
    access: i32,
}

impl MappableCache {
    /// Returns the mappable of a file, made now if there is none. `name` is used for a new one.
    ///
    /// # Errors
    ///
    /// As [`Mappable::from_file`].
    pub fn get(&self, name: impl Into<String>, file: impl AsFd) -> Result<Mappable, MappableError> {
        let name = name.into();
        let Some(identity) = identity(&name, &file)? else {
            return Mappable::from_file(name, file);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mappable) = known.get(&identity).and_then(WeakMappable::upgrade) {
            return Ok(mappable);
        }
        let mappable = Mappable::from_file(name, file)?;
        known.retain(|_, weak| weak.upgrade().is_some());
        known.insert(identity, mappable.downgrade());
        Ok(mappable)
    }
}

/// What tells a regular file from every other one that is open now.
fn identity(name: &str, file: &impl AsFd) -> Result<Option<FileIdentity>, MappableError> {
    let query = |errno: nix::Error| MappableError::Query {
        name: name.to_owned(),
        source: io::Error::from(errno),
    };
    let stat = fstat(file).map_err(query)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Ok(None);
    }
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(query)?;
    Ok(Some(FileIdentity {
        device: stat.st_dev,
        inode: stat.st_ino,
        access: flags & OFlag::O_ACCMODE.bits(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    #[test]
    fn tells_files_and_their_access_apart() {
        let path = std::env::temp_dir().join(format!("mappable-cache-{}", std::process::id()));
        std::fs::write(&path, [0; 4096]).unwrap();
        let writable = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let read_only = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let cache = MappableCache::default();
        let first = cache.get("file", &writable).unwrap();
        assert_eq!(first, cache.get("again", &writable).unwrap());
        let other = cache.get("file", &read_only).unwrap();
        assert_ne!(first, other);
        assert_ne!(first.access(), other.access());
    }

    #[test]
    fn keeps_nothing_alive() {
        let file = File::open("/proc/self/exe").unwrap();
        let cache = MappableCache::default();
        drop(cache.get("program", &file).unwrap());
        let weak = cache.known.lock().unwrap().values().next().unwrap().clone();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_kind_that_cannot_be_mapped_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let cache = MappableCache::default();
        assert!(matches!(
            cache.get("pipe", &reader),
            Err(MappableError::Kind { .. })
        ));
    }
}
