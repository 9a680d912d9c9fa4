//! Partitions of the client, and the order in which their slots and memory change.

use super::manager::{LONG, Manager, op, painted, range, shown, word};
use crate::VaMapper;
use crate::remote::client::{
    ChangeError, ClientState, ManagerLost, OfferError, RemoteClient, SlotTaker, WaitError,
};
use crate::remote::message::{MOST_PARTITIONS, SlotAdded, SlotRemoved, ToServer};
use memory_range::{Access, MemoryRange};
use sparse_alloc::HostRange;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

/// What a taker was told, and what the memory showed at that moment.
type Log = Arc<Mutex<Vec<String>>>;

struct Taker {
    log: Log,
    mapper: Arc<VaMapper>,
    /// Calls from this one on fail.
    fails_at: usize,
    calls: usize,
}

impl Taker {
    fn note(&mut self, text: String) -> Result<(), Box<dyn Error + Send + Sync>> {
        let shows = self.mapper.guest_memory().read_plain::<u64>(0);
        let shows = shows.map_or("nothing".to_owned(), |word| format!("{word:#x}"));
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.calls += 1;
        if self.calls >= self.fails_at {
            return Err("no slot is left".into());
        }
        log.push(format!("{text} while 0 shows {shows}"));
        Ok(())
    }
}

impl SlotTaker for Taker {
    fn add(
        &mut self,
        range: MemoryRange,
        host: HostRange,
        access: Access,
        executable: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let run = if executable { " x" } else { "" };
        let at = host.offset();
        assert_eq!(host.len(), range.len());
        self.note(format!("add {range} at {at:#x} {access}{run}"))
    }

    fn remove(&mut self, range: MemoryRange) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.note(format!("remove {range}"))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push("dropped".to_owned());
    }
}

fn added(start: u64, end: u64, gpa: u64, writable: bool) -> SlotAdded {
    SlotAdded {
        partition: 0,
        range: range(start, end),
        gpa,
        writable,
        executable: true,
    }
}

fn removed(start: u64, end: u64) -> SlotRemoved {
    SlotRemoved {
        partition: 0,
        range: range(start, end),
    }
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Offers a partition whose calls from the `fails_at`th on fail.
fn offer(client: &RemoteClient, fails_at: usize) -> (u32, Log) {
    let log = Log::default();
    let taker = Taker {
        log: Arc::clone(&log),
        mapper: Arc::clone(client.mapper()),
        fails_at,
        calls: 0,
    };
    let offered = client.offer_partition("vm", "software", Some(8), Box::new(taker));
    (offered.unwrap(), log)
}

fn offered(manager: &mut Manager, number: u32) {
    let ToServer::Offer(offer) = manager.receive() else {
        panic!("no offer");
    };
    assert_eq!((offer.partition, offer.slots), (number, Some(8)));
    assert_eq!((&*offer.name, &*offer.kind), ("vm", "software"));
}

#[test]
fn slots_go_before_memory_changes_and_come_after() {
    let (ram, other) = (painted(1, 4), painted(2, 4));
    let files = [(0, &ram), (1, &other)];
    let (mut manager, client) = Manager::connected(&files, vec![op(0, 0x4000, shown(0, 0, true))]);
    let (number, log) = offer(&client, usize::MAX);
    assert_eq!(number, 0);
    offered(&mut manager, 0);

    // A partition may see the space moved.
    manager.add_slots(vec![
        added(0, 0x4000, 0, true),
        added(0x10000, 0x11000, 0x1000, false),
    ]);
    manager.commit();
    client.wait_for(2, LONG).unwrap();
    manager.acknowledged();
    assert_eq!(
        taken(&log),
        [
            "add 0x0-0x4000 at 0x0 rw x while 0 shows 0x100000000",
            "add 0x10000-0x11000 at 0x1000 ro x while 0 shows 0x100000000",
        ]
    );

    // As the messages come, whatever their order.
    manager.add_slots(vec![
        added(0, 0x1000, 0, true),
        added(0x1000, 0x4000, 0x1000, false),
    ]);
    manager.ranges(vec![op(0, 0x1000, shown(1, 0, true))]);
    manager.remove_slots(vec![removed(0, 0x4000)]);
    manager.commit();
    client.wait_for(3, LONG).unwrap();
    manager.acknowledged();
    assert_eq!(
        taken(&log),
        [
            "remove 0x0-0x4000 while 0 shows 0x100000000",
            "add 0x0-0x1000 at 0x0 rw x while 0 shows 0x200000000",
            "add 0x1000-0x4000 at 0x1000 ro x while 0 shows 0x200000000",
        ]
    );

    // Withdrawn, its slots go; what the manager says of it before it knows goes nowhere.
    client.withdraw_partition(0).unwrap();
    let log = taken(&log);
    assert_eq!(log.len(), 4);
    assert_eq!(log[3], "dropped");
    manager.add_slots(vec![added(0x8000, 0x9000, 0, true)]);
    manager.commit();
    client.wait_for(4, LONG).unwrap();
    assert_eq!(manager.receive(), ToServer::Withdraw { partition: 0 });
    manager.acknowledged();
    assert!(matches!(
        client.withdraw_partition(0),
        Err(OfferError::NoPartition { partition: 0 })
    ));
    // Numbers are not given twice.
    assert_eq!(offer(&client, usize::MAX).0, 1);
}

/// Why the client gave up.
fn lost(client: &RemoteClient) -> ManagerLost {
    match client.wait_for(99, LONG).unwrap_err() {
        WaitError::Lost(lost) => lost,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_slot_that_is_not_taken_is_told() {
    let ram = painted(1, 4);
    let ops = vec![op(0, 0x4000, shown(0, 0, true))];
    let (mut manager, client) = Manager::connected(&[(0, &ram)], ops);
    let (_, log) = offer(&client, 2);
    offered(&mut manager, 0);
    manager.add_slots(vec![
        added(0, 0x1000, 0, true),
        added(0x1000, 0x2000, 0x1000, true),
    ]);
    manager.change(vec![op(0x3000, 0x4000, None)]);
    let ManagerLost::Change {
        sequence: 2,
        source,
    } = lost(&client)
    else {
        panic!("{:?}", client.state());
    };
    let ChangeError::AddSlot {
        partition,
        range: at,
        source,
    } = &*source
    else {
        panic!("{source:?}");
    };
    assert_eq!((&**partition, *at), ("vm", range(0x1000, 0x2000)));
    assert_eq!(source.to_string(), "no slot is left");
    let text = manager.failure();
    assert!(text.ends_with("no slot is left"), "{text}");
    // What was made before it stays, memory and slots.
    assert_eq!(taken(&log).len(), 1);
    assert_eq!(client.mapper().mappings().len(), 1);
    assert!(client.guest_memory().read_plain::<u64>(0x3000).is_err());
    assert!(
        client
            .offer_partition("more", "", None, Box::new(Never))
            .is_err()
    );
}

#[test]
fn slots_that_make_no_sense_are_refused() {
    let text = |act: fn(&mut Manager)| {
        let (mut manager, client) = Manager::connected(&[], Vec::new());
        let (_, log) = offer(&client, usize::MAX);
        offered(&mut manager, 0);
        manager.add_slots(vec![added(0, 0x4000, 0, true)]);
        manager.commit();
        act(&mut manager);
        manager.commit();
        let lost = lost(&client);
        assert!(matches!(lost, ManagerLost::Protocol(_)), "{lost:?}");
        assert_eq!(taken(&log).len(), 1);
        super::super::error::line(&lost)
    };
    let overlap = text(|manager| manager.add_slots(vec![added(0x3000, 0x5000, 0, true)]));
    assert!(overlap.contains("overlaps slot 0x0-0x4000"), "{overlap}");
    let part = text(|manager| manager.remove_slots(vec![removed(0, 0x1000)]));
    assert!(part.contains("no slot of exactly 0x0-0x1000"), "{part}");
    let outside = text(|manager| manager.add_slots(vec![added(0x8000, 0x9000, 1 << 40, true)]));
    assert!(outside.contains("does not lie in a space"), "{outside}");
}

/// Slots stay while there is no manager; the next one's first slots are compared with them.
#[test]
fn slots_outlive_their_manager() {
    let ram = painted(1, 4);
    let ops = || vec![op(0, 0x4000, shown(0, 0, true))];
    let (mut manager, client) = Manager::connected(&[(0, &ram)], ops());
    let (_, log) = offer(&client, usize::MAX);
    offered(&mut manager, 0);
    manager.add_slots(vec![
        added(0, 0x1000, 0, true),
        added(0x1000, 0x2000, 0x1000, true),
        added(0x2000, 0x3000, 0x2000, true),
    ]);
    manager.commit();
    client.wait_for(2, LONG).unwrap();
    drop(manager);
    assert!(matches!(lost(&client), ManagerLost::Closed));
    assert_eq!(taken(&log).len(), 3);

    let (mut next, socket) = Manager::new();
    next.welcome(false);
    next.files(&[(0, &ram)]);
    next.change(ops());
    client.reconnect(socket).unwrap();
    assert!(matches!(client.state(), ClientState::Connected));
    next.receive();
    offered(&mut next, 0);
    next.acknowledged();
    assert_eq!(taken(&log), Vec::<String>::new());
    // One as it was, one otherwise, one no more.
    next.add_slots(vec![
        added(0, 0x1000, 0, true),
        added(0x1000, 0x2000, 0x1000, false),
    ]);
    next.commit();
    client.wait_for(2, LONG).unwrap();
    assert_eq!(
        taken(&log),
        [
            "remove 0x1000-0x2000 while 0 shows 0x100000000",
            "remove 0x2000-0x3000 while 0 shows 0x100000000",
            "add 0x1000-0x2000 at 0x1000 ro x while 0 shows 0x100000000",
        ]
    );
    next.acknowledged();
    next.remove_slots(vec![removed(0, 0x1000)]);
    next.commit();
    client.wait_for(3, LONG).unwrap();
    // With the client, the rest goes.
    taken(&log);
    drop(client);
    let log = taken(&log);
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].starts_with("remove 0x1000-0x2000"));
}

#[test]
fn there_is_an_end_to_offers() {
    let (_manager, client) = Manager::connected(&[], Vec::new());
    for _ in 0..MOST_PARTITIONS {
        client
            .offer_partition("vm", "none", None, Box::new(Never))
            .unwrap();
    }
    let error = client
        .offer_partition("vm", "none", None, Box::new(Never))
        .unwrap_err();
    assert!(
        matches!(
            error,
            OfferError::TooMany {
                most: MOST_PARTITIONS
            }
        ),
        "{error:?}"
    );
    client.withdraw_partition(3).unwrap();
    client
        .offer_partition("vm", "none", None, Box::new(Never))
        .unwrap();
}

/// A taker that calls the client that calls it.
struct Caller(RemoteClient);

impl SlotTaker for Caller {
    fn add(
        &mut self,
        _: MemoryRange,
        _: HostRange,
        _: Access,
        _: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let client = &self.0;
        let mut refused = Vec::new();
        refused.push(client.wait_for(99, LONG).unwrap_err().to_string());
        let offered = client.offer_partition("again", "", None, Box::new(Never));
        refused.push(offered.unwrap_err().to_string());
        refused.push(client.withdraw_partition(0).unwrap_err().to_string());
        let (_manager, socket) = Manager::new();
        refused.push(client.reconnect(socket).unwrap_err().to_string());
        assert!(client.turn(Some(LONG)).is_ok());
        Err(refused.join("; ").into())
    }

    fn remove(&mut self, _: MemoryRange) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

#[test]
fn a_taker_that_calls_back_gets_errors() {
    let (mut manager, client) = Manager::connected(&[], Vec::new());
    let caller = Box::new(Caller(client.clone()));
    client.offer_partition("vm", "none", None, caller).unwrap();
    manager.add_slots(vec![added(0, 0x1000, 0, true)]);
    manager.commit();
    let text = super::super::error::line(&lost(&client));
    assert_eq!(
        text.matches("a callback of the connection cannot").count(),
        4,
        "{text}"
    );
}

struct Never;

impl SlotTaker for Never {
    fn add(
        &mut self,
        _: MemoryRange,
        _: HostRange,
        _: Access,
        _: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("never".into())
    }

    fn remove(&mut self, _: MemoryRange) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("never".into())
    }
}

/// What the words of the log mean.
#[test]
fn the_log_shows_words_of_painted_memory() {
    assert_eq!(format!("{:#x}", word(1, 0)), "0x100000000");
}
