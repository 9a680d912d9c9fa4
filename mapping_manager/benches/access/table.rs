//! The report for people.

use crate::fixture::{MANY, Window};
use crate::report::{Bar, Limit, PeerTime, Report, Row};

/// Prints the table and the bars.
pub(crate) fn print(report: &Report) {
    for window in Window::ALL {
        let rows = report.rows.iter().filter(|row| row.window == window);
        print_rows(&rows.collect::<Vec<_>>(), window);
    }
    println!(
        "Nanoseconds an access and ratios: medians of {} pairs. \"x raw\" is ours by raw, \"A/A\" \
         raw by raw,\n\"x {MANY}\" ours at {MANY} regions by ours at one. vm-memory 0.18 stands at \
         1, 64, 1024 and 10000 regions:\nnanoseconds, and times raw; \"faster\" is vm-memory at \
         one region by ours.\n\
         In 256 MiB the page tables compete for the caches too; raw and ours at one region share theirs.\n",
        report.pairs
    );
    for bar in &report.bars {
        print_bar(bar);
    }
}

fn print_rows(rows: &[&Row], window: Window) {
    if rows.is_empty() {
        return;
    }
    println!("Random addresses in {window}");
    println!(
        "{:<34}{:>7} {:>7} {:>6} {:>6} {:>7} | {:^27} | {:^23} | {:>6}",
        "operation", "raw", "ours", "x raw", "A/A", "x 10000", "vm-memory", "x raw", "faster"
    );
    for row in rows {
        let peers = |shown: fn(&PeerTime) -> String| {
            let shown = row.peers.iter().map(shown);
            shown.collect::<Vec<_>>().join(" ")
        };
        let faster = row.faster_than_peer;
        println!(
            "{:<34}{:>7.2} {:>7.2} {:>6.2} {:>6.2} {:>7.2} | {:>27} | {:>23} | {:>6}",
            row.operation,
            row.raw_ns,
            row.ours_ns,
            row.times_raw,
            row.a_a,
            row.many,
            peers(|peer| format!("{:>6.1}", peer.ns)),
            peers(|peer| format!("{:>5.1}", peer.times_raw)),
            faster.map_or(String::new(), |times| format!("{times:.1}")),
        );
    }
    println!();
}

fn print_bar(bar: &Bar) {
    let limit = match bar.limit {
        Limit::AtMost(limit) => format!("at most  {limit:>5.2}"),
        Limit::AtLeast(limit) => format!("at least {limit:>5.2}"),
    };
    let word = if bar.reached() { "ok" } else { "MISSED" };
    println!("{:<66} {:>6.2}  {limit}  {word}", bar.name, bar.value);
}
