//! Copies that tear no word.

use sparse_alloc::access::{self, CopyFault};

/// Copies out of guest memory, by the widest words that lie aligned there: no aligned word of up
/// to 8 bytes, all of which is copied, is torn. A fault stops it between two words; an aligned word
/// crosses no page, so it gets as far as it can.
///
/// # Safety
///
/// As for [`access::copy_from`].
pub(super) unsafe fn copy_words_from(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), CopyFault> {
    each_word(src, len, |at, len| {
        let (dst, src) = (dst.wrapping_add(at), src.wrapping_add(at));
        // SAFETY: the caller's promise, for a part of the range. A copy of an aligned word is one
        // access.
        unsafe { access::copy_from(dst, src, len) }
    })
}

/// Copies into guest memory; for the rest as [`copy_words_from`].
///
/// # Safety
///
/// As for [`access::copy_to`].
pub(super) unsafe fn copy_words_to(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), CopyFault> {
    each_word(dst, len, |at, len| {
        let (dst, src) = (dst.wrapping_add(at), src.wrapping_add(at));
        // SAFETY: the caller's promise, for a part of the range. A copy of an aligned word is one
        // access.
        unsafe { access::copy_to(dst, src, len) }
    })
}

/// Calls `copy` with offset and length of one word after the other.
#[inline(always)]
fn each_word(
    guest: *const u8,
    len: usize,
    mut copy: impl FnMut(usize, usize) -> Result<(), CopyFault>,
) -> Result<(), CopyFault> {
    let mut done = 0;
    let mut step = |done: &mut usize, len| {
        copy(*done, len).map_err(|fault| fault.after(*done))?;
        // Does not wrap: at most the whole length.
        *done = done.wrapping_add(len);
        Ok(())
    };
    while done < len {
        let address = guest.wrapping_add(done).addr();
        let rest = len.wrapping_sub(done);
        match rest {
            8.. if address & 7 == 0 => {
                // Most of it, where the length is known to the compiler.
                for _ in 0..rest / 8 {
                    step(&mut done, 8)?;
                }
            }
            4.. if address & 3 == 0 => step(&mut done, 4)?,
            2.. if address & 1 == 0 => step(&mut done, 2)?,
            _ => step(&mut done, 1)?,
        }
    }
    Ok(())
}
