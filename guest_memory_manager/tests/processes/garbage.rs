//! A process that says everything but what it should.

use crate::census::{Census, NEVER, alone, change_once, nothing_is_left};
use crate::child::{CONNECT, DIGEST, NONSENSE, digest, follow};
use crate::fixture::{AMPLE, C_SEGMENT, F_SEGMENT, Fixture, build, number_pages};
use crate::random::Random;
use crate::second_process::{Process, child};
use guest_memory_manager::{ProcessEvent, RamVisibility, RemoteGrant, RemoteOptions};
use std::time::Instant;

const ROUNDS: usize = 150;

/// Each time it is evicted once, the manager keeps nothing of it, and who follows goes on.
#[test]
fn nonsense_harms_nobody() {
    const TEST: &str = "garbage::nonsense_harms_nobody";
    if let Some((talk, path)) = child() {
        return follow(talk, &path);
    }
    let _alone = alone();
    let mut random = Random::new();
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(NEVER));
    number_pages(&fixture.view());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let _socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
    let mut good = Process::start(TEST, &path);
    good.ask(CONNECT, 0);
    assert!(matches!(fixture.event(), ProcessEvent::Ready { .. }));
    let mut bad = Process::start(TEST, &path);
    change_once(&fixture);
    let before = Census::take();
    for round in 1..=ROUNDS {
        bad.ask(NONSENSE, random.next());
        let segment = random.one(&[C_SEGMENT, F_SEGMENT]);
        let visibility = random.one(&[
            RamVisibility::Unmapped,
            RamVisibility::ReadOnly,
            RamVisibility::ReadWrite,
        ]);
        let control = fixture.memory.ram_visibility_control();
        let followed = control.set_ram_visibility_now(segment, visibility).unwrap();
        followed.wait_until(Instant::now() + AMPLE).unwrap();
        let left = fixture.left();
        assert_eq!(left.name(), format!("process {round}"));
        assert!(left.gone().is_some());
        if round % 10 == 0 {
            assert_eq!(good.ask(DIGEST, 0), digest(&fixture.view()));
        }
    }
    fixture.no_more_events();
    assert_eq!(fixture.server.processes().len(), 1);
    change_once(&fixture);
    nothing_is_left(before);
    bad.end();
    good.end();
}
