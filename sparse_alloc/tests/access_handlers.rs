//! Signals that are not an access's fault: they go where they went before.
//!
//! Handlers belong to the whole process, so each test runs in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod access_support;

use std::ffi::{c_int, c_void};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use access_support::{
    PAGE, Pages, assert_child_died, assert_child_passed, child, current_action, is_child,
    run_in_child, set_handler,
};
use sparse_alloc::access::{self, Fault, FaultKind};

/// The page that [`repair`] makes accessible again.
static BROKEN: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How often [`repair`] did so.
static REPAIRS: AtomicUsize = AtomicUsize::new(0);
/// The signals that were blocked in the last handler: bit `n` for signal `n`.
static BLOCKED: AtomicU64 = AtomicU64::new(0);
/// The handler that was there before [`pass_on_or_repair`].
static BEFORE: AtomicUsize = AtomicUsize::new(0);

fn repair() {
    // SAFETY: the page is a test's own.
    unsafe {
        libc::mprotect(
            BROKEN.load(Ordering::Relaxed).cast(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
        )
    };
    REPAIRS.fetch_add(1, Ordering::Relaxed);
    BLOCKED.store(blocked_signals(), Ordering::Relaxed);
}

fn blocked_signals() -> u64 {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set) };
    (1..64)
        // SAFETY: the set is initialized.
        .filter(|signal| unsafe { libc::sigismember(&raw const set, *signal) } == 1)
        .fold(0, |bits, signal| bits | 1 << signal)
}

extern "C" fn repair_plainly(signal: c_int) {
    assert_eq!(signal, libc::SIGSEGV);
    repair();
}

extern "C" fn repair_with_details(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    assert_eq!(signal, libc::SIGSEGV);
    assert!(!context.is_null());
    // SAFETY: the kernel's argument.
    let info = unsafe { &*info };
    // SAFETY: a fault has an address.
    let address = unsafe { info.si_addr() }.cast::<u8>();
    assert_eq!(address, BROKEN.load(Ordering::Relaxed).wrapping_add(8));
    repair();
}

extern "C" fn pass_on_or_repair(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's argument.
    let details = unsafe { &*info };
    // SAFETY: a fault has an address.
    let address = unsafe { details.si_addr() }.cast::<u8>();
    if address == BROKEN.load(Ordering::Relaxed).wrapping_add(8) {
        return repair();
    }
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    // SAFETY: what was there before was installed with `SA_SIGINFO`.
    let before = unsafe { std::mem::transmute::<usize, Handler>(BEFORE.load(Ordering::Relaxed)) };
    before(signal, info, context);
}

/// Breaks a page and touches it, not by an access: some handler must repair it.
fn touch_broken(pages: &Pages) -> u64 {
    pages.forbid(0);
    BROKEN.store(pages.at(0), Ordering::Relaxed);
    // SAFETY: the page is mapped, and readable once it is repaired.
    unsafe { pages.at(8).cast::<u64>().read_volatile() }
}

/// Checks that accesses to a page that no one repairs still return errors.
fn check_accesses() {
    let pages = Pages::new(2);
    pages.forbid(1);
    let repairs = REPAIRS.load(Ordering::Relaxed);
    let fault = Fault::new(pages.at(PAGE).addr(), FaultKind::Access);
    for _ in 0..3 {
        // SAFETY: inside the pages.
        assert_eq!(unsafe { access::load(pages.at(PAGE)) }, Err::<u8, _>(fault));
        // SAFETY: as above.
        assert_eq!(unsafe { access::store(pages.at(PAGE), 1_u8) }, Err(fault));
        // SAFETY: as above.
        let filled = unsafe { access::fill(pages.at(0), 1, 2 * PAGE) }.unwrap_err();
        assert_eq!((filled.done, filled.fault), (PAGE, fault));
    }
    assert_eq!(REPAIRS.load(Ordering::Relaxed), repairs);
}

/// Runs the rest of a test only in a child process, and checks how that ended in its parent.
macro_rules! in_child {
    ($test:literal) => {
        if !is_child() {
            return assert_child_passed(&run_in_child($test));
        }
    };
    ($test:literal, dies of $signal:expr) => {
        if !is_child() {
            return assert_child_died(&run_in_child($test), $signal, MARK);
        }
    };
}

/// Printed by a child just before it is to die.
const MARK: &str = "so far, so good";

#[test]
fn an_earlier_handler_with_details_is_called() {
    in_child!("an_earlier_handler_with_details_is_called");
    set_handler(
        libc::SIGSEGV,
        repair_with_details as *const () as usize,
        libc::SA_SIGINFO,
        &[],
    );
    access::install().unwrap();
    let pages = Pages::new(1);
    for round in 1..4 {
        check_accesses();
        assert_eq!(touch_broken(&pages), 0);
        assert_eq!(REPAIRS.load(Ordering::Relaxed), round);
    }
}

#[test]
fn an_earlier_plain_handler_is_called() {
    in_child!("an_earlier_plain_handler_is_called");
    set_handler(libc::SIGSEGV, repair_plainly as *const () as usize, 0, &[]);
    access::install().unwrap();
    let pages = Pages::new(1);
    check_accesses();
    assert_eq!(touch_broken(&pages), 0);
    check_accesses();
    assert_eq!(REPAIRS.load(Ordering::Relaxed), 1);
}

#[test]
fn a_later_handler_may_pass_on() {
    in_child!("a_later_handler_may_pass_on");
    access::install().unwrap();
    BEFORE.store(
        current_action(libc::SIGSEGV).sa_sigaction,
        Ordering::Relaxed,
    );
    set_handler(
        libc::SIGSEGV,
        pass_on_or_repair as *const () as usize,
        libc::SA_SIGINFO | libc::SA_ONSTACK,
        &[],
    );
    // Being asked again doesn't put this handler back on top: that would be a circle.
    access::install().unwrap();
    let pages = Pages::new(1);
    check_accesses();
    assert_eq!(touch_broken(&pages), 0);
    check_accesses();
    assert_eq!(REPAIRS.load(Ordering::Relaxed), 1);
}

#[test]
fn an_earlier_handler_gets_the_mask_it_asked_for() {
    in_child!("an_earlier_handler_gets_the_mask_it_asked_for");
    let handler = repair_plainly as *const () as usize;
    set_handler(libc::SIGSEGV, handler, 0, &[libc::SIGUSR1]);
    access::install().unwrap();
    let before = blocked_signals();
    assert_eq!(before & (1 << libc::SIGUSR1 | 1 << libc::SIGSEGV), 0);
    touch_broken(&Pages::new(1));
    let inside = before | 1 << libc::SIGUSR1 | 1 << libc::SIGSEGV;
    assert_eq!(BLOCKED.load(Ordering::Relaxed), inside);
    assert_eq!(blocked_signals(), before);
    // What the thread blocks itself stays blocked.
    // SAFETY: all zeroes is an empty set.
    let mut own: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigaddset(&raw mut own, libc::SIGUSR2) };
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const own, std::ptr::null_mut()) };
    touch_broken(&Pages::new(1));
    assert_eq!(BLOCKED.load(Ordering::Relaxed), inside | 1 << libc::SIGUSR2);
    check_accesses();
    assert_eq!(blocked_signals(), before | 1 << libc::SIGUSR2);
}

extern "C" fn access_then_repair(_: c_int) {
    check_accesses();
    repair();
}

#[test]
fn an_earlier_handler_without_deferring_may_fault_itself() {
    in_child!("an_earlier_handler_without_deferring_may_fault_itself");
    // The standard library's alternate stack is too small for a signal within a signal where the
    // processor has large registers. This handler did not ask for it anyhow.
    // SAFETY: all zeroes is a valid `stack_t`.
    let mut none: libc::stack_t = unsafe { std::mem::zeroed() };
    none.ss_flags = libc::SS_DISABLE;
    // SAFETY: the stack that it takes away is not in use.
    unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) };
    let handler = access_then_repair as *const () as usize;
    set_handler(libc::SIGSEGV, handler, libc::SA_NODEFER, &[]);
    access::install().unwrap();
    touch_broken(&Pages::new(1));
    assert_eq!(BLOCKED.load(Ordering::Relaxed) & 1 << libc::SIGSEGV, 0);
    assert_eq!(REPAIRS.load(Ordering::Relaxed), 1);
}

#[test]
fn an_earlier_handler_for_one_time_is_called_once() {
    in_child!("an_earlier_handler_for_one_time_is_called_once", dies of libc::SIGSEGV);
    let handler = repair_plainly as *const () as usize;
    set_handler(libc::SIGSEGV, handler, libc::SA_RESETHAND, &[]);
    access::install().unwrap();
    touch_broken(&Pages::new(1));
    check_accesses();
    assert_eq!(REPAIRS.load(Ordering::Relaxed), 1);
    println!("{MARK}");
    touch_broken(&Pages::new(1));
    println!("alive");
}

/// Reads from an address where nothing is, not by an access.
fn touch_nothing() {
    println!("{MARK}");
    let nothing = std::hint::black_box(std::ptr::without_provenance::<u8>(16));
    // SAFETY: none; the process is to die here.
    unsafe { nothing.read_volatile() };
    println!("alive");
}

#[test]
fn a_stray_pointer_still_kills() {
    in_child!("a_stray_pointer_still_kills", dies of libc::SIGSEGV);
    access::install().unwrap();
    check_accesses();
    touch_nothing();
}

#[test]
fn a_stray_pointer_still_kills_where_nobody_had_a_handler() {
    in_child!("a_stray_pointer_still_kills_where_nobody_had_a_handler", dies of libc::SIGSEGV);
    set_handler(libc::SIGSEGV, libc::SIG_DFL, 0, &[]);
    access::install().unwrap();
    check_accesses();
    touch_nothing();
}

#[test]
fn a_stray_pointer_still_kills_where_the_signal_was_ignored() {
    in_child!("a_stray_pointer_still_kills_where_the_signal_was_ignored", dies of libc::SIGSEGV);
    set_handler(libc::SIGSEGV, libc::SIG_IGN, 0, &[]);
    access::install().unwrap();
    // SAFETY: no argument in memory. Ignored: it was sent, and is nobody's fault.
    unsafe { libc::raise(libc::SIGSEGV) };
    check_accesses();
    touch_nothing();
}

#[test]
fn a_truncated_mapping_still_kills() {
    in_child!("a_truncated_mapping_still_kills", dies of libc::SIGBUS);
    access::install().unwrap();
    let file = access_support::unsealed_file(1);
    let pages = Pages::of_file(1, &file);
    access_support::truncate(&file, 0);
    println!("{MARK}");
    // SAFETY: none; the process is to die here.
    unsafe { pages.at(0).read_volatile() };
    println!("alive");
}

#[test]
fn a_stack_overflow_still_says_so() {
    if !is_child() {
        let output = run_in_child("a_stack_overflow_still_says_so");
        assert_child_died(&output, libc::SIGABRT, MARK);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            complained.contains("has overflowed its stack"),
            "{complained}"
        );
        return;
    }
    access::install().unwrap();
    check_accesses();
    println!("{MARK}");
    fn dive(depth: usize) -> usize {
        let frame = std::hint::black_box([depth; 64]);
        if frame[0] == usize::MAX {
            return 0;
        }
        dive(depth + 1) + std::hint::black_box(frame)[1]
    }
    println!("{}", dive(0));
}

/// Starts a child, and sends it a signal as soon as it says that it is ready. `send` is called
/// once more whenever it has not died of that.
fn kill_from_outside(test: &str, signal: c_int, at_most: usize) {
    let mut process = child(test).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(MARK)));
    for _ in 0..at_most {
        // SAFETY: no argument in memory; the child has not been waited for.
        unsafe { libc::kill(process.id() as libc::pid_t, signal) };
        // It says so each time it has survived.
        if !lines.any(|line| line.unwrap().contains("survived")) {
            break;
        }
    }
    // If it lives on in spite of all this, the comparison below says so.
    let _ = process.kill();
    assert_eq!(process.wait().unwrap().signal(), Some(signal));
}

/// Copies all the time, so that a signal most probably interrupts a copy.
fn copy_for_ever() {
    let pages = Pages::new(64);
    let mut host = vec![0_u8; 64 * PAGE];
    let mut handler = current_action(libc::SIGSEGV).sa_sigaction;
    println!("{MARK}");
    loop {
        for _ in 0..100 {
            // SAFETY: inside the pages; `host` is as long.
            let copied = unsafe { access::copy_from(host.as_mut_ptr(), pages.at(0), 64 * PAGE) };
            assert_eq!(copied, Ok(()));
        }
        // The standard library's handler removes itself, and waits for the signal to come again.
        let now = current_action(libc::SIGSEGV).sa_sigaction;
        if now != handler {
            println!("survived");
            handler = now;
        }
    }
}

#[test]
fn a_signal_from_outside_still_kills() {
    if !is_child() {
        return kill_from_outside("a_signal_from_outside_still_kills", libc::SIGSEGV, 1);
    }
    set_handler(libc::SIGSEGV, libc::SIG_DFL, 0, &[]);
    access::install().unwrap();
    copy_for_ever();
}

#[test]
fn a_bus_error_from_outside_still_kills() {
    if !is_child() {
        return kill_from_outside("a_bus_error_from_outside_still_kills", libc::SIGBUS, 1);
    }
    set_handler(libc::SIGBUS, libc::SIG_DFL, 0, &[]);
    access::install().unwrap();
    copy_for_ever();
}

/// The standard library's handler takes what `kill` sends for a fault, and lets it come again: the
/// second one kills. That is so with and without this crate.
#[test]
fn a_signal_from_outside_still_reaches_the_standard_library() {
    if !is_child() {
        let test = "a_signal_from_outside_still_reaches_the_standard_library";
        return kill_from_outside(test, libc::SIGSEGV, 2);
    }
    access::install().unwrap();
    copy_for_ever();
}

#[test]
fn installing_is_done_once_by_whichever_thread() {
    in_child!("installing_is_done_once_by_whichever_thread");
    set_handler(
        libc::SIGSEGV,
        repair_plainly as *const () as usize,
        libc::SA_RESTART,
        &[],
    );
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                access::install().unwrap();
                check_accesses();
            });
        }
    });
    let action = current_action(libc::SIGSEGV);
    // A handler that wanted system calls to go on still has them go on.
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    assert_eq!(
        action.sa_flags & (flags | libc::SA_NODEFER | libc::SA_RESETHAND),
        flags
    );
    // Had it been installed twice, it would now call itself for ever.
    touch_broken(&Pages::new(1));
    assert_eq!(REPAIRS.load(Ordering::Relaxed), 1);
}
