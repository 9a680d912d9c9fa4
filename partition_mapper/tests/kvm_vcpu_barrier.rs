//! The barrier for vCPUs of kvm-ioctls, on a guest that runs natively and never leaves by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/flipping.rs"]
mod flipping;
#[path = "support/kvm.rs"]
mod kvm;
#[path = "support/native_vcpu.rs"]
mod native_vcpu;
#[path = "support/memory.rs"]
mod support;

use flipping::{Gaps, Stops, World};
use kvm::kvm_for;
use native_vcpu::{CALL, DONE, Exit, NativeVcpu, OWN, Program, STOP};
use partition_mapper::{
    BarrierSignalError, KvmVcpuBarrier, KvmVcpuBarrierOptions, PauseError, VcpuBarrier,
};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Counts until it is stopped.
const WATCH: Program = Program::Watch {
    read: OWN,
    value: 0,
    count: OWN + 8,
};

fn world(test: &str) -> Option<World> {
    World::new(&format!("kvm_vcpu_barrier::{test}"), Gaps::Shown)
}

fn vcpu(world: &World, number: u64, program: Program) -> NativeVcpu {
    NativeVcpu::new(&world.vm, number, &world.memory, program)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the guest has counted on.
fn runs(world: &World) {
    let before = world.peek(OWN + 8);
    wait_until("the guest runs", || world.peek(OWN + 8) != before);
}

/// Checks that the guest does not count.
fn stands_still(world: &World) {
    let before = world.peek(OWN + 8);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(world.peek(OWN + 8), before);
}

fn action_of(signal: i32, handler: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: none of the handlers set here does anything.
    unsafe { libc::signal(signal, handler) }
}

extern "C" fn do_nothing(_: libc::c_int) {}

fn this_thread() -> i32 {
    // SAFETY: the call has no effect.
    unsafe { libc::gettid() }
}

#[test]
fn a_vcpu_that_runs_comes_out_and_goes_in_again() {
    let Some(world) = world("a_vcpu_that_runs_comes_out_and_goes_in_again") else {
        return;
    };
    let barrier = KvmVcpuBarrier::new().unwrap();
    let mut vcpu = vcpu(&world, 0, WATCH);
    let mut gate = barrier.gate(0);
    let exit = std::thread::scope(|scope| {
        let thread = scope.spawn(move || vcpu.run(Some(&mut gate)));
        let _stops = Stops(&world);
        for _ in 0..20 {
            runs(&world);
            let first = barrier.pause().unwrap();
            stands_still(&world);
            // Another one costs nothing, and the last one counts.
            let second = barrier.clone().pause().unwrap();
            drop(first);
            stands_still(&world);
            drop(second);
        }
        runs(&world);
        world.poke(STOP, 1);
        thread.join().unwrap()
    });
    // It never came back to its caller meanwhile.
    assert_eq!(exit, Exit::Out(DONE));
}

#[test]
fn a_vcpu_in_user_space_is_not_waited_for_and_waits() {
    let Some(world) = world("a_vcpu_in_user_space_is_not_waited_for_and_waits") else {
        return;
    };
    let barrier = KvmVcpuBarrier::new().unwrap();
    let program = Program::CountAndCall {
        words: [OWN, OWN + 8],
    };
    let mut vcpu = vcpu(&world, 0, program);
    let mut gate = barrier.gate(0);
    // On this thread: it is the vCPU's own thread that pauses.
    assert_eq!(vcpu.run(Some(&mut gate)), Exit::Out(CALL));
    let paused = barrier.pause().unwrap();
    let returned = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let returned = &returned;
        // And on another thread it may go on, later.
        let thread = scope.spawn(move || {
            let exit = vcpu.run(Some(&mut gate));
            returned.store(true, Ordering::SeqCst);
            // It can be given away while it is outside, and with it goes its gate.
            drop(gate);
            exit
        });
        stands_still(&world);
        assert!(!returned.load(Ordering::SeqCst));
        drop(paused);
        assert_eq!(thread.join().unwrap(), Exit::Out(CALL));
    });
    drop(barrier.pause().unwrap());
}

#[test]
fn what_others_want_of_a_vcpu_is_not_swallowed() {
    let Some(world) = world("what_others_want_of_a_vcpu_is_not_swallowed") else {
        return;
    };
    let barrier = KvmVcpuBarrier::new().unwrap();
    let mut vcpu = vcpu(&world, 0, WATCH);
    let mut gate = barrier.gate(0);

    // The VMM's own wish to leave at once stands until the VMM takes it back.
    vcpu.fd.set_kvm_immediate_exit(1);
    for _ in 0..2 {
        assert_eq!(vcpu.run(Some(&mut gate)), Exit::Interrupted);
        assert_eq!(vcpu.fd.get_kvm_run().immediate_exit, 1);
    }
    vcpu.fd.set_kvm_immediate_exit(0);

    // A signal of somebody else's. While pauses come and go, it gets through, and they don't.
    let signal = libc::SIGRTMIN() + 3;
    action_of(signal, do_nothing as extern "C" fn(libc::c_int) as usize);
    let thread_id = AtomicI32::new(0);
    let stopping = AtomicBool::new(false);
    let (sent, got) = std::thread::scope(|scope| {
        let (thread_id, stopping) = (&thread_id, &stopping);
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = scope.spawn(move || {
            thread_id.store(this_thread(), Ordering::SeqCst);
            let mut interrupted = 0;
            loop {
                match vcpu.run(Some(&mut gate)) {
                    Exit::Interrupted => {
                        interrupted += 1;
                        sender.send(()).unwrap();
                    }
                    exit => {
                        assert_eq!(exit, Exit::Out(DONE));
                        assert!(stopping.load(Ordering::SeqCst));
                        return interrupted;
                    }
                }
            }
        });
        let _stops = Stops(&world);
        runs(&world);
        for _ in 0..10 {
            for _ in 0..20 {
                drop(barrier.pause().unwrap());
            }
            assert!(receiver.try_recv().is_err(), "a pause was seen");
            runs(&world);
            // It runs natively, and comes out only by signals: this one finds it inside.
            let process = std::process::id();
            let thread = thread_id.load(Ordering::SeqCst);
            // SAFETY: the signal has a handler that does nothing, and the thread lives.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        stopping.store(true, Ordering::SeqCst);
        world.poke(STOP, 1);
        (10, thread.join().unwrap())
    });
    assert_eq!(sent, got);
}

#[test]
fn a_vcpu_that_does_not_come_out_is_named() {
    let Some(world) = world("a_vcpu_that_does_not_come_out_is_named") else {
        return;
    };
    let signal = libc::SIGRTMIN() + 4;
    let options = KvmVcpuBarrierOptions::new()
        .signal(signal)
        .deadline(Duration::from_millis(300));
    let barrier = KvmVcpuBarrier::with_options(options).unwrap();
    let mut vcpu = vcpu(&world, 0, WATCH);
    let mut gate = barrier.gate(7);
    assert_eq!(gate.vcpu(), 7);
    let other = barrier.gate(8);
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            // Once, so that the gate has let the signal through on this thread.
            vcpu.fd.set_kvm_immediate_exit(1);
            assert_eq!(vcpu.run(Some(&mut gate)), Exit::Interrupted);
            vcpu.fd.set_kvm_immediate_exit(0);
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: the call writes the set.
            unsafe { libc::sigemptyset(set.as_mut_ptr()) };
            // SAFETY: written above.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
            let null = std::ptr::null_mut();
            // SAFETY: written above; the old mask is not asked for.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), null) };
            vcpu.run(Some(&mut gate))
        });
        let _stops = Stops(&world);
        runs(&world);
        let error = barrier.pause().unwrap_err();
        assert!(matches!(error, PauseError::StillInside { vcpu: 7, .. }));
        assert_eq!(
            error.to_string(),
            "vcpu 7 was still inside the guest after 300ms"
        );
        // Nothing holds it back.
        runs(&world);
        assert!(
            !inspect::inspect(&barrier)
                .to_string()
                .contains("paused: true")
        );
        world.poke(STOP, 1);
        assert_eq!(thread.join().unwrap(), Exit::Out(DONE));
    });
    drop(barrier.pause().unwrap());
    drop(other);
}

#[test]
fn pauses_from_many_threads_overlap() {
    let Some(world) = world("pauses_from_many_threads_overlap") else {
        return;
    };
    let barrier = KvmVcpuBarrier::new().unwrap();
    let mut vcpu = vcpu(&world, 0, WATCH);
    let mut gate = barrier.gate(0);
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || vcpu.run(Some(&mut gate)));
        let _stops = Stops(&world);
        runs(&world);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _paused = barrier.pause().unwrap();
                        let before = world.peek(OWN + 8);
                        std::thread::yield_now();
                        assert_eq!(world.peek(OWN + 8), before);
                    }
                });
            }
        });
        runs(&world);
        world.poke(STOP, 1);
        assert_eq!(thread.join().unwrap(), Exit::Out(DONE));
    });
}

#[test]
fn a_signal_that_somebody_uses_is_refused() {
    // No guest, but the backend's part.
    if kvm_for("kvm_vcpu_barrier::a_signal_that_somebody_uses_is_refused").is_none() {
        return;
    }
    let with = |signal| KvmVcpuBarrier::with_options(KvmVcpuBarrierOptions::new().signal(signal));
    for signal in [0, libc::SIGSEGV, libc::SIGKILL, libc::SIGRTMAX() + 1, -1] {
        assert!(matches!(
            with(signal),
            Err(BarrierSignalError::Unsuitable { signal: refused }) if refused == signal
        ));
    }
    let signal = libc::SIGRTMIN() + 5;
    for taken in [
        do_nothing as extern "C" fn(libc::c_int) as usize,
        libc::SIG_IGN,
    ] {
        action_of(signal, taken);
        assert!(matches!(
            with(signal),
            Err(BarrierSignalError::Taken { .. })
        ));
        // It is still theirs.
        assert_eq!(action_of(signal, libc::SIG_DFL), taken);
    }
    // Free now; and several barriers share one.
    drop(with(signal).unwrap());
    drop(with(signal).unwrap());
    drop(with(libc::SIGUSR1).unwrap());
}

#[test]
fn is_shown_by_inspection() {
    if kvm_for("kvm_vcpu_barrier::is_shown_by_inspection").is_none() {
        return;
    }
    let signal = libc::SIGRTMIN() + 6;
    let options = KvmVcpuBarrierOptions::new()
        .signal(signal)
        .deadline(Duration::from_secs(1));
    let barrier = KvmVcpuBarrier::with_options(options).unwrap();
    let _gates = [barrier.gate(0), barrier.gate(3)];
    let _paused = barrier.pause().unwrap();
    let text = inspect::inspect(&barrier).to_string();
    expect_test::expect![[r#"
        deadline_ms: 1000
        paused: true
        pauses: 1
        signal: SIGNAL
        vcpus:
          0: outside
          3: outside"#]]
    .assert_eq(&text.replace(&format!("signal: {signal}"), "signal: SIGNAL"));
}
