//! An option ROM that loads the offered kernel and starts it: firmware knows how to load disks, and
//! leaves kernels to such a ROM.

use crate::fw_cfg::entries::{COMMAND_LINE, KERNEL, SETUP};
use crate::kernel::{COMMAND_LINE_ADDRESS, KERNEL_ADDRESS, Kernel, SETUP_ADDRESS};

/// The file by which firmware finds the ROM.
pub const FILE: &str = "genroms/kernel.rom";
/// The file that says what is booted first, and that it is this ROM.
pub const BOOT_ORDER: (&str, &str) = ("bootorder", "/rom@genroms/kernel.rom\n");

/// Where the Plug and Play header is, after the ROM's own.
const PNP: usize = 0x20;
/// Where the code to boot with begins, after that header.
const BOOT: usize = 0x40;
/// Where the requests to fw_cfg are, after the code.
const REQUESTS: usize = 0x100;
/// The whole ROM: what option ROMs are aligned to.
const LEN: usize = 2048;
/// Where the requests are copied: answers are written into them, and the ROM is read-only by then.
const SCRATCH: u16 = 0x7c00;
/// Select an entry, and read it.
const SELECT_AND_READ: u32 = 0x08 | 0x02;

/// Makes the ROM for a kernel.
pub fn build(kernel: &Kernel) -> Vec<u8> {
    let mut rom = vec![0; LEN];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    // Signature, length in units of 512 bytes, and an initialisation that does nothing: retf.
    put(0x00, &[0x55, 0xaa, (LEN / 512) as u8, 0xcb]);
    put(0x1a, &(PNP as u16).to_le_bytes());
    put(PNP, &pnp_header());
    put(BOOT, &code());
    for (index, request) in requests(kernel).iter().enumerate() {
        put(REQUESTS + index * request.len(), request);
    }
    rom[LEN - 1] = checksum(&rom);
    rom
}

/// The Plug and Play header (BIOS Boot Specification 1.01), which names the boot entry vector.
fn pnp_header() -> [u8; 32] {
    let mut header = [0; 32];
    header[..4].copy_from_slice(b"$PnP");
    // Revision 1, and the length in units of 16 bytes.
    header[4..6].copy_from_slice(&[1, 2]);
    header[0x1a..0x1c].copy_from_slice(&(BOOT as u16).to_le_bytes());
    header[9] = checksum(&header);
    header
}

/// What makes all bytes add up to zero.
fn checksum(bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

/// One DMA request for each part: control, length and address, big-endian.
fn requests(kernel: &Kernel) -> [[u8; 16]; 3] {
    [
        (SETUP[2], kernel.setup.len(), SETUP_ADDRESS),
        (
            COMMAND_LINE[2],
            kernel.command_line.len() + 1,
            COMMAND_LINE_ADDRESS,
        ),
        (KERNEL[2], kernel.image.len(), KERNEL_ADDRESS),
    ]
    .map(|(key, len, address)| {
        let control = u32::from(key) << 16 | SELECT_AND_READ;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let words = [control, len, 0, address].map(u32::to_be_bytes);
        std::array::from_fn(|byte| words[byte / 4][byte % 4])
    })
}

/// Copies the requests, hands them to fw_cfg one after the other, and enters the kernel's real-mode
/// part (the kernel's `Documentation/arch/x86/boot.rst`, "Running the kernel").
fn code() -> Vec<u8> {
    let [requests_low, requests_high] = (REQUESTS as u16).to_le_bytes();
    let [scratch_low, scratch_high] = SCRATCH.to_le_bytes();
    let mut code = Vec::new();
    code.extend([0xfa, 0xfc]); // cli; cld
    code.extend([0x31, 0xc0, 0x8e, 0xc0]); // xor ax, ax; mov es, ax
    code.extend([0x0e, 0x1f]); // push cs; pop ds
    code.extend([0xbe, requests_low, requests_high]); // mov si, requests
    code.extend([0xbf, scratch_low, scratch_high]); // mov di, scratch
    code.extend([0xb9, 24, 0x00, 0xf3, 0xa5]); // mov cx, 24; rep movsw
    for request in 0..3 {
        let at = SCRATCH + request * 16;
        code.extend([0x66, 0xb8]); // mov eax, the request's address, big-endian
        code.extend(u32::from(at).to_be_bytes());
        code.extend([0xba, 0x18, 0x05, 0x66, 0xef]); // mov dx, 0x518; out dx, eax
        let [low, high] = at.to_le_bytes();
        code.extend([0x26, 0x66, 0xa1, low, high]); // mov eax, es:[at]
        code.extend([0x66, 0x85, 0xc0]); // test eax, eax
        code.extend([0x74, 0x02]); // jz over the next
        code.extend([0xcd, 0x18]); // int 0x18: this cannot boot
    }
    code.extend([0xb8, 0x00, 0x10]); // mov ax, the setup's segment
    for segment in [0xd8, 0xc0, 0xe0, 0xe8, 0xd0] {
        code.extend([0x8e, segment]); // mov ds, es, fs, gs and ss, ax
    }
    code.extend([0xbc, 0xf0, 0xff]); // mov sp, 0xfff0
    code.extend([0xea, 0x00, 0x00, 0x20, 0x10]); // jmp 0x1020:0
    code
}
