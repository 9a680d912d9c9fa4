//! Partitions of other processes.

use crate::fixture::{
    AMPLE, C_SEGMENT, Client, F_SEGMENT, Fixture, GAP, VTL2, build, number_pages,
};
use crate::support::{cause, chain, numbered, range};
use guest_memory_manager::{
    AttachError, DetachError, Eviction, GuestAccess, GuestMemoryBuilder, PartitionMemoryMap,
    PartitionView, ProcessAttachError, ProcessEvent, ProcessWaitError, RamVisibility,
    RemoteClientOptions, RemoteGrant, RemoteOptions, SoftwarePartition, Vtl,
};
use memory_range::MemoryRange;
use partition_mapper::testing::{FailingPartition, PartitionCall};
use partition_mapper::{
    CheckError, ForwardedPartition, MapError, PauseError, PausedVcpus, SoftwareOptions, VcpuBarrier,
};
use region_manager::Permissions;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Guest = FailingPartition<SoftwarePartition>;

/// A partition in the client's process, offered as `vm`.
fn offer(client: &Client, options: SoftwareOptions) -> (Arc<Guest>, Arc<ForwardedPartition>, u32) {
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::with_options(
        options,
    )));
    let number = client.remote.offer_partition("vm", guest.clone()).unwrap();
    let partition = client.process.wait_for_partition("vm", AMPLE).unwrap();
    (guest, partition, number)
}

fn places(partition: &SoftwarePartition) -> Vec<(MemoryRange, Permissions)> {
    assert_eq!(partition.broken_rules(), []);
    let slots = partition.slots();
    slots
        .iter()
        .map(|slot| (slot.gpa, slot.permissions))
        .collect()
}

/// What a guest finds at an address.
fn word(guest: &Guest, gpa: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    match guest.inner().load(gpa, &mut bytes).unwrap() {
        GuestAccess::Done => Some(u64::from_le_bytes(bytes)),
        _ => None,
    }
}

/// A guest of another process has the slots that one of this process has, after every change.
#[test]
fn it_has_what_a_local_one_has() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let local = Arc::new(SoftwarePartition::new());
    let memory = &fixture.memory;
    memory
        .attach_partition_now(Vtl::Vtl0, local.clone(), None)
        .unwrap();
    let process = Some(client.process.clone());
    let id = memory
        .attach_partition_now(Vtl::Vtl0, partition.clone(), process)
        .unwrap();
    memory.acknowledgement().wait();
    let same = || {
        assert_eq!(places(there.inner()), places(&local));
        assert_eq!(partition.slots().len(), local.slots().len());
    };
    same();
    assert_eq!(word(&there, 0xf_0000), Some(0xf_0000 ^ 0x5a5a));
    assert_eq!(word(&there, VTL2.start()), None);

    for visibility in [
        RamVisibility::ReadOnly,
        RamVisibility::Unmapped,
        RamVisibility::ReadWrite,
    ] {
        fixture.set(F_SEGMENT, visibility);
        same();
    }
    let frames = numbered("frames", 4, 50);
    let windows = memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x4000, true).unwrap().wait();
    control.map_to_guest(GAP.start(), true).unwrap().wait();
    same();
    assert_eq!(
        word(&there, GAP.start()).map(|word| word & 0xffff),
        Some(50)
    );
    // Other contents under a slot that stays.
    there.fail_never();
    window.map(0, &frames, 0x1000, 0x3000, true).unwrap().wait();
    assert_eq!(
        word(&there, GAP.start()).map(|word| word & 0xffff),
        Some(51)
    );
    assert_eq!(there.call_count(), 0);
    control
        .map_to_guest(GAP.start() + 0x2000, false)
        .unwrap()
        .wait();
    same();
    control.try_unmap_from_guest().unwrap().wait();
    same();

    memory.detach_partition(id).unwrap();
    memory.acknowledgement().wait();
    assert_eq!(places(there.inner()), []);
}

/// Each change with a gap stops the vCPUs of the guest there, once, and no other change does; one whose
/// vCPUs can't be stopped is made nevertheless.
#[test]
fn its_vcpus_are_stopped_over_gaps() {
    struct Barrier(Arc<Mutex<Vec<&'static str>>>);

    impl VcpuBarrier for Barrier {
        fn pause(&self) -> Result<PausedVcpus, PauseError> {
            self.0.lock().unwrap().push("pause");
            let log = self.0.clone();
            Ok(PausedVcpus::new(move || log.lock().unwrap().push("resume")))
        }
    }

    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let log = Arc::<Mutex<Vec<&str>>>::default();
    let barrier = Arc::new(Barrier(log.clone()));
    let (there, partition, _) = offer(&client, SoftwareOptions::new().barrier(barrier));
    let process = Some(client.process.clone());
    let memory = &fixture.memory;
    memory
        .attach_partition_now(Vtl::Vtl0, partition, process)
        .unwrap();
    memory.acknowledgement().wait();
    let taken = || std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(taken(), [""; 0]);
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    assert_eq!(taken(), ["pause", "resume"]);
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    assert_eq!(taken(), [""; 0]);
    fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
    assert_eq!(taken(), [""; 0]);
    let segments = [
        (C_SEGMENT, RamVisibility::ReadOnly),
        (F_SEGMENT, RamVisibility::ReadOnly),
    ];
    let control = memory.ram_visibility_control();
    control.set_several_now(&segments).unwrap().wait();
    assert_eq!(taken(), ["pause", "resume"]);
    there.fail_if(|_, call| matches!(call, PartitionCall::Pause));
    fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
    assert_eq!(taken(), [""; 0]);
    assert!(client.process.gone().is_none());
    // And let go when the change fails.
    there.fail_if(|_, call| matches!(call, PartitionCall::Map { .. }));
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    fixture.left();
    assert_eq!(taken(), ["pause", "resume"]);
}

/// The async form returns when the slots are there.
#[test]
fn attaching_awaits_the_process() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let view = PartitionView::new().offset(4 << 30).only([F_SEGMENT]);
    let process = Some(client.process.clone());
    let attached = fixture
        .memory
        .attach_partition_with(Vtl::Vtl0, &partition, process, view);
    runtime.block_on(attached).unwrap();
    let [(place, _)] = places(there.inner())[..] else {
        panic!("one slot");
    };
    assert_eq!(place, F_SEGMENT.shifted(4 << 30).unwrap());
}

/// Slots run out in the ledger here, before anything is changed anywhere.
#[test]
fn a_budget_is_kept_before_the_commit() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new().max_slots(2));
    assert_eq!(partition.slot_limit(), Some(2));
    let view = PartitionView::new().only([C_SEGMENT, F_SEGMENT, GAP]);
    let process = Some(client.process.clone());
    let memory = &fixture.memory;
    memory
        .attach_partition_with_now(Vtl::Vtl0, partition, process, view)
        .unwrap();
    memory.acknowledgement().wait();
    let before = places(there.inner());
    assert_eq!(before.len(), 2);

    let frames = numbered("frames", 1, 0);
    let windows = memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x1000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x1000, true).unwrap().wait();
    there.fail_never();
    let sealed = client.process.last_sealed();
    let error = control
        .map_to_guest(GAP.start(), true)
        .map(drop)
        .unwrap_err();
    assert!(cause::<CheckError>(&error).is_some(), "{}", chain(&error));
    assert_eq!(client.process.last_sealed(), sealed);
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    control.map_to_guest(GAP.start(), true).unwrap().wait();
    assert_eq!(places(there.inner()).len(), 2);
    assert!(client.process.gone().is_none());
}

/// Attached twice, it would have two slots in one place. The ledger finds that, and the process hears
/// nothing.
#[test]
fn an_overlap_is_found_before_anything_is_sent() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let memory = &fixture.memory;
    let attach = |view: PartitionView| {
        let process = Some(client.process.clone());
        memory.attach_partition_with_now(Vtl::Vtl0, partition.clone(), process, view)
    };
    let first = attach(PartitionView::new().only([F_SEGMENT])).unwrap();
    memory.acknowledgement().wait();
    let (slots, sealed) = (places(there.inner()), client.process.last_sealed());
    let error = attach(PartitionView::new()).unwrap_err();
    assert!(cause::<MapError>(&error).is_some(), "{}", chain(&error));
    assert_eq!(client.process.last_sealed(), sealed);
    // Beside one another they are one partition's slots.
    let second = attach(PartitionView::new().only([C_SEGMENT])).unwrap();
    memory.acknowledgement().wait();
    assert_eq!(places(there.inner()).len(), 2);
    memory.detach_partition(second).unwrap();
    memory.acknowledgement().wait();
    assert_eq!(places(there.inner()), slots);
    memory.detach_partition(first).unwrap();
    memory.acknowledgement().wait();
    assert_eq!(places(there.inner()), []);
}

/// All that cannot be attached is refused with its own error, and leaves nothing behind.
#[test]
fn what_does_not_go_together_is_refused() {
    let fixture = Fixture::new();
    let memory = &fixture.memory;
    let client = fixture.client(RemoteGrant::new().name("one"));
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let attach = |partition: Arc<dyn PartitionMemoryMap>, client: Option<&Client>, vtl| {
        let process = client.map(|client| client.process.clone());
        let attached = memory.attach_partition_now(vtl, partition, process);
        match attached.unwrap_err() {
            AttachError::Process(error) => error,
            error => panic!("{error:?}"),
        }
    };
    let error = attach(partition.clone(), None, Vtl::Vtl0);
    assert_eq!(
        error.to_string(),
        "vm of one is a partition of another process, which was not named"
    );
    let error = attach(Arc::new(SoftwarePartition::new()), Some(&client), Vtl::Vtl0);
    assert!(
        matches!(error, ProcessAttachError::NotOffered { .. }),
        "{error:?}"
    );
    let second = fixture.client(RemoteGrant::new());
    let error = attach(partition.clone(), Some(&second), Vtl::Vtl0);
    assert!(
        matches!(error, ProcessAttachError::NotOffered { .. }),
        "{error:?}"
    );
    // VTL2 would see what the process doesn't.
    let error = attach(partition.clone(), Some(&client), Vtl::Vtl2);
    assert!(
        matches!(error, ProcessAttachError::NotGranted { .. }),
        "{error:?}"
    );
    for grant in [
        RemoteGrant::new().read_only(),
        RemoteGrant::new().ram_only(),
        RemoteGrant::new().only([range(0, 0x1_0000)]),
    ] {
        let client = fixture.client(grant);
        let (_, partition, _) = offer(&client, SoftwareOptions::new());
        let error = attach(partition, Some(&client), Vtl::Vtl0);
        assert!(
            matches!(error, ProcessAttachError::NotGranted { .. }),
            "{error:?}"
        );
    }
    let other = Fixture::new();
    let foreign = other.client(RemoteGrant::new());
    let (_, theirs, _) = offer(&foreign, SoftwareOptions::new());
    let error = attach(theirs.clone(), Some(&foreign), Vtl::Vtl0);
    assert!(
        matches!(error, ProcessAttachError::OtherManager { .. }),
        "{error:?}"
    );
    // Without the process it is a partition like any other, whose slots are none of this view.
    let attached = memory.attach_partition_now(Vtl::Vtl0, theirs, None);
    let error = chain(&attached.unwrap_err());
    assert!(error.contains("follows another guest memory"), "{error}");

    let options = RemoteClientOptions::new("lazy").lazy(true).deadline(AMPLE);
    let lazy = fixture.client_with(RemoteGrant::new().allow_lazy(), options);
    lazy.remote
        .offer_partition("vm", there.clone())
        .unwrap_err();
    let error = attach(partition.clone(), Some(&lazy), Vtl::Vtl0);
    assert!(
        matches!(error, ProcessAttachError::Lazy { .. }),
        "{error:?}"
    );

    client.process.disconnect("not wanted");
    fixture.left();
    let error = attach(partition, Some(&client), Vtl::Vtl0);
    assert_eq!(
        chain(&error),
        "one does not follow guest memory any more: detached: not wanted"
    );
    assert_eq!(places(there.inner()), []);
}

/// What the grant covers of the view is enough.
#[test]
fn a_part_that_is_granted_can_be_attached() {
    let fixture = Fixture::new();
    let grant = RemoteGrant::new().ram_only().only([range(0, 0x10_0000)]);
    let client = fixture.client(grant);
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let view = PartitionView::new().only([C_SEGMENT]).ram_only();
    let process = Some(client.process.clone());
    let memory = &fixture.memory;
    memory
        .attach_partition_with_now(Vtl::Vtl0, partition, process, view)
        .unwrap();
    memory.acknowledgement().wait();
    assert_eq!(places(there.inner()).len(), 1);
}

/// VTL2's partition sees VTL0's memory a second time.
#[test]
fn an_alias_map_is_forwarded() {
    let builder = GuestMemoryBuilder::new().vtl0_alias_map(Some(1 << 30));
    let memory = builder.build_now(&crate::fixture::layout()).unwrap();
    let fixture = Fixture::with(memory, RemoteOptions::new().deadline(AMPLE));
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new().vtl(Vtl::Vtl2));
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let process = Some(client.process.clone());
    let memory = &fixture.memory;
    memory
        .attach_partition_now(Vtl::Vtl2, partition, process)
        .unwrap();
    memory.acknowledgement().wait();
    let at = |gpa: u64| word(&there, gpa);
    assert_eq!(at(0x3000), Some(0x3000 ^ 0x5a5a));
    assert_eq!(at((1 << 30) + 0x3000), Some(0x3000 ^ 0x5a5a));
    assert_eq!(at(VTL2.start()), Some(VTL2.start() ^ 0x5a5a));
    assert_eq!(at((1 << 30) + VTL2.start()), None);
}

/// What the process cannot do evicts it, once, and the change stands.
#[test]
fn a_slot_that_fails_there_evicts_the_process() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let memory = &fixture.memory;
    let process = Some(client.process.clone());
    let id = memory
        .attach_partition_now(Vtl::Vtl0, partition.clone(), process)
        .unwrap();
    memory.acknowledgement().wait();
    there.fail_if(|_, call| matches!(call, PartitionCall::Map { .. }));
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    let process = fixture.left();
    let reason = process.gone().unwrap();
    assert!(
        matches!(*reason, Eviction::ChangeFailed { .. }),
        "{reason:?}"
    );
    assert_eq!(process.name(), client.process.name());
    fixture.no_more_events();
    assert!(partition.is_gone());
    assert!(matches!(
        memory.detach_partition(id),
        Err(DetachError::Unknown { .. })
    ));
    // Nobody is in the way of the next change.
    fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
    let attached = memory.attach_partition_now(Vtl::Vtl0, partition, Some(process));
    assert!(matches!(
        attached,
        Err(AttachError::Process(ProcessAttachError::Gone { .. }))
    ));
}

/// The async form tells of a failure in the other process.
#[test]
fn attaching_to_a_process_that_fails_is_an_error() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    there.fail_at(3);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let process = Some(client.process.clone());
    let memory = &fixture.memory;
    let attached = runtime.block_on(memory.attach_partition(Vtl::Vtl0, &partition, process));
    let error = attached.unwrap_err();
    assert!(
        matches!(error, AttachError::Process(ProcessAttachError::Gone { .. })),
        "{error:?}"
    );
    fixture.left();
}

/// A partition that is taken back is detached, and the process follows on.
#[test]
fn a_partition_can_be_taken_back() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let (there, partition, number) = offer(&client, SoftwareOptions::new());
    let memory = &fixture.memory;
    let process = Some(client.process.clone());
    memory
        .attach_partition_now(Vtl::Vtl0, partition.clone(), process)
        .unwrap();
    memory.acknowledgement().wait();
    client.remote.withdraw_partition(number).unwrap();
    assert_eq!(places(there.inner()), []);
    loop {
        match fixture.event() {
            ProcessEvent::PartitionWithdrawn { partition, .. } => {
                assert_eq!(partition, "vm");
                break;
            }
            ProcessEvent::Left { process } => panic!("{:?}", process.gone()),
            _ => {}
        }
    }
    assert!(partition.is_gone());
    assert!(client.process.partition("vm").is_none());
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    assert_eq!(places(there.inner()), []);
    // And offered again.
    let (there, partition, _) = offer(&client, SoftwareOptions::new());
    let process = Some(client.process.clone());
    memory
        .attach_partition_now(Vtl::Vtl0, partition, process)
        .unwrap();
    memory.acknowledgement().wait();
    assert_ne!(places(there.inner()), []);
}

#[test]
fn waiting_for_a_partition_ends() {
    let fixture = Fixture::new();
    let client = fixture.client(RemoteGrant::new());
    let short = Duration::from_millis(10);
    let missing = client.process.wait_for_partition("vm", short).unwrap_err();
    assert!(
        matches!(missing, ProcessWaitError::TimedOut { .. }),
        "{missing:?}"
    );
    let (process, waiting) = (client.process.clone(), client.process.clone());
    let waiter = std::thread::spawn(move || waiting.wait_for_partition("vm", AMPLE));
    process.disconnect("enough");
    let gone = waiter.join().unwrap().unwrap_err();
    assert_eq!(
        chain(&gone),
        "process 0 does not follow guest memory any more: detached: enough"
    );
}

/// Nobody knows two partitions by one name.
#[test]
fn partitions_of_one_name_are_told_apart() {
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(AMPLE));
    let client = fixture.client(RemoteGrant::new());
    offer(&client, SoftwareOptions::new());
    let second = Arc::new(SoftwarePartition::new());
    let number = client.remote.offer_partition("vm", second).unwrap();
    let name = format!("vm {number}");
    client.process.wait_for_partition(&name, AMPLE).unwrap();
    assert_eq!(client.process.partitions().len(), 2);
}
