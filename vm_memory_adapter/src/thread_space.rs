//! The present snapshot, for one thread.

use crate::address_space::State;
use crate::view::View;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;

/// An [`AddressSpace`](crate::AddressSpace) in the hands of one thread: for a device that polls, and asks
/// for memory before every little piece of work.
///
/// [`memory`](GuestAddressSpace::memory) looks whether a snapshot has been published since, and else
/// gives the one that this handle has, counted without atomics. It follows changes as the address
/// space does: what is asked for after a change shows it.
///
/// The price: neither it nor its snapshots can be sent to another thread; and **it holds the snapshot
/// that it gave last**, and so what that shows, until it is asked again, is told to
/// [let go](Self::let_go), or is dropped. A thread that goes to sleep lets go first.
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout};
/// use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
/// use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};
///
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
/// let space = AddressSpace::<AccessView>::attach(&memory, "virtio", &SnapshotOptions::new())?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let space = space.for_this_thread();
///         space.memory().write_obj(1_u32, GuestAddress(0x1000)).unwrap();
///     });
/// });
/// assert_eq!(space.memory().read_obj::<u32>(GuestAddress(0x1000))?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ThreadSpace<V> {
    state: Arc<State<V>>,
    /// How many had been published before `held` was taken.
    seen: Cell<u64>,
    held: RefCell<Option<Rc<Held<V>>>>,
}

/// A snapshot that this thread counts by itself.
struct Held<V>(Arc<V>);

impl<V: View> ThreadSpace<V> {
    pub(crate) fn new(state: &Arc<State<V>>) -> Self {
        Self {
            state: state.clone(),
            seen: Cell::new(0),
            held: RefCell::new(None),
        }
    }

    /// Lets go of the snapshot that it holds; those that it has given stay.
    pub fn let_go(&self) {
        self.held.replace(None);
    }

    #[cold]
    #[inline(never)]
    fn take(&self) -> Rc<Held<V>> {
        // In this order: the snapshot is that one or a later one, and is then merely taken again.
        let published = self.state.published();
        let held = Rc::new(Held(self.state.snapshot()));
        self.seen.set(published);
        self.held.replace(Some(held.clone()));
        held
    }
}

impl<V> Clone for ThreadSpace<V> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            seen: self.seen.clone(),
            held: self.held.clone(),
        }
    }
}

impl<V: View> GuestAddressSpace for ThreadSpace<V> {
    type M = V;
    type T = ThreadSnapshot<V>;

    #[inline]
    fn memory(&self) -> ThreadSnapshot<V> {
        if let Some(held) = &*self.held.borrow()
            && self.state.published() == self.seen.get()
        {
            return ThreadSnapshot(held.clone());
        }
        ThreadSnapshot(self.take())
    }
}

impl<V> fmt::Debug for ThreadSpace<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadSpace")
            .field("seen", &self.seen.get())
            .finish_non_exhaustive()
    }
}

/// A snapshot that stays in its thread.
#[must_use = "it is the memory itself"]
pub struct ThreadSnapshot<V>(Rc<Held<V>>);

impl<V> ThreadSnapshot<V> {
    /// Makes of it what can be sent to other threads.
    pub fn to_snapshot(&self) -> Arc<V> {
        self.0.0.clone()
    }
}

impl<V> Clone for ThreadSnapshot<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Deref for ThreadSnapshot<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.0.0
    }
}

impl<V: fmt::Debug> fmt::Debug for ThreadSnapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        V::fmt(self, f)
    }
}
