//! How a KVM partition uses its VM's slots.

use std::ops::Range;

/// Says which of a VM's memory slots a [`KvmPartition`](super::KvmPartition) may use. The default:
/// all of them.
#[derive(Clone, Debug)]
pub struct KvmOptions {
    pub(super) name: String,
    pub(super) slot_ids: Option<Range<u32>>,
    pub(super) max_slots: Option<u32>,
}

impl KvmOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            name: "kvm".to_owned(),
            slot_ids: None,
            max_slots: None,
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
}

impl Default for KvmOptions {
    fn default() -> Self {
        Self::new()
    }
}
