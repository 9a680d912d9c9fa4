//! Kernels to load: as small as the formats allow, of bytes that say where they belong.

/// Bytes that differ from place to place.
pub(crate) fn code(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 253) as u8).collect()
}

/// An executable ELF file for x86-64, of segments with an address and bytes each.
pub(crate) fn elf(entry: u64, segments: &[(u64, &[u8])]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const SEGMENT: u64 = 56;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    // The entry, the program headers, which come next, and no section headers.
    for long in [entry, HEADER, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [
        HEADER as u16,
        SEGMENT as u16,
        segments.len() as u16,
        0,
        0,
        0,
    ] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = HEADER + SEGMENT * segments.len() as u64;
    for (address, bytes) in segments {
        // To be loaded; to be read and executed.
        for word in [1_u32, 5] {
            file.extend(word.to_le_bytes());
        }
        let len = bytes.len() as u64;
        for long in [offset, *address, *address, len, len, 0x1000] {
            file.extend(long.to_le_bytes());
        }
        offset += len;
    }
    for (_, bytes) in segments {
        file.extend_from_slice(bytes);
    }
    file
}

/// A bzImage: two sectors with the setup header, then the kernel.
pub(crate) fn bzimage(kernel: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    // One sector of setup follows the first.
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20c_u16.to_le_bytes());
    // To be loaded high, at 1 MiB.
    file[0x211] = 1;
    file[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    file.extend_from_slice(kernel);
    file
}
