//! What a whole tree costs, beside serde_json for an equal structure.
//!
//! `cargo bench -p inspect --bench tree -- --check` fails where a tree of ten-field entries takes
//! more than ten times as long as serde_json does. `--json` prints the figures for a program.
//!
//! All ways take turns, so that whatever else the machine does meets each of them; the figure is
//! the median over the rounds of the processor time that the thread took.

#![allow(clippy::expect_used, reason = "a bench may stop at the first surprise")]

use inspect::{Inspect, Node, Query};
use nix::time::ClockId;
use serde::Serialize;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

/// How many times as long as serde_json a tree may take, from the walk to the text.
const BAR: f64 = 10.0;

/// The numbers of entries: a small VM's regions, and far more than any VM has.
const SIZES: [usize; 2] = [17, 10_000];

#[derive(Inspect, Serialize)]
enum Kind {
    Ram,
    Device,
}

#[derive(Inspect, Serialize)]
struct Region {
    name: String,
    kind: Kind,
    #[inspect(hex)]
    gpa: u64,
    #[inspect(hex)]
    len: u64,
    priority: u8,
    mapped: bool,
    writable: bool,
    backing: String,
    #[inspect(hex)]
    offset: u64,
    faults: u64,
}

/// Shows its regions by name, as a map.
struct Regions(Vec<(String, Region)>);

impl Inspect for Regions {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.by_key(self.0.iter().map(|(name, region)| (name, region)));
    }
}

impl Serialize for Regions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, region)| (name, region)))
    }
}

impl Regions {
    fn new(count: usize) -> Self {
        let region = |index: usize| {
            let number = u64::try_from(index).expect("a small number");
            let region = Region {
                backing: format!("memfd {}", index % 7),
                faults: number * 3,
                gpa: number << 21,
                kind: if index.is_multiple_of(3) {
                    Kind::Device
                } else {
                    Kind::Ram
                },
                len: 2 << 20,
                mapped: !index.is_multiple_of(5),
                name: format!("region number {index}"),
                offset: number << 12,
                priority: if index.is_multiple_of(3) { 0 } else { 255 },
                writable: index.is_multiple_of(2),
            };
            (format!("r{index}"), region)
        };
        Self((0..count).map(region).collect())
    }
}

type Way = (&'static str, fn(&Regions) -> usize);

/// The first is what the others are measured by; those with a star have a bar.
const WAYS: [Way; 7] = [
    ("serde_json", |regions| {
        serde_json::to_string(regions)
            .expect("it has no odd keys")
            .len()
    }),
    ("walk", |regions| {
        usize::from(Query::new().snapshot(regions).is_ok())
    }),
    ("walk, text *", |regions| {
        let snapshot = Query::new().snapshot(regions).expect("the root");
        snapshot.to_text().len()
    }),
    ("walk, JSON *", |regions| {
        let snapshot = Query::new().snapshot(regions).expect("the root");
        snapshot.to_json_string().len()
    }),
    ("walk, node", |regions| {
        let node = inspect::inspect(regions);
        node.as_directory().map_or(0, inspect::Directory::len)
    }),
    ("walk, node, text", |regions| {
        inspect::inspect(regions).to_string().len()
    }),
    ("walk, node, JSON", |regions| {
        inspect::inspect(regions).to_json_string().len()
    }),
];

struct Figure {
    way: &'static str,
    entries: usize,
    median: Duration,
    times: f64,
}

impl Figure {
    fn breaks_bar(&self) -> bool {
        self.way.ends_with('*') && self.times > BAR
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    // `cargo test --benches` runs this too, and wants to know only that it works.
    let rounds = if has("--bench") || has("--check") {
        41
    } else {
        1
    };

    let mut figures = Vec::new();
    for entries in SIZES {
        let regions = Regions::new(entries);
        assert_same(&regions);
        figures.extend(measure(&regions, rounds));
    }
    if has("--json") {
        println!("{}", as_tree(&figures).to_json_string());
    } else {
        print(&figures);
    }
    let broken = figures.iter().filter(|figure| figure.breaks_bar()).count();
    if has("--check") && broken > 0 {
        eprintln!("{broken} figures are above the bar of {BAR} times serde_json");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What is compared must be the same, but for the order of the fields.
fn assert_same(regions: &Regions) {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let ours = inspect::inspect(regions);
    let theirs = serde_json::to_string(regions).expect("it has no odd keys");
    assert_eq!(parse(&ours.to_json_string()), parse(&theirs));
    let snapshot = Query::new().snapshot(regions).expect("the root");
    assert_eq!(snapshot.to_json_string(), ours.to_json_string());
    assert_eq!(snapshot.to_text(), ours.to_string());
}

fn processor_time() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.expect("every thread has this clock").into()
}

fn measure(regions: &Regions, rounds: usize) -> Vec<Figure> {
    let entries = regions.0.len();
    // Small trees are repeated, so that the clock's own steps don't count.
    let repeat = (2_000 / entries).max(1);
    let mut times = WAYS.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, way), times) in WAYS.iter().zip(&mut times) {
            let start = processor_time();
            for _ in 0..repeat {
                black_box(way(black_box(regions)));
            }
            times.push((processor_time() - start) / u32::try_from(repeat).expect("a small number"));
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    });
    let [limit, ..] = medians;
    WAYS.iter()
        .zip(medians)
        .map(|((way, _), median)| Figure {
            way,
            entries,
            median,
            times: median.as_secs_f64() / limit.as_secs_f64(),
        })
        .collect()
}

fn print(figures: &[Figure]) {
    println!(
        "{:>8}  {:<20} {:>12} {:>8}  bar",
        "entries", "way", "median us", "times"
    );
    for figure in figures {
        let micros = figure.median.as_secs_f64() * 1e6;
        let (way, times) = (figure.way, figure.times);
        let bar = match (way.ends_with('*'), figure.breaks_bar()) {
            (false, _) => "",
            (true, false) => "kept",
            (true, true) => "BROKEN",
        };
        println!(
            "{:>8}  {way:<20} {micros:>12.1} {times:>8.2}  {bar}",
            figure.entries
        );
    }
}

fn as_tree(figures: &[Figure]) -> Node {
    inspect::inspect(&inspect::from_fn(|req| {
        req.by_index(figures.iter().map(|figure| {
            inspect::from_fn(move |req| {
                req.respond()
                    .value("entries", figure.entries)
                    .value("way", figure.way)
                    .value("median_us", figure.median.as_secs_f64() * 1e6)
                    .value("times", figure.times)
                    .value("kept", !figure.breaks_bar());
            })
        }));
    }))
}
