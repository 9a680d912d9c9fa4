//! Memory that is mapped when it is first touched.

use super::manager::{LONG, Manager, op, options, painted, range, shown, word};
use crate::remote::client::{OfferError, RemoteClient, SlotTaker};
use crate::remote::message::{MOST_FETCH_LEN, MOST_FETCHES, RangeOp, ToServer};
use crate::{AccessError, Cause, LeaseAccess, LeaseError, Unanswered};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{HostRange, SharedMemory};
use std::sync::mpsc;
use std::time::Duration;

/// Does something on another thread, which finds holes; `answer` says what is there, page by page,
/// until it is done. Returns how often it was asked, too.
fn touching<T: Send>(
    manager: &mut Manager,
    answer: impl Fn(MemoryRange) -> Vec<RangeOp>,
    touch: impl FnOnce() -> T + Send,
) -> (T, u32) {
    std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let toucher = scope.spawn(move || {
            let touched = touch();
            done.send(()).unwrap();
            touched
        });
        let mut asked = 0;
        while is_done.try_recv().is_err() {
            if let Some(fetch) = manager.asked_now() {
                asked += 1;
                let ops = answer(fetch.range);
                let answered = !ops.is_empty();
                manager.answer(fetch, ops);
                if answered {
                    manager.acknowledged();
                }
            }
        }
        (toucher.join().unwrap(), asked)
    })
}

impl Manager {
    /// A question, if one comes soon.
    fn asked_now(&mut self) -> Option<crate::remote::message::Fetch> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let soon = Timespec::try_from(Duration::from_millis(5)).unwrap();
        if let Some(message) = self.at_hand() {
            let ToServer::Fetch(fetch) = message else {
                panic!("{message:?}");
            };
            return Some(fetch);
        }
        let ready = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&soon)).unwrap();
        (ready > 0).then(|| self.asked())
    }
}

/// Memory that is all there is, at 1 MiB.
const START: u64 = 0x10_0000;

fn of_ram(ram: &SharedMemory) -> impl Fn(MemoryRange) -> Vec<RangeOp> {
    let all = range(START, START + ram.len());
    move |asked| {
        let part = all.intersection(&asked);
        if part.is_empty() {
            return Vec::new();
        }
        vec![op(
            part.start(),
            part.end(),
            shown(0, part.start() - START, true),
        )]
    }
}

fn lazy(ram: &SharedMemory) -> (Manager, RemoteClient) {
    Manager::connected_lazily(&[(0, ram)])
}

#[test]
fn the_first_touch_maps_and_the_second_does_not_ask() {
    let ram = painted(1, 4);
    let (mut manager, client) = lazy(&ram);
    assert!(client.is_lazy());
    assert_eq!(client.mapper().mappings(), []);
    let memory = client.guest_memory();
    let touch = || memory.read_plain::<u64>(START + 0x1008).unwrap();
    let (found, asked) = touching(&mut manager, of_ram(&ram), touch);
    assert_eq!((found, asked), (word(1, 1), 1));
    // Nobody would answer.
    let before = client.mapper().reservation().calls();
    assert_eq!(
        memory.read_plain::<u64>(START + 0x1010).unwrap(),
        word(1, 1)
    );
    memory.write_plain(START + 0x1010, &1_u8).unwrap();
    assert_eq!(client.mapper().reservation().calls(), before);
    // Changes of what was touched come like any other.
    manager.change_now(
        &client,
        vec![op(START + 0x1000, START + 0x2000, shown(0, 0, false))],
    );
    assert_eq!(
        memory.read_plain::<u64>(START + 0x1000).unwrap(),
        word(1, 0)
    );
}

#[test]
fn a_hole_is_an_error_as_ever_and_asked_about_each_time() {
    let ram = painted(1, 4);
    let (mut manager, client) = lazy(&ram);
    let memory = client.guest_memory();
    let cause = |result: Result<u64, AccessError>| result.unwrap_err().cause();
    for _ in 0..2 {
        let touch = || cause(memory.read_plain(0x5000));
        let (cause, asked) = touching(&mut manager, of_ram(&ram), touch);
        assert_eq!((cause, asked), (Cause::Hole { gpa: 0x5000 }, 1));
    }
    // Past the end of what there is, with all before it done.
    let end = START + ram.len();
    let touch = || memory.read_at(end - 0x10, &mut [0; 0x20]).unwrap_err();
    let (error, asked) = touching(&mut manager, of_ram(&ram), touch);
    assert_eq!(
        (error.done(), error.cause()),
        (0x10, Cause::Hole { gpa: end })
    );
    assert!(asked <= 2, "{asked}");
    // Out of range is not asked about.
    let error = memory
        .read_plain::<u64>(memory.address_space_len() - 4)
        .unwrap_err();
    assert!(matches!(error.cause(), Cause::OutOfRange { .. }));
}

#[test]
fn every_kind_of_access_fetches() {
    let ram = painted(1, 16);
    let (mut manager, client) = lazy(&ram);
    let memory = client.guest_memory();
    let page = |number: u64| START + (number << 12);
    // One page each, so that each has to ask.
    let one_page = |asked: MemoryRange| {
        let first = range(asked.start(), asked.start() + 0x1000);
        of_ram(&ram)(first)
    };
    let (_, asked) = touching(&mut manager, one_page, || {
        memory.write_plain(page(0), &1_u64).unwrap();
        memory.fill_at(page(1), 3, 0x10).unwrap();
        // Over two pages that are fetched one by one.
        memory.write_at(page(3) - 8, &[7; 16]).unwrap();
        assert!(
            memory
                .compare_at(page(4), &word(1, 4).to_ne_bytes())
                .unwrap()
                .is_eq()
        );
        memory.copy_to(page(5), &memory, page(6), 8).unwrap();
        memory.write_read_only_at(page(7), &[1]).unwrap();
        let lease = memory.lock(page(8)..page(10), LeaseAccess::Write).unwrap();
        lease.write(0x1000, &[9]).unwrap();
        // A word that lies on two pages.
        memory.write_plain(page(11) - 4, &u64::MAX).unwrap();
    });
    assert_eq!(asked, 12);
    let word_at = |gpa| memory.read_plain::<u64>(gpa).unwrap();
    assert_eq!(word_at(page(0)), 1);
    assert_eq!(word_at(page(3)), u64::from_ne_bytes([7; 8]));
    assert_eq!(word_at(page(6)), word(1, 5));
    assert_eq!(memory.read_plain::<u8>(page(9)).unwrap(), 9);
    assert_eq!(word_at(page(11) - 4), u64::MAX);
}

/// Asked for in pieces that a manager accepts.
#[test]
fn a_long_access_is_fetched_in_pieces() {
    let ram = SharedMemory::new("ram", 3 * MOST_FETCH_LEN).unwrap();
    let (mut manager, client) = lazy(&ram);
    let memory = client.guest_memory();
    let len = ram.len() as usize;
    let touch = || memory.read_at(START, &mut vec![1; len]).unwrap();
    let ((), asked) = touching(&mut manager, of_ram(&ram), touch);
    assert_eq!(asked, 3);
    assert_eq!(client.mapper().mappings().len(), 1);
}

#[test]
fn a_manager_that_is_gone_or_silent_is_told_of() {
    let ram = painted(1, 1);
    let hurried = options().fetch_timeout(Duration::from_millis(30));
    let (mut manager, client) = Manager::try_lazy(&[(0, &ram)], hurried).unwrap();
    let memory = client.guest_memory();
    let error = memory.read_plain::<u64>(START).unwrap_err();
    let why = Unanswered::TimedOut;
    assert_eq!(error.cause(), Cause::NotFetched { gpa: START, why });
    let fetch = manager.asked();
    // The answer may come late; the next access finds what it brought.
    manager.answer(fetch, of_ram(&ram)(fetch.range));
    client.wait_for(manager.sequence, LONG).unwrap();
    assert_eq!(memory.read_plain::<u64>(START).unwrap(), word(1, 0));
    manager.acknowledged();

    drop(manager);
    let why = Unanswered::Gone;
    let error = memory.read_plain::<u64>(0x5000).unwrap_err();
    assert_eq!(error.cause(), Cause::NotFetched { gpa: 0x5000, why });
    let error = memory.lock(0x5000..0x5001, LeaseAccess::Read).unwrap_err();
    assert!(
        matches!(
            error,
            LeaseError::NotFetched {
                gpa: 0x5000,
                why: Unanswered::Gone,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(memory.read_plain::<u64>(START).unwrap(), word(1, 0));
    // Also when nothing is left of the client but the memory.
    drop(client);
    let error = memory.read_plain::<u64>(0x5000).unwrap_err();
    assert_eq!(error.cause(), Cause::NotFetched { gpa: 0x5000, why });
}

#[test]
fn the_thread_that_serves_cannot_wait_for_itself() {
    let ram = painted(1, 1);
    let (_manager, client) = lazy(&ram);
    let memory = client.guest_memory();
    let serving = client.inner.driver();
    let why = Unanswered::ServingThread;
    let error = memory.read_plain::<u64>(START).unwrap_err();
    assert_eq!(error.cause(), Cause::NotFetched { gpa: START, why });
    drop(serving);
}

#[test]
fn many_threads_touch_at_once() {
    let threads = 2 * MOST_FETCHES as u64;
    let ram = painted(1, threads);
    let (mut manager, client) = lazy(&ram);
    let _thread = client.spawn().unwrap();
    std::thread::scope(|scope| {
        let touchers: Vec<_> = (0..threads)
            .map(|page| {
                let memory = client.guest_memory();
                scope.spawn(move || memory.read_plain::<u64>(START + (page << 12)).unwrap())
            })
            .collect();
        // As many questions as may be open come without an answer, and not one more.
        let open: Vec<_> = (0..MOST_FETCHES).map(|_| manager.asked()).collect();
        assert!(manager.asked_now().is_none());
        for fetch in open {
            manager.ranges(of_ram(&ram)(fetch.range));
            manager.commit();
            let request = fetch.request;
            manager.send(&crate::remote::message::ToClient::Fetched { request }, &[]);
        }
        let mut left = threads - MOST_FETCHES as u64;
        while left > 0 {
            match manager.receive() {
                ToServer::Fetch(fetch) => {
                    left -= 1;
                    manager.answer(fetch, of_ram(&ram)(fetch.range));
                }
                ToServer::Acknowledged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for (toucher, page) in touchers.into_iter().zip(0..) {
            assert_eq!(toucher.join().unwrap(), word(1, page));
        }
    });
    assert_eq!(client.mapper().mappings().len(), 1);
}

/// All of them the same page, with a thread that serves and without.
#[test]
fn many_threads_touch_one_page() {
    for served in [false, true] {
        let ram = painted(1, 1);
        let (mut manager, client) = lazy(&ram);
        let thread = served.then(|| client.spawn().unwrap());
        let memory = client.guest_memory();
        let (found, asked) = touching_by_many(&mut manager, of_ram(&ram), || {
            memory.read_plain::<u64>(START).unwrap()
        });
        assert_eq!(found, vec![word(1, 0); 8]);
        assert!((1..=8).contains(&asked), "{asked}");
        drop(thread);
    }
}

/// As [`touching`], by eight threads, and answered at random times between acknowledgements.
fn touching_by_many<T: Send>(
    manager: &mut Manager,
    answer: impl Fn(MemoryRange) -> Vec<RangeOp>,
    touch: impl Fn() -> T + Sync,
) -> (Vec<T>, u32) {
    std::thread::scope(|scope| {
        let touchers: Vec<_> = (0..8).map(|_| scope.spawn(&touch)).collect();
        let mut asked = 0;
        while touchers.iter().any(|toucher| !toucher.is_finished()) {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let soon = Timespec::try_from(Duration::from_millis(5)).unwrap();
            let message = match manager.at_hand() {
                Some(message) => message,
                None => {
                    let mut fds = [PollFd::new(&manager.socket, PollFlags::IN)];
                    if poll(&mut fds, Some(&soon)).unwrap() == 0 {
                        continue;
                    }
                    manager.receive()
                }
            };
            match message {
                ToServer::Fetch(fetch) => {
                    asked += 1;
                    manager.answer(fetch, answer(fetch.range));
                }
                ToServer::Acknowledged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let found = touchers.into_iter().map(|toucher| toucher.join().unwrap());
        (found.collect(), asked)
    })
}

struct NoTaker;

impl SlotTaker for NoTaker {
    fn add(
        &mut self,
        _: MemoryRange,
        _: HostRange,
        _: Access,
        _: bool,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }

    fn remove(&mut self, _: MemoryRange) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

#[test]
fn a_lazy_client_offers_no_partition() {
    let (_manager, client) = lazy(&painted(1, 1));
    let error = client.offer_partition("vm", "none", None, Box::new(NoTaker));
    assert!(matches!(error, Err(OfferError::Lazy)), "{error:?}");
}
