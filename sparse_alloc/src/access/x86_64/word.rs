//! Loads, stores and compare-exchanges of one word.

use std::arch::asm;
use std::hint::cold_path;

use super::super::Fault;

/// What [`Word`](super::super::Word) needs of the processor. Public in a private module, so that
/// nobody else can implement it.
///
/// In every function the address is `base + offset`. The caller promises that the address is
/// memory that it owns as raw bytes; whether it is mapped does not matter.
pub trait RawWord: Copy + Eq + std::ops::BitOr<Output = Self> {
    /// The value 0.
    const ZERO: Self;

    /// Loads from `src`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn load(src: *const Self) -> Result<Self, Fault>;

    /// Loads from `base + offset`, which is left to the addressing mode.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn load_at(base: *const u8, offset: usize) -> Result<Self, Fault>;

    /// Stores to `dst`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn store(dst: *mut Self, value: Self) -> Result<(), Fault>;

    /// Stores to `base + offset`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn store_at(base: *mut u8, offset: usize, value: Self) -> Result<(), Fault>;

    /// Exchanges `current` for `new` at `dst`; returns what was there.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn exchange(dst: *mut Self, current: Self, new: Self) -> Result<Self, Fault>;

    /// Exchanges `current` for `new` at `base + offset`; returns what was there.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn exchange_at(
        base: *mut u8,
        offset: usize,
        current: Self,
        new: Self,
    ) -> Result<Self, Fault>;
}

/// Turns a status register into a result. The fault is a branch and never a conditional move:
/// that would make everything that depends on the value wait for the status too.
#[inline(always)]
fn checked<T>(value: T, status: u64) -> Result<T, Fault> {
    match Fault::from_status(status) {
        None => Ok(value),
        Some(fault) => {
            cold_path();
            Err(fault)
        }
    }
}

/// `$load` and `$store` are the instructions up to the comma, `$value` how the value's register
/// is written, `$class` its register class, `$loaded` the type it is loaded as: small words are
/// extended, which breaks the dependence on the register's old value.
macro_rules! raw_word {
    ($word:ty, $loaded:ty, $load:literal, $size:literal, $value:literal, $class:ident, $acc:tt) => {
        impl RawWord for $word {
            const ZERO: Self = 0;

            #[inline(always)]
            unsafe fn load(src: *const Self) -> Result<Self, Fault> {
                let value: $loaded;
                let status: u64;
                // SAFETY: the one access is a load from memory that the caller owns as raw bytes;
                // if it faults, the entry makes the block end with the status set.
                unsafe {
                    asm!(
                        concat!("2: ", $load, " [{src}]"),
                        "3:",
                        recover_with_status!("2b", "3b", "3b", "{status:r}"),
                        src = in(reg) src,
                        value = lateout(reg) value,
                        status = inout(reg) 0u64 => status,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                checked(value as Self, status)
            }

            #[inline(always)]
            unsafe fn load_at(base: *const u8, offset: usize) -> Result<Self, Fault> {
                let value: $loaded;
                let status: u64;
                // SAFETY: as in `load`.
                unsafe {
                    asm!(
                        concat!("2: ", $load, " [{base} + {offset}]"),
                        "3:",
                        recover_with_status!("2b", "3b", "3b", "{status:r}"),
                        base = in(reg) base,
                        offset = in(reg) offset,
                        value = lateout(reg) value,
                        status = inout(reg) 0u64 => status,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                checked(value as Self, status)
            }

            #[inline(always)]
            unsafe fn store(dst: *mut Self, value: Self) -> Result<(), Fault> {
                // SAFETY: the one access is a store to memory that the caller owns as raw bytes;
                // if it faults, the entry leads to the label, with every register unchanged.
                unsafe {
                    asm!(
                        concat!("2: mov ", $size, " ptr [{dst}], ", $value),
                        "3:",
                        recover_at!("2b", "3b", "{fault}"),
                        dst = in(reg) dst,
                        value = in($class) value,
                        fault = label {
                            // SAFETY: the caller's promise is the same.
                            return unsafe { store_again(dst, value) };
                        },
                        options(nostack, preserves_flags),
                    );
                }
                Ok(())
            }

            #[inline(always)]
            unsafe fn store_at(base: *mut u8, offset: usize, value: Self) -> Result<(), Fault> {
                // SAFETY: as in `store`.
                unsafe {
                    asm!(
                        concat!("2: mov ", $size, " ptr [{base} + {offset}], ", $value),
                        "3:",
                        recover_at!("2b", "3b", "{fault}"),
                        base = in(reg) base,
                        offset = in(reg) offset,
                        value = in($class) value,
                        fault = label {
                            let dst = base.wrapping_add(offset).cast();
                            // SAFETY: the caller's promise is the same.
                            return unsafe { store_again(dst, value) };
                        },
                        options(nostack, preserves_flags),
                    );
                }
                Ok(())
            }

            #[inline(always)]
            unsafe fn exchange(dst: *mut Self, current: Self, new: Self) -> Result<Self, Fault> {
                let previous: Self;
                let status: u64;
                // SAFETY: as in `load`, with a locked exchange for the access.
                unsafe {
                    asm!(
                        concat!("2: lock cmpxchg ", $size, " ptr [{dst}], ", $value),
                        "3:",
                        recover_with_status!("2b", "3b", "3b", "{status:r}"),
                        dst = in(reg) dst,
                        value = in($class) new,
                        status = inout(reg) 0u64 => status,
                        inout($acc) current => previous,
                        options(nostack),
                    );
                }
                checked(previous, status)
            }

            #[inline(always)]
            unsafe fn exchange_at(
                base: *mut u8,
                offset: usize,
                current: Self,
                new: Self,
            ) -> Result<Self, Fault> {
                let previous: Self;
                let status: u64;
                // SAFETY: as in `exchange`.
                unsafe {
                    asm!(
                        concat!("2: lock cmpxchg ", $size, " ptr [{base} + {offset}], ", $value),
                        "3:",
                        recover_with_status!("2b", "3b", "3b", "{status:r}"),
                        base = in(reg) base,
                        offset = in(reg) offset,
                        value = in($class) new,
                        status = inout(reg) 0u64 => status,
                        inout($acc) current => previous,
                        options(nostack),
                    );
                }
                checked(previous, status)
            }
        }

        impl StoreAgain for $word {
            unsafe fn store_with_status(dst: *mut Self, value: Self) -> Result<(), Fault> {
                let status: u64;
                // SAFETY: as in `load`, with a store for the access.
                unsafe {
                    asm!(
                        concat!("2: mov ", $size, " ptr [{dst}], ", $value),
                        "3:",
                        recover_with_status!("2b", "3b", "3b", "{status:r}"),
                        dst = in(reg) dst,
                        value = in($class) value,
                        status = inout(reg) 0u64 => status,
                        options(nostack, preserves_flags),
                    );
                }
                checked((), status)
            }
        }
    };
}

/// A store that reports its fault, after the one that spends nothing on success has faulted.
trait StoreAgain: Sized {
    /// Stores `value` at `dst`.
    ///
    /// # Safety
    /// As for [`RawWord`].
    unsafe fn store_with_status(dst: *mut Self, value: Self) -> Result<(), Fault>;
}

/// Stores once more to learn what the fault was. It may succeed, where the memory has come back
/// meanwhile; it is done once, so it never goes on for ever.
///
/// # Safety
/// As for [`RawWord`].
#[cold]
#[inline(never)]
unsafe fn store_again<T: StoreAgain>(dst: *mut T, value: T) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    unsafe { T::store_with_status(dst, value) }
}

raw_word!(
    u8,
    u32,
    "movzx {value:e}, byte ptr",
    "byte",
    "{value}",
    reg_byte,
    "al"
);
raw_word!(
    u16,
    u32,
    "movzx {value:e}, word ptr",
    "word",
    "{value:x}",
    reg,
    "ax"
);
raw_word!(
    u32,
    u32,
    "mov {value:e}, dword ptr",
    "dword",
    "{value:e}",
    reg,
    "eax"
);
raw_word!(
    u64,
    u64,
    "mov {value:r}, qword ptr",
    "qword",
    "{value:r}",
    reg,
    "rax"
);
