//! What is measured, and the bars to reach.

use crate::building::{Building, BuildingByHand};
use crate::calls;
use crate::command_line::Options;
use crate::contestants::{ByHand, Case, Ours};
use crate::guest::Guest;
#[cfg(feature = "kvm")]
use crate::hand_slots::HandSlots;
#[cfg(feature = "kvm")]
use crate::report::OnKvm;
use crate::report::{Bar, Report, Row};
use crate::timing::{Change, Rounds, Way, take_turns};
use guest_memory_manager::{PartitionMemoryMap, SoftwarePartition};
use std::sync::Arc;

/// How many times its own time with few regions a change may take with many.
const TIMES_MANY: f64 = 1.5;

/// A change, and what is asked of it.
struct Plan {
    name: &'static str,
    case: Case,
    way: Way,
    /// How many microseconds of its own it may take.
    own: f64,
}

/// Every change of the table, by case.
const PLANS: [Plan; 6] = [
    Plan {
        name: "ReadWrite to ReadOnly, one region",
        case: Case::Protect,
        way: Way::There,
        own: 0.75,
    },
    Plan {
        name: "RAM instead of ROM, both read-only",
        case: Case::Shadow,
        way: Way::There,
        own: 0.75,
    },
    Plan {
        name: "12 segments at once, ReadWrite to ReadOnly",
        case: Case::ProtectTwelve,
        way: Way::There,
        own: 0.75 + 11.0 * 0.3,
    },
    Plan {
        name: "DAX slice mapped into an active window",
        case: Case::Dax,
        way: Way::There,
        own: 0.75,
    },
    Plan {
        name: "DAX slice unmapped from an active window",
        case: Case::Dax,
        way: Way::Back,
        own: 0.75,
    },
    Plan {
        name: "device window moved",
        case: Case::Move,
        way: Way::There,
        own: 1.5,
    },
];

const BUILD: &str = "build of 1 TiB, 17 regions";

/// How many microseconds of its own a build may take.
const BUILD_OWN: f64 = 50.0;

/// Measures everything that the options want.
pub(crate) fn measure(options: &Options) -> Report {
    let mut report = Report::new(options.rounds, options.others);
    let mut hand = ByHand::new(None);
    let mut few = Guest::new(software(), 0);
    // Before there are many windows: what it costs to build in a process of thousands of mappings
    // is the kernel's affair.
    if options.wants(BUILD) {
        build(options, &mut report);
    }
    eprintln!("making {} device windows", options.others);
    let mut many = Guest::new(software(), options.others);
    for plan in &PLANS {
        if options.wants(plan.name) {
            change(plan, options, &mut report, &mut hand, [&mut few, &mut many]);
        }
    }
    // They are gone before the slots of a VM follow every change of this process's address space.
    drop((hand, few));
    // Thousands of windows, each taken out of sight one by one: nobody waits for that.
    std::mem::forget(many);
    on_kvm(options, &mut report);
    calls::record(options, &mut report);
    report
}

fn software() -> Arc<dyn PartitionMemoryMap> {
    Arc::new(SoftwarePartition::new())
}

fn build(options: &Options, report: &mut Report) {
    eprintln!("measuring {BUILD}");
    let mut hand = BuildingByHand::new();
    let mut ours = Building::new();
    let rounds = take_turns(&mut hand, &mut [&mut ours], options.rounds.div_ceil(4));
    let row = row(BUILD, &rounds, Way::There, None);
    report.require_quiet(&row);
    report.bars.push(Bar {
        name: format!("{BUILD}: own us"),
        value: row.own,
        at_most: BUILD_OWN,
    });
    report.rows.push(row);
}

fn change(
    plan: &Plan,
    options: &Options,
    report: &mut Report,
    hand: &mut ByHand,
    [few, many]: [&mut Guest; 2],
) {
    eprintln!("measuring {}", plan.name);
    let mut hand = hand.at(plan.case);
    let mut few = Ours::new(plan.case, few);
    let mut many = Ours::new(plan.case, many);
    let others: &mut [&mut dyn Change] = &mut [&mut few, &mut many];
    let rounds = take_turns(&mut hand, others, options.rounds);
    let own_many = rounds.own(1, plan.way);
    let row = row(plan.name, &rounds, plan.way, Some(own_many));
    report.require_quiet(&row);
    report.bars.push(Bar {
        name: format!("{}: own us", plan.name),
        value: row.own,
        at_most: plan.own,
    });
    report.bars.push(Bar {
        name: format!("{}: own, {} windows more x 0", plan.name, options.others),
        value: own_many / row.own,
        at_most: TIMES_MANY,
    });
    report.rows.push(row);
}

fn row(name: &'static str, rounds: &Rounds, way: Way, own_many: Option<f64>) -> Row {
    Row {
        name,
        hand: rounds.hand(way),
        total: rounds.total(0, way),
        own: rounds.own(0, way),
        spread: rounds.spread(0, way),
        a_a: rounds.a_a(way),
        own_many,
        kvm: None,
    }
}

/// Adds the times on KVM to the rows.
#[cfg(feature = "kvm")]
fn on_kvm(options: &Options, report: &mut Report) {
    let kvm = match kvm_ioctls::Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            report.kvm_missing = Some(format!("/dev/kvm cannot be opened: {error}"));
            return;
        }
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(guest_memory_manager::KvmPartition::new(vm).unwrap());
    let mut guest = Guest::new(partition, 0);
    let mut hand = ByHand::new(Some(HandSlots::new(&kvm)));
    for plan in &PLANS {
        let Some(row) = report.rows.iter_mut().find(|row| row.name == plan.name) else {
            continue;
        };
        eprintln!("measuring {} on KVM", plan.name);
        let mut hand = hand.at(plan.case);
        let mut ours = Ours::new(plan.case, &mut guest);
        let others: &mut [&mut dyn Change] = &mut [&mut ours];
        let rounds = take_turns(&mut hand, others, options.rounds.div_ceil(4));
        row.kvm = Some(OnKvm {
            hand: rounds.hand(plan.way),
            ours: rounds.total(0, plan.way),
            a_a: rounds.a_a(plan.way),
        });
    }
}

#[cfg(not(feature = "kvm"))]
fn on_kvm(_: &Options, report: &mut Report) {
    report.kvm_missing = Some("built without KVM".into());
}
