//! What is measured, and the bars to reach.

use crate::command_line::Options;
use crate::fixture::{Addresses, Fixture, MANY, Window};
use crate::lease;
use crate::memory::Memory;
use crate::report::{Bar, Limit, PeerTime, Report, Row};
use crate::timing::{Bench, Pair, Pass, Slice, take_turns};
use crate::workload::{
    Chain, CopyIn, CopyOut, Exchange, Host, Load, PLACES, Read, Store, StoreAndLoadBack,
    Throughput, Workload, Write, WriteAndReadBack,
};
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

/// An operation, and what is asked of it.
struct Plan {
    name: &'static str,
    /// How many times raw it may take. What has this bar must also be as fast at many regions.
    times_raw: Option<f64>,
    /// How many nanoseconds it may take.
    ns: Option<f64>,
    /// How many times as fast as the peer at one region it must be.
    times_peer: Option<f64>,
    /// In which nanoseconds the raw one is plausible, in the small window: generous bounds for any
    /// processor of today, outside of which the loop does not do what it should.
    plausible: Range<f64>,
    /// What the addresses are aligned to.
    alignment: u64,
}

/// Measures everything that the options want.
pub(crate) fn measure(fixture: &Fixture, options: &Options) -> Report {
    let mut report = Report::new(options.pairs);
    for window in Window::ALL {
        let mut run = Run {
            fixture,
            options,
            window,
            report: &mut report,
        };
        run.words();
        run.copies();
        run.leases();
    }
    report
}

struct Run<'a> {
    fixture: &'a Fixture,
    options: &'a Options,
    window: Window,
    report: &'a mut Report,
}

impl Run<'_> {
    fn words(&mut self) {
        let chain = |name| Plan::new(name, 1.3, 0.5..10.0);
        let throughput = |name| Plan::new(name, 2.0, 0.08..10.0);
        let exchange = |name| Plan::new(name, 1.15, 1.0..100.0);
        self.access::<Chain<Read>>(&chain("read_plain u64, chain"));
        self.access::<Throughput<Read>>(&Plan {
            times_peer: Some(25.0),
            ..throughput("read_plain u64, throughput")
        });
        self.access::<Chain<WriteAndReadBack>>(&chain("write_plain u64 and back, chain"));
        self.access::<Throughput<Write>>(&throughput("write_plain u64, throughput"));
        self.access::<Chain<Load>>(&chain("load u32, chain"));
        self.access::<Throughput<Load>>(&throughput("load u32, throughput"));
        self.access::<Chain<StoreAndLoadBack>>(&chain("store u32 and back, chain"));
        self.access::<Throughput<Store>>(&throughput("store u32, throughput"));
        self.access::<Chain<Exchange>>(&exchange("compare_exchange u32, chain"));
        self.access::<Throughput<Exchange>>(&exchange("compare_exchange u32, throughput"));
    }

    fn copies(&mut self) {
        let small = |name| Plan::new(name, 1.5, 0.3..50.0);
        let large = |name| Plan::new(name, 1.25, 15.0..2000.0);
        let page_aligned = |name| Plan {
            alignment: 4096,
            ..large(name)
        };
        self.access::<CopyOut<64, true>>(&small("read_at 64 B, length known"));
        self.access::<CopyOut<64, false>>(&small("read_at 64 B"));
        self.access::<CopyIn<64, true>>(&small("write_at 64 B, length known"));
        self.access::<CopyIn<64, false>>(&small("write_at 64 B"));
        self.access::<CopyOut<4096, false>>(&large("read_at 4 KiB"));
        self.access::<CopyOut<4096, false>>(&page_aligned("read_at 4 KiB, pages"));
        self.access::<CopyIn<4096, false>>(&large("write_at 4 KiB"));
        self.access::<CopyIn<4096, false>>(&page_aligned("write_at 4 KiB, pages"));
    }

    fn leases(&mut self) {
        let plan = Plan {
            name: "lease 512 B, taken and dropped",
            times_raw: None,
            ns: Some(100.0),
            plausible: 1.0..100.0,
            ..Plan::new("", 0.0, 0.0..0.0)
        };
        let counter = AtomicU64::new(0);
        let fixture = self.fixture;
        self.row(&plan, lease::LEN, |bench| Contestants {
            raw: Slice::new(bench, lease::raw_passes(&counter)),
            one: Slice::new(bench, lease::passes(&fixture.one)),
            many: Slice::new(bench, lease::passes(&fixture.many)),
            peers: Vec::new(),
        });
    }

    /// A row of an access that everyone makes.
    fn access<W: Workload>(&mut self, plan: &Plan) {
        let fixture = self.fixture;
        self.row(plan, W::LEN, |bench| {
            let peers = fixture.peers.iter();
            Contestants {
                raw: Slice::new(bench, passes::<W, _>(&fixture.raw)),
                one: Slice::new(bench, passes::<W, _>(&fixture.one)),
                many: Slice::new(bench, passes::<W, _>(&fixture.many)),
                peers: peers
                    .map(|(_, peer)| Slice::new(bench, passes::<W, _>(peer)))
                    .collect(),
            }
        });
    }

    fn row<'c>(
        &mut self,
        plan: &Plan,
        len: u64,
        contestants: impl FnOnce(&mut Bench) -> Contestants<'c>,
    ) {
        if !self.options.wants(plan.name) {
            return;
        }
        eprintln!("measuring {} in {}", plan.name, self.window);
        let mut bench = Bench {
            addresses: Addresses::new(self.window, len, plan.alignment),
            host: Host::new(),
        };
        let Contestants {
            raw,
            one,
            many,
            peers,
        } = contestants(&mut bench);
        let mut aa = Pair::new(&raw, &raw);
        let mut ours = Pair::new(&one, &raw);
        let mut manifold = Pair::new(&many, &one);
        let mut faster = peers.first().map(|peer| Pair::new(peer, &one));
        let mut slower = peers
            .iter()
            .map(|peer| Pair::new(peer, &raw))
            .collect::<Vec<_>>();
        let mut pairs = vec![&mut aa, &mut ours, &mut manifold];
        pairs.extend(&mut faster);
        pairs.extend(&mut slower);
        take_turns(&mut bench, &mut pairs, self.options.pairs);
        let fewest = pairs.iter().map(|pair| pair.count()).min().unwrap_or(0);

        let regions = self.fixture.peers.iter().map(|(regions, _)| *regions);
        let row = Row {
            operation: plan.name,
            window: self.window,
            raw_ns: ours.baseline_ns(),
            ours_ns: ours.subject_ns(),
            times_raw: ours.ratio(),
            a_a: aa.ratio(),
            many: manifold.ratio(),
            faster_than_peer: faster.map(|pair| pair.ratio()),
            peers: std::iter::zip(&slower, regions)
                .map(|(pair, regions)| PeerTime {
                    regions,
                    ns: pair.subject_ns(),
                    times_raw: pair.ratio(),
                })
                .collect(),
        };
        self.report.require_pairs(plan.name, fewest);
        if self.window == Window::Small {
            self.report.require_plausible(&row, &plan.plausible);
            self.report.bars.extend(plan.bars(&row));
        }
        self.report.rows.push(row);
    }
}

/// Everyone, at one operation.
struct Contestants<'a> {
    raw: Slice<'a>,
    one: Slice<'a>,
    many: Slice<'a>,
    peers: Vec<Slice<'a>>,
}

/// The passes of one contestant, by their place.
fn passes<'a, W: Workload, M: Memory>(memory: &'a M) -> [Pass<'a>; PLACES] {
    [
        pass::<W, M, 0>(memory),
        pass::<W, M, 1>(memory),
        pass::<W, M, 2>(memory),
        pass::<W, M, 3>(memory),
    ]
}

fn pass<'a, W: Workload, M: Memory, const PLACE: usize>(memory: &'a M) -> Pass<'a> {
    Box::new(|addresses, host| {
        let result = W::run::<M, PLACE>(black_box(memory), black_box(addresses), host);
        black_box(result.unwrap());
    })
}

impl Plan {
    fn new(name: &'static str, times_raw: f64, plausible: Range<f64>) -> Self {
        Self {
            name,
            times_raw: Some(times_raw),
            ns: None,
            times_peer: None,
            plausible,
            alignment: 8,
        }
    }

    fn bars(&self, row: &Row) -> Vec<Bar> {
        let bar = |what: &str, value, limit| Bar {
            name: format!("{}: {what}", self.name),
            value,
            limit,
        };
        let mut bars = Vec::new();
        if let Some(times) = self.times_raw {
            bars.push(bar("x raw", row.times_raw, Limit::AtMost(times)));
            let many = format!("{MANY} regions x 1 region");
            let limit = Limit::AtMost(1.10 * row.a_a);
            bars.push(bar(&many, row.many, limit));
        }
        if let Some(ns) = self.ns {
            bars.push(bar("ns", row.ours_ns, Limit::AtMost(ns)));
        }
        if let (Some(times), Some(faster)) = (self.times_peer, row.faster_than_peer) {
            let what = "x as fast as vm-memory at 1 region";
            bars.push(bar(what, faster, Limit::AtLeast(times)));
        }
        bars
    }
}
