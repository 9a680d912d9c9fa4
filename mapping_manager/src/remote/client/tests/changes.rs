//! Changes that a manager may well make.

use super::manager::{LONG, Manager, SPACE, fill, op, options, painted, range, shown, word};
use crate::remote::client::{ChangeError, ClientState, ManagerLost, RemoteClient, WaitError};
use crate::remote::message::{FileInfo, Source, ToClient};
use crate::{Cause, LeaseAccess};
use memory_range::Access;
use sparse_alloc::{Alignment, MapError, SharedMemory};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn the_first_view_is_there_when_connecting_returns() {
    let ram = painted(1, 8);
    let (_manager, client) = Manager::connected(
        &[(7, &ram)],
        vec![
            op(0, 0x4000, shown(7, 0, true)),
            op(0x8000, 0xc000, shown(7, 0x4000, false)),
        ],
    );
    assert_eq!(client.mapper().space(), range(0, SPACE));
    assert_eq!(client.sequence(), 1);
    assert!(matches!(client.state(), ClientState::Connected));
    assert_eq!(client.manager(), "manager");
    let memory = client.guest_memory();
    assert_eq!(memory.name(), "client");
    assert_eq!(memory.read_plain::<u64>(0x3ff8).unwrap(), word(1, 3));
    assert_eq!(memory.read_plain::<u64>(0x9000).unwrap(), word(1, 5));
    memory.write_plain(0x10, &1_u64).unwrap();
    let cause = |gpa| memory.write_plain(gpa, &1_u64).unwrap_err().cause();
    assert_eq!(cause(0x8000), Cause::ReadOnly { gpa: 0x8000 });
    assert_eq!(cause(0x4000), Cause::Hole { gpa: 0x4000 });
    // It is the same memory.
    let lease = memory.lock(0..0x1000, LeaseAccess::Read).unwrap();
    drop(client);
    let mut first = [0; 8];
    lease.read(0x10, &mut first).unwrap();
    assert_eq!(first, 1_u64.to_ne_bytes());
    // Huge pages are possible here, too.
    let alignment = memory.mapper().reservation().alignment();
    assert_eq!(alignment, Alignment::Huge2M);
}

#[test]
fn every_kind_of_change_is_followed() {
    let (ram, rom) = (painted(1, 8), painted(2, 8));
    let files = [(0, &ram), (1, &rom)];
    let ops = vec![op(0, 0x8000, shown(0, 0, true))];
    let (mut manager, client) = Manager::connected(&files, ops);
    let memory = client.guest_memory();
    let read = |gpa| memory.read_plain::<u64>(gpa);
    let calls = || client.mapper().reservation().calls();

    // Replaced in the middle.
    manager.change_now(&client, vec![op(0x2000, 0x4000, shown(1, 0x1000, false))]);
    assert_eq!(read(0x1000).unwrap(), word(1, 1));
    assert_eq!(read(0x2000).unwrap(), word(2, 1));
    assert_eq!(read(0x4000).unwrap(), word(1, 4));
    // Protected, and back: no mapping is made.
    let before = calls();
    manager.change_now(&client, vec![op(0x4000, 0x8000, shown(0, 0x4000, false))]);
    assert!(memory.write_plain(0x4000, &1_u64).is_err());
    manager.change_now(&client, vec![op(0x4000, 0x8000, shown(0, 0x4000, true))]);
    memory.write_plain(0x4000, &1_u64).unwrap();
    assert_eq!(calls().map, before.map);
    assert_eq!(calls().protect, before.protect + 2);
    // What is the same is no call at all.
    let before = calls();
    manager.change_now(&client, vec![op(0x2000, 0x4000, shown(1, 0x1000, false))]);
    assert_eq!(calls(), before);
    // Neighbours that go on in one another are one call.
    let pages = (0..4).map(|page| op(page << 12, (page + 1) << 12, shown(1, page << 12, false)));
    manager.change_now(&client, pages.collect());
    assert_eq!(calls().map, before.map + 1);
    assert_eq!(read(0x3000).unwrap(), word(2, 3));
    // Taken away, a part of it a hole already.
    manager.change_now(&client, vec![op(0x1000, 0x2000, None)]);
    manager.change_now(&client, vec![op(0, 0x10000, None)]);
    assert_eq!(client.mapper().mappings(), []);
    // Fills; nothing of them is shared.
    let fills = vec![
        op(0, 0x1000, fill(Source::Zeros, false)),
        op(0x1000, 0x3000, fill(Source::Ones, true)),
    ];
    manager.change_now(&client, fills.clone());
    assert_eq!((read(0).unwrap(), read(0x1000).unwrap()), (0, u64::MAX));
    memory.write_plain(0x1000, &7_u64).unwrap();
    let before = calls();
    manager.change_now(&client, fills);
    assert_eq!((calls(), read(0x1000).unwrap()), (before, 7));
    assert_eq!(client.changes(), manager.sequence);
}

/// Of several operations on one page the last counts, and a range may be cut by later ones.
#[test]
fn the_last_word_of_a_change_counts() {
    let ram = painted(1, 8);
    let ops = vec![
        op(0, 0x8000, None),
        op(0, 0x8000, shown(0, 0, true)),
        op(0x3000, 0x4000, None),
        op(0x3000, 0x5000, shown(0, 0x7000 - 0x4000, false)),
    ];
    let (_manager, client) = Manager::connected(&[(0, &ram)], ops);
    let memory = client.guest_memory();
    for (page, shows) in [(0, 0), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7)] {
        assert_eq!(
            memory.read_plain::<u64>(page << 12).unwrap(),
            word(1, shows)
        );
    }
    assert!(memory.write_plain(0x4000, &1_u64).is_err());
    assert!(memory.write_plain(0x5000, &1_u64).is_ok());
}

#[test]
fn files_are_forgotten_and_their_numbers_given_anew() {
    let (one, two) = (painted(1, 1), painted(2, 1));
    let ops = vec![op(0, 0x1000, shown(3, 0, true))];
    let (mut manager, client) = Manager::connected(&[(3, &one)], ops);
    // Even in the middle of a change that still means the old one.
    manager.ranges(vec![op(0x1000, 0x2000, shown(3, 0, true))]);
    manager.send(&ToClient::Forget(vec![3]), &[]);
    manager.files(&[(3, &two)]);
    manager.change_now(&client, vec![op(0x2000, 0x3000, shown(3, 0, true))]);
    let memory = client.guest_memory();
    for (gpa, tag) in [(0, 1), (0x1000, 1), (0x2000, 2)] {
        assert_eq!(memory.read_plain::<u64>(gpa).unwrap(), word(tag, 0));
    }
    // A file that is sent twice is one file.
    manager.files(&[(4, &two)]);
    let before = client.mapper().reservation().calls();
    manager.change_now(&client, vec![op(0x2000, 0x3000, shown(4, 0, true))]);
    assert_eq!(client.mapper().reservation().calls(), before);
}

#[test]
fn replaced_contents_never_show_a_hole() {
    let (one, two) = (painted(1, 4), painted(2, 4));
    let files = [(0, &one), (1, &two)];
    let (mut manager, client) = Manager::connected(&files, vec![op(0, 0x4000, shown(0, 0, true))]);
    let _thread = client.spawn().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (memory, done) = (client.guest_memory(), Arc::clone(&done));
        move || {
            let mut seen = [false; 2];
            while !done.load(Ordering::Relaxed) || seen != [true; 2] {
                for page in 0..4 {
                    let found: u64 = memory.read_plain(page << 12).unwrap();
                    assert!(
                        [word(1, page), word(2, page)].contains(&found),
                        "{found:#x}"
                    );
                    seen[(found >> 32) as usize - 1] = true;
                }
            }
        }
    });
    for turn in 0..1000 {
        // Whole, in part, and in one change with a hole that comes to nothing.
        let id = u32::from(turn % 2 == 0);
        let ops = match turn % 3 {
            0 => vec![op(0, 0x4000, shown(id, 0, true))],
            1 => vec![op(0x1000, 0x3000, shown(id, 0x1000, turn % 5 == 0))],
            _ => vec![op(0, 0x4000, None), op(0, 0x4000, shown(id, 0, true))],
        };
        manager.change(ops);
        manager.acknowledged();
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

#[test]
fn what_fails_in_the_middle_is_told_and_the_rest_is_true() {
    let ram = painted(1, 4);
    let ops = vec![op(0, 0x4000, shown(0, 0, true))];
    let (mut manager, client) = Manager::connected(&[(0, &ram)], ops);
    // The third page lies past the file's end.
    manager.change(vec![
        op(0x1000, 0x2000, shown(0, 0x3000, true)),
        op(0x3000, 0x4000, shown(0, 0x8000, true)),
        op(0x5000, 0x6000, shown(0, 0, true)),
    ]);
    let error = client.wait_for(2, LONG).unwrap_err();
    let WaitError::Lost(ManagerLost::Change {
        sequence: 2,
        source,
    }) = &error
    else {
        panic!("{error:?}");
    };
    let ChangeError::Map { range: at, source } = &**source else {
        panic!("{source:?}");
    };
    assert_eq!(*at, range(0x3000, 0x4000));
    assert!(matches!(source, MapError::PastEnd { .. }), "{source:?}");
    let text = manager.failure();
    assert!(text.contains("change 2 could not be made"), "{text}");
    assert!(text.contains("past the end"), "{text}");
    assert_eq!(manager.try_receive(), None);

    let memory = client.guest_memory();
    let words: Vec<_> = (0..7)
        .map(|page| memory.read_plain(page << 12).ok())
        .collect();
    let w = |page| Some(word(1, page));
    assert_eq!(words, [w(0), w(3), w(2), w(3), None, None, None]);
    assert_eq!(client.sequence(), 1);
    assert!(matches!(client.state(), ClientState::Lost(_)));
    assert!(client.wait_for(1, LONG).is_ok());
    assert!(client.turn(Some(LONG)).is_err());
}

/// The first view may fail, too.
#[test]
fn a_view_that_cannot_be_mapped_is_no_connection() {
    let ram = painted(1, 1);
    let (mut manager, socket) = Manager::new();
    manager.welcome(false);
    manager.files(&[(0, &ram)]);
    manager.change(vec![op(0, 0x2000, shown(0, 0, true))]);
    let error = RemoteClient::connect(socket, options()).unwrap_err();
    assert!(error.to_string().contains("did not come about"), "{error}");
    assert!(manager.failure().contains("past the end"));
}

#[test]
fn a_client_that_may_only_read_does() {
    let ram = painted(1, 1);
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&ram.mappable().as_fd())
    );
    let read_only = std::fs::File::open(path).unwrap();
    let (mut manager, socket) = Manager::new();
    manager.welcome_with(|welcome| welcome.read_only = true);
    let info = FileInfo {
        id: 0,
        len: Some(0x1000),
        name: "ram".to_owned(),
    };
    manager.send(&ToClient::Files(vec![info]), &[read_only.as_fd()]);
    manager.change(vec![op(0, 0x1000, shown(0, 0, false))]);
    let client = RemoteClient::connect(socket, options()).unwrap();
    assert!(client.is_read_only());
    let [(_, mapping)] = &client.mapper().mappings()[..] else {
        panic!("one mapping");
    };
    assert_eq!(mapping.backing.access(), Access::ReadOnly);
    let memory = client.guest_memory();
    assert_eq!(memory.read_plain::<u64>(0).unwrap(), word(1, 0));
    // Not even by the way that loaders have.
    let cause = memory.write_read_only_at(0, &[1]).unwrap_err().cause();
    assert_eq!(cause, Cause::ReadOnlyBacking { gpa: 0 });
}

/// Long memory is kept out of core dumps: two calls of advice for each mapping.
#[test]
fn long_mappings_are_kept_out_of_core_dumps() {
    let ram = SharedMemory::new("ram", 4 << 20).unwrap();
    let ops = vec![op(0, 4 << 20, shown(0, 0, true))];
    let (_manager, client) = Manager::connected(&[(0, &ram)], ops);
    assert_eq!(client.mapper().reservation().calls().advise, 2);
}
