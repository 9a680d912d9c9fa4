//! One pause for all who ask for one at the same time.

use super::{PauseError, PausedVcpus, VcpuBarrier};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Takes the barrier inside once for pauses that overlap: two mappers of one partition are
/// paused in one change, and its guest is stopped only once.
///
/// # Invariant
///
/// The pause of the barrier inside is held if and only if `holders` is not 0.
#[derive(Clone)]
pub(crate) struct SharedBarrier {
    inner: Arc<dyn VcpuBarrier>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    holders: usize,
    pause: Option<PausedVcpus>,
    /// How often the barrier inside was taken.
    taken: u64,
    /// When the pause was asked for that is held.
    since: Option<Instant>,
    /// How long it was held, all pauses together.
    held: Duration,
    longest: Duration,
}

impl SharedBarrier {
    pub(crate) fn new(inner: Arc<dyn VcpuBarrier>) -> Self {
        Self {
            inner,
            state: Arc::default(),
        }
    }

    /// How often the vCPUs were paused.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        lock(&self.state).taken
    }
}

impl VcpuBarrier for SharedBarrier {
    fn pause(&self) -> Result<PausedVcpus, PauseError> {
        // Held while the vCPUs come out: whoever asks meanwhile must not go on before that.
        let mut state = lock(&self.state);
        if state.holders == 0 {
            // To come out is a part of the time that a vCPU loses.
            let since = Instant::now();
            state.pause = Some(self.inner.pause()?);
            state.since = Some(since);
            state.taken = state.taken.saturating_add(1);
        }
        state.holders = state.holders.saturating_add(1);
        drop(state);
        let shared = Arc::clone(&self.state);
        Ok(PausedVcpus::new(move || {
            let mut state = lock(&shared);
            state.holders = state.holders.saturating_sub(1);
            if state.holders == 0 {
                // Under the lock, so that the barrier inside is not asked again before it has
                // let go.
                drop(state.pause.take());
                if let Some(since) = state.since.take() {
                    let held = since.elapsed();
                    state.held = state.held.saturating_add(held);
                    state.longest = state.longest.max(held);
                }
            }
        }))
    }
}

impl inspect::Inspect for SharedBarrier {
    fn inspect(&self, req: inspect::Request<'_>) {
        let (taken, held, longest) = {
            let state = lock(&self.state);
            (state.taken, state.held, state.longest)
        };
        req.respond()
            .counter("vcpu_pauses", taken)
            .value("vcpu_pause_time", held)
            .value("vcpu_pause_longest", longest);
    }
}

// The barrier inside belongs to the VMM and might panic: then nothing has been counted.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// Says whether it holds a pause, counts them, and fails while told to.
    #[derive(Default)]
    struct Recorder {
        paused: Arc<AtomicBool>,
        pauses: AtomicUsize,
        fails: AtomicBool,
    }

    impl VcpuBarrier for Recorder {
        fn pause(&self) -> Result<PausedVcpus, PauseError> {
            if self.fails.load(Ordering::SeqCst) {
                let source = "told to fail".into();
                return Err(PauseError::Failed { source });
            }
            assert!(!self.paused.swap(true, Ordering::SeqCst), "paused twice");
            self.pauses.fetch_add(1, Ordering::SeqCst);
            let paused = Arc::clone(&self.paused);
            Ok(PausedVcpus::new(move || {
                assert!(paused.swap(false, Ordering::SeqCst), "resumed twice");
            }))
        }
    }

    #[test]
    fn overlapping_pauses_are_one() {
        let recorder = Arc::new(Recorder::default());
        let barrier = SharedBarrier::new(recorder.clone());
        let first = barrier.pause().unwrap();
        let second = barrier.clone().pause().unwrap();
        drop(first);
        assert!(recorder.paused.load(Ordering::SeqCst));
        drop(second);
        assert!(!recorder.paused.load(Ordering::SeqCst));
        drop(barrier.pause().unwrap());
        assert_eq!(recorder.pauses.load(Ordering::SeqCst), 2);
        assert_eq!(barrier.taken(), 2);
        let state = lock(&barrier.state);
        assert!(state.longest <= state.held);
        assert_eq!(state.since, None);
    }

    #[test]
    fn a_failed_pause_holds_nothing() {
        let recorder = Arc::new(Recorder::default());
        recorder.fails.store(true, Ordering::SeqCst);
        let barrier = SharedBarrier::new(recorder.clone());
        assert!(matches!(barrier.pause(), Err(PauseError::Failed { .. })));
        assert_eq!(barrier.taken(), 0);
        recorder.fails.store(false, Ordering::SeqCst);
        drop(barrier.pause().unwrap());
        assert_eq!(recorder.pauses.load(Ordering::SeqCst), 1);
        assert!(!recorder.paused.load(Ordering::SeqCst));
    }

    #[test]
    fn many_threads_share_pauses() {
        let recorder = Arc::new(Recorder::default());
        let barrier = SharedBarrier::new(recorder.clone());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _paused = barrier.pause().unwrap();
                        assert!(recorder.paused.load(Ordering::SeqCst));
                    }
                });
            }
        });
        assert!(!recorder.paused.load(Ordering::SeqCst));
    }
}
