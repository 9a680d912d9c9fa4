//! Populating with several threads.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use memory_range::Access;

use super::job::{Chunk, Job};
use super::{PopulateError, PopulateProgress, populate};
use crate::host_range::HostRange;
use crate::sys::Calls;

/// Says how populating ended, where nothing failed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use = "it may have been cancelled"]
pub enum Populated {
    /// Every page is present.
    Completely,
    /// It was [cancelled](PopulateProgress::cancel). Some pages are present, in no order.
    InPart,
}

/// Makes every page of the pieces present, each for its access, with several threads.
///
/// It acts on the views that the pieces lie in: faults these views' page tables, and thereby gives the
/// backing the memory that it lacks. For a guest it is the GPA window's view that matters; other
/// views of the same memory find it present when they first touch it, at a small cost.
///
/// `threads` counts the caller's, which takes part; `None` means one for each processor that the
/// process may use. Fewer run where there is less to do, and where the kernel gives no more. They
/// take 16 MiB at a time, and are gone when this returns. No page loses its contents.
///
/// # Errors
///
/// When a page is not mapped or does not allow the access, when memory runs out, when the file of a
/// page has become shorter, and when the kernel is older than 5.14. The error names the chunk in
/// which it happened, in offsets from the start of its region; the first of several is returned. The
/// other threads then stop. What is present already stays so. Empty pieces are no error.
pub fn populate_in_parallel(
    pieces: &[(HostRange, Access)],
    threads: Option<NonZeroUsize>,
    progress: &PopulateProgress,
) -> Result<Populated, PopulateError> {
    work_through(&Job::new(pieces), threads, progress, |chunk| {
        let calls = Calls::default();
        // SAFETY: the chunk lies in a region that the job holds a share of.
        unsafe { populate(&calls, chunk.addr, chunk.len, chunk.range, chunk.access) }
    })
}

/// Calls `populate` for each chunk, from several threads.
fn work_through(
    job: &Job,
    threads: Option<NonZeroUsize>,
    progress: &PopulateProgress,
    populate: impl Fn(&Chunk) -> Result<(), PopulateError> + Sync,
) -> Result<Populated, PopulateError> {
    progress.add_total(job.bytes());
    let failure = Mutex::new(None);
    let work = || {
        while !progress.is_cancelled()
            && let Some(chunk) = job.take()
        {
            match populate(&chunk) {
                Ok(()) => progress.add_done(chunk.range.len()),
                Err(error) => {
                    job.stop();
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                }
            }
        }
    };
    let others = others(threads, job.chunks());
    thread::scope(|scope| {
        for number in 0..others {
            let thread = thread::Builder::new().name(format!("populate-{number}"));
            // The kernel gives no more threads: those that there are do the work.
            if thread.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failure {
        Some(error) => Err(error),
        None if job.is_taken() => Ok(Populated::Completely),
        None => Ok(Populated::InPart),
    }
}

/// How many threads help the caller's.
fn others(threads: Option<NonZeroUsize>, chunks: u64) -> usize {
    let others = usize::try_from(chunks.saturating_sub(1)).unwrap_or(usize::MAX);
    if others == 0 {
        // Most often there is a single chunk; the number of processors is not worth asking for.
        return 0;
    }
    let threads = threads.or_else(|| thread::available_parallelism().ok());
    threads.map_or(0, |threads| threads.get().saturating_sub(1).min(others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::populate::job::CHUNK;
    use crate::{Alignment, SpaceEditor};
    use memory_range::MemoryRange;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    const CHUNKS: u64 = 40;

    fn threads(n: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(n)
    }

    fn job() -> Job {
        let editor = SpaceEditor::new(CHUNKS * CHUNK, Alignment::Page).unwrap();
        let space = editor.space().clone();
        let host = HostRange::new(space, 0, CHUNKS * CHUNK).unwrap();
        Job::new(&[(host, Access::ReadOnly)])
    }

    #[test]
    fn there_are_as_many_threads_as_asked_for_but_no_idle_ones() {
        assert_eq!(others(threads(1), 100), 0);
        assert_eq!(others(threads(4), 100), 3);
        assert_eq!(others(threads(4), 2), 1);
        assert_eq!(others(threads(4), 0), 0);
        assert_eq!(others(threads(usize::MAX), 3), 2);
        let all = thread::available_parallelism().unwrap().get();
        assert_eq!(others(None, u64::MAX), all - 1);
    }

    #[test]
    fn every_chunk_is_populated_once() {
        for threads in [None, threads(1), threads(7), threads(100)] {
            let progress = PopulateProgress::new();
            let seen = Mutex::new(BTreeSet::new());
            let names = Mutex::new(BTreeSet::new());
            let populated = work_through(&job(), threads, &progress, |chunk| {
                assert!(seen.lock().unwrap().insert(chunk.range.start()));
                let thread = thread::current();
                names
                    .lock()
                    .unwrap()
                    .insert(thread.name().map(str::to_owned));
                Ok(())
            });
            assert_eq!(populated.unwrap(), Populated::Completely);
            assert_eq!(seen.into_inner().unwrap().len() as u64, CHUNKS);
            assert_eq!(progress.done_bytes(), CHUNKS * CHUNK);
            assert_eq!(progress.total_bytes(), CHUNKS * CHUNK);
            let helpers = names.into_inner().unwrap();
            let most = threads.map_or(usize::MAX, NonZeroUsize::get);
            assert!(!helpers.is_empty() && helpers.len() <= most);
        }
    }

    #[test]
    fn who_cancels_in_the_middle_leaves_the_rest() {
        for count in [1, 3] {
            let progress = PopulateProgress::new();
            let populated = work_through(&job(), threads(count), &progress, |chunk| {
                if chunk.range.start() == 5 * CHUNK {
                    progress.cancel();
                }
                Ok(())
            });
            assert_eq!(populated.unwrap(), Populated::InPart);
            // Those under way are finished: one a thread.
            let done = progress.done_bytes() / CHUNK;
            assert!((1..CHUNKS).contains(&done), "{done}");
            if count == 1 {
                assert_eq!(done, 6);
            }
            assert_eq!(progress.total_bytes(), CHUNKS * CHUNK);
        }
    }

    #[test]
    fn one_failure_stops_all() {
        for count in [1, 3] {
            let progress = PopulateProgress::new();
            let begun = AtomicU64::new(0);
            let failed = work_through(&job(), threads(count), &progress, |chunk| {
                begun.fetch_add(1, Ordering::Relaxed);
                match chunk.range.start() / CHUNK {
                    0..5 => Ok(()),
                    _ => Err(PopulateError::Unsupported { range: chunk.range }),
                }
            });
            let range = match failed {
                Err(PopulateError::Unsupported { range }) => range,
                other => panic!("{other:?}"),
            };
            assert!(range.start() >= 5 * CHUNK, "{range}");
            if count == 1 {
                assert_eq!(range, MemoryRange::new(5 * CHUNK..6 * CHUNK));
                assert_eq!(begun.into_inner(), 6, "none is begun after it");
            }
            assert_eq!(progress.done_bytes(), 5 * CHUNK);
        }
    }
}
