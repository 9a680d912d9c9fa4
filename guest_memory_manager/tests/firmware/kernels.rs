//! A kernel of our own, loaded through fw_cfg.

use crate::code::Code;
use crate::devices::bz_image;
use crate::harness::{run_machine, seabios_for, seabios_settings};
use crate::kernel::Kernel;
use crate::outcome::Outcome;

const COMMAND_LINE: &str = "console=ttyS0 quiet";

/// Entered at the start of its setup's second sector, it says where it is, the first bytes of the
/// kernel proper, and its command line.
fn kernel() -> Vec<u8> {
    let code = Code::new()
        .say("\nkernel:")
        .raw(&[0x8c, 0xc8, 0x88, 0xe0]) // mov ax, cs; mov al, ah
        .say_al()
        .ax(0xffff)
        .raw(&[0x8e, 0xd8]) // mov ds, ax
        .raw(&[0xa0, 0x10, 0x00]) // mov al, [0x10]: 0x100000
        .say_al()
        .raw(&[0xa0, 0x11, 0x00]) // mov al, [0x11]
        .say_al()
        .ax(0x2000)
        .raw(&[0x8e, 0xd8]) // mov ds, ax
        .raw(&[0x31, 0xf6]) // xor si, si
        .label("next")
        .raw(&[0xac, 0x84, 0xc0]) // lodsb; test al, al
        .jump_if_equal("end")
        .say_al()
        .jump("next")
        .label("end")
        .exit(3)
        .bytes();
    let mut image = bz_image(b"OK, this is all of the kernel");
    // Over the header, which the entry jumps over: jmp +0x6e.
    image[0x200..0x202].copy_from_slice(&[0xeb, 0x6e]);
    image[0x270..0x270 + code.len()].copy_from_slice(&code);
    image
}

#[test]
fn seabios_boots_a_kernel() {
    let Some((kvm, bios)) = seabios_for("firmware::seabios_boots_a_kernel") else {
        return;
    };
    let mut settings = seabios_settings(bios);
    let kernel = Kernel::parse(&kernel(), COMMAND_LINE).unwrap();
    kernel.offer(&mut settings.entries).unwrap();
    let ran = run_machine(&kvm, settings);
    assert!(
        matches!(ran.report.outcome, Outcome::Exit(3)),
        "{}",
        ran.text()
    );
    let said = ran.after("\nkernel:").unwrap();
    assert_eq!(
        said,
        format!("\x10OK{COMMAND_LINE}").as_bytes(),
        "{}",
        ran.text()
    );
}
