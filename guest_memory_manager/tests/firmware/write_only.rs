//! A guest that copies its ROM into the RAM behind it, at the same addresses.

use crate::code::{Code, rom};
use crate::harness::{run_machine, sum};
use crate::kvm::kvm_for;
use crate::outcome::Outcome;
use crate::pam;
use crate::settings::Settings;
use guest_memory_manager::RamVisibility::{ReadOnly, ReadWrite, Unmapped, WriteOnly};

/// A byte of the ROM that the copy changes.
const CHANGED: u16 = 0x8000;

fn guest() -> Code {
    let at = CHANGED.to_le_bytes();
    let say_changed = |code: Code| code.raw(&[0xa0, at[0], at[1]]).say_al(); // mov al, [CHANGED]
    let code = Code::new()
        .raw(&[0xfa, 0xfc]) // cli; cld
        .data_segments(0xf000)
        // The BIOS segment, from which this runs: reads from ROM, writes to RAM.
        .configure(0x59, 0x20)
        .raw(&[0x31, 0xf6, 0x31, 0xff]) // xor si, si; xor di, di
        .cx(0x4000)
        .raw(&[0xf3, 0x66, 0xa5]) // rep movsd
        .raw(&[0xc6, 0x06, at[0], at[1], b'R']); // mov byte [CHANGED], 'R'
    // The ROM, still.
    let code = say_changed(code).configure(0x59, 0x30);
    // RAM, from which this runs now.
    let code = say_changed(code).cx(0x4000).sum().say_edi();
    // Locked, as firmware does at the end.
    let code = code
        .configure(0x59, 0x10)
        .raw(&[0xc6, 0x06, at[0], at[1], b'X']); // mov byte [CHANGED], 'X'
    let code = say_changed(code);
    // A segment with nothing below: ones are read, the write is kept.
    code.configure(0x5a, 0x02)
        .data_segments(0xc000)
        .raw(&[0xc6, 0x06, 0x00, 0x00, b'K']) // mov byte [0], 'K'
        .raw(&[0xa0, 0x00, 0x00]) // mov al, [0]
        .say_al()
        .configure(0x5a, 0x01)
        .raw(&[0xa0, 0x00, 0x00]) // mov al, [0]
        .say_al()
        .exit(1)
}

#[test]
fn a_guest_copies_its_rom_in_place() {
    let test = "firmware::a_guest_copies_its_rom_in_place";
    let Some(kvm) = kvm_for(test) else {
        return;
    };
    let mut image = rom(guest());
    image[usize::from(CHANGED)] = b'M';
    let ran = run_machine(&kvm, Settings::new(image.clone(), 1));
    assert!(
        matches!(ran.report.outcome, Outcome::Exit(1)),
        "{:?}",
        ran.report.outcome
    );

    let mut copy = image;
    copy[usize::from(CHANGED)] = b'R';
    let mut expected = b"MR".to_vec();
    expected.extend(sum(&copy).to_le_bytes());
    expected.extend(b"R\xffK");
    assert_eq!(ran.output, expected, "{}", ran.trace);
    assert_eq!(ran.ram(12), copy);
    // The copy's stores, the two single ones; and the one to locked memory.
    assert_eq!(ran.report.stores.to_hidden_ram, 0x4000 + 2);
    assert_eq!(ran.report.stores.dropped, 1);
    assert_eq!(ran.report.stores.to_nothing, 0);
    let transitions: Vec<_> = ran
        .report
        .pam_writes
        .iter()
        .flat_map(|write| &write.transitions)
        .map(|(segment, from, to)| (segment.start(), *from, *to))
        .collect();
    let (bios, first) = (pam::segment(12).start(), pam::segment(0).start());
    assert_eq!(
        transitions,
        [
            (bios, Unmapped, WriteOnly),
            (bios, WriteOnly, ReadWrite),
            (bios, ReadWrite, ReadOnly),
            (first, Unmapped, WriteOnly),
            (first, WriteOnly, ReadOnly),
        ]
    );
    // From hidden to write-only needs no call at all.
    let slots = ran.report.slot_operations;
    assert_eq!((slots.created, slots.deleted), (3, 2));
}
