//! A boot sector that finds out which segments it can read and write.

use crate::code::{Code, floppy};
use crate::harness::{Ran, run_machine, seabios_for, seabios_settings, sum};
use crate::outcome::Outcome;
use crate::pam;
use crate::settings::ShadowMaker;
use guest_memory_manager::RamVisibility;
use kvm_ioctls::Kvm;

const MARK: &str = "\nprobe:";
/// What the boot sector ends the run with.
const DONE: u32 = 0x2a;

/// Tries to write to each segment and to read it back, then puts back what was there; adds up what
/// it reads. For each segment it reports `W` or `r`, and the sum.
fn boot_sector() -> Code {
    Code::new()
        .raw(&[0xfa, 0xfc]) // cli; cld
        .say(MARK)
        .bx(0xc000)
        .label("next")
        .raw(&[0x8e, 0xdb]) // mov ds, bx
        .raw(&[0xa0, 0x10, 0x00]) // mov al, [0x10]
        .raw(&[0x88, 0xc4, 0xf6, 0xd4]) // mov ah, al; not ah
        .raw(&[0x88, 0x26, 0x10, 0x00]) // mov [0x10], ah
        .raw(&[0x8a, 0x0e, 0x10, 0x00]) // mov cl, [0x10]
        .raw(&[0xa2, 0x10, 0x00]) // mov [0x10], al
        .raw(&[0x38, 0xe1]) // cmp cl, ah
        .al(b'W')
        .jump_if_equal("writable")
        .al(b'r')
        .label("writable")
        .say_al()
        .cx(0x1000)
        .raw(&[0x81, 0xfb, 0x00, 0xf0]) // cmp bx, 0xf000
        .jump_unless_equal("short")
        .cx(0x4000)
        .label("short")
        .sum()
        .say_edi()
        .raw(&[0x81, 0xfb, 0x00, 0xf0]) // cmp bx, 0xf000
        .jump_if_equal("done")
        .raw(&[0x81, 0xc3, 0x00, 0x04]) // add bx, 0x400
        .jump("next")
        .label("done")
        .exit(DONE as u8)
}

/// Boots SeaBIOS into the boot sector.
pub fn boot(kvm: &Kvm, bios: Vec<u8>, shadow: Option<ShadowMaker>) -> Ran {
    let mut settings = seabios_settings(bios);
    let disk = floppy(boot_sector());
    settings.entries.add_file("floppyimg/probe", disk).unwrap();
    settings.shadow = shadow;
    run_machine(kvm, settings)
}

/// What the guest found, or why there is nothing.
pub fn findings(ran: &Ran, bios: &[u8]) -> Result<Vec<RamVisibility>, String> {
    if !matches!(ran.report.outcome, Outcome::Exit(DONE)) {
        return Err(format!("{:?}", ran.report.outcome));
    }
    let found = ran.after(MARK).ok_or("no report")?;
    if found.len() != pam::SEGMENTS * 5 {
        return Err(format!("a report of {} bytes", found.len()));
    }
    let segments = found.chunks_exact(5).enumerate();
    segments
        .map(|(index, found)| {
            let seen = u32::from_le_bytes(found[1..].try_into().unwrap());
            let ram = sum(&ran.ram(index));
            let below = sum(&below(bios, index));
            match (found[0], seen) {
                (b'W', _) => Ok(RamVisibility::ReadWrite),
                (b'r', _) if ram == below => Err(format!("segment {index}: RAM is as the ROM")),
                (b'r', seen) if seen == ram => Ok(RamVisibility::ReadOnly),
                (b'r', seen) if seen == below => Ok(RamVisibility::Unmapped),
                found => Err(format!("segment {index}: {found:?}")),
            }
        })
        .collect()
}

/// What lies under RAM: the ROM, or nothing, which reads as ones.
fn below(bios: &[u8], segment: usize) -> Vec<u8> {
    let range = pam::segment(segment);
    match range.start().checked_sub(0xe_0000) {
        None => vec![0xff; range.len() as usize],
        Some(offset) => {
            let rom = &bios[bios.len() - 0x2_0000..][offset as usize..];
            rom[..range.len() as usize].to_vec()
        }
    }
}

/// What SeaBIOS locks: everything but what it keeps its variables in.
pub fn locked() -> Vec<RamVisibility> {
    let writable = |index: &usize| (0xe_8000..0xf_0000).contains(&pam::segment(*index).start());
    (0..pam::SEGMENTS)
        .map(|index| match writable(&index) {
            true => RamVisibility::ReadWrite,
            false => RamVisibility::ReadOnly,
        })
        .collect()
}

#[test]
fn a_boot_sector_finds_every_segment_as_the_firmware_left_it() {
    let test = "firmware::a_boot_sector_finds_every_segment_as_the_firmware_left_it";
    let Some((kvm, bios)) = seabios_for(test) else {
        return;
    };
    let ran = boot(&kvm, bios.clone(), None);
    let found = findings(&ran, &bios).unwrap_or_else(|error| panic!("{error}\n{}", ran.text()));
    assert_eq!(found, locked());
    let manager: Vec<_> = ran
        .report
        .segments
        .into_iter()
        .map(Option::unwrap)
        .collect();
    assert_eq!(found, manager);
    // Each segment that is not writable was written twice, to try and to put back.
    let read_only = found
        .iter()
        .filter(|state| **state == RamVisibility::ReadOnly);
    let dropped = 2 * read_only.count() as u64;
    assert_eq!(ran.report.stores.dropped, dropped, "{}", ran.trace);
    assert_eq!(ran.trace.matches("dropped: ").count() as u64, dropped);
}
