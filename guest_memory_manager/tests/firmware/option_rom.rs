//! An option ROM that the firmware copies into shadow RAM and calls.

use crate::code::{Code, option_rom};
use crate::harness::{run_machine, seabios_for, seabios_settings};
use crate::outcome::Outcome;
use crate::pam;
use guest_memory_manager::RamVisibility;

const MARK: &str = "\noption rom:";
/// Where the code begins in the image.
const BEGIN: u16 = 3;

/// Called at 3, it says where it is, whether it can write there, and takes over the boot
/// (interrupt 0x19). Called to boot, it says the same once more, and ends the run.
fn image() -> Vec<u8> {
    let mut length = 0;
    loop {
        let code = code(length);
        let entry = code.offset_of("boot") + BEGIN;
        if entry == length {
            return option_rom(code);
        }
        length = entry;
    }
}

fn code(entry: u16) -> Code {
    Code::new()
        .raw(&[0x66, 0x60, 0x1e]) // pushad; push ds
        .call("tell")
        .raw(&[0x31, 0xc0, 0x8e, 0xd8]) // xor ax, ax; mov ds, ax
        .raw(&[0xc7, 0x06, 0x64, 0x00]) // mov word [0x19 * 4], boot
        .word(entry)
        .raw(&[0x8c, 0x0e, 0x66, 0x00]) // mov [0x19 * 4 + 2], cs
        .raw(&[0x1f, 0x66, 0x61, 0xcb]) // pop ds; popad; retf
        .label("tell")
        .say(MARK)
        .raw(&[0x8c, 0xc8]) // mov ax, cs
        .say_al()
        .raw(&[0x88, 0xe0]) // mov al, ah
        .say_al()
        // The word after the length of the last block, which nobody uses.
        .raw(&[0x2e, 0xa0, 0x00, 0x07]) // mov al, cs:[0x700]
        .raw(&[0x88, 0xc4, 0xf6, 0xd4]) // mov ah, al; not ah
        .raw(&[0x2e, 0x88, 0x26, 0x00, 0x07]) // mov cs:[0x700], ah
        .raw(&[0x2e, 0x8a, 0x0e, 0x00, 0x07]) // mov cl, cs:[0x700]
        .raw(&[0x2e, 0xa2, 0x00, 0x07]) // mov cs:[0x700], al
        .raw(&[0x38, 0xe1]) // cmp cl, ah
        .al(b'W')
        .jump_if_equal("writable")
        .al(b'r')
        .label("writable")
        .say_al()
        .raw(&[0xc3]) // ret
        .label("boot")
        .raw(&[0xfa]) // cli
        .call("tell")
        .exit(7)
}

#[test]
fn an_option_rom_runs_from_shadow_ram() {
    let test = "firmware::an_option_rom_runs_from_shadow_ram";
    let Some((kvm, bios)) = seabios_for(test) else {
        return;
    };
    let image = image();
    let mut settings = seabios_settings(bios);
    let file = settings.entries.add_file("genroms/ours", image.clone());
    file.unwrap();
    let ran = run_machine(&kvm, settings);
    assert!(
        matches!(ran.report.outcome, Outcome::Exit(7)),
        "{}",
        ran.text()
    );
    assert_eq!(ran.report.outcome.exit_code(), 15);

    // It was called twice, from the same place: first while that could be written, then locked.
    let first = ran.after(MARK).unwrap();
    let &[low, high, b'W'] = &first[..3] else {
        panic!("{:?}", &first[..3]);
    };
    assert_eq!(ran.output[ran.output.len() - 3..], [low, high, b'r']);
    let gpa = u64::from(u16::from_le_bytes([low, high])) << 4;
    let segment = (0..pam::SEGMENTS)
        .find(|index| pam::segment(*index).contains_addr(gpa))
        .unwrap();
    assert_eq!(ran.report.segments[segment], Some(RamVisibility::ReadOnly));
    // And that place is RAM, with the image in it.
    let offset = (gpa - pam::segment(segment).start()) as usize;
    assert!(ran.ram(segment)[offset..].starts_with(&image));
    assert_eq!(ran.report.stores.dropped, 2);
}
