//! What is measured, and what is asked for.

use crate::command_line::Options;
use crate::fixture::{CHAIN, Fixture, PASS, chain_queue, walk};
use crate::report::{Report, Row};
use crate::timing::{Measured, Pass, Slice};
use std::hint::black_box;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryBackend};

/// The numbers of regions.
const REGIONS: [usize; 2] = [1, 1024];

/// How many times slower counts as "not slower" at one region: what two measurements of one thing may
/// differ by.
const NOT_SLOWER: f64 = 0.95;
/// How many times faster it is to be at 1,024.
const FASTER: f64 = 2.0;

pub(crate) fn measure(options: &Options) -> Report {
    let mut report = Report::new(options.pairs);
    for regions in REGIONS {
        let fixture = Fixture::new(regions);
        for contest in CONTESTS {
            let name = format!("{} at {regions} regions", contest.name);
            if !options.wants(&name) {
                continue;
            }
            if options.bench {
                eprintln!("{name}");
            }
            let mut ours = Slice::new(contest.operations, (contest.ours)(&fixture));
            let mut theirs = Slice::new(contest.operations, (contest.theirs)(&fixture));
            let mut again = Slice::new(contest.operations, (contest.theirs)(&fixture));
            let measured = Measured::pairs(&mut ours, &mut theirs, options.pairs);
            let a_a = Measured::pairs(&mut again, &mut theirs, options.pairs);
            let least = match fixture.regions {
                1 => contest.bars.0,
                _ => contest.bars.1,
            };
            report.add(Row {
                name,
                ours_ns: measured.ours_ns(),
                theirs_ns: measured.theirs_ns(),
                faster: measured.faster(),
                a_a: a_a.faster(),
                pairs: measured.count(),
                least,
            });
        }
    }
    report
}

/// An operation, by both.
struct Contest {
    name: &'static str,
    /// In one pass.
    operations: usize,
    /// How many times faster it is to be at one region, and at more.
    bars: (f64, f64),
    ours: fn(&Fixture) -> Pass<'_>,
    theirs: fn(&Fixture) -> Pass<'_>,
}

const CONTESTS: [Contest; 9] = [
    Contest {
        name: "read_obj::<u64>, BackendSnapshot",
        operations: PASS,
        bars: (NOT_SLOWER, FASTER),
        ours: |fixture| read(fixture, fixture.backend.snapshot()),
        theirs: |fixture| read(fixture, fixture.theirs.memory()),
    },
    Contest {
        name: "read_obj::<u64>, AccessView",
        operations: PASS,
        bars: (NOT_SLOWER, FASTER),
        ours: |fixture| read(fixture, fixture.view.snapshot()),
        theirs: |fixture| read(fixture, fixture.theirs.memory()),
    },
    Contest {
        name: "find_region",
        operations: PASS,
        bars: (NOT_SLOWER, FASTER),
        ours: |fixture| find(fixture, fixture.backend.snapshot()),
        theirs: |fixture| find(fixture, fixture.theirs.memory()),
    },
    Contest {
        name: "memory(), AddressSpace by GuestMemoryAtomic",
        operations: PASS,
        bars: (NOT_SLOWER, NOT_SLOWER),
        ours: |fixture| memory(&fixture.view),
        theirs: |fixture| memory(&fixture.theirs),
    },
    Contest {
        name: "memory(), ThreadSpace by GuestMemoryAtomic",
        operations: PASS,
        bars: (FASTER, FASTER),
        ours: |fixture| memory(&fixture.thread),
        theirs: |fixture| memory(&fixture.theirs),
    },
    // An Arc never shows a change. It takes the same two locked instructions, and finds at once where.
    Contest {
        name: "memory(), AddressSpace by Arc<GuestMemoryMmap>",
        operations: PASS,
        bars: (0.0, 0.0),
        ours: |fixture| memory(&fixture.view),
        theirs: |fixture| memory(&fixture.shared),
    },
    Contest {
        name: "memory(), ThreadSpace by Arc<GuestMemoryMmap>",
        operations: PASS,
        bars: (NOT_SLOWER, NOT_SLOWER),
        ours: |fixture| memory(&fixture.thread),
        theirs: |fixture| memory(&fixture.shared),
    },
    Contest {
        name: "a chain of 256, BackendSnapshot",
        operations: CHAIN as usize,
        bars: (NOT_SLOWER, FASTER),
        ours: |fixture| chain(fixture.backend.snapshot()),
        theirs: |fixture| chain(fixture.theirs.memory()),
    },
    Contest {
        name: "a chain of 256, AccessView",
        operations: CHAIN as usize,
        bars: (NOT_SLOWER, FASTER),
        ours: |fixture| chain(fixture.view.snapshot()),
        theirs: |fixture| chain(fixture.theirs.memory()),
    },
];

fn read<'a, M: GuestMemory>(
    fixture: &'a Fixture,
    memory: impl std::ops::Deref<Target = M> + 'a,
) -> Pass<'a> {
    Box::new(move |nth| {
        for gpa in fixture.pass(nth) {
            black_box(memory.read_obj::<u64>(GuestAddress(*gpa)).ok());
        }
    })
}

fn find<'a, M: GuestMemoryBackend>(
    fixture: &'a Fixture,
    memory: impl std::ops::Deref<Target = M> + 'a,
) -> Pass<'a> {
    Box::new(move |nth| {
        for gpa in fixture.pass(nth) {
            black_box(memory.find_region(GuestAddress(*gpa)));
        }
    })
}

fn memory<S: GuestAddressSpace>(space: &S) -> Pass<'_> {
    Box::new(move |_| {
        for _ in 0..PASS {
            black_box(&*black_box(space).memory());
        }
    })
}

fn chain<'a, M: GuestMemory>(memory: impl std::ops::Deref<Target = M> + 'a) -> Pass<'a> {
    let mut queue = chain_queue();
    Box::new(move |_| {
        black_box(walk(&mut queue, &*memory));
    })
}
