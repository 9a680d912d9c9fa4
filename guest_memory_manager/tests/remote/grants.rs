//! A process sees what it was granted, and nothing else.

use crate::fixture::{
    AMPLE, F_SEGMENT, Fixture, GAP, VTL2, assert_same, gap, in_vtl0, number_pages, page,
    page_addresses,
};
use crate::support::{numbered, range};
use guest_memory_manager::{
    Cause, ClientState, DeviceMemoryControl, RamVisibility, RemoteClientOptions, RemoteGrant, Vtl,
};

/// A device window in the gap, of four pages.
fn window(fixture: &Fixture) -> DeviceMemoryControl {
    let frames = numbered("frames", 4, 50);
    let windows = fixture.memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x4000, true).unwrap().wait();
    control.map_to_guest(GAP.start(), true).unwrap().wait();
    control
}

#[test]
fn a_reader_writes_nothing() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let client = fixture.client(RemoteGrant::new().read_only());
    let _window = window(&fixture);
    client.process.acknowledgement().wait();
    assert!(client.remote.client().is_read_only());
    for gpa in page_addresses().filter(|gpa| in_vtl0(*gpa)) {
        let expected = page(&fixture.view(), gpa).map(|(word, _)| (word, false));
        assert_eq!(page(&client.view(), gpa), expected, "{gpa:#x}");
    }
    let error = client.view().write_plain(0x1000, &1_u8).unwrap_err();
    assert!(
        matches!(error.cause(), Cause::ReadOnly { gpa: 0x1000 }),
        "{error:?}"
    );
    // Not by the descriptor, either.
    for (range, mapping) in client.remote.client().mapper().mappings() {
        let file = mapping.backing.as_mappable().unwrap();
        assert!(!file.access().is_writable(), "{range}");
    }
}

#[test]
fn ranges_are_cut_where_the_grant_ends() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    // In any order, overlapping, empty, over a border of regions and into the window.
    let granted = [
        gap(2, 9),
        range(0xb_f000, 0xc_2000),
        range(0xc_1000, 0xc_3000),
        range(0x1000, 0x1000),
        range(0x4000, 0x6000),
    ];
    let client = fixture.client(RemoteGrant::new().only(granted));
    let seen = |gpa| granted.iter().any(|range| range.contains_addr(gpa));
    let same = || {
        client.process.acknowledgement().wait();
        assert_same(&fixture.view(), &client.view(), seen);
    };
    same();
    let mut window = window(&fixture);
    same();
    assert_eq!(
        client.view().read_plain::<u32>(gap(2, 3).start()).unwrap(),
        52
    );
    let before = client.process.last_sealed();
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    assert_eq!(client.process.last_sealed(), before, "nothing that it sees");
    window.map_to_guest(gap(4, 5).start(), true).unwrap();
    same();
    window.unmap_from_guest();
    same();
}

#[test]
fn ram_is_all_that_some_see() {
    let fixture = Fixture::new();
    let _window = window(&fixture);
    let client = fixture.client(RemoteGrant::new().ram_only());
    assert_same(&fixture.view(), &client.view(), |gpa| {
        in_vtl0(gpa) && !GAP.contains_addr(gpa)
    });
    let hole = client.view().read_plain::<u8>(GAP.start()).unwrap_err();
    assert!(matches!(hole.cause(), Cause::Hole { .. }), "{hole:?}");
}

#[test]
fn vtl2_is_seen_by_whom_it_is_granted_to() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let other = fixture.client(RemoteGrant::new());
    let own = fixture.client(RemoteGrant::new().vtl(Vtl::Vtl2));
    assert_same(&fixture.view(), &own.view(), |_| true);
    assert_same(&fixture.view(), &other.view(), in_vtl0);
    assert!(other.view().read_plain::<u8>(VTL2.start()).is_err());
    // Its memory is another file, which the other one never got.
    let names = |client: &crate::fixture::Client| {
        let mappings = client.remote.client().mapper().mappings();
        let mut names: Vec<_> = mappings
            .iter()
            .map(|one| one.1.backing.name().to_owned())
            .collect();
        names.sort();
        names.dedup();
        names.len()
    };
    assert_eq!((names(&own), names(&other)), (2, 1));
}

#[test]
fn who_may_not_be_lazy_is_not() {
    let fixture = Fixture::new();
    let options = RemoteClientOptions::new("lazy").lazy(true).deadline(AMPLE);
    let client = fixture.client_with(RemoteGrant::new(), options);
    assert!(!client.process.is_lazy() && !client.remote.client().is_lazy());
    assert!(!client.remote.client().mapper().mappings().is_empty());
    assert!(matches!(
        client.remote.client().state(),
        ClientState::Connected
    ));
}
