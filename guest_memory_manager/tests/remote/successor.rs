//! A manager goes, another one has the same memory, and the processes go on with it.

use crate::fixture::{
    AMPLE, C_SEGMENT, F_SEGMENT, Fixture, assert_same, in_vtl0, layout, number_pages,
};
use guest_memory_manager::{
    GuestMemoryBuilder, LeaseAccess, RamVisibility, RemoteGrant, RemoteOptions, SoftwarePartition,
    Vtl,
};
use partition_mapper::testing::FailingPartition;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

#[test]
fn a_client_goes_on_with_the_successor() {
    let old = Fixture::new();
    number_pages(&old.view());
    let client = old.client(RemoteGrant::new());
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    client.remote.offer_partition("vm", guest.clone()).unwrap();
    let partition = client.process.wait_for_partition("vm", AMPLE).unwrap();
    let process = Some(client.process.clone());
    old.memory
        .attach_partition_now(Vtl::Vtl0, partition, process)
        .unwrap();
    old.set(C_SEGMENT, RamVisibility::ReadOnly);
    let start = F_SEGMENT.start();
    let lease = client
        .view()
        .lock(start..start + 8, LeaseAccess::Write)
        .unwrap();
    let slots = guest.inner().slots();
    guest.fail_never();

    let backing = old.memory.shared_memory_backing();
    drop(old);
    let waited = client.remote.client().wait_for(u64::MAX, AMPLE);
    assert!(waited.is_err());
    // The guest goes on meanwhile, and so does a device.
    assert_eq!(guest.inner().slots(), slots);
    client.view().write_plain(0x3000, &0x77_u8).unwrap();
    lease.write(0, &[1; 8]).unwrap();

    let builder = GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .existing_backing(Some(backing));
    let memory = builder.build_now(&layout()).unwrap();
    let new = Fixture::with(memory, RemoteOptions::new().deadline(AMPLE));
    // What the old one had changed beside the contents is the new one's to do.
    new.set(C_SEGMENT, RamVisibility::ReadOnly);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = new.server.accept(ours, RemoteGrant::new()).unwrap();
    let calls = client.remote.client().mapper().reservation().calls();
    client.remote.reconnect(theirs).unwrap();
    assert_eq!(client.remote.client().mapper().reservation().calls(), calls);
    process.wait_ready(AMPLE).unwrap();
    assert_same(&new.view(), &client.view(), in_vtl0);
    assert_eq!(new.view().read_plain::<u8>(0x3000).unwrap(), 0x77);
    lease.write(0, &[2; 8]).unwrap();
    assert_eq!(new.view().read_plain::<[u8; 8]>(start).unwrap(), [2; 8]);

    // The partition was offered again, and its slots are what the new manager wants, too.
    let partition = process.wait_for_partition("vm", AMPLE).unwrap();
    new.memory
        .attach_partition_now(Vtl::Vtl0, partition, Some(process))
        .unwrap();
    new.memory.acknowledgement().wait();
    assert_eq!(guest.inner().slots(), slots);
    assert_eq!(guest.calls(), []);
    new.set(F_SEGMENT, RamVisibility::Unmapped);
    assert_eq!(guest.inner().slots().len(), slots.len() - 1);
    assert_eq!(guest.inner().broken_rules(), []);
}
