//! Who makes the changes.

use super::manager::{LONG, Manager, op, painted, shown, word};
use crate::remote::client::{ClientState, ManagerLost, RemoteClient};
use inspect::{Inspect, inspect};
use std::time::Duration;

fn connected() -> (Manager, RemoteClient) {
    let ram = painted(1, 4);
    Manager::connected(&[(0, &ram)], vec![op(0, 0x1000, shown(0, 0, true))])
}

#[test]
fn a_loop_of_the_callers_own() {
    let (mut manager, client) = connected();
    client.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(client.sequence(), 1);
    manager.change(vec![op(0, 0x1000, shown(0, 0x2000, true))]);
    while client.sequence() < 2 {
        client.turn(Some(LONG)).unwrap();
    }
    manager.acknowledged();
    assert_eq!(
        client.guest_memory().read_plain::<u64>(0).unwrap(),
        word(1, 2)
    );
}

#[test]
fn a_thread_that_ends_with_its_guard() {
    let (mut manager, client) = connected();
    let thread = client.spawn().unwrap();
    manager.change(Vec::new());
    manager.acknowledged();
    drop(thread);
    manager.change(Vec::new());
    // Nobody makes it, until somebody waits for it.
    assert_eq!(client.sequence(), 2);
    assert_eq!(client.wait_for(3, LONG).unwrap(), 3);
    assert_eq!(client.wait_for_change(2, LONG).unwrap(), 3);
}

/// Waiting threads do the work between them, and none misses what another did.
#[test]
fn many_wait_and_somebody_works() {
    let (mut manager, client) = connected();
    let _thread = client.spawn().unwrap();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                for sequence in (first..500).step_by(3) {
                    client.wait_for(sequence, LONG).unwrap();
                }
            });
        }
        for _ in 1..500 {
            manager.change(Vec::new());
            manager.acknowledged();
        }
    });
}

/// Who waits at the socket hears of what another thread did without it.
#[test]
fn the_leader_is_told() {
    let (_manager, client) = connected();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.wait_for(9, LONG));
        while client.inner.shared().leader.is_none() {
            std::thread::yield_now();
        }
        client.inner.update(|shared| shared.sequence = 9);
        assert_eq!(waiting.join().unwrap().unwrap(), 9);
    });
}

#[test]
fn a_task_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_io().build().unwrap();
    let (mut manager, client) = connected();
    let served = std::thread::spawn({
        let client = client.clone();
        move || runtime.block_on(client.serve())
    });
    for page in [1, 2, 3] {
        manager.change(vec![op(0, 0x1000, shown(0, page << 12, true))]);
        manager.acknowledged();
        let found: u64 = client.guest_memory().read_plain(0).unwrap();
        assert_eq!(found, word(1, page));
    }
    drop(manager);
    let lost = served.join().unwrap();
    assert!(matches!(lost, ManagerLost::Closed), "{lost:?}");
}

#[test]
fn it_shows_how_it_stands() {
    let (mut manager, client) = connected();
    manager.change_now(&client, Vec::new());
    let text = |client: &RemoteClient| inspect(client).to_json_string();
    let shown = text(&client);
    for part in [
        r#""manager":"manager""#,
        r#""state":"connected""#,
        r#""sequence":2"#,
        r#""files":1"#,
        r#""mapped_ranges":1"#,
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    drop(manager);
    while !matches!(client.state(), ClientState::Lost(_)) {
        let _ = client.turn(Some(LONG));
    }
    let shown = text(&client);
    assert!(
        shown.contains("the manager closed the connection"),
        "{shown}"
    );
    assert!(format!("{client:?}").contains("Lost(Closed)"));
    let _: &dyn Inspect = &client;
}
