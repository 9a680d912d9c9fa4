//! The report for people.

use crate::report::{CallList, Report};

/// Prints the tables and the bars.
pub(crate) fn print(report: &Report) {
    print_rows(report);
    print_calls(report);
    for bar in &report.bars {
        let word = if bar.reached() { "ok" } else { "MISSED" };
        println!(
            "{:<68} {:>6.2}  at most {:>5.2}  {word}",
            bar.name, bar.value, bar.at_most
        );
    }
}

fn print_rows(report: &Report) {
    let many = format!("own {}", report.others);
    println!(
        "{:<44}{:>7} {:>7} {:>7} {:>6} {:>6} {:>9} | {:>8} {:>7} {:>6} {:>6}",
        "us", "by hand", "ours", "own", "+-", "A/A", many, "KVM hand", "ours", "A/A", "ratio"
    );
    for row in &report.rows {
        let shown = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
        println!(
            "{:<44}{:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>6.2} {:>9} | {:>8} {:>7} {:>6} {:>6}",
            row.name,
            row.hand,
            row.total,
            row.own,
            row.spread,
            row.a_a,
            shown(row.own_many),
            shown(row.kvm.map(|kvm| kvm.hand)),
            shown(row.kvm.map(|kvm| kvm.ours)),
            shown(row.kvm.map(|kvm| kvm.a_a)),
            shown(row.kvm.map(|kvm| kvm.ratio())),
        );
    }
    println!(
        "Medians of {} rounds in one process. \"own\" is ours less the calls by hand, the median of \
         the differences\nwithin a round, and \"+-\" how far half of the rounds are from it; \"A/A\" \
         is by hand less by hand. A software\npartition is attached; \"own {}\" is with so many \
         device windows more. KVM: all of the change, an idle VM.\n",
        report.rounds, report.others
    );
    if let Some(why) = &report.kvm_missing {
        println!("Nothing on KVM: {why}\n");
    }
}

fn print_calls(report: &Report) {
    if let Some(why) = &report.calls_missing {
        println!("No system calls were recorded: {why}\n");
        return;
    }
    let on = match report.kvm_missing {
        None => "on KVM",
        Some(_) => "on a software partition",
    };
    println!("All system calls {on}, in their order, recorded with ptrace");
    let (few, many): (Vec<&CallList>, Vec<_>) =
        report.calls.iter().partition(|list| list.others == 0);
    for list in &few {
        print_list(list);
    }
    let differing = std::iter::zip(&few, &many).filter(|(few, many)| few.calls != many.calls);
    let differing = differing.map(|(_, many)| many).collect::<Vec<_>>();
    if differing.is_empty() {
        println!("With {} windows more: the same.\n", report.others);
    } else {
        println!("With {} windows more, otherwise:", report.others);
        differing.into_iter().for_each(|list| print_list(list));
        println!();
    }
}

fn print_list(list: &CallList) {
    print!("  {:<58}{}", list.name, list.calls);
    if list.reached() {
        println!();
    } else {
        println!("  MISSED: {}", list.expected);
    }
}
