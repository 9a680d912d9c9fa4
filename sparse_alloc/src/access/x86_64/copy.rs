//! Copies of a few bytes, inline; the entry points of all copies.
//!
//! A small copy is one block: it loads everything, then stores everything, in moves as wide as
//! fit, of which the last may overlap the one before. Only the moves on the guest's side are
//! allowed to fault. If one does, nothing is known of how far it got, and [`again`] finds out:
//! byte by byte, exact to the byte.

use std::arch::asm;

use super::super::{CopyFault, Fault};
use super::bulk;
use super::string::copy_bytes;
use super::word::RawWord;

/// Which side of a copy is the guest's.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Guest {
    Source,
    Destination,
}

/// A block that runs the loads and then the stores. The labels 2 and 3 go around those on the
/// guest's side.
macro_rules! block {
    (source, $($rest:tt)+) => {
        block!(@ "2:", "3:", "", Guest::Source, $($rest)+)
    };
    (destination, $($rest:tt)+) => {
        block!(@ "", "2:", "3:", Guest::Destination, $($rest)+)
    };
    (@ $before:literal, $between:literal, $after:literal, $guest:expr,
     $dst:ident, $src:ident, $len:ident,
     [$($load:literal)+] [$($store:literal)+] $($operands:tt)+) => {
        // SAFETY: the caller owns one side as raw bytes and vouches for the other; every move lies
        // within `len` bytes of either, because the length is at least that of the widest move. A
        // fault on the guest's side leads to the label.
        unsafe {
            asm!(
                $before,
                $($load,)+
                $between,
                $($store,)+
                $after,
                recover_at!("2b", "3b", "{fault}"),
                dst = in(reg) $dst,
                src = in(reg) $src,
                fault = label {
                    // SAFETY: the caller's promise is the same.
                    return unsafe { again($dst, $src, $len, $guest) };
                },
                $($operands)+,
                options(nostack, preserves_flags),
            );
        }
    };
}

/// Chooses the block by the length. Lengths 1, 2, 4 and 8 are a single move, so that an aligned
/// word is never torn.
macro_rules! copy_by_length {
    ($guest:ident, $dst:ident, $src:ident, $len:ident) => {
        match $len {
            33..=64 => block!(
                $guest, $dst, $src, $len,
                ["movups xmm0, [{src}]"
                 "movups xmm1, [{src} + 16]"
                 "movups xmm2, [{src} + {len} - 32]"
                 "movups xmm3, [{src} + {len} - 16]"]
                ["movups [{dst}], xmm0"
                 "movups [{dst} + 16], xmm1"
                 "movups [{dst} + {len} - 32], xmm2"
                 "movups [{dst} + {len} - 16], xmm3"]
                len = in(reg) $len,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _
            ),
            17..=32 => block!(
                $guest, $dst, $src, $len,
                ["movups xmm0, [{src}]"
                 "movups xmm1, [{src} + {len} - 16]"]
                ["movups [{dst}], xmm0"
                 "movups [{dst} + {len} - 16], xmm1"]
                len = in(reg) $len, out("xmm0") _, out("xmm1") _
            ),
            16 => block!(
                $guest, $dst, $src, $len,
                ["movups xmm0, [{src}]"] ["movups [{dst}], xmm0"] out("xmm0") _
            ),
            9..=15 => block!(
                $guest, $dst, $src, $len,
                ["mov {first:r}, [{src}]"
                 "mov {last:r}, [{src} + {len} - 8]"]
                ["mov [{dst}], {first:r}"
                 "mov [{dst} + {len} - 8], {last:r}"]
                len = in(reg) $len, first = out(reg) _, last = out(reg) _
            ),
            8 => block!(
                $guest, $dst, $src, $len,
                ["mov {word:r}, [{src}]"] ["mov [{dst}], {word:r}"] word = out(reg) _
            ),
            5..=7 => block!(
                $guest, $dst, $src, $len,
                ["mov {first:e}, [{src}]"
                 "mov {last:e}, [{src} + {len} - 4]"]
                ["mov [{dst}], {first:e}"
                 "mov [{dst} + {len} - 4], {last:e}"]
                len = in(reg) $len, first = out(reg) _, last = out(reg) _
            ),
            4 => block!(
                $guest, $dst, $src, $len,
                ["mov {word:e}, [{src}]"] ["mov [{dst}], {word:e}"] word = out(reg) _
            ),
            3 => block!(
                $guest, $dst, $src, $len,
                ["movzx {first:e}, word ptr [{src}]"
                 "movzx {last:e}, byte ptr [{src} + 2]"]
                ["mov [{dst}], {first:x}"
                 "mov [{dst} + 2], {last:l}"]
                first = out(reg) _, last = out(reg) _
            ),
            2 => block!(
                $guest, $dst, $src, $len,
                ["movzx {word:e}, word ptr [{src}]"] ["mov [{dst}], {word:x}"] word = out(reg) _
            ),
            1 => block!(
                $guest, $dst, $src, $len,
                ["movzx {word:e}, byte ptr [{src}]"] ["mov [{dst}], {word:l}"] word = out(reg) _
            ),
            0 => {}
            65..=128 => block!(
                $guest, $dst, $src, $len,
                ["movups xmm0, [{src}]"
                 "movups xmm1, [{src} + 16]"
                 "movups xmm2, [{src} + 32]"
                 "movups xmm3, [{src} + 48]"
                 "movups xmm4, [{src} + {len} - 64]"
                 "movups xmm5, [{src} + {len} - 48]"
                 "movups xmm6, [{src} + {len} - 32]"
                 "movups xmm7, [{src} + {len} - 16]"]
                ["movups [{dst}], xmm0"
                 "movups [{dst} + 16], xmm1"
                 "movups [{dst} + 32], xmm2"
                 "movups [{dst} + 48], xmm3"
                 "movups [{dst} + {len} - 64], xmm4"
                 "movups [{dst} + {len} - 48], xmm5"
                 "movups [{dst} + {len} - 32], xmm6"
                 "movups [{dst} + {len} - 16], xmm7"]
                len = in(reg) $len,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _
            ),
            // SAFETY: the caller's promise is the same.
            _ => return unsafe { bulk::$guest::copy($dst, $src, $len) },
        }
    };
}

/// Copies out of guest memory. See [`copy_from`](super::super::copy_from).
#[inline]
pub(in crate::access) unsafe fn copy_from(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), CopyFault> {
    copy_by_length!(source, dst, src, len);
    Ok(())
}

/// Copies into guest memory. See [`copy_to`](super::super::copy_to).
#[inline]
pub(in crate::access) unsafe fn copy_to(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), CopyFault> {
    copy_by_length!(destination, dst, src, len);
    Ok(())
}

/// Copies inside guest memory. See [`copy_between`](super::super::copy_between).
#[inline]
pub(in crate::access) unsafe fn copy_between(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), CopyFault> {
    if len < bulk::LEAST {
        // SAFETY: the caller's promise is the same.
        unsafe { copy_bytes(dst, src, len) }
    } else {
        // SAFETY: the caller's promise is the same; it is long enough.
        unsafe { bulk::both::copy(dst, src, len) }
    }
}

/// Copies once more after a fault, to learn how far it gets. It may succeed, where the memory
/// has come back meanwhile; it is done once, so it never goes on for ever.
///
/// # Safety
///
/// The side that is the guest's is owned as raw bytes; the other is valid.
#[cold]
#[inline(never)]
unsafe fn again(dst: *mut u8, src: *const u8, len: usize, guest: Guest) -> Result<(), CopyFault> {
    let address = match guest {
        Guest::Source => src.addr(),
        Guest::Destination => dst.addr(),
    };
    // A word must stay one access, even here.
    let nothing_done = |fault| CopyFault { done: 0, fault };
    if matches!(len, 2 | 4 | 8) && address.is_multiple_of(len) {
        let copied = match len {
            // SAFETY: the caller's promise is the same, for a word of that length.
            2 => unsafe { copy_word::<u16>(dst.cast(), src.cast(), guest) },
            // SAFETY: as above.
            4 => unsafe { copy_word::<u32>(dst.cast(), src.cast(), guest) },
            // SAFETY: as above.
            _ => unsafe { copy_word::<u64>(dst.cast(), src.cast(), guest) },
        };
        return copied.map_err(nothing_done);
    }
    // SAFETY: the caller's promise is the same.
    unsafe { copy_bytes(dst, src, len) }
}

/// Copies one word, that may be unaligned on the host's side.
///
/// # Safety
///
/// As for [`again`], with the length of a word.
unsafe fn copy_word<T: RawWord>(dst: *mut T, src: *const T, guest: Guest) -> Result<(), Fault> {
    match guest {
        Guest::Source => {
            // SAFETY: the caller owns the source as raw bytes.
            let value = unsafe { T::load(src) }?;
            // SAFETY: the caller vouches for the destination.
            unsafe { dst.write_unaligned(value) };
            Ok(())
        }
        Guest::Destination => {
            // SAFETY: the caller vouches for the source.
            let value = unsafe { src.read_unaligned() };
            // SAFETY: the caller owns the destination as raw bytes.
            unsafe { T::store(dst, value) }
        }
    }
}
