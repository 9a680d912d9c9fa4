//! Address space that was mapped where the kernel found room, and goes when its owner goes.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sys::{self, Calls, Content};

/// A piece of address space that belongs to whoever holds this, and to nobody else.
///
/// Invariant: `whole..whole + len` was mapped by this process through [`sys`] and has not been given
/// back; `len` is above zero and in whole pages. `base` lies in it, so far from its end that what was
/// asked for fits in.
#[derive(Debug)]
pub(crate) struct OwnedPages {
    whole: NonNull<u8>,
    base: NonNull<u8>,
    len: usize,
    calls: Arc<Calls>,
}

// SAFETY: the type is an address and a length. It gives nobody a reference to the bytes, and
// whoever accesses them through the address answers for how.
unsafe impl Send for OwnedPages {}
// SAFETY: as for Send; no method changes the fields through a shared reference.
unsafe impl Sync for OwnedPages {}

impl OwnedPages {
    /// Maps `len` bytes of `content`, at least one page, where the kernel finds room.
    pub(crate) fn new(calls: &Arc<Calls>, len: usize, content: Content<'_>) -> io::Result<Self> {
        let whole = sys::map_anywhere(calls, len, content)?;
        Ok(Self {
            whole,
            base: whole,
            len,
            calls: Arc::clone(calls),
        })
    }

    /// Reserves `len` bytes at a multiple of `align`, a power of two.
    ///
    /// What is asked for on top to find such an address stays reserved as well: to give it back takes
    /// two calls, and address space is plentiful.
    pub(crate) fn aligned(calls: &Arc<Calls>, len: usize, align: usize) -> io::Result<Self> {
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        let slack = align.saturating_sub(sys::PAGE);
        let padded = len.checked_add(slack).ok_or_else(too_large)?;
        let mut pages = Self::new(calls, padded, Content::Reserved)?;
        let misaligned = pages.whole.addr().get() & align.saturating_sub(1);
        if misaligned != 0 {
            pages.base = sys::offset_by(pages.whole, align.saturating_sub(misaligned));
        }
        Ok(pages)
    }

    /// Maps `len` bytes of `content` where the kernel finds room, at an address that agrees with
    /// `like` in its low 30 bits: whatever a driver asks of an address, it asks of both.
    pub(crate) fn congruent(
        calls: &Arc<Calls>,
        len: usize,
        like: NonNull<u8>,
        content: Content<'_>,
    ) -> io::Result<Self> {
        const MODULUS: usize = 1 << 30;
        let padded = len
            .checked_add(MODULUS)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let whole = Self::new(calls, padded, Content::Reserved)?;
        let offset = like.addr().get().wrapping_sub(whole.base.addr().get()) % MODULUS;
        // SAFETY: by the invariant the pages are ours, nobody has been told of them, and `offset`
        // is below the padding.
        unsafe { sys::map_over(calls, whole.at(offset), len, content) }?;
        Ok(whole)
    }

    /// Returns the first address.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the address `offset` bytes after the first.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        sys::offset_by(self.base, offset)
    }
}

impl Drop for OwnedPages {
    fn drop(&mut self) {
        // This can fail only where the kernel has merged the edge of the mapping with a neighbour
        // and has no VMA left to part them. Address space is then lost; nothing else is.
        // SAFETY: by the invariant the pages are ours, and their owner is going away.
        let _ = unsafe { sys::unmap(&self.calls, self.whole, self.len) };
    }
}
