//! VMAs held back so that a failed change can be undone at the limit of VMAs.
//!
//! At `vm.max_map_count` the kernel refuses every call that maps, protects or splits, even one
//! that would leave the number of VMAs as it is. A change that fails there could not be undone.
//! So every reservation owns a few VMAs that it does not need; an undo that is refused gives them
//! up first. The state that it goes back to was within the limit, so the room suffices, unless
//! other parts of the process take it in between.

use std::io;
use std::sync::Arc;

use memory_range::Access;

use crate::owned_pages::OwnedPages;
use crate::sys::{self, Calls, Content, PAGE};

/// How many VMAs are held back. One undone call needs two or three at a time; odd, because the last
/// one then takes no call of its own.
const VMAS: usize = 5;

/// The held-back VMAs of one reservation.
#[derive(Debug)]
pub(crate) struct Headroom {
    held: Option<OwnedPages>,
    calls: Arc<Calls>,
}

impl Headroom {
    /// Returns headroom that holds nothing back yet.
    pub(crate) fn unarmed(calls: &Arc<Calls>) -> Self {
        Self {
            held: None,
            calls: Arc::clone(calls),
        }
    }

    /// Says whether VMAs are held back.
    pub(crate) fn is_armed(&self) -> bool {
        self.held.is_some()
    }

    /// Takes the VMAs, if they are not held.
    #[inline]
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        self.take()
    }

    #[cold]
    fn take(&mut self) -> io::Result<()> {
        // A file of its own, so that no neighbour merges with it: giving the whole back never has
        // to split a VMA. Every second page differs in protection, so each page is a VMA.
        let pages = OwnedPages::new(&self.calls, VMAS * PAGE, Content::Placeholder)?;
        for page in (1..VMAS).step_by(2) {
            // SAFETY: the pages were mapped above, and nobody else knows of them.
            unsafe { sys::protect(&self.calls, pages.at(page * PAGE), PAGE, Access::ReadOnly) }?;
        }
        self.held = Some(pages);
        Ok(())
    }

    /// Gives the VMAs up; says whether there were any.
    pub(crate) fn release(&mut self) -> bool {
        self.held.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_a_vma_while_armed() {
        let calls = Arc::default();
        let mut headroom = Headroom::unarmed(&calls);
        headroom.arm().unwrap();
        let base = headroom.held.as_ref().unwrap().base().addr().get();
        let vmas_in = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let start =
                |line: &str| usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            let range = base..base + VMAS * PAGE;
            maps.lines()
                .filter(|line| range.contains(&start(line)) && line.contains("/dev/zero"))
                .count()
        };
        assert_eq!(vmas_in(), VMAS);
        let before = calls.counts();
        headroom.arm().unwrap();
        assert_eq!(calls.counts(), before, "arming twice does nothing");
        assert!(headroom.release());
        assert!(!headroom.release());
        assert!(!headroom.is_armed());
        assert_eq!(vmas_in(), 0);
    }
}
