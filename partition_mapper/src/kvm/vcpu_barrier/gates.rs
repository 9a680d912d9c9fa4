//! How vCPUs enter the guest, and how they are kept out of it.

use super::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, fence};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// After this time a vCPU that is still inside is kicked once more: the kernel may have had no
/// room to queue a signal.
const KICK_AGAIN: Duration = Duration::from_millis(100);

/// One vCPU's way into the guest. `T` is what is needed to kick it.
pub(crate) struct Gate<T> {
    inside: AtomicBool,
    pub(crate) vcpu: T,
}

impl<T> Gate<T> {
    pub(crate) fn new(vcpu: T) -> Self {
        Self {
            inside: AtomicBool::new(false),
            vcpu,
        }
    }

    /// Whether the vCPU is in the guest, or about to find out that it may not.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Acquire)
    }
}

/// Why a pause did not come about.
pub(crate) enum Failure<T, E> {
    /// This one was still inside when the time was over.
    StillInside(Arc<Gate<T>>),
    /// This one could not be kicked.
    Kick(Arc<Gate<T>>, E),
}

/// All gates that are closed together.
///
/// Who enters first says that it is inside and then looks for a pause; who pauses first says so
/// and then looks who is inside. With a full fence between the two steps on either side, at least
/// one of them sees the other: the vCPU goes back, or the pauser kicks it and waits. The same
/// holds between a vCPU that leaves and a pauser that is about to sleep.
pub(crate) struct Gates<T> {
    /// How many pauses hold. Invariant: changes only under `list`.
    pauses: AtomicUsize,
    list: Mutex<Vec<Arc<Gate<T>>>>,
    /// A vCPU has left while a pause held.
    left: Condvar,
    /// No pause holds any longer.
    resumed: Condvar,
    /// How long a pauser looks before it sleeps.
    look: Duration,
}

impl<T> Gates<T> {
    pub(crate) fn new(look: Duration) -> Self {
        Self {
            look,
            pauses: AtomicUsize::new(0),
            list: Mutex::new(Vec::new()),
            left: Condvar::new(),
            resumed: Condvar::new(),
        }
    }

    pub(crate) fn add(&self, gate: Arc<Gate<T>>) {
        self.list().push(gate);
    }

    /// Forgets a gate, which nobody may be inside of.
    pub(crate) fn remove(&self, gate: &Arc<Gate<T>>) {
        self.list().retain(|one| !Arc::ptr_eq(one, gate));
    }

    /// Calls back for each gate.
    pub(crate) fn each(&self, mut call: impl FnMut(&Gate<T>)) {
        self.list().iter().for_each(|gate| call(gate));
    }

    /// How many pauses hold.
    pub(crate) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Goes inside as soon as no pause holds.
    pub(crate) fn enter(&self, gate: &Gate<T>) {
        loop {
            // Release: whoever sees it also sees which thread it is that went inside.
            gate.inside.store(true, Ordering::Release);
            fence(Ordering::SeqCst);
            // Acquire: what was done during a pause that is over has happened.
            if self.pauses.load(Ordering::Acquire) == 0 {
                return;
            }
            self.leave(gate);
            let mut list = self.list();
            while self.pauses.load(Ordering::Relaxed) != 0 {
                list = wait(&self.resumed, list);
            }
        }
    }

    /// Goes outside.
    pub(crate) fn leave(&self, gate: &Gate<T>) {
        // Release: what the vCPU did inside has happened for whoever sees that it is outside.
        gate.inside.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.pauses.load(Ordering::Relaxed) != 0 {
            // A pauser that saw this vCPU inside holds the lock until it sleeps.
            drop(self.list());
            self.left.notify_all();
        }
    }

    /// Closes all gates, and returns when nobody is inside. A call of [`resume`](Self::resume)
    /// must follow, unless it fails.
    ///
    /// `kick` makes a vCPU that is inside leave soon. It is called again from time to time.
    pub(crate) fn pause<E>(
        &self,
        deadline: Duration,
        mut kick: impl FnMut(&Gate<T>) -> Result<(), E>,
    ) -> Result<(), Failure<T, E>> {
        let mut list = self.list();
        self.add_pause();
        fence(Ordering::SeqCst);
        // Mostly nobody is: without asking for the time, then.
        if !list.iter().any(|gate| gate.is_inside()) {
            return Ok(());
        }
        let start = Instant::now();
        loop {
            for gate in list.iter().filter(|gate| gate.is_inside()) {
                if let Err(error) = kick(gate) {
                    let failure = Failure::Kick(Arc::clone(gate), error);
                    self.end_pause(&list);
                    return Err(failure);
                }
            }
            let kicked = Instant::now();
            // Most come out in less time than it takes to fall asleep and be woken.
            let look = self.look.min(deadline);
            while kicked.elapsed() < look && list.iter().any(|gate| gate.is_inside()) {
                std::hint::spin_loop();
            }
            loop {
                let Some(inside) = list.iter().find(|gate| gate.is_inside()) else {
                    return Ok(());
                };
                let rest = deadline.saturating_sub(start.elapsed());
                if rest.is_zero() {
                    let failure = Failure::StillInside(Arc::clone(inside));
                    self.end_pause(&list);
                    return Err(failure);
                }
                let until_kick = KICK_AGAIN.saturating_sub(kicked.elapsed());
                if until_kick.is_zero() {
                    break;
                }
                list = wait_for(&self.left, list, rest.min(until_kick));
            }
        }
    }

    /// Ends one pause. With the last one the gates are open again.
    pub(crate) fn resume(&self) {
        self.end_pause(&self.list());
    }

    fn add_pause(&self) {
        // Only changed under the lock, which the caller holds.
        let pauses = self.pauses.load(Ordering::Relaxed);
        self.pauses
            .store(pauses.saturating_add(1), Ordering::Relaxed);
    }

    fn end_pause(&self, _list: &MutexGuard<'_, Vec<Arc<Gate<T>>>>) {
        let pauses = self.pauses.load(Ordering::Relaxed).saturating_sub(1);
        self.pauses.store(pauses, Ordering::Release);
        if pauses == 0 {
            self.resumed.notify_all();
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Gate<T>>>> {
        // Nothing that can panic runs between two steps of a change.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a, G>(condition: &Condvar, guard: MutexGuard<'a, G>) -> MutexGuard<'a, G> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<'a, G>(
    condition: &Condvar,
    guard: MutexGuard<'a, G>,
    time: Duration,
) -> MutexGuard<'a, G> {
    condition
        .wait_timeout(guard, time)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}
