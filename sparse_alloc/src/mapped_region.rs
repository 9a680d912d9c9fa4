//! The promise that address space stays reserved.

use std::ptr::NonNull;

/// Address space that stays at one place for as long as the value lives.
///
/// This is what a consumer of guest memory (a hypervisor's memory slot, a DMA mapping, a lease)
/// asks for: it holds an `Arc<dyn MappedRegion>`, and the addresses it was given cannot be reused
/// by anyone else meanwhile. What is mapped there may change at any time; a part of it may be
/// mapped read-only, or not at all. Nothing here says that an access succeeds.
///
/// # Safety
///
/// The implementer promises:
///
/// * [`base`](Self::base) and [`len`](Self::len) return the same values for the whole life of the
///   value, `base` is page aligned, and `base + len` does not overflow;
/// * until the value is dropped, the address space from `base` to `base + len` is never given back
///   to the kernel: each page of it is either inaccessible or raw memory put there by the
///   implementer, and no Rust object or reference lives in it.
///
/// Whoever uses the addresses promises in turn:
///
/// * not to form a Rust reference to the bytes: other processes and a guest change them;
/// * to access them only in a way that survives a fault ([`HostRange`](crate::HostRange) does), or
///   to have the kernel or the hypervisor access them;
/// * to stop when its share of the region is dropped.
#[expect(
    clippy::len_without_is_empty,
    reason = "a region is never empty, and implementers should not have to say so"
)]
pub unsafe trait MappedRegion: Send + Sync {
    /// Returns the first address.
    fn base(&self) -> NonNull<u8>;

    /// Returns the length in bytes; above zero.
    fn len(&self) -> u64;
}
