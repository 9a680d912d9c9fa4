//! Two vCPUs, each of which changes the map from its own exit handler while both run.

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

use flipping::{Gaps, Moving, World};
use memory_range::PAGE_SIZE;
use native_vcpu::{CALL, Exit, NativeVcpu, Program};
use std::time::{Duration, Instant};

/// Names the environment variable that, set to 1, makes the test last a minute.
const LONG: &str = "GUEST_MEMORY_LONG_TESTS";

/// Where the segments begin, in pages.
const SEGMENTS: [u64; 2] = [0x100, 0x120];

/// A word of a vCPU's own, in a page of the segment that is always there.
fn word(segment: u64, vcpu: u64) -> u64 {
    (segment + 5) * PAGE_SIZE + vcpu * 8
}

#[test]
fn two_vcpus_flip_segments_at_once() {
    let name = "kvm_two_vcpus::two_vcpus_flip_segments_at_once";
    let Some(world) = World::new(name, Gaps::Hidden) else {
        return;
    };
    let long = std::env::var_os(LONG).is_some_and(|value| value == "1");
    let time = Duration::from_secs(if long { 60 } else { 3 });
    let moving = SEGMENTS.map(|first| Moving::new(&world, first));
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let world = &world;
        let mut vcpu = 0;
        let threads = moving.map(|mut segment| {
            let number = vcpu;
            vcpu += 1;
            let words = SEGMENTS.map(|segment| word(segment, number));
            let program = Program::CountAndCall { words };
            let mut vcpu = NativeVcpu::new(&world.vm, number, &world.memory, program);
            let mut gate = world.gate(number);
            scope.spawn(move || {
                let mut flips = 0;
                loop {
                    assert_eq!(vcpu.run(gate.as_mut()), Exit::Out(CALL), "vcpu {number}");
                    // Both threads have made some, however they were scheduled.
                    if start.elapsed() >= time && flips >= 10 {
                        break;
                    }
                    segment.move_on(world);
                    flips += 1;
                }
                (vcpu.rounds(), flips)
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    for (number, (rounds, flips)) in counts.into_iter().enumerate() {
        let words = SEGMENTS.map(|segment| world.peek(word(segment, number as u64)));
        assert_eq!(words, [rounds; 2], "vcpu {number} lost a write");
        assert!(rounds >= 10 * 1024);
        println!("vcpu {number}: {rounds} rounds, {flips} flips");
    }
    let flips: u64 = counts.iter().map(|(_, flips)| flips).sum();
    assert_eq!(world.pauses(), flips);
}
