//! What it costs to look at the whole tree of guest memory, and for how long changes wait meanwhile.
//!
//! Run it by `cargo xtask bench inspect`. The tree of a manager with a software partition is made as
//! text and as JSON, with its 17 regions of RAM and with device windows up to 10,000 regions, beside
//! `serde_json` writing a [plain structure](plain) of the same contents. All ways take turns; figures
//! are medians over the rounds, of the processor time that the thread took. How long changes had
//! to wait at a time is what the manager itself has measured.
//!
//! Without `--bench`, as `cargo test --benches` runs it, it makes one round and judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at the first surprise"
)]

mod plain;

use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, GuestMemoryBuilder, GuestMemoryManager, MemoryLayout,
    MemoryRange, SharedMemory, SoftwarePartition, Vtl,
};
use inspect::Query;
use nix::time::ClockId;
use plain::Plain;
use serde_json::json;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How many times as long as serde_json a tree may take, from the first question to the last letter.
const TIMES: f64 = 10.0;

/// How long a lock may be held, in microseconds.
const HELD: f64 = 1000.0;

const RAM_REGIONS: usize = 17;
const REGIONS: [usize; 2] = [RAM_REGIONS, 10_000];
const GAP: MemoryRange = MemoryRange::new(0xc000_0000..0x1_0000_0000);
const PAGE: u64 = 0x1000;

/// A guest, and what keeps it as it is.
struct Guest {
    memory: GuestMemoryManager,
    _windows: Vec<(DeviceMemoryControl, DeviceMemoryWindow)>,
}

impl Guest {
    /// Makes a guest with so many regions: RAM, and device windows of a page that don't touch.
    fn new(regions: usize) -> Self {
        let layout = MemoryLayout::new(8 << 30, &[GAP], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let memory = builder.build_now(&layout).unwrap();
        let partition = Arc::new(SoftwarePartition::new());
        memory
            .attach_partition_now(Vtl::Vtl0, partition, None)
            .unwrap();
        let count = (regions - RAM_REGIONS) as u64;
        let file = |index: u64| SharedMemory::new(&format!("file{index}"), count * PAGE).unwrap();
        let files: Vec<SharedMemory> = (0..16).filter(|_| count > 0).map(file).collect();
        let mapper = memory.device_memory_mapper();
        let windows = (0..count).zip(files.iter().cycle()).map(|(index, file)| {
            let name = format!("device{index}");
            let (mut control, window) = mapper.new_region(PAGE, name).unwrap();
            window.map(0, file, index * PAGE, PAGE, true).unwrap();
            let gpa = GAP.start() + index * 2 * PAGE;
            control.map_to_guest(gpa, true).unwrap();
            (control, window)
        });
        Self {
            _windows: windows.collect(),
            memory,
        }
    }
}

/// How long changes had to wait, in microseconds. By the clock: who waits for a lock waits for its
/// holder's turn on a processor, too.
struct Held {
    least: f64,
    median: f64,
    worst: f64,
}

/// What was measured of one guest, in microseconds.
struct Figures {
    regions: usize,
    nodes: usize,
    serde: f64,
    text: f64,
    json: f64,
    held: Held,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let rounds = if has("--bench") { 41 } else { 1 };
    let figures: Vec<Figures> = REGIONS
        .into_iter()
        .map(|regions| measure(&Guest::new(regions).memory, regions, rounds))
        .collect();
    let bars: Vec<(String, f64, f64)> = figures.iter().flat_map(bars).collect();
    if has("--json") {
        println!("{:#}", to_json(&figures, &bars, rounds));
    } else {
        print(&figures, &bars, rounds);
    }
    let missed = bars.iter().filter(|bar| !reached(bar)).count();
    if has("--check") && missed > 0 {
        eprintln!("inspect: {missed} bars missed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(memory: &GuestMemoryManager, regions: usize, rounds: usize) -> Figures {
    let tree = inspect::inspect(memory);
    let found = tree.child("view").and_then(|view| view.child("regions"));
    let found = found.and_then(inspect::Node::as_directory).unwrap();
    assert_eq!(found.len(), regions);
    let json = serde_json::to_value(&tree).unwrap();
    let plain: Plain = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&plain).unwrap(), json, "it is equal");

    // Small trees are made several times in a turn, so that the clock's own steps don't count.
    let repeat = (2_000 / regions).max(1);
    let time = |work: &dyn Fn() -> usize| {
        let start = processor_time();
        for _ in 0..repeat {
            black_box(work());
        }
        micros(processor_time() - start) / repeat as f64
    };
    let snapshot = || Query::new().snapshot(memory).unwrap();
    let mut taken = [Vec::new(), Vec::new(), Vec::new()];
    let mut held = Vec::new();
    for _ in 0..rounds {
        let ways: [&dyn Fn() -> usize; 3] = [
            &|| serde_json::to_string(&plain).unwrap().len(),
            &|| snapshot().to_text().len(),
            &|| snapshot().to_json_string().len(),
        ];
        for (way, taken) in ways.into_iter().zip(&mut taken) {
            taken.push(time(way));
        }
        held.push(micros(memory.inspection_hold()));
    }
    let [serde, text, json] = taken.map(|taken| median(taken.into_iter()));
    Figures {
        regions,
        nodes: tree.to_string().lines().count(),
        serde,
        text,
        json,
        held: Held {
            least: held.iter().copied().fold(f64::INFINITY, f64::min),
            worst: held.iter().copied().fold(0.0, f64::max),
            median: median(held.into_iter()),
        },
    }
}

/// Name, value, and what it may be at most.
fn bars(figures: &Figures) -> Vec<(String, f64, f64)> {
    let regions = figures.regions;
    let mut bars: Vec<(String, f64, f64)> = [("text", figures.text), ("JSON", figures.json)]
        .into_iter()
        .map(|(form, time)| {
            let name = format!("{regions} regions as {form}, by serde_json");
            (name, time / figures.serde, TIMES)
        })
        .collect();
    let name = format!("{regions} regions, changes wait at most us");
    bars.push((name, figures.held.median, HELD));
    bars
}

fn reached((_, value, at_most): &(String, f64, f64)) -> bool {
    value <= at_most
}

fn print(figures: &[Figures], bars: &[(String, f64, f64)], rounds: usize) {
    println!(
        "{:>8} {:>8} {:>12} {:>10} {:>10}   us, medians of {rounds} rounds",
        "regions", "lines", "serde_json", "text", "JSON"
    );
    for one in figures {
        println!(
            "{:>8} {:>8} {:>12.1} {:>10.1} {:>10.1}",
            one.regions, one.nodes, one.serde, one.text, one.json
        );
    }
    for one in figures {
        let Held {
            least,
            median,
            worst,
        } = one.held;
        let regions = one.regions;
        println!("{regions:>8} regions, changes wait: {median:.0} us, {least:.0} to {worst:.0}");
    }
    for bar in bars {
        let word = if reached(bar) { "ok" } else { "MISSED" };
        let (name, value, at_most) = bar;
        println!("{name:<56} {value:>8.2}  at most {at_most:>7.2}  {word}");
    }
}

fn to_json(figures: &[Figures], bars: &[(String, f64, f64)], rounds: usize) -> serde_json::Value {
    let trees = figures.iter().map(|one| {
        json!({
            "regions": one.regions,
            "lines": one.nodes,
            "serde_json_us": one.serde,
            "text_us": one.text,
            "json_us": one.json,
            "held_us": one.held.median,
            "held_least_us": one.held.least,
            "held_worst_us": one.held.worst,
        })
    });
    let all = bars.iter().map(|bar| {
        let (name, value, at_most) = bar;
        json!({ "bar": name, "value": value, "at_most": at_most, "reached": reached(bar) })
    });
    json!({
        "rounds": rounds,
        "trees": trees.collect::<Vec<_>>(),
        "bars": all.collect::<Vec<_>>(),
        "missed": bars.iter().filter(|bar| !reached(bar)).count(),
    })
}

/// What this thread has taken of a processor: whatever else the machine does doesn't count.
fn processor_time() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.unwrap().into()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle of the values; not a number where there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
