//! Something that can be mapped: a memfd, a file, a ROM image, a device.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use nix::fcntl::FallocateFlags;

use crate::exclusion::Exclusion;
use crate::file_facts::{FileFacts, LenError, Proof, Provenance};
use crate::linear_view::{LinearView, LinearViewError};
use crate::owned_pages::OwnedPages;
use crate::sys::{Advice, Calls, Commit, Content};
use crate::{DecommitError, MappableError};

/// Something that can be mapped: a memfd, a file, a ROM image, or a device.
///
/// A clone is cheap and is the same mappable: equality is identity, not equality of contents, and
/// two mappables made from one file differ. Each holds exactly one file descriptor, however often
/// it is cloned or mapped.
///
/// ```
/// use memory_range::Access;
/// use sparse_alloc::Mappable;
///
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let mappable = Mappable::from_file("program", &file)?;
/// assert_eq!(mappable.access(), Access::ReadOnly);
/// assert_eq!(mappable.len()?, Some(file.metadata()?.len()));
/// assert_eq!(mappable, mappable.clone());
/// assert_ne!(mappable, Mappable::from_file("program", &file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Mappable {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    file: OwnedFd,
    facts: FileFacts,
    access: Access,
    exclusion: Exclusion,
    /// What holds for one page of the file holds for all: each is of the usual size, and can be
    /// mapped.
    is_plain: bool,
    /// The length that the file was last found to have, when a mapping reached further.
    seen_len: AtomicU64,
    linear: OnceLock<Arc<LinearView>>,
    /// Held while the linear view is made, so that it is made once.
    making_linear: Mutex<()>,
}

/// A mappable that is not kept alive.
#[derive(Clone)]
pub(crate) struct WeakMappable {
    inner: Weak<Inner>,
}

impl WeakMappable {
    /// Returns the mappable, if anyone still holds it.
    pub(crate) fn upgrade(&self) -> Option<Mappable> {
        let inner = self.inner.upgrade()?;
        Some(Mappable { inner })
    }
}

impl fmt::Debug for WeakMappable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakMappable")
            .field(&self.upgrade())
            .finish()
    }
}

impl Mappable {
    /// Makes a mappable of an open file, and finds out what the file allows.
    ///
    /// The file descriptor is duplicated, once, with close-on-exec; the caller may close its own.
    /// Mappings are shared: what is written through them is written to the file, unless the
    /// file was opened for reading only or is sealed against writing; then the mappable is
    /// read-only.
    ///
    /// Regular files and memfds are mapped once to try, so that a file that cannot be mapped is
    /// refused here. A character device, whose driver may allow some ranges and not others, is
    /// tried at each mapping.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated (`EMFILE`), was not opened for reading, or is of a
    /// kind that cannot be mapped; and when the trial fails.
    pub fn from_file(name: impl Into<String>, file: impl AsFd) -> Result<Self, MappableError> {
        let name = name.into();
        match file.as_fd().try_clone_to_owned() {
            Ok(file) => Self::from_owned(name, file, Exclusion::None),
            Err(source) => Err(MappableError::Duplicate { name, source }),
        }
    }

    /// As [`from_file`](Self::from_file), of a descriptor that becomes the mappable's own, and whose
    /// mappings are left out of core dumps and of forked children, but for those shorter than 1 MiB.
    ///
    /// For memory of a guest that another process made: see [`SharedMemory`](crate::SharedMemory),
    /// which does the same for memory that can be written and that nobody can resize.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file).
    pub fn confidential(name: impl Into<String>, file: OwnedFd) -> Result<Self, MappableError> {
        Self::from_owned(name.into(), file, Exclusion::DumpAndFork)
    }

    /// As [`from_file`](Self::from_file), of a descriptor that becomes the mappable's own.
    pub(crate) fn from_owned(
        name: String,
        file: OwnedFd,
        exclusion: Exclusion,
    ) -> Result<Self, MappableError> {
        let (facts, access) = FileFacts::of(&name, file.as_fd())?;
        Ok(Self::with(name, file, facts, access, exclusion))
    }

    /// Makes a mappable of a memfd that this crate has made writable, of `len` bytes, and sealed
    /// against resizing.
    pub(crate) fn from_own_memfd(
        name: String,
        file: OwnedFd,
        len: u64,
        exclusion: Exclusion,
    ) -> Self {
        let facts = FileFacts::of_own_memfd(len);
        Self::with(name, file, facts, Access::ReadWrite, exclusion)
    }

    fn with(
        name: String,
        file: OwnedFd,
        facts: FileFacts,
        access: Access,
        exclusion: Exclusion,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                file,
                facts,
                access,
                exclusion,
                is_plain: facts.proof() == Proof::Once && facts.granule() == PAGE_SIZE,
                seen_len: AtomicU64::new(0),
                linear: OnceLock::new(),
                making_linear: Mutex::new(()),
            }),
        }
    }

    #[cfg(test)]
    pub(crate) fn facts(&self) -> FileFacts {
        self.inner.facts
    }

    /// Returns a handle that does not keep the file open.
    pub(crate) fn downgrade(&self) -> WeakMappable {
        WeakMappable {
            inner: Arc::downgrade(&self.inner),
        }
    }

    /// Takes `view` for the linear view, which was made before the file was sealed against writing.
    pub(crate) fn adopt_linear_view(&self, view: LinearView) -> Arc<LinearView> {
        Arc::clone(self.inner.linear.get_or_init(|| Arc::new(view)))
    }

    /// Returns an address that no other mappable has as long as this one exists.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// Returns the name, which is for people only; several mappables may share it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns what a mapping may allow at most.
    pub fn access(&self) -> Access {
        self.inner.access
    }

    /// Returns the length of the file in bytes; `None` for a device, which has none.
    ///
    /// The length is remembered if the file is sealed against shrinking and growing. Otherwise the
    /// file is asked each time, and may be shorter by the time that the answer is used.
    ///
    /// # Errors
    ///
    /// When `fstat` fails.
    pub fn len(&self) -> Result<Option<u64>, LenError> {
        self.inner
            .facts
            .len(self.inner.file.as_fd())
            .map_err(|source| LenError {
                name: self.inner.name.clone(),
                source,
            })
    }

    /// Returns the length of the file in bytes if `end` lies past it; `None` for a device.
    ///
    /// A file that was once found to be so long is not asked again. If it has become shorter since,
    /// that is as if it did so a moment later: an access past its end fails.
    ///
    /// # Errors
    ///
    /// When `fstat` fails.
    pub fn past_end(&self, end: u64) -> Result<Option<u64>, LenError> {
        if end <= self.inner.seen_len.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(len) = self.len()? else {
            return Ok(None);
        };
        self.inner.seen_len.store(len, Ordering::Relaxed);
        Ok((end > len).then_some(len))
    }

    /// Says at one glance whether a mapping of its bytes from `offset` to `end` is in order, and is
    /// sure to succeed where there is memory for it. `false` means to look closer.
    #[inline]
    pub(crate) fn is_surely_mapped(&self, offset: u64, end: u64, access: Access) -> bool {
        let inner = &*self.inner;
        // All questions are cheap, and asked at once: none of their answers is a surprise.
        inner.is_plain
            & offset.is_multiple_of(PAGE_SIZE)
            & (end <= inner.seen_len.load(Ordering::Relaxed))
            & (!access.is_writable() | inner.access.is_writable())
    }

    /// Says whether the file is known to be empty; a device never is.
    ///
    /// # Errors
    ///
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, LenError> {
        Ok(self.len()? == Some(0))
    }

    /// Returns the linear view: one mapping of the whole file, made at the first call.
    ///
    /// It stays where it is until the last share of it, this mappable's own included, is dropped.
    /// It has the mappable's full access, and the length that the file has when it is made: a
    /// file that grows later is not followed.
    ///
    /// # Errors
    ///
    /// When the file is empty, is a device without a length, or cannot be mapped.
    pub fn linear_view(&self) -> Result<&Arc<LinearView>, LinearViewError> {
        if let Some(view) = self.inner.linear.get() {
            return Ok(view);
        }
        let making = &self.inner.making_linear;
        let _guard = making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = self.inner.linear.get() {
            return Ok(view);
        }
        let name = || self.inner.name.clone();
        let len = self
            .len()
            .map_err(|source| LinearViewError::Length { source })?
            .ok_or_else(|| LinearViewError::NoLength { name: name() })?;
        let view = LinearView::map(
            &self.inner.name,
            self.inner.file.as_fd(),
            len,
            self.inner.facts.granule(),
            self.inner.access,
            self.inner.exclusion,
        )?;
        Ok(self.inner.linear.get_or_init(|| Arc::new(view)))
    }

    /// Returns the linear view if it has been made.
    pub fn existing_linear_view(&self) -> Option<&Arc<LinearView>> {
        self.inner.linear.get()
    }

    /// Gives the memory of a range of the file back; it reads as zeros afterwards, in every
    /// mapping and every process.
    ///
    /// It punches a hole: dropping pages from a shared mapping would free nothing.
    ///
    /// # Errors
    ///
    /// When the mappable is read-only (its pages are the page cache's, which frees them by itself),
    /// the range is empty or ends past the end of the file, or the file system cannot do it.
    pub fn decommit(&self, range: MemoryRange) -> Result<(), DecommitError> {
        let name = || self.inner.name.clone();
        if range.is_empty() {
            return Err(DecommitError::Empty {
                start: range.start(),
            });
        }
        if !self.access().is_writable() {
            return Err(DecommitError::ReadOnly {
                range,
                name: name(),
            });
        }
        let size = self
            .len()
            .map_err(|source| DecommitError::Length { source })?
            .ok_or_else(|| DecommitError::NoLength { name: name() })?;
        if range.end() > size {
            return Err(DecommitError::PastEnd {
                range,
                name: name(),
                size,
            });
        }
        self.punch(range).map_err(|source| DecommitError::Failed {
            range,
            name: name(),
            source,
        })
    }

    fn punch(&self, range: MemoryRange) -> io::Result<()> {
        let overflow = |_| io::Error::from_raw_os_error(libc::EOVERFLOW);
        let offset = libc::off_t::try_from(range.start()).map_err(overflow)?;
        let len = libc::off_t::try_from(range.len()).map_err(overflow)?;
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        nix::fcntl::fallocate(&self.inner.file, mode, offset, len).map_err(io::Error::from)
    }

    /// Returns the alignment in bytes that addresses, offsets and lengths of mappings need.
    pub(crate) fn granule(&self) -> u64 {
        self.inner.facts.granule()
    }

    /// Returns the advice that each new mapping of `len` bytes needs.
    pub(crate) fn advice(&self, len: u64) -> &'static [Advice] {
        self.inner.exclusion.advice(len)
    }

    #[inline]
    pub(crate) fn content(&self, offset: u64, access: Access) -> Content<'_> {
        Content::File {
            fd: self.inner.file.as_fd(),
            offset,
            access,
            commit: Commit::Now,
        }
    }

    /// Proves that a mapping can be made, where this is not known for the whole file.
    ///
    /// The proof is a mapping of the very same range and access elsewhere than at `addr`. It must be held while
    /// the mapping proper is made: with it goes the kernel's promise (huge pages set aside).
    pub(crate) fn prove(
        &self,
        calls: &Arc<Calls>,
        addr: NonNull<u8>,
        len: usize,
        offset: u64,
        access: Access,
    ) -> io::Result<Option<OwnedPages>> {
        let content = self.content(offset, access);
        match self.inner.facts.proof() {
            Proof::Once => Ok(None),
            Proof::EachTime => OwnedPages::new(calls, len, content).map(Some),
            Proof::EachTimeAndPlace => OwnedPages::congruent(calls, len, addr, content).map(Some),
        }
    }

    fn provenance(&self) -> Provenance {
        self.inner.facts.provenance()
    }
}

/// Lends the descriptor, to pass it to another process for example. What must hold of the file as
/// long as it is mapped (its length, its contents) is then up to whoever gets it.
impl AsFd for Mappable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }
}

/// Two are equal if they are the same mappable.
impl PartialEq for Mappable {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Mappable {}

impl Hash for Mappable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.inner).hash(state);
    }
}

impl fmt::Debug for Mappable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mappable")
            .field("name", &self.inner.name)
            .field("access", &self.inner.access)
            .field("file", &self.inner.file)
            .field("provenance", &self.provenance())
            .finish_non_exhaustive()
    }
}
