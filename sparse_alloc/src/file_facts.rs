//! What is found out about a file when it becomes a mappable.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use memory_range::{Access, PAGE_SIZE};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{self, FsType, fstatfs};

use crate::owned_pages::OwnedPages;
use crate::sys::{Calls, Commit, Content};

/// Says why a file did not become a [`Mappable`](crate::Mappable).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappableError {
    /// The descriptor could not be duplicated.
    #[error("the descriptor of `{name}` cannot be duplicated")]
    Duplicate {
        /// The name that the mappable was to have.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel did not answer a question about the file.
    #[error("the kernel says nothing about `{name}`")]
    Query {
        /// The name that the mappable was to have.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The descriptor is not open for reading, which every mapping needs.
    #[error("`{name}` is not open for reading")]
    NotReadable {
        /// The name that the mappable was to have.
        name: String,
    },
    /// The descriptor is of something that has no bytes to map.
    #[error("`{name}` is a {kind}, which cannot be mapped")]
    Kind {
        /// The name that the mappable was to have.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The kernel refused to map the file.
    #[error("`{name}` refuses to be mapped")]
    Refused {
        /// The name that the mappable was to have.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Says that a file would not tell its length.
#[derive(Debug, thiserror::Error)]
#[error("the length of `{name}` cannot be read")]
pub struct LenError {
    /// The name of the mappable.
    pub name: String,
    /// What `fstat` answered.
    pub source: io::Error,
}

/// When it is proven that a file can be mapped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// When the mappable was made: what holds for one page holds for all.
    Once,
    /// At each mapping: it depends on what is free.
    EachTime,
    /// At each mapping: it depends on the range, and perhaps on how the address is aligned.
    EachTimeAndPlace,
}

/// What kind of file it is, as far as mapping it goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Provenance {
    /// A regular file or memfd of a file system whose `mmap` asks only for the file's mode.
    PageCache,
    /// A file of huge pages: each mapping takes pages out of a pool.
    HugePages {
        /// The size of its pages in bytes.
        page: u64,
    },
    /// A regular file of any other file system.
    Other,
    /// A device, or a kernel object behind a descriptor. Its size means nothing.
    Device,
}

/// What does not change about a file while it is open.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct FileFacts {
    provenance: Provenance,
    /// The length, if seals say that it stays.
    sealed_len: Option<u64>,
}

impl FileFacts {
    /// Finds out about a file, and what access its mappings may have.
    pub(crate) fn of(name: &str, file: BorrowedFd<'_>) -> Result<(Self, Access), MappableError> {
        let query = |errno: nix::Error| MappableError::Query {
            name: name.to_owned(),
            source: errno.into(),
        };
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).map_err(query)?);
        let mode = flags & OFlag::O_ACCMODE;
        if flags.contains(OFlag::O_PATH) || mode == OFlag::O_WRONLY {
            return Err(MappableError::NotReadable {
                name: name.to_owned(),
            });
        }
        let stat = fstat(file).map_err(query)?;
        let file_system = fstatfs(file).map_err(query)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let provenance = if kind == SFlag::S_IFREG {
            match file_system.filesystem_type() {
                statfs::HUGETLBFS_MAGIC => Provenance::HugePages {
                    page: u64::try_from(stat.st_blksize).unwrap_or(PAGE_SIZE),
                },
                known if is_page_cache(known) => Provenance::PageCache,
                ANON_INODES => Provenance::Device,
                _ => Provenance::Other,
            }
        } else if kind == SFlag::S_IFCHR || kind.is_empty() {
            Provenance::Device
        } else {
            return Err(MappableError::Kind {
                name: name.to_owned(),
                kind: name_of(kind),
            });
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let facts = Self {
            provenance,
            sealed_len: (!matches!(provenance, Provenance::Device) && keeps_its_length(file))
                .then_some(size),
        };
        let wanted = Access::from_writable(mode == OFlag::O_RDWR);
        let access = if kind == SFlag::S_IFCHR {
            // Offset 0 says nothing about other offsets, and a driver may act on a mapping.
            wanted
        } else {
            facts.probe(name, file, size, wanted)?
        };
        Ok((facts, access))
    }

    /// What is true of a memfd that this crate has made of `len` bytes, of pages of the usual size,
    /// and sealed against resizing: nobody need be asked.
    pub(crate) fn of_own_memfd(len: u64) -> Self {
        Self {
            provenance: Provenance::PageCache,
            sealed_len: Some(len),
        }
    }

    /// Maps one page to see what the file allows; the answer is at most `wanted`.
    fn probe(
        &self,
        name: &str,
        file: BorrowedFd<'_>,
        size: u64,
        wanted: Access,
    ) -> Result<Access, MappableError> {
        // A writable mapping past the end of a file of huge pages makes the file longer.
        if matches!(self.provenance, Provenance::HugePages { page } if size < page) {
            return Ok(wanted);
        }
        let calls = Arc::<Calls>::default();
        let try_with = |access| {
            let len = usize::try_from(self.granule()).map_err(io::Error::other)?;
            let content = Content::File {
                fd: file,
                offset: 0,
                access,
                commit: Commit::Never,
            };
            OwnedPages::new(&calls, len, content).map(drop)
        };
        let forbidden =
            |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        let (access, result) = match try_with(wanted) {
            // Sealed against writing, or a file that may only be appended to.
            Err(error) if wanted.is_writable() && forbidden(&error) => {
                (Access::ReadOnly, try_with(Access::ReadOnly))
            }
            result => (wanted, result),
        };
        match result {
            Ok(()) => Ok(access),
            // A kernel object may allow other offsets than this one: only "never" counts.
            Err(error)
                if self.provenance == Provenance::Device
                    && error.raw_os_error() != Some(libc::ENODEV) =>
            {
                Ok(wanted)
            }
            Err(source) => Err(MappableError::Refused {
                name: name.to_owned(),
                source,
            }),
        }
    }

    pub(crate) fn provenance(&self) -> Provenance {
        self.provenance
    }

    pub(crate) fn proof(&self) -> Proof {
        match self.provenance {
            Provenance::PageCache => Proof::Once,
            Provenance::HugePages { .. } => Proof::EachTime,
            Provenance::Other | Provenance::Device => Proof::EachTimeAndPlace,
        }
    }

    /// Returns what offsets, addresses and lengths of mappings must be multiples of.
    pub(crate) fn granule(&self) -> u64 {
        match self.provenance {
            Provenance::HugePages { page } => page,
            _ => PAGE_SIZE,
        }
    }

    /// Returns the length that the file has now; `None` for a device.
    pub(crate) fn len(&self, file: BorrowedFd<'_>) -> io::Result<Option<u64>> {
        if self.provenance == Provenance::Device {
            return Ok(None);
        }
        if let Some(len) = self.sealed_len {
            return Ok(Some(len));
        }
        let stat = fstat(file)?;
        u64::try_from(stat.st_size)
            .map(Some)
            .map_err(io::Error::other)
    }
}

/// `ANON_INODE_FS_MAGIC` of linux/magic.h: the file system of eventfd, epoll and their like, and of VFIO and KVM descriptors.
const ANON_INODES: FsType = FsType(0x0904_1934);

/// Says whether mapping a file of that file system depends on nothing but how it was opened.
///
/// A list of those that are known to be so: other file systems (FUSE, network, sysfs with its PCI
/// resource files) may refuse one range and allow another.
fn is_page_cache(file_system: FsType) -> bool {
    [
        statfs::TMPFS_MAGIC,
        statfs::EXT4_SUPER_MAGIC,
        statfs::XFS_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::F2FS_SUPER_MAGIC,
        statfs::OVERLAYFS_SUPER_MAGIC,
    ]
    .contains(&file_system)
}

/// Returns the seals; none for a file that cannot be sealed.
pub(crate) fn seals(file: BorrowedFd<'_>) -> SealFlag {
    fcntl(file, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain)
}

fn keeps_its_length(file: BorrowedFd<'_>) -> bool {
    seals(file).contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)
}

fn name_of(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFDIR => "directory",
        SFlag::S_IFIFO => "pipe",
        SFlag::S_IFSOCK => "socket",
        SFlag::S_IFBLK => "block device",
        SFlag::S_IFLNK => "symbolic link",
        _ => "file of an unknown kind",
    }
}
