//! The loops. The guest holds zeroes only, which the compiler does not know.
//!
//! A loop of a nanosecond takes up to twice as long where it crosses a cache line, so every loop
//! stands at several [places](PLACES), and the slices take turns there too.

use crate::memory::Memory;
use std::arch::asm;
use std::hint::black_box;
use std::marker::PhantomData;

/// The host's side of the copies, the same for everyone.
#[repr(C, align(64))]
pub(crate) struct Host {
    bytes: [u8; 4096],
}

impl Host {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self { bytes: [0; 4096] })
    }
}

/// At how many places each loop stands: the compiler starts it at a multiple of 16 bytes, of which
/// a cache line has four.
pub(crate) const PLACES: usize = 4;

/// Moves the code behind it to the place `PLACE` in a cache line.
#[inline(always)]
pub(crate) fn place<const PLACE: usize>() {
    // SAFETY: nothing but instructions that do nothing.
    unsafe {
        asm!(".p2align 6", ".nops {bytes}", bytes = const 16 * PLACE + 1,
            options(nomem, nostack, preserves_flags));
    }
}

/// Computes a value in such a way that nobody sees that it is the same. Where a load has the
/// registers of the store before it for its address, a processor may pass the value on and go on
/// without either; and then nothing is chained, however far away the memory is.
#[inline(always)]
fn anew(gpa: u64) -> u64 {
    let same;
    // SAFETY: an addition of zero.
    unsafe {
        asm!("lea {same}, [{gpa}]", gpa = in(reg) gpa, same = lateout(reg) same,
            options(pure, nomem, nostack, preserves_flags));
    }
    same
}

/// One pass over addresses.
pub(crate) trait Workload {
    /// The length of an access.
    const LEN: u64;

    /// Runs over the addresses, in the loop at one of the [`PLACES`].
    fn run<M: Memory, const PLACE: usize>(
        memory: &M,
        addresses: &[u64],
        host: &mut Host,
    ) -> Result<u64, M::Error>;
}

/// One access to a word.
pub(crate) trait WordAccess {
    /// The length of the word.
    const LEN: u64;

    /// Makes the access; `value`, where one is written, is zero, and so is the result.
    fn access<M: Memory>(memory: &M, gpa: u64, value: u64) -> Result<u64, M::Error>;
}

/// Each address depends on what the access before it returned.
pub(crate) struct Chain<A>(PhantomData<A>);

impl<A: WordAccess> Workload for Chain<A> {
    const LEN: u64 = A::LEN;

    #[inline(never)]
    fn run<M: Memory, const PLACE: usize>(
        memory: &M,
        addresses: &[u64],
        _: &mut Host,
    ) -> Result<u64, M::Error> {
        place::<PLACE>();
        let value = black_box(0);
        let mut last = 0;
        for gpa in addresses {
            last = A::access(memory, gpa ^ last, value)?;
        }
        Ok(last)
    }
}

/// No access depends on another.
pub(crate) struct Throughput<A>(PhantomData<A>);

impl<A: WordAccess> Workload for Throughput<A> {
    const LEN: u64 = A::LEN;

    #[inline(never)]
    fn run<M: Memory, const PLACE: usize>(
        memory: &M,
        addresses: &[u64],
        _: &mut Host,
    ) -> Result<u64, M::Error> {
        place::<PLACE>();
        let value = black_box(0);
        let mut sum = 0_u64;
        for gpa in addresses {
            sum = sum.wrapping_add(A::access(memory, *gpa, value)?);
        }
        Ok(sum)
    }
}

/// Implements [`WordAccess`].
macro_rules! word_access {
    ($(#[$doc:meta])* $name:ident, $word:ty, |$memory:ident, $gpa:ident, $value:ident| $access:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl WordAccess for $name {
            const LEN: u64 = size_of::<$word>() as u64;

            #[inline(always)]
            fn access<M: Memory>($memory: &M, $gpa: u64, $value: u64) -> Result<u64, M::Error> {
                $access
            }
        }
    };
}

word_access!(
    /// Reads a `u64`.
    Read, u64, |memory, gpa, _value| memory.read_u64(gpa)
);
word_access!(
    /// Writes a `u64`.
    Write, u64, |memory, gpa, value| memory.write_u64(gpa, value).map(|()| 0)
);
word_access!(
    /// Writes a `u64` and reads it back: nothing else can depend on a write.
    WriteAndReadBack, u64, |memory, gpa, value| {
        memory.write_u64(gpa, value)?;
        memory.read_u64(anew(gpa))
    }
);
word_access!(
    /// Loads a `u32`.
    Load, u32, |memory, gpa, _value| memory.load_u32(gpa).map(u64::from)
);
word_access!(
    /// Stores a `u32`.
    Store, u32, |memory, gpa, value| memory.store_u32(gpa, value as u32).map(|()| 0)
);
word_access!(
    /// Stores a `u32` and loads it back.
    StoreAndLoadBack, u32, |memory, gpa, value| {
        memory.store_u32(gpa, value as u32)?;
        memory.load_u32(anew(gpa)).map(u64::from)
    }
);
word_access!(
    /// Exchanges a `u32`, which succeeds.
    Exchange, u32, |memory, gpa, value| {
        memory.exchange_u32(gpa, value as u32, value as u32).map(u64::from)
    }
);

/// Copies out of the guest. The compiler knows the length if `KNOWN`; otherwise it is that of a
/// slice, of which it knows nothing.
pub(crate) struct CopyOut<const LENGTH: usize, const KNOWN: bool>;

impl<const LENGTH: usize, const KNOWN: bool> Workload for CopyOut<LENGTH, KNOWN> {
    const LEN: u64 = LENGTH as u64;

    #[inline(never)]
    fn run<M: Memory, const PLACE: usize>(
        memory: &M,
        addresses: &[u64],
        host: &mut Host,
    ) -> Result<u64, M::Error> {
        place::<PLACE>();
        let len = if KNOWN { LENGTH } else { black_box(LENGTH) };
        let bytes = &mut host.bytes[..len];
        for gpa in addresses {
            memory.read(*gpa, bytes)?;
            black_box(&mut *bytes);
        }
        Ok(0)
    }
}

/// Copies into the guest.
pub(crate) struct CopyIn<const LENGTH: usize, const KNOWN: bool>;

impl<const LENGTH: usize, const KNOWN: bool> Workload for CopyIn<LENGTH, KNOWN> {
    const LEN: u64 = LENGTH as u64;

    #[inline(never)]
    fn run<M: Memory, const PLACE: usize>(
        memory: &M,
        addresses: &[u64],
        host: &mut Host,
    ) -> Result<u64, M::Error> {
        place::<PLACE>();
        let len = if KNOWN { LENGTH } else { black_box(LENGTH) };
        let bytes = &host.bytes[..len];
        for gpa in addresses {
            memory.write(*gpa, black_box(bytes))?;
        }
        Ok(0)
    }
}
