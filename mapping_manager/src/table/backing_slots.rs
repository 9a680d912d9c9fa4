//! Which slot holds which backing.

use super::slot::Slot;
use inspect::Inspect;
use sparse_alloc::{Backing, BackingIdentity, LinearViewError, MappedRegion};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The slot of a backing.
pub(crate) type BackingSlot = Slot<Held>;

/// A backing, held in a slot, and what its leases need to know at once.
pub(crate) struct Held {
    pub(crate) backing: Backing,
    /// The name of the guest memory, for errors.
    pub(crate) memory: Arc<str>,
    /// The address and length of the linear view; null until a lease has asked for it. The backing
    /// keeps the view.
    view_base: AtomicPtr<u8>,
    view_len: AtomicU64,
    /// How many entries of the table show it. Only the table's one writer asks.
    entries: AtomicU64,
}

/// Where the linear view of a backing is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct View {
    pub(crate) base: NonNull<u8>,
    pub(crate) len: u64,
}

impl Held {
    fn new(backing: Backing, memory: Arc<str>) -> Self {
        let held = Self {
            backing,
            memory,
            view_base: AtomicPtr::default(),
            view_len: AtomicU64::default(),
            entries: AtomicU64::default(),
        };
        if let Backing::Mappable(mappable) = &held.backing
            && let Some(view) = mappable.existing_linear_view()
        {
            held.remember(&**view);
        }
        held
    }

    /// The linear view, if it was asked for before.
    #[inline(always)]
    pub(crate) fn known_view(&self) -> Option<View> {
        // Acquire: the length is stored before the base.
        let base = NonNull::new(self.view_base.load(Ordering::Acquire))?;
        Some(View {
            base,
            len: self.view_len.load(Ordering::Relaxed),
        })
    }

    /// The linear view, made if need be. `None` if such a backing has none.
    pub(crate) fn view(&self) -> Option<Result<View, LinearViewError>> {
        if let Some(view) = self.known_view() {
            return Some(Ok(view));
        }
        let view = self.backing.as_mappable()?.linear_view();
        Some(view.map(|view| self.remember(&**view)))
    }

    fn remember(&self, view: &dyn MappedRegion) -> View {
        // Whoever else does so at the same time stores the same: a mappable has one view.
        self.view_len.store(view.len(), Ordering::Relaxed);
        self.view_base
            .store(view.base().as_ptr(), Ordering::Release);
        View {
            base: view.base(),
            len: view.len(),
        }
    }
}

/// All slots of a table, in the hands of its one writer.
///
/// Slots are not freed while this lives, but used again.
pub(crate) struct BackingSlots {
    memory: Arc<str>,
    /// The one slot of each backing that is mapped. Invariant B1: these are mapped slots, and hold
    /// the backing whose identity is the key.
    mapped: HashMap<BackingIdentity, NonNull<BackingSlot>, BuildHasherDefault<IdentityHasher>>,
    /// Slots that were leased when their last mapping went, with the backing's name. Some are empty
    /// by now.
    lingering: BTreeMap<Lingering, String>,
    /// Up to where `lingering` was last looked through for empty ones.
    swept: Option<Lingering>,
    /// Slots that the change under way has left without an entry; some have one again.
    unshown: Vec<NonNull<BackingSlot>>,
    /// Slots that are empty and nowhere else.
    empty: Vec<NonNull<BackingSlot>>,
}

/// A backing's identity, and its slot's address.
type Lingering = (BackingIdentity, *mut BackingSlot);

/// What a change has left without a use. To drop it may close files and unmap views, which need not
/// happen under a lock.
#[must_use = "drop it when no lock is held"]
#[derive(Default)]
pub(crate) struct Unused {
    // Most often there is one at most, for which there need be no list.
    first: Option<Held>,
    further: Vec<Held>,
}

// SAFETY: the slots may be used by every thread (they are Sync), and are freed only by this.
unsafe impl Send for BackingSlots {}
// SAFETY: as for Send; a shared reference only looks at the lists.
unsafe impl Sync for BackingSlots {}

impl Unused {
    fn add(&mut self, held: Held) {
        match &self.first {
            None => self.first = Some(held),
            Some(_) => self.further.push(held),
        }
    }
}

impl BackingSlots {
    pub(crate) fn new(memory: Arc<str>) -> Self {
        Self {
            memory,
            mapped: HashMap::default(),
            lingering: BTreeMap::new(),
            swept: None,
            unshown: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// The slot of a backing, which is mapped from now on.
    pub(crate) fn map(&mut self, backing: &Backing) -> NonNull<BackingSlot> {
        match self.mapped.get(&backing.identity()) {
            Some(slot) => *slot,
            None => self.map_anew(backing),
        }
    }

    fn map_anew(&mut self, backing: &Backing) -> NonNull<BackingSlot> {
        let slot = self.lingering_of(backing).unwrap_or_else(|| {
            self.sweep();
            let slot = self.empty.pop().unwrap_or_else(Slot::allocate);
            let held = Held::new(backing.clone(), self.memory.clone());
            // SAFETY: `slot` is empty, and not freed before `self` is dropped, who is the writer.
            let slot_ref = unsafe { slot.as_ref() };
            // SAFETY: as above.
            unsafe { slot_ref.fill(held) };
            slot
        });
        self.mapped.insert(backing.identity(), slot);
        slot
    }

    /// Counts the table's entries of a mapped slot. When the change is complete,
    /// [`unmap_unshown`](Self::unmap_unshown) is to be called.
    pub(crate) fn count(&mut self, slot: NonNull<BackingSlot>, change: i64) {
        // SAFETY: the table's slots are not freed before the table is.
        let slot_ref = unsafe { slot.as_ref() };
        // SAFETY: the caller is the table's writer, and a slot with entries is mapped.
        let left = unsafe {
            slot_ref.with(|held| {
                let entries = &held?.entries;
                let left = entries.load(Ordering::Relaxed).wrapping_add_signed(change);
                entries.store(left, Ordering::Relaxed);
                Some(left)
            })
        };
        if left == Some(0) {
            self.unshown.push(slot);
        }
    }

    /// Lets go of the slots that no entry shows any more. The change of the table is complete.
    #[inline]
    pub(crate) fn unmap_unshown(&mut self) -> Unused {
        let mut unused = Unused::default();
        if self.unshown.len() > 1 {
            self.deduplicate_unshown();
        }
        while let Some(slot) = self.unshown.pop() {
            self.unmap(slot, &mut unused);
        }
        unused
    }

    /// Once it is unmapped, a slot must not be looked at again.
    #[cold]
    fn deduplicate_unshown(&mut self) {
        self.unshown.sort_unstable();
        self.unshown.dedup();
    }

    fn unmap(&mut self, slot: NonNull<BackingSlot>, unused: &mut Unused) {
        // SAFETY: the table's slots are not freed before the table is.
        let slot_ref = unsafe { slot.as_ref() };
        // SAFETY: the caller is the writer; the slot was mapped, and no one else unmaps it.
        let identity = unsafe {
            slot_ref.with(|held| {
                let held = held.filter(|held| held.entries.load(Ordering::Relaxed) == 0)?;
                Some(held.backing.identity())
            })
        };
        // None if the same change has shown it again.
        let Some(identity) = identity else { return };
        if self.mapped.remove(&identity).is_none() {
            return;
        }
        let mut name = String::new();
        let leased = |held: &Held| held.backing.name().clone_into(&mut name);
        // SAFETY: it is mapped (B1), no entry shows it, and the caller is the writer.
        match unsafe { Slot::unmap(slot, leased) } {
            Some(held) => {
                unused.add(held);
                self.empty.push(slot);
            }
            None => {
                self.lingering.insert((identity, slot.as_ptr()), name);
            }
        }
    }

    /// Every backing that is mapped or leased, in no order: who looks sorts them without the lock.
    pub(crate) fn leases(&self) -> Vec<BackingLeases> {
        let of = |slot: NonNull<BackingSlot>, name: Named, mapped| {
            // SAFETY: the table's slots are not freed before the table is.
            let (read, write) = unsafe { slot.as_ref() }.counts();
            BackingLeases {
                name,
                mapped,
                read,
                write,
            }
        };
        let mapped = self.mapped.values().filter_map(|slot| {
            // SAFETY: the table's slots are not freed before the table is.
            let slot_ref = unsafe { slot.as_ref() };
            // SAFETY: it is mapped (B1), and who may look at the lists has the table's lock.
            let backing = unsafe { slot_ref.with(|held| held.map(|held| held.backing.clone())) };
            Some(of(*slot, Named::Backing(backing?), true))
        });
        let lingering = self.lingering.iter().filter_map(|((_, slot), name)| {
            let leases = of(NonNull::new(*slot)?, Named::Gone(name.clone()), false);
            (leases.read != 0 || leases.write != 0).then_some(leases)
        });
        mapped.chain(lingering).collect()
    }

    /// The number of all slots, empty ones too.
    #[cfg(test)]
    pub(crate) fn slot_count(&self) -> usize {
        self.mapped.len() + self.lingering.len() + self.empty.len()
    }

    /// The slot of a backing that is no more mapped, but still leased; mapped from now on.
    fn lingering_of(&mut self, backing: &Backing) -> Option<NonNull<BackingSlot>> {
        if self.lingering.is_empty() {
            return None;
        }
        let identity = backing.identity();
        let all = self
            .lingering
            .range((identity, ptr::null_mut())..)
            .map(|(key, _)| *key)
            .take_while(|key| key.0 == identity);
        let keys: Vec<Lingering> = all.collect();
        for key in keys {
            let Some(slot) = NonNull::new(key.1) else {
                continue;
            };
            // SAFETY: the table's slots are not freed before the table is.
            let slot_ref = unsafe { slot.as_ref() };
            // SAFETY: the caller is the writer, and lingering slots are not mapped.
            if !unsafe { slot_ref.remap() } {
                continue;
            }
            // SAFETY: it is mapped now, and the caller is the writer.
            if unsafe { slot_ref.with(|held| held.is_some_and(|held| held.backing == *backing)) } {
                self.lingering.remove(&key);
                return Some(slot);
            }
            // One that had this identity before. Its name stays in the list. What is left if its lease
            // went just now is empty.
            // SAFETY: it was mapped just above, and no entry of the table shows it.
            drop(unsafe { Slot::unmap(slot, |_| {}) });
        }
        None
    }

    /// Looks at two of the lingering slots, so that there are never many more than are leased.
    fn sweep(&mut self) {
        for _ in 0..2 {
            let next = self
                .lingering
                .range((
                    self.swept.map_or(Bound::Unbounded, Bound::Excluded),
                    Bound::Unbounded,
                ))
                .next()
                .or_else(|| self.lingering.first_key_value());
            let Some((key, _)) = next else { return };
            let key = *key;
            self.swept = Some(key);
            let Some(slot) = NonNull::new(key.1) else {
                continue;
            };
            // SAFETY: the table's slots are not freed before the table is.
            if unsafe { slot.as_ref() }.is_empty() {
                self.lingering.remove(&key);
                self.empty.push(slot);
            }
        }
    }
}

impl Drop for BackingSlots {
    fn drop(&mut self) {
        let mapped = std::mem::take(&mut self.mapped).into_values();
        let lingering = std::mem::take(&mut self.lingering).into_keys();
        let lingering = lingering.filter_map(|(_, slot)| NonNull::new(slot));
        let empty = std::mem::take(&mut self.empty);
        for slot in mapped.chain(lingering).chain(empty) {
            // SAFETY: the table is going away, so no one looks anything up in it; each slot is in
            // one of the lists, and in it once.
            drop(unsafe { Slot::orphan(slot) });
        }
    }
}

/// The name of a backing, without a copy of it where there need not be one.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Backing(Backing),
    Gone(String),
}

impl Named {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Backing(backing) => backing.name(),
            Self::Gone(name) => name,
        }
    }
}

impl Inspect for Named {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.as_str().inspect(req);
    }
}

/// How often a backing is leased.
#[derive(Clone, Debug, Inspect)]
pub(crate) struct BackingLeases {
    pub(crate) name: Named,
    pub(crate) mapped: bool,
    #[inspect(rename = "read_leases")]
    pub(crate) read: u64,
    #[inspect(rename = "write_leases")]
    pub(crate) write: u64,
}

/// Hashes backings, whose identity is an address that nobody outside chooses: no one can aim at
/// collisions, against which a better and slower hash would guard.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        // The multiplication of Fibonacci hashing; the table looks at the highest bits and the lowest.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
