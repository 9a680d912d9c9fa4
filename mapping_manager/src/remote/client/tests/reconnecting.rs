//! From one manager to the next.

use super::manager::{LONG, Manager, SPACE, op, options, painted, shown, word};
use crate::remote::client::{ClientState, ReconnectError, RemoteClient};
use crate::remote::message::ToServer;
use crate::{Cause, LeaseAccess, Unanswered};

#[test]
fn what_is_the_same_is_not_touched_and_leases_stay() {
    let (ram, other, gone) = (painted(1, 8), painted(2, 8), painted(3, 1));
    let (manager, client) = Manager::connected(
        &[(0, &ram), (1, &gone)],
        vec![
            op(0, 0x8000, shown(0, 0, true)),
            op(0x9000, 0xa000, shown(1, 0, true)),
        ],
    );
    let _thread = client.spawn().unwrap();
    let memory = client.guest_memory();
    let lease = memory.lock(0x1000..0x3000, LeaseAccess::Write).unwrap();
    let of_gone = memory.lock(0x9000..0xa000, LeaseAccess::Write).unwrap();
    drop(manager);
    // Nobody else can tell when the thread sees it.
    while !matches!(client.state(), ClientState::Lost(_)) {
        std::thread::yield_now();
    }
    lease.write(0, &7_u64.to_ne_bytes()).unwrap();
    assert_eq!(memory.read_plain::<u64>(0x1000).unwrap(), 7);

    // All but two pages are as they were.
    let before = client.mapper().reservation().calls();
    let (mut next, socket) = Manager::new();
    next.welcome(false);
    next.files(&[(5, &other), (6, &ram)]);
    next.change(vec![
        op(0, 0x4000, shown(6, 0, true)),
        op(0x4000, 0x5000, shown(5, 0x4000, true)),
        op(0x5000, 0x8000, shown(6, 0x5000, true)),
    ]);
    client.reconnect(socket).unwrap();
    assert!(matches!(next.receive(), ToServer::Hello(_)));
    next.acknowledged();
    let calls = client.mapper().reservation().calls();
    // One page mapped, and one reserved again.
    assert_eq!(calls.map, before.map + 2);
    assert_eq!(memory.read_plain::<u64>(0x1000).unwrap(), 7);
    assert_eq!(memory.read_plain::<u64>(0x4000).unwrap(), word(2, 4));
    assert_eq!(memory.read_plain::<u64>(0x5000).unwrap(), word(1, 5));
    let cause = memory.read_plain::<u64>(0x9000).unwrap_err().cause();
    assert_eq!(cause, Cause::Hole { gpa: 0x9000 });
    lease.write(0, &8_u64.to_ne_bytes()).unwrap();
    assert_eq!(memory.read_plain::<u64>(0x1000).unwrap(), 8);
    of_gone.write(0, &[1]).unwrap();

    // The thread goes on with the new one.
    assert!(matches!(client.state(), ClientState::Connected));
    next.change(vec![op(0, 0x1000, None)]);
    next.acknowledged();
    assert_eq!((client.sequence(), client.changes()), (2, 3));
}

#[test]
fn a_manager_may_be_left_for_another() {
    let ram = painted(1, 1);
    let ops = || vec![op(0, 0x1000, shown(0, 0, true))];
    let (mut manager, client) = Manager::connected(&[(0, &ram)], ops());
    let (mut next, socket) = Manager::new();
    next.welcome(false);
    next.files(&[(0, &ram)]);
    next.change(ops());
    client.reconnect(socket).unwrap();
    assert_eq!(manager.try_receive(), None);
    next.receive();
    next.acknowledged();
    next.change_now(&client, ops());
}

#[test]
fn a_manager_of_another_space_is_refused() {
    let (mut manager, client) = Manager::connected(&[], Vec::new());
    let (mut next, socket) = Manager::new();
    next.welcome_with(|welcome| welcome.space = SPACE * 2);
    let error = client.reconnect(socket).unwrap_err();
    assert!(
        matches!(error, ReconnectError::Space { found, own } if found == 2 * SPACE && own == SPACE),
        "{error:?}"
    );
    // The one before is still there.
    manager.change_now(&client, Vec::new());
}

#[test]
fn one_that_breaks_off_leaves_what_there_is() {
    let ram = painted(1, 2);
    let ops = vec![op(0, 0x2000, shown(0, 0, true))];
    let (_manager, client) = Manager::connected(&[(0, &ram)], ops);
    let (mut next, socket) = Manager::new();
    next.welcome(false);
    next.ranges(vec![op(0, 0x1000, None)]);
    next.socket.shutdown(std::net::Shutdown::Write).unwrap();
    let error = client.reconnect(socket).unwrap_err();
    assert!(matches!(error, ReconnectError::Lost(_)), "{error:?}");
    let memory = client.guest_memory();
    assert_eq!(memory.read_plain::<u64>(0).unwrap(), word(1, 0));
    assert!(matches!(client.state(), ClientState::Lost(_)));
    assert!(client.wait_for(1, LONG).is_err());
}

/// A lazy client asks about what it has, takes away what is no longer shown, and asks about nothing
/// else.
#[test]
fn a_lazy_client_asks_about_what_it_has() {
    let ram = painted(1, 8);
    let (mut manager, client) = Manager::connected_lazily(&[(0, &ram)]);
    let touched = client.guest_memory();
    let toucher = std::thread::spawn(move || {
        touched.read_plain::<u64>(0x1000).unwrap();
        touched.read_plain::<u64>(0x6000).unwrap()
    });
    let fetch = manager.asked();
    manager.answer(fetch, vec![op(0, 0x4000, shown(0, 0, true))]);
    manager.acknowledged();
    let fetch = manager.asked();
    manager.answer(fetch, vec![op(0x6000, 0x7000, shown(0, 0x6000, true))]);
    manager.acknowledged();
    assert_eq!(toucher.join().unwrap(), word(1, 6));

    drop(manager);
    let (mut next, socket) = Manager::new();
    let before = client.mapper().reservation().calls();
    let serving = std::thread::spawn({
        let ram = ram.clone();
        move || {
            next.welcome(true);
            next.files(&[(3, &ram)]);
            next.commit();
            assert!(matches!(next.receive(), ToServer::Hello(_)));
            next.acknowledged();
            let first = next.asked();
            assert_eq!((first.range.start(), first.range.end()), (0, 0x4000));
            next.answer(first, vec![op(0, 0x4000, shown(3, 0, true))]);
            next.acknowledged();
            let second = next.asked();
            assert_eq!((second.range.start(), second.range.end()), (0x6000, 0x7000));
            next.answer(second, Vec::new());
            next
        }
    });
    client.reconnect(socket).unwrap();
    let next = serving.join().unwrap();
    let calls = client.mapper().reservation().calls();
    assert_eq!(
        calls.map,
        before.map + 1,
        "only the last page is reserved again"
    );
    let memory = client.guest_memory();
    assert_eq!(memory.read_plain::<u64>(0x3000).unwrap(), word(1, 3));
    drop(next);
    let cause = memory.read_plain::<u64>(0x6000).unwrap_err().cause();
    let why = Unanswered::Gone;
    assert_eq!(cause, Cause::NotFetched { gpa: 0x6000, why });
}

#[test]
fn connecting_needs_somebody() {
    let (manager, socket) = Manager::new();
    drop(manager);
    let error = RemoteClient::connect(socket, options()).unwrap_err();
    assert!(error.to_string().contains("did not come about"), "{error}");
}
