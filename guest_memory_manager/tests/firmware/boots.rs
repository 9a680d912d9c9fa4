//! SeaBIOS to the end of what it can do without a disk.

use crate::harness::{run_machine, seabios_for, seabios_settings};
use crate::outcome::Outcome;
use crate::probe::locked;
use crate::settings::Settings;
use crate::{pam, report};
use guest_memory_manager::RamVisibility::{ReadWrite, Unmapped};

const END: &str = "No bootable device";

#[test]
fn seabios_finds_no_bootable_device() {
    let test = "firmware::seabios_finds_no_bootable_device";
    let Some((kvm, bios)) = seabios_for(test) else {
        return;
    };
    let mut settings = seabios_settings(bios);
    settings.until = Some(END.to_owned());
    let ran = run_machine(&kvm, settings);
    assert!(
        matches!(ran.report.outcome, Outcome::Until),
        "{}",
        ran.text()
    );
    assert!(ran.text().ends_with(END));

    let states: Vec<_> = ran
        .report
        .segments
        .into_iter()
        .map(Option::unwrap)
        .collect();
    assert_eq!(states, locked());
    assert_eq!(states, ran.report.registers);
    assert_eq!(ran.report.pam_writes.len(), 4);
    // Everything is unlocked, everything but two segments is locked.
    assert_eq!(ran.report.transitions(), 24);
    // What shows after a transition is a slot of its own. What showed before it is deleted, where
    // something did: nothing lies under the segments from 0xC0000 to 0xDFFFF.
    let transitions = ran.report.pam_writes.iter();
    let had_slot = transitions
        .flat_map(|write| &write.transitions)
        .filter(|(at, from, _)| *from != Unmapped || at.start() >= 0xe_0000)
        .count();
    let slots = ran.report.slot_operations;
    assert_eq!((slots.created, slots.deleted), (24, had_slot as u64));
    assert_eq!(slots.refused, 0);
    assert_eq!(ran.report.stores.dropped, 0);

    let json = report::json(&ran.report);
    assert_eq!(json["outcome"], "until");
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["transitions"], 24);
    assert_eq!(json["slot_operations"]["created"], 24);
    assert_eq!(json["pam_writes"].as_array().unwrap().len(), 4);
    let segments = json["segments"].as_array().unwrap();
    assert_eq!(segments.len(), pam::SEGMENTS);
    for (segment, state) in segments.iter().zip(&states) {
        let word = if *state == ReadWrite {
            "read-write"
        } else {
            "read-only"
        };
        assert_eq!(
            (&segment["state"], &segment["registers"]),
            (&word.into(), &word.into())
        );
    }
    assert!(json["inspection"]["visibility"].is_object());
    assert_eq!(ran.trace.matches("segments change").count(), 4);
}

/// Other CPUs run while segments change, and the firmware counts them.
#[test]
fn seabios_starts_three_cpus() {
    let test = "firmware::seabios_starts_three_cpus";
    let Some((kvm, bios)) = seabios_for(test) else {
        return;
    };
    let mut settings = Settings {
        until: Some(END.to_owned()),
        e820: true,
        ..Settings::new(bios, 3)
    };
    let menu = settings.entries.add_file("etc/show-boot-menu", vec![0; 8]);
    menu.unwrap();
    let ran = run_machine(&kvm, settings);
    assert!(
        matches!(ran.report.outcome, Outcome::Until),
        "{}",
        ran.text()
    );
    assert!(ran.text().contains("Found 3 cpu(s)"), "{}", ran.text());
    let e820 = "qemu/e820: addr 0x0000000000000000 len 0x0000000004000000 [RAM]";
    assert!(ran.text().contains(e820), "{}", ran.text());
    let states: Vec<_> = ran
        .report
        .segments
        .into_iter()
        .map(Option::unwrap)
        .collect();
    assert_eq!(states, locked());
}
