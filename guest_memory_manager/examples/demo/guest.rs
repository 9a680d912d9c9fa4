//! The guest: what it does, as assembly source, as bytes, and as plain loads and stores.
//!
//! It runs in 16-bit real mode with segments that reach 4 GiB, at [`CODE`]. Everything it does is
//! one of a few [`Instruction`]s, each a line or two of assembly. A KVM vCPU executes the
//! bytes; without KVM, the same instructions are made as loads and stores against the software
//! partition.

use std::fmt::Write;

/// Where the guest's code lies.
pub const CODE: u32 = 0x8000;

/// The guest reports a value that it loaded: `out` of 4 bytes.
pub const REPORT_PORT: u8 = 0x10;
/// The guest asks the VMM to change something: `out` of 1 byte.
pub const ASK_PORT: u8 = 0x20;
/// The guest says which step it begins: `out` of 1 byte.
pub const STEP_PORT: u8 = 0x30;

/// What the guest can ask for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Show RAM, for reading and writing, at the BIOS segment.
    ShowRam = 1,
    /// Make that RAM read-only.
    ProtectRam = 2,
    /// Move the device window.
    MoveWindow = 3,
}

impl Request {
    /// Every request.
    pub const ALL: [Self; 3] = [Self::ShowRam, Self::ProtectRam, Self::MoveWindow];

    /// Reads the byte that the guest wrote to [`ASK_PORT`].
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|request| *request as u8 == byte)
    }
}

/// One thing that the guest does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Says that a step begins.
    Step(u8),
    /// Loads a word and reports it.
    Load(u32),
    /// Stores a word.
    Store(u32, u32),
    /// Copies words from one place to another.
    Copy { from: u32, to: u32, words: u32 },
    /// Asks the VMM for something.
    Ask(Request),
    /// Stops.
    Halt,
}

impl Instruction {
    /// Assembly for the GNU assembler, Intel syntax, `.code16`: a line an instruction, each with
    /// its bytes.
    pub fn assembly(self) -> Vec<(String, Vec<u8>)> {
        // `66` makes the operand 32 bits wide, `67` the address.
        let with = |opcode: &[u8], immediate: u32| [opcode, &immediate.to_le_bytes()].concat();
        let out_al = |port: u8| (format!("out {port:#x}, al"), vec![0xe6, port]);
        match self {
            Self::Step(step) => vec![
                (format!("mov al, {step:#x}"), vec![0xb0, step]),
                out_al(STEP_PORT),
            ],
            Self::Load(from) => vec![
                (format!("mov esi, {from:#x}"), with(&[0x66, 0xbe], from)),
                ("mov eax, [esi]".to_owned(), vec![0x67, 0x66, 0x8b, 0x06]),
                (
                    format!("out {REPORT_PORT:#x}, eax"),
                    vec![0x66, 0xe7, REPORT_PORT],
                ),
            ],
            Self::Store(to, value) => vec![
                (format!("mov edi, {to:#x}"), with(&[0x66, 0xbf], to)),
                (format!("mov eax, {value:#x}"), with(&[0x66, 0xb8], value)),
                ("mov [edi], eax".to_owned(), vec![0x67, 0x66, 0x89, 0x07]),
            ],
            Self::Copy { from, to, words } => vec![
                (format!("mov esi, {from:#x}"), with(&[0x66, 0xbe], from)),
                (format!("mov edi, {to:#x}"), with(&[0x66, 0xbf], to)),
                (format!("mov ecx, {words:#x}"), with(&[0x66, 0xb9], words)),
                ("cld".to_owned(), vec![0xfc]),
                (
                    "rep movsd es:[edi], ds:[esi]".to_owned(),
                    vec![0x67, 0x66, 0xf3, 0xa5],
                ),
            ],
            Self::Ask(request) => vec![
                (
                    format!("mov al, {:#x}", request as u8),
                    vec![0xb0, request as u8],
                ),
                out_al(ASK_PORT),
            ],
            Self::Halt => vec![("hlt".to_owned(), vec![0xf4])],
        }
    }
}

/// What a vCPU executes.
pub fn machine_code(program: &[Instruction]) -> Vec<u8> {
    let lines = program
        .iter()
        .flat_map(|instruction| instruction.assembly());
    lines.flat_map(|(_, bytes)| bytes).collect()
}

/// The program as an assembler's listing: address, bytes, source.
pub fn listing(program: &[Instruction]) -> String {
    let mut text = String::new();
    let mut address = CODE;
    for instruction in program {
        for (source, bytes) in instruction.assembly() {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{address:8x}  {:<20}  {source}", hex.join(" "));
            address += bytes.len() as u32;
        }
    }
    text
}
