//! Accesses in several threads, with and without alternate stacks, and under a rain of signals.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod access_support;

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use access_support::{PAGE, Pages, assert_child_passed, is_child, run_in_child, set_handler};
use sparse_alloc::access::{self, CopyFault, Fault, FaultKind, Word};

/// Returns whether the calling thread has an alternate signal stack.
fn has_alternate_stack() -> bool {
    // SAFETY: all zeroes is a valid `stack_t`.
    let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) };
    stack.ss_flags & libc::SS_DISABLE == 0
}

fn check_fault() {
    let pages = Pages::new(2);
    pages.forbid(1);
    let fault = Fault::new(pages.at(PAGE).addr(), FaultKind::Access);
    // SAFETY: inside the pages.
    let loaded = unsafe { access::load::<u64>(pages.at(PAGE).cast()) };
    assert_eq!(loaded, Err(fault));
    // SAFETY: as above.
    let filled = unsafe { access::fill(pages.at(1), 1, PAGE) };
    assert_eq!(
        filled,
        Err(CopyFault {
            done: PAGE - 1,
            fault
        })
    );
}

#[test]
fn a_thread_with_an_alternate_stack_survives() {
    access::install().unwrap();
    std::thread::spawn(|| {
        assert!(has_alternate_stack());
        check_fault();
    })
    .join()
    .unwrap();
}

#[test]
fn a_thread_without_an_alternate_stack_survives() {
    extern "C" fn run(_: *mut c_void) -> *mut c_void {
        // Not unwinding into the C library: a failed check aborts here.
        assert!(!has_alternate_stack());
        check_fault();
        std::ptr::without_provenance_mut(1)
    }
    access::install().unwrap();
    let mut thread = 0;
    // SAFETY: `run` takes no argument and may run at any time.
    let created = unsafe {
        libc::pthread_create(&raw mut thread, std::ptr::null(), run, std::ptr::null_mut())
    };
    assert_eq!(created, 0);
    let mut result = std::ptr::null_mut();
    // SAFETY: created above, joined once.
    unsafe { libc::pthread_join(thread, &raw mut result) };
    assert_eq!(result.addr(), 1);
}

/// Two threads add to one counter by compare-exchange: no step is lost.
fn check_compare_exchange<T: Word>(steps: u64, from_u64: impl Fn(u64) -> T + Sync) {
    let pages = Pages::new(1);
    let word = || pages.at(64).cast::<T>();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..steps {
                    // SAFETY: inside the pages.
                    let mut current = unsafe { access::load(word()) }.unwrap();
                    loop {
                        let next = from_u64(current.into() + 1);
                        // SAFETY: as above.
                        match unsafe { access::compare_exchange(word(), current, next) }.unwrap() {
                            Ok(previous) => break assert_eq!(previous, current),
                            Err(previous) => {
                                assert_ne!(previous, current);
                                current = previous;
                            }
                        }
                    }
                }
            });
        }
    });
    // SAFETY: as above.
    let total = unsafe { access::load(word()) }.unwrap();
    assert_eq!(total.into(), 2 * steps);
    // Nothing beside the word was touched.
    assert!(pages.get(0, 64).iter().all(|byte| *byte == 0));
    assert!(
        pages
            .get(64 + size_of::<T>(), 64)
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn compare_exchange_loses_nothing() {
    access::install().unwrap();
    check_compare_exchange(100, |value| value as u8);
    check_compare_exchange(20_000, |value| value as u16);
    check_compare_exchange(20_000, |value| value as u32);
    check_compare_exchange(20_000, |value| value);
}

/// Two threads set alternate bits, and each sees every bit unset before it sets it.
fn check_fetch_or<T: Word>(from_u64: impl Fn(u64) -> T + Sync) {
    let pages = Pages::new(1);
    let bits = 8 * size_of::<T>();
    let words = PAGE / size_of::<T>();
    std::thread::scope(|scope| {
        for parity in 0..2 {
            let (pages, from_u64) = (&pages, &from_u64);
            scope.spawn(move || {
                for index in 0..words {
                    let word = pages.at(index * size_of::<T>()).cast::<T>();
                    for bit in (parity..bits).step_by(2) {
                        // SAFETY: inside the pages.
                        let before = unsafe { access::fetch_or(word, from_u64(1 << bit)) }.unwrap();
                        assert_eq!(before.into() & 1 << bit, 0);
                    }
                }
            });
        }
    });
    assert!(pages.get(0, PAGE).iter().all(|byte| *byte == 0xff));
}

#[test]
fn fetch_or_loses_nothing() {
    access::install().unwrap();
    check_fetch_or(|value| value as u8);
    check_fetch_or(|value| value as u16);
    check_fetch_or(|value| value as u32);
    check_fetch_or(|value| value);
}

/// One thread writes words of equal bytes by `write`, another reads them by `read`: the bytes are
/// always equal. Only one of the two is in question; the other is a plain access of the word.
fn check_not_torn<T: Word>(write: impl Fn(*mut T, u8) + Sync, read: impl Fn(*mut T) -> u64) {
    let pages = Pages::new(1);
    let len = size_of::<T>();
    // Right before the end of a page, and aligned.
    let word = || pages.at(PAGE - len).cast::<T>();
    let stop = AtomicBool::new(false);
    let first_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = 0_u8;
            while !stop.load(Ordering::Relaxed) {
                byte = byte.wrapping_add(1);
                write(word(), byte);
                first_written.store(true, Ordering::Relaxed);
            }
        });
        while !first_written.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        let mut torn = None;
        for _ in 0..TRIES {
            let bytes = read(word()).to_le_bytes();
            if bytes[..len].iter().any(|byte| *byte != bytes[0]) {
                torn = Some(bytes);
                break;
            }
        }
        // Before the check: the other thread waits for it.
        stop.store(true, Ordering::Relaxed);
        assert_eq!(torn, None);
    });
}

/// Enough for a copy in two halves to be found out nearly every time.
const TRIES: usize = 2_000_000;

/// Every way to write a word and every way to read one, each against a plain one.
fn check_every_way<T: Word>(from_u64: impl Fn(u64) -> T + Sync) {
    let store = |word: *mut T, byte: u8| {
        let value = from_u64(u64::from_ne_bytes([byte; 8]));
        // SAFETY: inside the pages.
        unsafe { access::store(word, value) }.unwrap();
    };
    let load = |word: *mut T| {
        // SAFETY: inside the pages.
        let value: T = unsafe { access::load(word) }.unwrap();
        value.into()
    };
    let copy_to = |word: *mut T, byte: u8| {
        let bytes = [byte; 8];
        // SAFETY: inside the pages.
        unsafe { access::copy_to(word.cast(), bytes.as_ptr(), size_of::<T>()) }.unwrap();
    };
    let fill = |word: *mut T, byte: u8| {
        // SAFETY: inside the pages.
        unsafe { access::fill(word.cast(), byte, size_of::<T>()) }.unwrap();
    };
    let copy_from = |word: *mut T| {
        let mut bytes = [0_u8; 8];
        // SAFETY: inside the pages.
        unsafe { access::copy_from(bytes.as_mut_ptr(), word.cast(), size_of::<T>()) }.unwrap();
        u64::from_le_bytes(bytes)
    };
    check_not_torn(store, load);
    check_not_torn(copy_to, load);
    check_not_torn(fill, load);
    check_not_torn(store, copy_from);
}

#[test]
fn an_aligned_word_is_never_torn() {
    access::install().unwrap();
    check_every_way(|value| value as u16);
    check_every_way(|value| value as u32);
    check_every_way(|value| value);
}

/// Where the alarm's handler makes accesses of its own, and how often it has.
static GUEST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static ALARMS: AtomicUsize = AtomicUsize::new(0);

/// Accesses guest memory, faulting and not, in the middle of whatever was interrupted.
extern "C" fn alarm(_: c_int) {
    let guest = GUEST.load(Ordering::Relaxed);
    let mut host = [0_u8; 300];
    let start = guest.wrapping_add(PAGE - 200);
    // SAFETY: the pages outlive the timer.
    let copied = unsafe { access::copy_from(host.as_mut_ptr(), start, host.len()) };
    assert_eq!(copied.map_err(|fault| fault.done), Err(200));
    // SAFETY: as above.
    let loaded = unsafe { access::load::<u8>(guest.wrapping_add(PAGE)) };
    assert!(loaded.is_err());
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn copies_survive_signals() {
    if !is_child() {
        return assert_child_passed(&run_in_child("copies_survive_signals"));
    }
    access::install().unwrap();
    let own = Pages::new(2);
    own.forbid(1);
    GUEST.store(own.at(0), Ordering::Relaxed);
    set_handler(
        libc::SIGALRM,
        alarm as *const () as usize,
        libc::SA_RESTART,
        &[],
    );

    const PAGES: usize = 8;
    let pages = Pages::new(PAGES);
    let bytes = (0..PAGES * PAGE)
        .map(|i| (i * 7 + i / 256) as u8)
        .collect::<Vec<_>>();
    pages.put(0, &bytes);
    let good = (PAGES - 1) * PAGE;
    pages.forbid(PAGES - 1);

    let every_50_us = libc::timeval {
        tv_sec: 0,
        tv_usec: 50,
    };
    let timer = libc::itimerval {
        it_interval: every_50_us,
        it_value: every_50_us,
    };
    // SAFETY: the timer is initialized; the handler is set.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let mut host = vec![0; PAGES * PAGE];
    let mut round = 0;
    while ALARMS.load(Ordering::Relaxed) < 2_000 {
        round += 1;
        host.fill(0);
        let skew = round % 100;
        let start = pages.at(skew);
        // SAFETY: inside the pages; `host` is as long.
        let copied = unsafe { access::copy_from(host.as_mut_ptr(), start, PAGES * PAGE - skew) };
        let fault = Fault::new(pages.at(good).addr(), FaultKind::Access);
        let done = good - skew;
        assert_eq!(copied, Err(CopyFault { done, fault }));
        assert!(host[..done] == bytes[skew..good]);
        // SAFETY: as above.
        let copied = unsafe { access::copy_to(start, bytes[skew..].as_ptr(), PAGES * PAGE - skew) };
        assert_eq!(copied, Err(CopyFault { done, fault }));
        // SAFETY: as above.
        let order = unsafe { access::compare(pages.at(0), bytes.as_ptr(), good) };
        assert_eq!(order, Ok(std::cmp::Ordering::Equal));
    }
    let never = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: never,
        it_value: never,
    };
    // SAFETY: as above.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    // Whichever thread took it, each alarm has been handled; the guard pages are unmapped now.
}
