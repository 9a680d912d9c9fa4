//! Copies of many bytes, out of line.
//!
//! They run in blocks of four registers as wide as the processor has. The string instruction
//! `rep movsb` loses to them: measured on Zen 4 it is never faster, and up to 20 times slower when
//! the destination is not aligned, whatever the feature flags (ERMS, FSRM) promise. What it is
//! good for is exactness: after a fault it copies what is left, and its counter tells to the byte
//! how far it got.

use std::arch::asm;

use super::super::{CopyFault, Fault};
use super::string::copy_bytes;

/// The least length that the functions here copy: four of the widest registers.
pub(super) const LEAST: usize = 128;

/// Defines a copy of at least four registers. The last four are copied apart, and may overlap
/// those before them.
///
/// The labels 2 and 3 in the loop, and 4 and 5 behind it, go around the moves that may fault: the
/// first two strings of each stand before and after the loads, the third after the stores.
macro_rules! copy_blocks {
    (
        $(#[$attribute:meta])*
        $name:ident, $move:literal, $width:literal, $finish:literal,
        [$r0:tt, $r1:tt, $r2:tt, $r3:tt $(, $also_lost:tt)*],
        [$before:literal, $between:literal, $after:literal],
        [$last_before:literal, $last_between:literal, $last_after:literal]
    ) => {
        /// Copies at least four registers full of bytes.
        ///
        /// # Safety
        ///
        /// The sides that may fault are owned as raw bytes; the other is valid. `len` is at least
        /// [`LEAST`]. The processor has the registers.
        $(#[$attribute])*
        pub(super) unsafe fn $name(dst: *mut u8, src: *const u8, len: usize) -> Result<(), CopyFault> {
            const BLOCK: usize = 4 * $width;
            const { assert!(BLOCK <= LEAST) };
            let reached: *const u8;
            let status: u64;
            // SAFETY: the loop stops before the last block, so every move lies within `len` bytes
            // of either side. If one faults, its entry makes the block end with the status set,
            // and with the source where the loop had got.
            unsafe {
                asm!(
                    ".p2align 5",
                    "6:",
                    $before,
                    concat!($move, " ", $r0, ", [{src}]"),
                    concat!($move, " ", $r1, ", [{src} + {width}]"),
                    concat!($move, " ", $r2, ", [{src} + 2*{width}]"),
                    concat!($move, " ", $r3, ", [{src} + 3*{width}]"),
                    $between,
                    concat!($move, " [{dst}], ", $r0),
                    concat!($move, " [{dst} + {width}], ", $r1),
                    concat!($move, " [{dst} + 2*{width}], ", $r2),
                    concat!($move, " [{dst} + 3*{width}], ", $r3),
                    $after,
                    "add {src}, 4*{width}",
                    "add {dst}, 4*{width}",
                    "cmp {src}, {last_src}",
                    "jb 6b",
                    $last_before,
                    concat!($move, " ", $r0, ", [{last_src}]"),
                    concat!($move, " ", $r1, ", [{last_src} + {width}]"),
                    concat!($move, " ", $r2, ", [{last_src} + 2*{width}]"),
                    concat!($move, " ", $r3, ", [{last_src} + 3*{width}]"),
                    $last_between,
                    concat!($move, " [{last_dst}], ", $r0),
                    concat!($move, " [{last_dst} + {width}], ", $r1),
                    concat!($move, " [{last_dst} + 2*{width}], ", $r2),
                    concat!($move, " [{last_dst} + 3*{width}], ", $r3),
                    $last_after,
                    "7:",
                    $finish,
                    recover_with_status!("2b", "3b", "7b", "{status:r}"),
                    recover_with_status!("4b", "5b", "7b", "{status:r}"),
                    width = const $width,
                    src = inout(reg) src => reached,
                    dst = inout(reg) dst => _,
                    last_src = in(reg) src.wrapping_add(len - BLOCK),
                    last_dst = in(reg) dst.wrapping_add(len - BLOCK),
                    status = inout(reg) 0u64 => status,
                    out($r0) _,
                    out($r1) _,
                    out($r2) _,
                    out($r3) _,
                    $(out($also_lost) _,)*
                    options(nostack),
                );
            }
            if Fault::from_status(status).is_none() {
                return Ok(());
            }
            // SAFETY: the caller's promise is the same; the loop has copied what lies before.
            unsafe { copy_rest(dst, src, reached.addr() - src.addr(), len) }
        }
    };
}

/// Copies what is left after a fault in a block, to learn how far it gets. It may succeed, where
/// the memory has come back meanwhile; it is done once, so it never goes on for ever.
///
/// # Safety
///
/// As for the copy that faulted; `done` is at most `len`.
#[cold]
#[inline(never)]
unsafe fn copy_rest(
    dst: *mut u8,
    src: *const u8,
    done: usize,
    len: usize,
) -> Result<(), CopyFault> {
    // SAFETY: the caller's promise, for a part of the ranges.
    unsafe { copy_bytes(dst.wrapping_add(done), src.wrapping_add(done), len - done) }
        .map_err(|fault| fault.after(done))
}

/// Defines the two copies, by AVX and by what every x86-64 has, for one choice of the sides that
/// may fault, and the choice between the two.
macro_rules! copy_with_guest {
    ($(#[$doc:meta])* $side:ident, $labels:tt, $last_labels:tt) => {
        $(#[$doc])*
        pub(super) mod $side {
            use super::*;

            // `vzeroupper` clears half of every register, of those beyond the first four too.
            copy_blocks!(
                #[target_feature(enable = "avx")]
                by_avx, "vmovdqu", 32, "vzeroupper",
                ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9",
                 "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15"],
                $labels, $last_labels
            );
            copy_blocks!(
                by_sse, "movups", 16, "", ["xmm0", "xmm1", "xmm2", "xmm3"],
                $labels, $last_labels
            );

            /// Copies at least [`LEAST`] bytes.
            ///
            /// # Safety
            ///
            /// The side that may fault is owned as raw bytes; the other is valid.
            #[inline(never)]
            pub(in super::super) unsafe fn copy(
                dst: *mut u8,
                src: *const u8,
                len: usize,
            ) -> Result<(), CopyFault> {
                if std::arch::is_x86_feature_detected!("avx") {
                    // SAFETY: the caller's promise; the processor has the registers.
                    unsafe { by_avx(dst, src, len) }
                } else {
                    // SAFETY: the caller's promise; every x86-64 has the registers.
                    unsafe { by_sse(dst, src, len) }
                }
            }
        }
    };
}

copy_with_guest!(
    /// Copies out of the guest: the loads may fault.
    source, ["2:", "3:", ""], ["4:", "5:", ""]
);
copy_with_guest!(
    /// Copies into the guest: the stores may fault.
    destination, ["", "2:", "3:"], ["", "4:", "5:"]
);
copy_with_guest!(
    /// Copies inside the guest: loads and stores may fault.
    both, ["2:", "", "3:"], ["4:", "", "5:"]
);

#[cfg(test)]
mod tests {
    use super::super::super::{FaultKind, install};
    use super::*;

    type Copy = unsafe fn(*mut u8, *const u8, usize) -> Result<(), CopyFault>;

    const PAGE: usize = 4096;

    /// Maps a page that is there, and behind it one that is not. It stays mapped.
    fn page_before_nothing() -> *mut u8 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * PAGE, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let missing = start.wrapping_byte_add(PAGE);
        // SAFETY: the page was mapped just now.
        assert_eq!(unsafe { libc::mprotect(missing, PAGE, libc::PROT_NONE) }, 0);
        start.cast()
    }

    /// Copies with `before` bytes in front of the missing page, for every such number.
    fn check(source: Copy, destination: Copy, both: Copy) {
        install().unwrap();
        let guest = page_before_nothing();
        let pattern = (0..2000)
            .map(|i| (i * 7 + i / 256) as u8)
            .collect::<Vec<_>>();
        for len in [LEAST, 129, 191, 192, 193, 255, 256, 257, 384, 400, 1000] {
            for before in 0..=len + 1 {
                let start = guest.wrapping_add(PAGE - before);
                let expected = if before < len {
                    Err(CopyFault {
                        done: before,
                        fault: Fault::new(guest.addr() + PAGE, FaultKind::Access),
                    })
                } else {
                    Ok(())
                };
                let done = before.min(len);
                let bytes = &pattern[before % 64..];
                for copy in [destination, both] {
                    // SAFETY: the pattern is long enough; the pages are raw bytes.
                    assert_eq!(unsafe { copy(start, bytes.as_ptr(), len) }, expected);
                    let mut written = vec![0; done];
                    // SAFETY: that much lies before the missing page.
                    unsafe { start.copy_to_nonoverlapping(written.as_mut_ptr(), done) };
                    assert!(written == bytes[..done], "{len} {before}");
                }
                for copy in [source, both] {
                    let mut host = vec![0xee; len];
                    // SAFETY: `host` is as long; the pages are raw bytes.
                    assert_eq!(unsafe { copy(host.as_mut_ptr(), start, len) }, expected);
                    assert!(host[..done] == bytes[..done], "{len} {before}");
                    assert!(host[done..].iter().all(|byte| *byte == 0xee));
                }
            }
        }
    }

    #[test]
    fn without_avx() {
        check(source::by_sse, destination::by_sse, both::by_sse);
    }

    #[test]
    fn with_avx() {
        if !std::arch::is_x86_feature_detected!("avx") {
            return println!("skipped: this processor has no AVX");
        }
        check(source::by_avx, destination::by_avx, both::by_avx);
    }
}
