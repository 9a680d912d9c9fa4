//! Managers that die, hang, or say what no manager says. What is mapped stays.

use super::manager::{LONG, Manager, fill, op, options, painted, range, shown, word};
use crate::remote::client::{
    ClientOptions, ClientState, ConnectError, ManagerLost, RemoteClient, WaitError,
};
use crate::remote::message::{
    FileInfo, MOST_ITEMS, MOST_PENDING, SlotAdded, SlotRemoved, Source, ToClient, ToServer,
};
use sparse_alloc::SharedMemory;
use std::error::Error;
use std::os::fd::AsFd;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);

fn causes(error: &dyn Error) -> String {
    super::super::error::line(error)
}

/// A client with a page of memory, and what becomes of it after the manager did something.
fn lost(ram: &SharedMemory, act: impl FnOnce(&mut Manager)) -> (ManagerLost, Manager) {
    let (mut manager, client) =
        Manager::connected(&[(0, ram)], vec![op(0, 0x1000, shown(0, 0, true))]);
    let thread = client.spawn().unwrap();
    act(&mut manager);
    let error = client.wait_for(99, LONG).unwrap_err();
    let WaitError::Lost(lost) = error else {
        panic!("{error:?}");
    };
    let memory = client.guest_memory();
    memory.write_plain(8, &5_u64).unwrap();
    assert_eq!(memory.read_plain::<u64>(0).unwrap(), word(1, 0));
    assert!(matches!(client.state(), ClientState::Lost(_)));
    // Who waits, and who offers, is told.
    assert!(client.wait_for_change(99, LONG).is_err());
    drop(thread);
    (lost, manager)
}

fn violates(what: &str, act: impl FnOnce(&mut Manager)) {
    let ram = painted(1, 1);
    let (lost, mut manager) = lost(&ram, act);
    assert!(matches!(lost, ManagerLost::Protocol(_)), "{lost:?}");
    let text = causes(&lost);
    assert!(text.contains(what), "{text}");
    // The manager is told the same.
    let told = manager.failure();
    let start = text.get(..told.len()).unwrap();
    assert_eq!(told, start);
}

#[test]
fn one_that_closes() {
    let ram = painted(1, 1);
    let (lost, _) = lost(&ram, |manager| {
        manager.socket.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert!(matches!(lost, ManagerLost::Closed), "{lost:?}");
}

#[test]
fn one_that_says_goodbye() {
    let ram = painted(1, 1);
    let (lost, _) = lost(&ram, |manager| {
        let reason = "too slow".to_owned();
        manager.send(&ToClient::Goodbye { reason }, &[]);
    });
    assert!(
        matches!(&lost, ManagerLost::Goodbye { reason } if reason == "too slow"),
        "{lost:?}"
    );
}

#[test]
fn one_that_closes_within_a_message() {
    let ram = painted(1, 1);
    let (lost, _) = lost(&ram, |manager| {
        manager.send_bytes(b"GMR", &[]);
        manager.socket.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert!(causes(&lost).contains("3 bytes into a frame"), "{lost:?}");
}

#[test]
fn one_that_sends_garbage() {
    violates("a frame begins with", |manager| {
        manager.send_bytes(&[0x5a; 100], &[]);
    });
}

#[test]
fn one_of_another_version() {
    violates("version 9", |manager| {
        let mut bytes = b"GMRM\x09\x00".to_vec();
        bytes.extend([0; 10]);
        manager.send_bytes(&bytes, &[]);
    });
}

#[test]
fn one_that_welcomes_twice() {
    violates("`welcome`", |manager| manager.welcome(false));
}

#[test]
fn one_that_skips_a_change() {
    violates("change 9 came after change 1", |manager| {
        manager.send(&ToClient::Commit { sequence: 9 }, &[]);
    });
}

#[test]
fn one_that_shows_files_that_it_never_sent() {
    violates("there is no file 3", |manager| {
        manager.change(vec![op(0, 0x1000, shown(3, 0, true))]);
    });
    violates("there is no file 3", |manager| {
        manager.send(&ToClient::Forget(vec![3]), &[]);
    });
    violates("file 0 was sent twice", |manager| {
        manager.files(&[(0, &painted(1, 1))]);
    });
}

#[test]
fn one_that_reaches_out_of_the_space() {
    violates("does not lie in a space", |manager| {
        let far = 1 << 40;
        manager.change(vec![op(far, far + 0x1000, fill(Source::Zeros, false))]);
    });
}

#[test]
fn one_that_moves_slots_of_no_partition() {
    let removed = SlotRemoved {
        partition: 0,
        range: range(0, 0x1000),
    };
    violates("there is no partition 0", |manager| {
        manager.remove_slots(vec![removed]);
        manager.commit();
    });
    let added = SlotAdded {
        partition: 4,
        range: range(0, 0x1000),
        gpa: 0,
        writable: true,
        executable: true,
    };
    violates("there is no partition 4", |manager| {
        manager.add_slots(vec![added]);
        manager.commit();
    });
}

#[test]
fn one_that_answers_what_nobody_asked() {
    violates("fetch 5 was never asked for", |manager| {
        manager.send(&ToClient::Fetched { request: 5 }, &[]);
    });
}

#[test]
fn one_that_never_comes_to_an_end() {
    let ram = painted(1, 1);
    let (lost, _) = lost(&ram, |manager| {
        let ops = vec![op(0, 0x1000, None); MOST_ITEMS];
        let mut bytes = Vec::new();
        ToClient::Ranges(ops).encode(&mut bytes).unwrap();
        for _ in 0..MOST_PENDING / MOST_ITEMS {
            manager.send_bytes(&bytes, &[]);
        }
        // One more is one too many; the client may be gone before it has been sent.
        manager.try_send_bytes(&bytes, &[]);
    });
    assert!(
        causes(&lost).contains("more than 1048576 operations"),
        "{lost:?}"
    );
}

#[test]
fn one_that_sends_files_of_kinds_that_cannot_be_mapped() {
    let ram = painted(1, 1);
    let (lost, mut manager) = lost(&ram, |manager| {
        let (pipe, _writer) = std::io::pipe().unwrap();
        let info = FileInfo {
            id: 1,
            len: None,
            name: "pipe".to_owned(),
        };
        manager.send(&ToClient::Files(vec![info]), &[pipe.as_fd()]);
    });
    assert!(matches!(lost, ManagerLost::File(_)), "{lost:?}");
    assert!(manager.failure().contains("is a pipe"));
}

#[test]
fn one_that_lets_a_reader_write() {
    let ram = painted(1, 1);
    let (mut manager, socket) = Manager::new();
    manager.welcome_with(|welcome| welcome.read_only = true);
    manager.files(&[(0, &ram)]);
    manager.change(vec![op(0, 0x1000, shown(0, 0, true))]);
    let error = RemoteClient::connect(socket, options()).unwrap_err();
    assert!(causes(&error).contains("may only read"), "{error:?}");
}

#[test]
fn one_that_makes_an_eager_client_lazy() {
    let (mut manager, socket) = Manager::new();
    manager.welcome(true);
    let error = RemoteClient::connect(socket, options()).unwrap_err();
    assert!(causes(&error).contains("did not ask for"), "{error:?}");
}

#[test]
fn one_whose_address_space_is_too_large() {
    let (mut manager, socket) = Manager::new();
    manager.welcome_with(|welcome| welcome.space = !0xfff);
    let error = RemoteClient::connect(socket, options()).unwrap_err();
    assert!(matches!(error, ConnectError::Reserve { .. }), "{error:?}");
}

fn hurried() -> ClientOptions {
    options().deadline(SHORT)
}

#[test]
fn one_that_does_not_answer_or_not_in_full() {
    let refused = |act: fn(&mut Manager)| {
        let (mut manager, socket) = Manager::new();
        act(&mut manager);
        let error = RemoteClient::connect(socket, hurried()).unwrap_err();
        let ConnectError::Lost(ManagerLost::TimedOut { what, within }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(within, SHORT);
        what
    };
    assert_eq!(refused(|_| {}), "welcome the client");
    let half = refused(|manager| manager.send_bytes(b"GMRM", &[]));
    assert_eq!(half, "welcome the client");
    let no_view = refused(|manager| manager.welcome(false));
    assert_eq!(no_view, "show its first view");
    let half_a_view = refused(|manager| {
        manager.welcome(false);
        manager.ranges(vec![op(0, 0x1000, None)]);
    });
    assert!(
        ["show its first view", "complete what it began"].contains(&half_a_view),
        "{half_a_view}"
    );
}

/// A client in a hurry, and what it says about a manager that has begun something.
fn overdue(act: impl FnOnce(&mut Manager)) -> ManagerLost {
    let (mut manager, socket) = Manager::new();
    manager.welcome(false);
    manager.commit();
    // Ample for the handshake, which has all that it needs.
    let client = RemoteClient::connect(socket, options().deadline(Duration::from_millis(500)));
    let client = client.unwrap();
    let _thread = client.spawn().unwrap();
    act(&mut manager);
    match client.wait_for_change(u64::MAX - 1, LONG).unwrap_err() {
        WaitError::Lost(lost) => lost,
        error => panic!("{error:?}"),
    }
}

#[test]
fn one_that_stops_within_a_message() {
    let lost = overdue(|manager| manager.send_bytes(b"GMRM", &[]));
    let what = "complete what it began";
    assert!(
        matches!(lost, ManagerLost::TimedOut { what: w, .. } if w == what),
        "{lost:?}"
    );
}

#[test]
fn one_that_stops_within_a_change() {
    let lost = overdue(|manager| manager.ranges(vec![op(0, 0x1000, None)]));
    let what = "complete what it began";
    assert!(
        matches!(lost, ManagerLost::TimedOut { what: w, .. } if w == what),
        "{lost:?}"
    );
}

#[test]
fn one_that_reads_nothing() {
    let lost = overdue(|manager| {
        // More acknowledgements than the socket holds.
        for _ in 0..20_000 {
            manager.sequence += 1;
            let sequence = manager.sequence;
            let mut bytes = Vec::new();
            ToClient::Commit { sequence }.encode(&mut bytes).unwrap();
            if !manager.try_send_bytes(&bytes, &[]) {
                break;
            }
        }
    });
    let what = "read what it was sent";
    assert!(
        matches!(lost, ManagerLost::TimedOut { what: w, .. } if w == what),
        "{lost:?}"
    );
}

/// Between changes it may be silent for ever.
#[test]
fn one_that_has_nothing_to_say_is_no_trouble() {
    let (mut manager, socket) = Manager::new();
    manager.welcome(false);
    manager.commit();
    let client = RemoteClient::connect(socket, options().deadline(SHORT)).unwrap();
    let error = client.wait_for(2, SHORT * 4).unwrap_err();
    assert!(matches!(error, WaitError::TimedOut { .. }), "{error:?}");
    manager.change_now_after_greeting(&client);
}

#[test]
fn a_client_that_goes_says_nothing_more() {
    let (mut manager, client) = Manager::connected(&[], Vec::new());
    drop(client);
    assert_eq!(manager.try_receive(), None);
}

impl Manager {
    fn change_now_after_greeting(&mut self, client: &RemoteClient) {
        assert!(matches!(self.receive(), ToServer::Hello(_)));
        self.acknowledged();
        self.change_now(client, vec![op(0, 0x1000, fill(Source::Zeros, false))]);
    }
}
