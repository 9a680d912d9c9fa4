//! Who is offered the stores that reach no memory.

use crate::mapper::Window;
use memory_range::{MemoryRange, PAGE_SIZE};
use std::fmt;
use std::sync::{Arc, Weak};

/// Is offered each store of a guest that reaches no memory, before it leaves for the VMM.
///
/// For memory that takes writes where something else is read, which no slot can be. With a
/// hypervisor such a store is an exit, and the VMM passes it on; a backend that carries out the
/// stores itself ([`OfferStores`]) saves the VMM that.
pub trait StoreTaker: fmt::Debug + Send + Sync {
    /// Takes a store to `gpa` on, or doesn't: the answer says which. One that is not taken leaves
    /// the guest as an MMIO exit.
    ///
    /// It is called on the thread that stores, under no lock of the partition's.
    fn take(&self, gpa: u64, data: &[u8]) -> bool;
}

/// Offers stores to takers: the power of a backend that carries out the guest's stores itself.
pub trait OfferStores {
    /// Offers each store that reaches no memory to `taker` from now on, as long as it lives. Of
    /// several takers, the one that was given first is asked first.
    fn offer_stores_to(&self, taker: Weak<dyn StoreTaker>);
}

/// A taker for addresses of a view, asked in those of a partition.
#[derive(Debug)]
pub(crate) struct WindowTaker {
    pub(crate) window: Window,
    pub(crate) taker: Arc<dyn StoreTaker>,
}

impl StoreTaker for WindowTaker {
    fn take(&self, gpa: u64, data: &[u8]) -> bool {
        let Some(gpa) = gpa.checked_sub(self.window.offset) else {
            return false;
        };
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.shows(gpa, len) && self.taker.take(gpa, data)
    }
}

impl WindowTaker {
    /// Whether the partition sees all of a range of the view.
    fn shows(&self, start: u64, len: u64) -> bool {
        let Some(filter) = &self.window.filter else {
            return true;
        };
        let pages = start.checked_add(len).and_then(|end| {
            let start = start - start % PAGE_SIZE;
            MemoryRange::try_new(start..end.checked_next_multiple_of(PAGE_SIZE)?).ok()
        });
        pages.is_some_and(|pages| {
            let hidden = memory_range::sorted::subtract([pages], filter.iter().copied());
            hidden.into_iter().next().is_none()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<u64>>);

    impl StoreTaker for Recorder {
        fn take(&self, gpa: u64, _: &[u8]) -> bool {
            self.0.lock().unwrap().push(gpa);
            true
        }
    }

    #[test]
    fn a_window_offers_only_what_it_shows_and_where_it_is() {
        let recorder = Arc::new(Recorder::default());
        let taker = WindowTaker {
            window: Window {
                offset: 0x10_0000,
                filter: Some(vec![
                    MemoryRange::new(0x1000..0x3000),
                    MemoryRange::new(0x4000..0x5000),
                ]),
            },
            taker: recorder.clone(),
        };
        for (gpa, taken) in [
            (0x10_1000, true),
            (0x10_2ffc, true),
            (0x10_2ffd, false),
            (0x10_0ffc, false),
            (0x10_3ffe, false),
            (0x10_4ffc, true),
            (0x1000, false),
            (u64::MAX, false),
        ] {
            assert_eq!(taker.take(gpa, &[0; 4]), taken, "{gpa:#x}");
        }
        assert_eq!(*recorder.0.lock().unwrap(), [0x1000, 0x2ffc, 0x4ffc]);
    }
}
