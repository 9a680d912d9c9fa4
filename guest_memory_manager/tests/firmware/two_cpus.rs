//! One CPU switches the memory from which another one runs.

use crate::code::{Code, rom};
use crate::harness::run_machine;
use crate::kvm::kvm_for;
use crate::outcome::Outcome;
use crate::settings::Settings;

/// Where the second CPU begins, in the ROM: it starts at a page that the first one names.
const SECOND: usize = 0x1000;
/// The descriptor table, in the ROM, and what LGDT reads.
const TABLE: u16 = 0x2000;
/// How many times each state of the segment comes.
const ROUNDS: u16 = 100;

/// Writes to a register of the local APIC: mov dword fs:[register], value
fn apic(code: Code, register: u32, value: u32) -> Code {
    code.raw(&[0x64, 0x67, 0x66, 0xc7, 0x05])
        .raw(&(0xfee0_0000 + register).to_le_bytes())
        .raw(&value.to_le_bytes())
}

/// Copies the ROM into the RAM behind it, so that it does not matter which of them shows, starts
/// the other CPU, and goes through all the states of the segment from which both run.
fn first() -> Code {
    let [low, high] = (TABLE + 16).to_le_bytes();
    let code = Code::new()
        .raw(&[0xfa, 0xfc]) // cli; cld
        // FS reaches 4 GiB from now on.
        .raw(&[0x2e, 0x66, 0x0f, 0x01, 0x16, low, high]) // lgdt cs:[TABLE + 16]
        .raw(&[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]) // mov eax, cr0; or al, 1; back
        .bx(8)
        .raw(&[0x8e, 0xe3]) // mov fs, bx
        .raw(&[0x24, 0xfe, 0x0f, 0x22, 0xc0]) // and al, 0xfe; mov cr0, eax
        .data_segments(0xf000)
        .configure(0x59, 0x20)
        .raw(&[0x31, 0xf6, 0x31, 0xff]) // xor si, si; xor di, di
        .cx(0x4000)
        .raw(&[0xf3, 0x66, 0xa5]) // rep movsd
        .data_segments(0);
    // Software-enabled; then INIT and STARTUP to all others.
    let code = apic(code, 0xf0, 0x1ff);
    let code = apic(code, 0x300, 0x000c_4500);
    let code = apic(code, 0x300, 0x000c_4600 | (0xf_0000 + SECOND as u32) >> 12);
    let code = wait_for_the_other(code, "started")
        .raw(&[0xbd]) // mov bp, ROUNDS
        .word(ROUNDS)
        .label("round")
        .configure(0x59, 0x10)
        .configure(0x59, 0x30)
        .configure(0x59, 0x20)
        .configure(0x59, 0x00)
        .configure(0x59, 0x30)
        .raw(&[0x4d]) // dec bp
        .jump_unless_equal("round");
    wait_for_the_other(code, "still runs").say("ok").exit(1)
}

/// Clears the number that the other CPU counts up, and waits until it is not zero.
fn wait_for_the_other(code: Code, label: &'static str) -> Code {
    code.raw(&[0x66, 0x31, 0xc0]) // xor eax, eax
        .raw(&[0x66, 0xa3, 0x00, 0x06]) // mov [0x600], eax
        .label(label)
        .raw(&[0x66, 0xa1, 0x00, 0x06]) // mov eax, [0x600]
        .raw(&[0x66, 0x85, 0xc0]) // test eax, eax
        .jump_if_equal(label)
}

fn second() -> Code {
    Code::new()
        .data_segments(0)
        .label("count")
        .raw(&[0x66, 0xff, 0x06, 0x00, 0x06]) // inc dword [0x600]
        .jump("count")
}

#[test]
fn a_cpu_runs_on_while_another_switches_its_code_from_rom_to_ram() {
    let test = "firmware::a_cpu_runs_on_while_another_switches_its_code_from_rom_to_ram";
    let Some(kvm) = kvm_for(test) else {
        return;
    };
    let mut image = rom(first());
    let second = second().bytes();
    image[SECOND..SECOND + second.len()].copy_from_slice(&second);
    // No descriptor, one for all of 4 GiB, and where the table is.
    let table = usize::from(TABLE);
    image[table + 8..table + 16].copy_from_slice(&[0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0]);
    image[table + 16..table + 18].copy_from_slice(&15_u16.to_le_bytes());
    image[table + 18..table + 22].copy_from_slice(&(0xf_0000 + u32::from(TABLE)).to_le_bytes());
    let ran = run_machine(&kvm, Settings::new(image, 2));
    // Without the barrier, the other CPU finds nothing to execute, sooner or later.
    assert!(
        matches!(ran.report.outcome, Outcome::Exit(1)),
        "{:?}",
        ran.report.outcome
    );
    assert_eq!(ran.output, b"ok");
    assert_eq!(ran.report.transitions(), 1 + 5 * usize::from(ROUNDS));
}
