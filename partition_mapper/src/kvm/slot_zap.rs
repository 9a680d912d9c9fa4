//! Whether deleting one slot drops the shadow pages of all.

use kvm_bindings::{KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL, kvm_enable_cap};
use kvm_ioctls::VmFd;
use std::fmt;

/// What became of `KVM_X86_QUIRK_SLOT_ZAP_ALL` (the kernel's `Documentation/virt/kvm/api.rst`,
/// 7.28).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotZapAll {
    /// It is turned off: deleting a slot drops the shadow pages of that slot.
    Disabled,
    /// The VMM wanted to keep it: deleting a slot drops all shadow pages.
    Kept,
    /// The kernel cannot turn it off: deleting a slot drops all shadow pages.
    NotAvailable,
}

impl fmt::Display for SlotZapAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Kept => "kept",
            Self::NotAvailable => "not available",
        })
    }
}

impl SlotZapAll {
    /// Turns the quirk off where the kernel can. Where it can't, changes cost more, and that is all.
    pub(super) fn turn_off(vm: &VmFd, partition: &str) -> Self {
        let quirks = vm.check_extension_raw(KVM_CAP_DISABLE_QUIRKS2.into());
        if quirks.cast_unsigned() & KVM_X86_QUIRK_SLOT_ZAP_ALL == 0 || quirks < 0 {
            return Self::NotAvailable;
        }
        let request = kvm_enable_cap {
            cap: KVM_CAP_DISABLE_QUIRKS2,
            args: [KVM_X86_QUIRK_SLOT_ZAP_ALL.into(), 0, 0, 0],
            ..kvm_enable_cap::default()
        };
        match vm.enable_cap(&request) {
            Ok(()) => Self::Disabled,
            Err(error) => {
                log::warn!("{partition}: the quirk SLOT_ZAP_ALL stays: {error}");
                Self::NotAvailable
            }
        }
    }
}
