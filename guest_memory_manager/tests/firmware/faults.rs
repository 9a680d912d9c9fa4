//! Memory managers that are wrong, each in one way, and what gives them away.

use crate::harness::{Ran, seabios_for};
use crate::host_bridge::ShadowRam;
use crate::outcome::{Failure, Outcome};
use crate::probe::{self, findings, locked};
use guest_memory_manager::RamVisibility::{ReadOnly, ReadWrite, Unmapped};
use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryWindow, GuestMemory, GuestMemoryManager, MemoryRange,
    RamVisibility, RamVisibilityControl,
};

/// What is wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// Writes of PAM registers do nothing.
    PamIgnored,
    /// The changes of the segment that begins here are lost.
    SegmentLost(u64),
    /// The BIOS segment shows RAM that belongs elsewhere.
    WrongRam,
    /// RAM holds something else after its change from read-write to read-only.
    ContentsLost,
    /// Read-only RAM can be written.
    NeverReadOnly,
}

const BIOS: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);

/// Stands between the host bridge and the manager.
struct Faulty {
    fault: Fault,
    control: RamVisibilityControl,
    memory: GuestMemory,
    wrong_ram: (DeviceMemoryControl, DeviceMemoryWindow),
}

impl Faulty {
    fn new(fault: Fault, memory: &GuestMemoryManager) -> Self {
        // Made before the ROM, so that it is seen where both are.
        let windows = memory.device_memory_mapper();
        let (control, window) = windows.new_region(BIOS.len(), "wrong".into()).unwrap();
        let ram = memory.shared_memory_backing();
        let map = window.map(0, &ram.memories()[0], 0xe_0000, BIOS.len(), true);
        map.unwrap().wait();
        Self {
            fault,
            control: memory.ram_visibility_control(),
            memory: memory.client().guest_memory_now(),
            wrong_ram: (control, window),
        }
    }

    /// What becomes of one change.
    fn mistake(
        &mut self,
        segment: MemoryRange,
        to: RamVisibility,
    ) -> Result<Option<RamVisibility>, Failure> {
        match self.fault {
            Fault::PamIgnored => return Ok(None),
            Fault::SegmentLost(start) if start == segment.start() => return Ok(None),
            Fault::WrongRam if segment == BIOS => {
                let (control, _) = &mut self.wrong_ram;
                match to {
                    Unmapped => control.try_unmap_from_guest()?.wait(),
                    _ => control.map_to_guest(BIOS.start(), to == ReadWrite)?.wait(),
                }
                return Ok(None);
            }
            Fault::ContentsLost
                if to == ReadOnly && self.control.ram_visibility(segment)? == ReadWrite =>
            {
                // No zeros: they are instructions, and the guest wanders through them for long.
                self.memory.fill_at(segment.start(), 0xff, segment.len())?;
            }
            Fault::NeverReadOnly if to == ReadOnly => return Ok(Some(ReadWrite)),
            _ => {}
        }
        Ok(Some(to))
    }
}

impl ShadowRam for Faulty {
    fn change(&mut self, changes: &[(MemoryRange, RamVisibility)]) -> Result<(), Failure> {
        let mut made = Vec::new();
        for (segment, to) in changes {
            made.extend(self.mistake(*segment, *to)?.map(|to| (*segment, to)));
        }
        self.control.set_several_now(&made)?.wait();
        Ok(())
    }
}

/// Whether the probe is content, which it is only of a manager that makes no mistake.
fn content(ran: &Ran, bios: &[u8]) -> bool {
    findings(ran, bios)
        .is_ok_and(|found| found == locked() && ran.report.segments.into_iter().flatten().eq(found))
}

#[track_caller]
fn check(test: &str, fault: Fault) {
    let Some((kvm, bios)) = seabios_for(test) else {
        return;
    };
    let shadow = move |memory: &GuestMemoryManager| -> Box<dyn ShadowRam> {
        Box::new(Faulty::new(fault, memory))
    };
    let ran = probe::boot(&kvm, bios.clone(), Some(Box::new(shadow)));
    // By what the guest does, and not because it takes long.
    assert!(!matches!(ran.report.outcome, Outcome::Limit));
    assert!(
        !content(&ran, &bios),
        "{fault:?} is not noticed: {}",
        ran.text()
    );
}

#[test]
fn pam_that_does_nothing_is_noticed() {
    check(
        "firmware::pam_that_does_nothing_is_noticed",
        Fault::PamIgnored,
    );
}

#[test]
fn one_lost_segment_is_noticed() {
    check(
        "firmware::one_lost_segment_is_noticed",
        Fault::SegmentLost(0xe_8000),
    );
}

#[test]
fn another_lost_segment_is_noticed() {
    check(
        "firmware::another_lost_segment_is_noticed",
        Fault::SegmentLost(0xc_c000),
    );
}

#[test]
fn the_wrong_ram_is_noticed() {
    check("firmware::the_wrong_ram_is_noticed", Fault::WrongRam);
}

#[test]
fn lost_contents_are_noticed() {
    check("firmware::lost_contents_are_noticed", Fault::ContentsLost);
}

#[test]
fn ram_that_is_never_read_only_is_noticed() {
    check(
        "firmware::ram_that_is_never_read_only_is_noticed",
        Fault::NeverReadOnly,
    );
}
