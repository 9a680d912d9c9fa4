//! What is known of a CPU that cannot go on.

use crate::pam;
use guest_memory_manager::{GuestMemory, RamVisibilityControl};
use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
};
use kvm_ioctls::VcpuFd;
use std::fmt::Write;

/// What KVM says of an internal error.
pub struct InternalError {
    suberror: u32,
    /// The bytes of the instruction, where it had any.
    pub instruction: Vec<u8>,
}

impl InternalError {
    /// Reads it after such an exit.
    pub fn read(vcpu: &mut VcpuFd) -> Self {
        let run = vcpu.get_kvm_run();
        // SAFETY: the exit's reason says that this is the field; all its bits are numbers.
        let error = unsafe { run.__bindgen_anon_1.internal };
        let mut instruction = Vec::new();
        // The first word has flags, the second and third a length and bytes
        // (Documentation/virt/kvm/api.rst, KVM_EXIT_INTERNAL_ERROR).
        let flag = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
        if error.suberror == KVM_INTERNAL_ERROR_EMULATION
            && error.ndata >= 3
            && error.data[0] & flag != 0
        {
            let words = error.data[1..3].iter();
            let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
            let len = usize::from(bytes[0]).min(15);
            instruction.extend(&bytes[1..=len]);
        }
        Self {
            suberror: error.suberror,
            instruction,
        }
    }
}

/// Says everything that is known: why, where, which instruction, and what is mapped there.
pub fn describe(
    vcpu: &VcpuFd,
    cpu: usize,
    why: &str,
    error: Option<&InternalError>,
    memory: &GuestMemory,
    visibility: &RamVisibilityControl,
) -> String {
    let mut text = format!("cpu {cpu} cannot go on: {why}\n");
    // Writing to a string does not fail.
    if let Some(error) = error {
        let _ = writeln!(text, "  KVM's suberror {}", error.suberror);
    }
    let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        text.push_str("  its registers cannot be read\n");
        return text;
    };
    for row in [
        [
            ("rax", regs.rax),
            ("rbx", regs.rbx),
            ("rcx", regs.rcx),
            ("rdx", regs.rdx),
        ],
        [
            ("rsi", regs.rsi),
            ("rdi", regs.rdi),
            ("rsp", regs.rsp),
            ("rbp", regs.rbp),
        ],
        [
            ("rip", regs.rip),
            ("flg", regs.rflags),
            ("cr0", sregs.cr0),
            ("cr3", sregs.cr3),
        ],
    ] {
        let row: Vec<String> = row
            .iter()
            .map(|(name, value)| format!("{name} {value:016x}"))
            .collect();
        let _ = writeln!(text, "  {}", row.join("  "));
    }
    for (name, segment) in [
        ("cs", sregs.cs),
        ("ds", sregs.ds),
        ("es", sregs.es),
        ("ss", sregs.ss),
    ] {
        let (selector, base, limit) = (segment.selector, segment.base, segment.limit);
        let _ = writeln!(
            text,
            "  {name}  {selector:04x} base {base:#010x} limit {limit:#010x}"
        );
    }
    let linear = sregs.cs.base.wrapping_add(regs.rip);
    let gpa = match vcpu.translate_gva(linear) {
        Ok(translation) if translation.valid != 0 => translation.physical_address,
        _ => linear,
    };
    let bytes = match error {
        Some(error) if !error.instruction.is_empty() => error.instruction.clone(),
        _ => readable(memory, gpa),
    };
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = writeln!(text, "  instruction at gpa {gpa:#x}: {}", bytes.join(" "));
    let _ = writeln!(text, "  {}", mapped_at(gpa, memory, visibility));
    text
}

/// The bytes at an address, as many of 15 as can be read.
fn readable(memory: &GuestMemory, gpa: u64) -> Vec<u8> {
    let addresses = (0..15).map(|offset| gpa.wrapping_add(offset));
    addresses
        .map_while(|at| memory.read_plain::<u8>(at).ok())
        .collect()
}

/// What is mapped at an address, and for a segment the state that it has.
fn mapped_at(gpa: u64, memory: &GuestMemory, visibility: &RamVisibilityControl) -> String {
    let mut text = match memory.mapper().mapping_at(gpa) {
        Some((range, mapping)) => format!(
            "mapped there: {range} {}, {:?} from offset {:#x} on",
            mapping.access,
            mapping.backing.name(),
            mapping.offset
        ),
        None => "nothing is mapped there".to_owned(),
    };
    let segment = (0..pam::SEGMENTS)
        .map(pam::segment)
        .find(|segment| segment.contains_addr(gpa));
    if let Some(segment) = segment {
        let _ = match visibility.ram_visibility(segment) {
            Ok(state) => write!(text, "; segment {segment} is {}", pam::word(state)),
            Err(error) => write!(
                text,
                "; the state of segment {segment} is not known: {error}"
            ),
        };
    }
    text
}
