//! The operations, and what each asks and promises.

use std::cmp::Ordering;
use std::mem::MaybeUninit;

use super::x86_64::{self, RawWord};
use super::{CopyFault, Fault};

/// A word that is accessed whole: `u8`, `u16`, `u32` or `u64`. Sealed.
pub trait Word: RawWord + Into<u64> + Ord + std::fmt::Debug + Send + Sync + 'static {}

impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// Loads a word of guest memory.
///
/// One access if `src` is aligned; otherwise it may be torn. Relaxed: see the
/// [module](super) on order.
///
/// # Errors
///
/// [`Fault`] if the word, or a part of it, can't be read.
///
/// # Safety
///
/// The word at `src` lies in address space that the caller owns as raw bytes. It need not be
/// aligned, mapped or readable.
///
/// ```
/// use sparse_alloc::access;
///
/// access::install()?;
/// let word = 7_u32;
/// // SAFETY: `word` is readable.
/// assert_eq!(unsafe { access::load(&raw const word) }, Ok(7));
/// # Ok::<(), access::InstallError>(())
/// ```
#[inline(always)]
pub unsafe fn load<T: Word>(src: *const T) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    unsafe { T::load(src) }
}

/// Loads a word at `base + offset`. The same as [`load`], but the addition costs nothing.
///
/// # Errors
///
/// As [`load`].
///
/// # Safety
///
/// As [`load`], for the word `offset` bytes after `base`, which must not wrap.
#[inline(always)]
pub unsafe fn load_at<T: Word>(base: *const u8, offset: usize) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    unsafe { T::load_at(base, offset) }
}

/// Stores a word to guest memory.
///
/// One access if `dst` is aligned; otherwise it may be torn. Relaxed: see the
/// [module](super) on order.
///
/// # Errors
///
/// [`Fault`] if the word, or a part of it, can't be written; then nothing was.
///
/// # Safety
///
/// The word at `dst` lies in address space that the caller owns as raw bytes. It need not be
/// aligned, mapped or writable.
#[inline(always)]
pub unsafe fn store<T: Word>(dst: *mut T, value: T) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    unsafe { T::store(dst, value) }
}

/// Stores a word at `base + offset`. The same as [`store`], but the addition costs nothing.
///
/// # Errors
///
/// As [`store`].
///
/// # Safety
///
/// As [`store`], for the word `offset` bytes after `base`, which must not wrap.
#[inline(always)]
pub unsafe fn store_at<T: Word>(base: *mut u8, offset: usize, value: T) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    unsafe { T::store_at(base, offset, value) }
}

/// Exchanges `current` for `new` in guest memory, atomically and sequentially consistent.
///
/// The inner result is `Ok(current)` if the exchange took place, and `Err` with what was there
/// instead if not. `dst` should be aligned: an exchange across two cache lines stops the whole
/// machine for a moment, and some hosts refuse it ([`FaultKind::Misaligned`]).
///
/// # Errors
///
/// [`Fault`] if the word can't be written, even where the comparison would fail: the processor
/// checks first.
///
/// # Safety
///
/// As [`store`].
///
/// [`FaultKind::Misaligned`]: super::FaultKind::Misaligned
#[inline(always)]
pub unsafe fn compare_exchange<T: Word>(
    dst: *mut T,
    current: T,
    new: T,
) -> Result<Result<T, T>, Fault> {
    // SAFETY: the caller's promise.
    let previous = unsafe { T::exchange(dst, current, new) }?;
    Ok(if previous == current {
        Ok(previous)
    } else {
        Err(previous)
    })
}

/// Exchanges at `base + offset`. The same as [`compare_exchange`], but the addition costs nothing.
///
/// # Errors
///
/// As [`compare_exchange`].
///
/// # Safety
///
/// As [`compare_exchange`], for the word `offset` bytes after `base`, which must not wrap.
#[inline(always)]
pub unsafe fn compare_exchange_at<T: Word>(
    base: *mut u8,
    offset: usize,
    current: T,
    new: T,
) -> Result<Result<T, T>, Fault> {
    // SAFETY: the caller's promise.
    let previous = unsafe { T::exchange_at(base, offset, current, new) }?;
    Ok(if previous == current {
        Ok(previous)
    } else {
        Err(previous)
    })
}

/// Sets bits in a word of guest memory, atomically and sequentially consistent; returns what was
/// there before.
///
/// It is always a write, even where all the bits are set. Where another thread, or the guest,
/// changes the word all the time, it takes as many attempts as that takes: each one that fails
/// means that somebody else got on.
///
/// # Errors
///
/// As [`compare_exchange`].
///
/// # Safety
///
/// As [`compare_exchange`].
#[inline]
pub unsafe fn fetch_or<T: Word>(dst: *mut T, bits: T) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    let mut current = unsafe { T::load(dst) }?;
    loop {
        // SAFETY: the caller's promise.
        let previous = unsafe { T::exchange(dst, current, current | bits) }?;
        if previous == current {
            return Ok(previous);
        }
        current = previous;
    }
}

/// Copies `len` bytes out of guest memory.
///
/// An empty copy does nothing and succeeds. Where guest and host overlap, which the contract
/// forbids, the bytes are unspecified.
///
/// # Errors
///
/// [`CopyFault`] if a byte can't be read. The bytes before it are copied; those after it are left
/// as they were.
///
/// # Safety
///
/// The `len` bytes at `src` lie in address space that the caller owns as raw bytes; they need not
/// be mapped or readable. `dst` is valid for writes of `len` bytes, and is not in guest memory.
#[inline]
pub unsafe fn copy_from(dst: *mut u8, src: *const u8, len: usize) -> Result<(), CopyFault> {
    // SAFETY: the caller's promise.
    unsafe { x86_64::copy_from(dst, src, len) }
}

/// Copies `len` bytes into guest memory.
///
/// An empty copy does nothing and succeeds. Where it faults, some of the bytes before the fault
/// may be written twice.
///
/// # Errors
///
/// [`CopyFault`] if a byte can't be written. The bytes before it are; those after it are not.
///
/// # Safety
///
/// The `len` bytes at `dst` lie in address space that the caller owns as raw bytes; they need not
/// be mapped or writable. `src` is valid for reads of `len` bytes, and is not in guest memory.
#[inline]
pub unsafe fn copy_to(dst: *mut u8, src: *const u8, len: usize) -> Result<(), CopyFault> {
    // SAFETY: the caller's promise.
    unsafe { x86_64::copy_to(dst, src, len) }
}

/// Copies `len` bytes from one place in guest memory to another.
///
/// Where the two overlap, in host addresses or because both show the same backing, the bytes are
/// unspecified. An aligned word may be torn. An empty copy does nothing and succeeds. Where it
/// faults, some of the bytes before the fault may be copied twice.
///
/// # Errors
///
/// [`CopyFault`] if a byte can't be read or can't be written; the fault's address tells which. The
/// bytes before it are copied; those after it are not.
///
/// # Safety
///
/// The `len` bytes at `dst` and at `src` lie in address space that the caller owns as raw bytes.
#[inline]
pub unsafe fn copy_between(dst: *mut u8, src: *const u8, len: usize) -> Result<(), CopyFault> {
    // SAFETY: the caller's promise.
    unsafe { x86_64::copy_between(dst, src, len) }
}

/// Sets `len` bytes of guest memory to `byte`.
///
/// A fill of exactly 1, 2, 4 or 8 bytes at an address aligned to its length is one access. An
/// empty fill does nothing and succeeds.
///
/// # Errors
///
/// [`CopyFault`] if a byte can't be written. The bytes before it are; those after it are not.
///
/// # Safety
///
/// The `len` bytes at `dst` lie in address space that the caller owns as raw bytes; they need not
/// be mapped or writable.
#[inline]
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Result<(), CopyFault> {
    let pattern = u64::from_ne_bytes([byte; 8]);
    let word = match len {
        0 => return Ok(()),
        // SAFETY: the caller's promise, for a word of that length.
        1 => unsafe { u8::store(dst, byte) },
        // SAFETY: as above.
        2 if dst.addr().is_multiple_of(2) => unsafe { u16::store(dst.cast(), pattern as u16) },
        // SAFETY: as above.
        4 if dst.addr().is_multiple_of(4) => unsafe { u32::store(dst.cast(), pattern as u32) },
        // SAFETY: as above.
        8 if dst.addr().is_multiple_of(8) => unsafe { u64::store(dst.cast(), pattern) },
        // SAFETY: the caller's promise.
        _ => return unsafe { x86_64::fill_bytes(dst, byte, len) },
    };
    word.map_err(|fault| CopyFault { done: 0, fault })
}

/// Compares `len` bytes of guest memory with as many of the host's, as `memcmp` does.
///
/// `Less` says that the guest's are less. Empty ranges are equal.
///
/// # Errors
///
/// [`CopyFault`] if a byte can't be read and all the bytes before it are equal. Where an earlier
/// byte differs, that decides, and nothing behind it matters.
///
/// # Safety
///
/// The `len` bytes at `guest` lie in address space that the caller owns as raw bytes; they need not
/// be mapped or readable. `host` is valid for reads of `len` bytes, and is not in guest memory.
pub unsafe fn compare(
    guest: *const u8,
    host: *const u8,
    len: usize,
) -> Result<Ordering, CopyFault> {
    // By way of a buffer: what is compared must not change between two looks at it.
    const CHUNK: usize = 128;
    let mut buffer = MaybeUninit::<[u8; CHUNK]>::uninit();
    let bytes = buffer.as_mut_ptr().cast::<u8>();
    let mut at = 0;
    while at < len {
        let chunk = CHUNK.min(len - at);
        // SAFETY: the chunk lies within the caller's `len` bytes, and in the buffer.
        let copied = unsafe { x86_64::copy_from(bytes, guest.wrapping_add(at), chunk) };
        let readable = match copied {
            Ok(()) => chunk,
            Err(fault) => fault.done,
        };
        // SAFETY: the copy wrote that many bytes of the buffer.
        let theirs = unsafe { std::slice::from_raw_parts(bytes, readable) };
        // SAFETY: the caller vouches for the host's bytes, and no one writes them meanwhile.
        let ours = unsafe { std::slice::from_raw_parts(host.wrapping_add(at), readable) };
        let order = theirs.cmp(ours);
        if order.is_ne() {
            return Ok(order);
        }
        copied.map_err(|fault| fault.after(at))?;
        at += chunk;
    }
    Ok(Ordering::Equal)
}
