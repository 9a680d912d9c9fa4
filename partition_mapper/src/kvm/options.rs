//! How a KVM partition uses its VM's slots.

use crate::VcpuBarrier;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Says how a [`KvmPartition`](super::KvmPartition) uses its VM. The default: all of its memory
/// slots, no barrier, and without the quirk of dropping all shadow pages.
#[derive(Clone)]
pub struct KvmOptions {
    pub(super) name: String,
    pub(super) slot_ids: Option<Range<u32>>,
    pub(super) max_slots: Option<u32>,
    pub(super) barrier: Option<Arc<dyn VcpuBarrier>>,
    pub(super) keep_slot_zap_quirk: bool,
}

impl KvmOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            name: "kvm".to_owned(),
            slot_ids: None,
            max_slots: None,
            barrier: None,
            keep_slot_zap_quirk: false,
        }
    }

    /// Names the partition in errors and in inspection, instead of `kvm`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Uses only these ids (half-open), so that the VMM keeps the others for slots of its own.
    #[must_use]
    pub const fn slot_ids(mut self, ids: Range<u32>) -> Self {
        self.slot_ids = Some(ids);
        self
    }

    /// Uses at most this many slots at the same time: where another consumer of the same memory
    /// (vhost, for one) has fewer than the VM.
    #[must_use]
    pub const fn max_slots(mut self, max: u32) -> Self {
        self.max_slots = Some(max);
        self
    }

    /// Stops the vCPUs by this barrier whenever a slot is deleted and created anew: a
    /// [`KvmVcpuBarrier`](super::KvmVcpuBarrier), or the VMM's own. Without one, a vCPU that runs
    /// meanwhile sees a gap.
    #[must_use]
    pub fn barrier(mut self, barrier: Arc<dyn VcpuBarrier>) -> Self {
        self.barrier = Some(barrier);
        self
    }

    /// Says whether the VM keeps dropping all of its shadow pages whenever a slot is deleted
    /// (`KVM_X86_QUIRK_SLOT_ZAP_ALL`). By default, a [`KvmPartition`](super::KvmPartition) turns that
    /// off where the kernel can (Linux 6.12): else every page of the guest faults again after
    /// each deletion.
    ///
    /// Some kernels take the last `KVM_CAP_DISABLE_QUIRKS2` for the whole truth. A VMM that turns
    /// quirks off itself keeps this one here, and turns it off together with its own.
    #[must_use]
    pub const fn keep_slot_zap_quirk(mut self, keep: bool) -> Self {
        self.keep_slot_zap_quirk = keep;
        self
    }
}

impl fmt::Debug for KvmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmOptions")
            .field("name", &self.name)
            .field("slot_ids", &self.slot_ids)
            .field("max_slots", &self.max_slots)
            .field("barrier", &self.barrier.is_some())
            .field("keep_slot_zap_quirk", &self.keep_slot_zap_quirk)
            .finish()
    }
}

impl Default for KvmOptions {
    fn default() -> Self {
        Self::new()
    }
}
