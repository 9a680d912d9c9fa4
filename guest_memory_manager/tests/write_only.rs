//! RAM that takes writes while something else is read at its addresses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use guest_memory_manager::RamVisibility::{self, ReadOnly, ReadWrite, Unmapped, WriteOnly};
use guest_memory_manager::{
    DeviceMemoryControl, GuestAccess, GuestMemoryBuilder, GuestMemoryManager, HiddenWriteError,
    MemoryLayout, MemoryRange, PartitionView, RamVisibilityControl, RomImage, SoftwarePartition,
    Vtl,
};
use partition_mapper::MmioExit;
use partition_mapper::testing::FailingPartition;
use sparse_alloc::HostRange;
use std::sync::Arc;
use support::{last_plan, memory_of, range};

const STATES: [RamVisibility; 4] = [Unmapped, ReadOnly, WriteOnly, ReadWrite];
/// Under these segments lies a ROM of this byte; under the others nothing.
const ROM: MemoryRange = MemoryRange::new(0xe_0000..0x10_0000);
const ROM_BYTE: u8 = 0x90;
const BIOS: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);
/// Nothing lies under these two.
const FIRST: MemoryRange = MemoryRange::new(0xc_0000..0xc_4000);
const SECOND: MemoryRange = MemoryRange::new(0xc_4000..0xc_8000);

struct Pc {
    memory: GuestMemoryManager,
    control: RamVisibilityControl,
    partition: Arc<FailingPartition<Arc<SoftwarePartition>>>,
    guest: Arc<SoftwarePartition>,
    _rom: DeviceMemoryControl,
}

impl Pc {
    fn new() -> Self {
        let layout = MemoryLayout::new(2 << 20, &[], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let memory = builder.build_now(&layout).unwrap();
        let image = vec![ROM_BYTE; 0x2_0000];
        let image = RomImage::from_bytes("rom", &image).unwrap();
        let mapper = memory.device_memory_mapper();
        let (mut rom, window) = mapper.new_region(ROM.len(), "rom".into()).unwrap();
        window.map(0, &image, 0, ROM.len(), false).unwrap().wait();
        rom.map_to_guest(ROM.start(), false).unwrap().wait();
        let guest = Arc::new(SoftwarePartition::new());
        let partition = Arc::new(FailingPartition::new(guest.clone()));
        memory
            .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
            .unwrap();
        Self {
            control: memory.ram_visibility_control(),
            memory,
            guest,
            partition,
            _rom: rom,
        }
    }

    fn set(&self, segment: MemoryRange, state: RamVisibility) {
        let set = self.control.set_ram_visibility_now(segment, state);
        set.unwrap().wait();
        assert_eq!(self.control.ram_visibility(segment).unwrap(), state);
    }

    fn store(&self, gpa: u64, data: &[u8]) -> GuestAccess {
        self.guest.store(gpa, data).unwrap()
    }

    /// What the guest reads, or all ones where its load leaves for the VMM.
    fn load(&self, gpa: u64) -> u8 {
        let mut byte = [0xff];
        let _ = self.guest.load(gpa, &mut byte).unwrap();
        byte[0]
    }

    /// What RAM holds, whatever shows.
    fn ram(&self, gpa: u64) -> u8 {
        // The first range of RAM is the first of the backing.
        let backing = self.memory.shared_memory_backing();
        let view = backing.memories()[0].linear_view().clone();
        let mut byte = [0];
        HostRange::new(view, gpa, 1)
            .unwrap()
            .read(0, &mut byte)
            .unwrap();
        byte[0]
    }
}

fn exit(gpa: u64, data: &[u8]) -> GuestAccess {
    let data = data.to_vec();
    GuestAccess::Mmio(vec![MmioExit::Write { gpa, data }])
}

#[test]
fn a_guest_copies_its_rom_in_place() {
    let pc = Pc::new();
    pc.set(BIOS, WriteOnly);
    for gpa in BIOS.start()..BIOS.start() + 0x1000 {
        let byte = pc.load(gpa);
        assert_eq!(byte, ROM_BYTE);
        assert_eq!(pc.store(gpa, &[byte ^ 1]), GuestAccess::Done);
        assert_eq!(pc.load(gpa), ROM_BYTE);
    }
    // A device sees what the guest does, and its write is refused.
    let memory = memory_of(&pc.memory);
    assert_eq!(memory.read_plain::<u8>(BIOS.start()).unwrap(), ROM_BYTE);
    assert!(memory.write_plain(BIOS.start(), &7_u8).is_err());
    pc.set(BIOS, ReadOnly);
    let mut copy = vec![0; 0x1001];
    memory.read_at(BIOS.start(), &mut copy).unwrap();
    assert_eq!(copy[..0x1000], [ROM_BYTE ^ 1; 0x1000]);
    assert_eq!(copy[0x1000], 0);
    // Locked, it takes no write.
    let at = BIOS.start();
    assert_eq!(pc.store(at, &[7]), exit(at, &[7]));
    assert_eq!(pc.load(at), ROM_BYTE ^ 1);
    assert!(pc.guest.broken_rules().is_empty());
}

#[test]
fn every_transition_keeps_ram_and_says_what_is_so() {
    let pc = Pc::new();
    for segment in [BIOS, FIRST] {
        let below = if segment == BIOS { ROM_BYTE } else { 0xff };
        let at = segment.start() + 0x123;
        let mut ram = 0;
        for from in STATES {
            for to in STATES {
                pc.set(segment, from);
                pc.set(segment, to);
                let hidden = [Unmapped, WriteOnly];
                if hidden.contains(&from) && hidden.contains(&to) {
                    // Nobody has to be told.
                    assert_eq!(last_plan(&pc.memory), Vec::<String>::new());
                }
                let seen = if hidden.contains(&to) { below } else { ram };
                assert_eq!(pc.load(at), seen, "{from:?} -> {to:?}");
                let new = ram.wrapping_add(1);
                let took = pc.store(at, &[new]);
                if [WriteOnly, ReadWrite].contains(&to) {
                    assert_eq!(took, GuestAccess::Done, "{from:?} -> {to:?}");
                    ram = new;
                } else {
                    assert_eq!(took, exit(at, &[new]), "{from:?} -> {to:?}");
                }
                assert_eq!(pc.ram(at), ram, "{from:?} -> {to:?}");
                let written = pc.control.write_hidden_ram(at, &[ram]);
                assert_eq!(written.is_ok(), to == WriteOnly, "{from:?} -> {to:?}");
            }
        }
    }
    assert!(pc.guest.broken_rules().is_empty());
}

#[test]
fn the_tree_shows_the_state() {
    let pc = Pc::new();
    pc.set(BIOS, WriteOnly);
    let tree = inspect::inspect(&pc.memory);
    let visibility = tree.child("visibility").unwrap();
    let state = |range: &str| visibility.child(range).unwrap().to_string();
    assert_eq!(state("0xf0000-0x100000").trim(), "WriteOnly");
    pc.set(BIOS, Unmapped);
    let tree = inspect::inspect(&pc.memory);
    let visibility = tree.child("visibility").unwrap();
    let state = visibility.child("0xf0000-0x100000").unwrap();
    assert_eq!(state.to_string().trim(), "Unmapped");
}

#[test]
fn a_write_crosses_borders_whole_or_not_at_all() {
    let pc = Pc::new();
    let border = SECOND.start();
    for (first, second) in [
        (WriteOnly, WriteOnly),
        (WriteOnly, Unmapped),
        (ReadWrite, WriteOnly),
    ] {
        pc.set(FIRST, first);
        pc.set(SECOND, second);
        let before = (pc.ram(border - 1), pc.ram(border));
        let written = pc.control.write_hidden_ram(border - 2, &[1, 2, 3, 4]);
        let at = match (first, second) {
            (WriteOnly, WriteOnly) => {
                written.unwrap();
                assert_eq!((pc.ram(border - 1), pc.ram(border)), (2, 3));
                continue;
            }
            (WriteOnly, _) => border,
            _ => border - 2,
        };
        let Err(HiddenWriteError::NotWriteOnly {
            gpa,
            len: 4,
            at: where_not,
        }) = written
        else {
            panic!("{written:?}");
        };
        assert_eq!((gpa, where_not), (border - 2, at));
        assert_eq!((pc.ram(border - 1), pc.ram(border)), before);
    }
}

#[test]
fn writes_to_what_is_no_hidden_ram_are_refused() {
    let pc = Pc::new();
    pc.set(BIOS, WriteOnly);
    for gpa in [0, 0x10_0000, 0x1f_ffff, 0x20_0000, 1 << 40, u64::MAX - 1] {
        let written = pc.control.write_hidden_ram(gpa, &[1]);
        assert!(
            matches!(written, Err(HiddenWriteError::NotWriteOnly { at, .. }) if at == gpa),
            "{gpa:#x}: {written:?}"
        );
        // Nothing to write is no write, wherever.
        pc.control.write_hidden_ram(gpa, &[]).unwrap();
    }
    let wraps = pc.control.write_hidden_ram(u64::MAX, &[1, 2]);
    assert!(matches!(
        wraps,
        Err(HiddenWriteError::Wraps {
            gpa: u64::MAX,
            len: 2
        })
    ));
    let end = BIOS.end();
    let past = pc.control.write_hidden_ram(end - 1, &[1, 2]);
    assert!(matches!(past, Err(HiddenWriteError::NotWriteOnly { at, .. }) if at == end));
    assert_eq!(pc.ram(end - 1), 0);
}

#[test]
fn inside_a_change_nothing_is_written() {
    let pc = Pc::new();
    pc.set(BIOS, WriteOnly);
    let mut change = pc.memory.transaction().unwrap();
    change.set_ram_visibility(FIRST, WriteOnly).unwrap();
    change.set_ram_visibility(BIOS, ReadWrite).unwrap();
    // What is asked for shows in the transaction and nowhere else.
    assert_eq!(change.ram_visibility(FIRST).unwrap(), WriteOnly);
    assert_eq!(change.ram_visibility(BIOS).unwrap(), ReadWrite);
    let written = pc.control.write_hidden_ram(BIOS.start(), &[1]);
    assert!(
        matches!(written, Err(HiddenWriteError::Change(_))),
        "{written:?}"
    );
    let taken = pc.store(BIOS.start(), &[1]);
    assert_eq!(taken, exit(BIOS.start(), &[1]));
    drop(change);
    assert_eq!(pc.control.ram_visibility(FIRST).unwrap(), ReadWrite);
    assert_eq!(pc.control.ram_visibility(BIOS).unwrap(), WriteOnly);
    assert_eq!(pc.store(BIOS.start(), &[1]), GuestAccess::Done);
    assert_eq!(pc.ram(BIOS.start()), 1);
}

/// A change that fails at any of its calls leaves every state as it was, this one included.
#[test]
fn a_change_that_fails_sets_no_flag() {
    for (from, to) in STATES
        .iter()
        .flat_map(|from| STATES.map(|to| (*from, to)))
        .filter(|(from, to)| from != to)
    {
        let pc = Pc::new();
        pc.set(BIOS, from);
        pc.set(FIRST, to);
        pc.set(SECOND, ReadWrite);
        let changes = [(BIOS, to), (FIRST, from), (SECOND, WriteOnly)];
        let mut failures = 0;
        for call in 0.. {
            let before = pc.guest.slots();
            pc.partition.fail_at(call);
            let done = pc.control.set_several_now(&changes);
            pc.partition.fail_never();
            let states = [BIOS, FIRST, SECOND].map(|at| pc.control.ram_visibility(at).unwrap());
            if done.is_ok() {
                assert_eq!(states, [to, from, WriteOnly]);
                break;
            }
            failures += 1;
            assert_eq!(
                states,
                [from, to, ReadWrite],
                "call {call} of {from:?} -> {to:?}"
            );
            let slots = pc.guest.slots();
            assert_eq!(slots.len(), before.len());
            for segment in [BIOS, FIRST, SECOND] {
                let state = pc.control.ram_visibility(segment).unwrap();
                let written = pc.control.write_hidden_ram(segment.start(), &[9]);
                assert_eq!(written.is_ok(), state == WriteOnly);
            }
        }
        // At the least, the slot of the second segment goes.
        assert!(failures >= 1, "{from:?} -> {to:?}");
    }
}

#[test]
fn a_partition_reaches_only_what_it_sees() {
    let vtl2 = MemoryRange::new(0x40_0000..0x50_0000);
    let layout = MemoryLayout::new(2 << 20, &[], Some(vtl2)).unwrap();
    let offset = 1 << 32;
    let builder = GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .vtl0_alias_map(Some(offset));
    let memory = builder.build_now(&layout).unwrap();
    let (guest, paravisor, part) = (
        Arc::new(SoftwarePartition::new()),
        Arc::new(SoftwarePartition::new()),
        Arc::new(SoftwarePartition::new()),
    );
    let attach = |vtl, partition: &Arc<SoftwarePartition>, view| {
        let attached = memory.attach_partition_with_now(vtl, partition.clone(), None, view);
        attached.unwrap()
    };
    let id = attach(Vtl::Vtl0, &guest, PartitionView::new());
    attach(Vtl::Vtl2, &paravisor, PartitionView::new());
    attach(
        Vtl::Vtl0,
        &part,
        PartitionView::new().only([FIRST]).offset(0x1000_0000),
    );
    let control = memory.ram_visibility_control();
    for segment in [BIOS, FIRST, vtl2] {
        let set = control.set_ram_visibility_now(segment, WriteOnly);
        set.unwrap().wait();
    }
    let took = |partition: &SoftwarePartition, gpa: u64| {
        partition.store(gpa, &[1]).unwrap() == GuestAccess::Done
    };
    assert!(took(&guest, BIOS.start()));
    assert!(!took(&guest, vtl2.start()));
    assert!(took(&paravisor, vtl2.start()));
    assert!(took(&paravisor, BIOS.start()));
    assert!(took(&paravisor, BIOS.start() + offset));
    assert!(!took(&paravisor, vtl2.start() + offset));
    assert!(took(&part, FIRST.start() + 0x1000_0000));
    assert!(!took(&part, FIRST.start()));
    assert!(!took(&part, BIOS.start() + 0x1000_0000));

    // Who is detached reaches nothing.
    memory.detach_partition(id).unwrap();
    assert!(!took(&guest, BIOS.start()));
    drop(memory);
    drop(control);
    assert!(!took(&paravisor, BIOS.start()));
}

/// A store that another CPU overtakes by showing the RAM leaves for the VMM, which makes it then.
#[test]
fn no_store_is_lost_while_another_cpu_shows_and_hides_the_ram() {
    let pc = Pc::new();
    pc.set(FIRST, WriteOnly);
    let memory = memory_of(&pc.memory);
    let at = FIRST.start();
    std::thread::scope(|scope| {
        let flips = scope.spawn(|| {
            for flip in 0..2000 {
                pc.set(FIRST, [ReadWrite, WriteOnly][flip % 2]);
            }
        });
        for value in (1..=u8::MAX).cycle() {
            if pc.store(at, &[value]) != GuestAccess::Done {
                // Hidden RAM, or shown meanwhile; again, until nobody comes in between.
                while pc.control.write_hidden_ram(at, &[value]).is_err()
                    && memory.write_plain(at, &value).is_err()
                {}
            }
            assert_eq!(pc.ram(at), value);
            if flips.is_finished() {
                break;
            }
        }
    });
}

#[test]
fn ranges_are_whole_regions() {
    let pc = Pc::new();
    let half = range(0xc_0000, 0xc_2000);
    assert!(pc.control.set_ram_visibility_now(half, WriteOnly).is_err());
    assert_eq!(pc.control.ram_visibility(FIRST).unwrap(), ReadWrite);
}
