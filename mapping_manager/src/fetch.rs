//! What a lazy mapper does where nothing is mapped yet.

use crate::VaMapper;
use std::sync::Arc;
use thiserror::Error;

/// Finds out what belongs where nothing is mapped, and maps it.
///
/// A mapper that has one ([`VaMapper::fetch_with`]) is lazy: an access, or a lease, that reaches a
/// hole asks here, and then goes on if something is mapped. Accesses to what is mapped never come
/// here, so a lazy mapper is as fast as any other where it was touched before.
pub trait FetchOnFault: Send + Sync {
    /// Maps what belongs in the `len` bytes from `gpa` on, the first of which is a hole.
    ///
    /// Addresses are of the whole address space, `len` is more than 0, and neither need be aligned.
    /// `Ok(())` says that whatever belongs there is mapped now; if it is still a hole, then nothing
    /// does. It may map more, and need not map all: the access comes back for what is missing.
    ///
    /// It is called by the thread that makes the access, under none of the mapper's locks, and by
    /// any number of threads at once. How long it may take is its own to bound.
    ///
    /// # Errors
    ///
    /// It is not known what belongs there.
    fn fetch(&self, gpa: u64, len: u64) -> Result<(), Unanswered>;
}

/// Why it is not known what belongs where nothing is mapped.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// There is no connection to the manager.
    #[error("the manager is gone")]
    Gone,
    /// The manager did not answer in time.
    #[error("the manager did not answer in time")]
    TimedOut,
    /// The thread that would have to read the answer is the one that asks.
    #[error("the thread that serves the connection to the manager cannot wait for its answer")]
    ServingThread,
}

impl VaMapper {
    /// Makes the mapper lazy: `fetch` is asked wherever an access or a lease reaches a hole.
    ///
    /// `false`, and no change, if it has one already. Only accesses through
    /// [`GuestMemory`](crate::GuestMemory) ask: who uses the host addresses directly, a guest or the
    /// kernel, finds a hole where nothing was touched, and [`populate`](Self::populate) skips it.
    ///
    /// ```
    /// use mapping_manager::{FetchOnFault, Unanswered, VaMapper};
    /// use memory_range::{Access, MemoryRange};
    /// use sparse_alloc::{Alignment, Backing, SharedMemory};
    /// use std::sync::{Arc, Weak};
    ///
    /// /// Shows a page of one memory wherever it is touched.
    /// struct Everywhere(Weak<VaMapper>, Backing);
    ///
    /// impl FetchOnFault for Everywhere {
    ///     fn fetch(&self, gpa: u64, _len: u64) -> Result<(), Unanswered> {
    ///         let mapper = self.0.upgrade().ok_or(Unanswered::Gone)?;
    ///         let page = MemoryRange::bounding(gpa..gpa + 1).map_err(|_| Unanswered::Gone)?;
    ///         let mapped = mapper.map(page, &self.1, 0, Access::ReadWrite);
    ///         mapped.map_err(|_| Unanswered::Gone)
    ///     }
    /// }
    ///
    /// let page = SharedMemory::new("page", 0x1000)?;
    /// let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
    /// let fetch = Everywhere(Arc::downgrade(&mapper), Backing::from(&page));
    /// assert!(mapper.fetch_with(Arc::new(fetch)));
    ///
    /// let memory = mapper.guest_memory();
    /// memory.write_plain(0x8000, &7_u32)?;
    /// assert_eq!(memory.read_plain::<u32>(0x4000)?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fetch_with(&self, fetch: Arc<dyn FetchOnFault>) -> bool {
        self.fetch.set(fetch).is_ok()
    }

    /// Who is asked where nothing is mapped, if the mapper is lazy.
    pub(crate) fn fetch(&self) -> Option<&dyn FetchOnFault> {
        self.fetch.get().map(|fetch| &**fetch)
    }
}

/// How often an access may find a hole before one that it has asked about: changes took away what was
/// fetched before the access saw it.
const MOST_SETBACKS: u32 = 4;

/// The holes that one access has asked about.
#[derive(Default)]
pub(crate) struct Asked {
    /// The address after the last one that was asked about; before that, zero.
    past: u64,
    setbacks: u32,
}

impl Asked {
    /// Asks about a hole at `gpa` in an access that goes on for `len` bytes.
    ///
    /// `Ok(true)`: it is worth looking again. `Ok(false)`: nobody can be asked, or it was asked often
    /// enough, or asked just before, so that the hole is one.
    pub(crate) fn ask(
        &mut self,
        mapper: &VaMapper,
        gpa: u64,
        len: u64,
    ) -> Result<bool, Unanswered> {
        let Some(fetch) = mapper.fetch() else {
            return Ok(false);
        };
        let past = gpa.saturating_add(1);
        if past == self.past {
            return Ok(false);
        }
        if past < self.past {
            self.setbacks = self.setbacks.saturating_add(1);
            if self.setbacks >= MOST_SETBACKS {
                return Ok(false);
            }
        }
        self.past = past;
        fetch.fetch(gpa, len.max(1))?;
        Ok(true)
    }
}
