//! A model of the dirty bitmap's protocol: every order in which a writer, a second one and a copier
//! can go, and everything that the memory model allows them to see.
//!
//! The file under test is the crate's, compiled with loom's atomics.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../src/dirty_bitmap/bits.rs"]
mod bits;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// Two pages and the word of their bits.
struct Memory {
    pages: [AtomicU64; 2],
    marks: AtomicU64,
}

impl Memory {
    fn new(marks: u64) -> Arc<Self> {
        Arc::new(Self {
            pages: [AtomicU64::new(0), AtomicU64::new(0)],
            marks: AtomicU64::new(marks),
        })
    }

    /// Writes a page, as a guest access does: nothing is ordered by it.
    fn write(&self, page: usize, value: u64) {
        self.pages[page].store(value, Ordering::Relaxed);
        bits::written();
        bits::mark(&self.marks, 1 << page);
    }

    /// Takes the marks and copies what was marked.
    fn copy(&self, copies: &mut [u64; 2]) {
        let taken = bits::take(&self.marks, 0b11);
        bits::taken();
        for (page, copy) in copies.iter_mut().enumerate() {
            if taken & 1 << page != 0 {
                *copy = self.pages[page].load(Ordering::Relaxed);
            }
        }
    }
}

/// One writer for each page in `written`, and a copier that copies once meanwhile and once when all
/// are done.
fn check(marks: u64, written: &'static [(usize, u64)], copies: usize) {
    loom::model(move || {
        let memory = Memory::new(marks);
        let writers: Vec<_> = written
            .iter()
            .map(|&(page, value)| {
                let memory = memory.clone();
                thread::spawn(move || memory.write(page, value))
            })
            .collect();
        let mut copied = [0; 2];
        (0..copies).for_each(|_| memory.copy(&mut copied));
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        memory.copy(&mut copied);
        for page in [0, 1] {
            let found = memory.pages[page].load(Ordering::Relaxed);
            assert_eq!(copied[page], found, "a write of page {page} is lost");
        }
    });
}

#[test]
fn a_write_of_a_page_that_was_marked_before_is_not_lost() {
    check(0b01, &[(0, 1)], 1);
    check(0b01, &[(0, 1)], 2);
}

#[test]
fn a_write_of_a_page_that_was_not_marked_is_not_lost() {
    check(0, &[(0, 1)], 1);
    check(0, &[(0, 1)], 2);
}

#[test]
fn two_writers_of_one_word_do_not_lose_each_others_marks() {
    check(0, &[(0, 1), (1, 2)], 1);
    check(0b11, &[(0, 1), (1, 2)], 1);
}

#[test]
fn two_writers_of_one_page_do_not_lose_the_last_of_the_writes() {
    check(0b01, &[(0, 1), (0, 2)], 1);
}

#[test]
fn a_mark_beside_one_that_is_taken_is_not_lost() {
    check(0b01, &[(1, 1)], 1);
    check(0b01, &[(1, 1)], 2);
    check(0b10, &[(0, 1), (0, 2)], 1);
}
