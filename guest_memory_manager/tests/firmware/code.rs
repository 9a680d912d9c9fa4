//! Real-mode machine code, instruction by instruction.

use std::collections::HashMap;

/// Code under construction. Jumps go to labels, before or after them.
#[derive(Default)]
pub struct Code {
    bytes: Vec<u8>,
    labels: HashMap<&'static str, usize>,
    /// Where a 16-bit distance belongs, and to which label.
    jumps: Vec<(usize, &'static str)>,
}

/// The debug port.
const DEBUG_PORT: u16 = 0x402;
/// The port that ends the run.
const EXIT_PORT: u16 = 0x501;

impl Code {
    /// No instruction yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are: an instruction, named by the comment beside the call.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// Names the place that comes next.
    pub fn label(mut self, name: &'static str) -> Self {
        self.labels.insert(name, self.bytes.len());
        self
    }

    /// `jmp label`
    pub fn jump(self, label: &'static str) -> Self {
        self.raw(&[0xe9]).distance_to(label)
    }

    /// `je label`
    pub fn jump_if_equal(self, label: &'static str) -> Self {
        self.raw(&[0x0f, 0x84]).distance_to(label)
    }

    /// `jne label`
    pub fn jump_unless_equal(self, label: &'static str) -> Self {
        self.raw(&[0x0f, 0x85]).distance_to(label)
    }

    /// `call label`
    pub fn call(self, label: &'static str) -> Self {
        self.raw(&[0xe8]).distance_to(label)
    }

    fn distance_to(mut self, label: &'static str) -> Self {
        self.jumps.push((self.bytes.len(), label));
        self.raw(&[0, 0])
    }

    /// `mov ax, value`
    pub fn ax(self, value: u16) -> Self {
        self.raw(&[0xb8]).word(value)
    }

    /// `mov bx, value`
    pub fn bx(self, value: u16) -> Self {
        self.raw(&[0xbb]).word(value)
    }

    /// `mov cx, value`
    pub fn cx(self, value: u16) -> Self {
        self.raw(&[0xb9]).word(value)
    }

    /// `mov dx, value`
    pub fn dx(self, value: u16) -> Self {
        self.raw(&[0xba]).word(value)
    }

    /// `mov al, value`
    pub fn al(self, value: u8) -> Self {
        self.raw(&[0xb0, value])
    }

    /// `mov eax, value`
    pub fn eax(self, value: u32) -> Self {
        self.raw(&[0x66, 0xb8]).raw(&value.to_le_bytes())
    }

    /// Two bytes.
    pub fn word(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// `mov ds, ax`, `mov es, ax` after `mov ax, value`
    pub fn data_segments(self, value: u16) -> Self {
        self.ax(value).raw(&[0x8e, 0xd8]).raw(&[0x8e, 0xc0])
    }

    /// `out dx, al` to the debug port, of what AL holds.
    pub fn say_al(self) -> Self {
        self.dx(DEBUG_PORT).raw(&[0xee])
    }

    /// Writes a text to the debug port.
    pub fn say(self, text: &str) -> Self {
        let code = self.dx(DEBUG_PORT);
        text.bytes()
            .fold(code, |code, byte| code.al(byte).raw(&[0xee]))
    }

    /// Writes EDI to the debug port, low byte first. Destroys AX, CX, DX and EDI.
    pub fn say_edi(self) -> Self {
        // mov ax, di; out dx, al; shr edi, 8; loop
        self.dx(DEBUG_PORT)
            .cx(4)
            .raw(&[0x89, 0xf8, 0xee, 0x66, 0xc1, 0xef, 0x08, 0xe2, 0xf7])
    }

    /// Adds CX double words from DS:0 on to EDI. Destroys EAX, CX and SI.
    pub fn sum(self) -> Self {
        // xor si, si; xor edi, edi; lodsd; add edi, eax; loop
        self.raw(&[0x31, 0xf6, 0x66, 0x31, 0xff])
            .raw(&[0x66, 0xad, 0x66, 0x01, 0xc7, 0xe2, 0xf9])
    }

    /// Writes a byte into the configuration space of the host bridge.
    pub fn configure(self, offset: u8, value: u8) -> Self {
        self.eax(0x8000_0000 | u32::from(offset & 0xfc))
            .dx(0xcf8)
            .raw(&[0x66, 0xef]) // out dx, eax
            .dx(0xcfc + u16::from(offset & 3))
            .al(value)
            .raw(&[0xee]) // out dx, al
    }

    /// Ends the run.
    pub fn exit(self, value: u8) -> Self {
        // out dx, al; cli; hlt
        self.dx(EXIT_PORT).al(value).raw(&[0xee, 0xfa, 0xf4])
    }

    /// The bytes, with every jump in its place.
    pub fn bytes(mut self) -> Vec<u8> {
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label];
            let distance = target as i64 - (at as i64 + 2);
            let distance = i16::try_from(distance).unwrap();
            self.bytes[at..at + 2].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes
    }

    /// Where a label is.
    pub fn offset_of(&self, label: &str) -> u16 {
        u16::try_from(self.labels[label]).unwrap()
    }
}

/// A ROM of 64 KiB that begins with this code: the reset vector jumps to F000:0.
pub fn rom(code: Code) -> Vec<u8> {
    let mut image = code.bytes();
    assert!(image.len() < 0xfff0);
    image.resize(0x1_0000, 0);
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    image
}

/// A floppy disk of 160 KiB whose boot sector is this code.
pub fn floppy(code: Code) -> Vec<u8> {
    let mut image = code.bytes();
    assert!(image.len() <= 510);
    image.resize(160 << 10, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// An option ROM: a signature, its length, this code, and a checksum.
pub fn option_rom(code: Code) -> Vec<u8> {
    let mut image = vec![0x55, 0xaa, 0];
    image.extend(code.bytes());
    image.push(0);
    image.resize(image.len().next_multiple_of(2048), 0);
    image[2] = u8::try_from(image.len() / 512).unwrap();
    let sum = image.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    *image.last_mut().unwrap() = sum.wrapping_neg();
    image
}
