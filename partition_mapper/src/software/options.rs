//! What a software partition can do.

use crate::VcpuBarrier;
use crate::slot_table::ReadOnlySlots;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// As many as KVM has on x86_64.
const DEFAULT_SLOTS: u32 = 32_764;

/// Says what a [`SoftwarePartition`](super::SoftwarePartition) can do. The default: whatever KVM
/// can.
#[derive(Clone)]
pub struct SoftwareOptions {
    pub(super) name: String,
    pub(super) slot_ids: Range<u32>,
    pub(super) max_slots: u32,
    pub(super) read_only: ReadOnlySlots,
    pub(super) powers: Powers,
    pub(super) barrier: Option<Arc<dyn VcpuBarrier>>,
}

/// The optional powers.
#[derive(Copy, Clone, Debug)]
pub(super) struct Powers {
    pub(super) prefetch: bool,
    pub(super) pin: bool,
}

impl SoftwareOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            name: "software".to_owned(),
            slot_ids: 0..DEFAULT_SLOTS,
            max_slots: u32::MAX,
            read_only: ReadOnlySlots::Supported,
            powers: Powers {
                prefetch: true,
                pin: true,
            },
            barrier: None,
        }
    }

    /// Names the partition in errors and in inspection, instead of `software`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Uses these slot ids (half-open) instead of 0 to 32,764.
    #[must_use]
    pub const fn slot_ids(mut self, ids: Range<u32>) -> Self {
        self.slot_ids = ids;
        self
    }

    /// Has at most this many slots at the same time.
    #[must_use]
    pub const fn max_slots(mut self, max: u32) -> Self {
        self.max_slots = max;
        self
    }

    /// Refuses read-only slots, as a hypervisor without them does.
    #[must_use]
    pub const fn without_read_only_slots(mut self) -> Self {
        self.read_only = ReadOnlySlots::Unsupported;
        self
    }

    /// Lacks the power to fault memory in.
    #[must_use]
    pub const fn without_prefetch(mut self) -> Self {
        self.powers.prefetch = false;
        self
    }

    /// Takes this barrier over changes with a gap. Without it, there is none: who makes the guest's
    /// accesses here is the test's affair.
    #[must_use]
    pub fn barrier(mut self, barrier: Arc<dyn VcpuBarrier>) -> Self {
        self.barrier = Some(barrier);
        self
    }

    /// Lacks the power to pin memory.
    #[must_use]
    pub const fn without_pin(mut self) -> Self {
        self.powers.pin = false;
        self
    }
}

impl fmt::Debug for SoftwareOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareOptions")
            .field("name", &self.name)
            .field("slot_ids", &self.slot_ids)
            .field("max_slots", &self.max_slots)
            .field("read_only", &self.read_only)
            .field("powers", &self.powers)
            .field("barrier", &self.barrier.is_some())
            .finish()
    }
}

impl Default for SoftwareOptions {
    fn default() -> Self {
        Self::new()
    }
}
