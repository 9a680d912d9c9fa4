//! Managers that are killed, and replaced by others with the same memory.

use crate::census::alone;
use crate::child::{
    CONNECT, DIGEST, HAMMER, LEASE, RECONNECT, STOP_HAMMER, WRITE_LEASE, digest, follow,
};
use crate::fixture::{AMPLE, C_SEGMENT, F_SEGMENT, Fixture, layout, number_pages};
use crate::random::Random;
use crate::second_process::{Process, answer, child};
use guest_memory_manager::{
    ClaimError, GuestMemoryBuilder, RamVisibility, RemoteGrant, RemoteOptions, SharedMemoryBacking,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

// What a manager can be asked, besides `DIGEST` and `READ`.

/// To build and claim new memory and number its pages.
const BUILD: u8 = b'b';
/// To connect to where memory is handed over.
const MEET: u8 = b'm';
/// To send its memory there.
const GIVE: u8 = b'g';
/// To receive memory there, claim it, and build with it. It was changed already.
const ADOPT: u8 = b'a';
/// To let processes connect.
const LISTEN: u8 = b'n';
/// To make the segment at the address read-only, with everybody following.
const PROTECT: u8 = b'P';
/// To begin changing things, and never to stop.
const CHANGE_FOR_EVER: u8 = b'V';
/// To read what is there.
const READ: u8 = b'r';

/// In a child: manages guest memory as it is told.
fn manage(mut talk: UnixStream, path: &Path) {
    let mut fixture: Option<Fixture> = None;
    let mut meeting = None;
    let mut socket = None;
    let with = |memory| Fixture::with(memory, RemoteOptions::new().deadline(AMPLE));
    let builder = GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .claim_backing(true);
    answer(&mut talk, |command, value| {
        match (command, &fixture) {
            (BUILD, _) => {
                let new = with(builder.clone().build_now(&layout()).unwrap());
                number_pages(&new.view());
                fixture = Some(new);
            }
            (MEET, _) => meeting = Some(UnixStream::connect(backing(path)).unwrap()),
            (GIVE, Some(fixture)) => {
                let memory = fixture.memory.shared_memory_backing();
                memory.send(meeting.as_ref().unwrap(), AMPLE).unwrap();
            }
            (ADOPT, _) => {
                let memory = SharedMemoryBacking::receive(meeting.as_ref().unwrap(), AMPLE);
                let builder = builder.clone().existing_backing(Some(memory.unwrap()));
                fixture = Some(with(builder.build_now(&layout()).unwrap()));
            }
            (LISTEN, Some(fixture)) => {
                let listening = fixture.server.listen(path, RemoteGrant::new());
                socket = Some(listening.unwrap());
            }
            (PROTECT, Some(fixture)) => {
                let segment = [C_SEGMENT, F_SEGMENT];
                let mut segment = segment.iter().filter(|one| one.start() == value);
                fixture.set(*segment.next().unwrap(), RamVisibility::ReadOnly);
            }
            (CHANGE_FOR_EVER, Some(fixture)) => {
                let control = fixture.memory.ram_visibility_control();
                std::thread::spawn(move || {
                    let mut random = Random::new();
                    loop {
                        let segment = random.one(&[C_SEGMENT, F_SEGMENT]);
                        let visibility = [RamVisibility::Unmapped, RamVisibility::ReadOnly];
                        let visibility = random.one(&visibility);
                        let _ = control.set_ram_visibility_now(segment, visibility).unwrap();
                    }
                });
            }
            (READ, Some(fixture)) => return fixture.view().read_plain(value).unwrap(),
            (DIGEST, Some(fixture)) => return digest(&fixture.view()),
            _ => panic!("{command}"),
        }
        1
    });
    drop(socket);
}

/// Where memory is handed over.
fn backing(path: &Path) -> std::path::PathBuf {
    path.with_extension("backing")
}

fn is_claimed(backing: &SharedMemoryBacking) -> bool {
    matches!(backing.claim(), Err(ClaimError::Claimed { .. }))
}

/// A device goes on through the deaths of five managers: the memory, its mappings, its lease and its
/// accesses are what they were, and the next manager's changes reach it. This process only keeps the
/// memory's descriptors meanwhile.
#[test]
fn a_device_survives_its_managers() {
    const TEST: &str = "successor::a_device_survives_its_managers";
    if let Some((talk, path)) = child() {
        // A manager is told from a device by where it is sent.
        return match path.extension() {
            None => manage(talk, &path),
            Some(_) => follow(talk, &path.with_extension("")),
        };
    }
    let _alone = alone();
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let keeper = UnixListener::bind(backing(&path)).unwrap();
    let meet = |manager: &mut Process| {
        manager.ask(MEET, 0);
        keeper.accept().unwrap().0
    };

    let mut manager = Process::start(TEST, &path);
    manager.ask(BUILD, 0);
    let meeting = meet(&mut manager);
    manager.ask(GIVE, 0);
    let kept = SharedMemoryBacking::receive(&meeting, AMPLE).unwrap();
    manager.ask(PROTECT, F_SEGMENT.start());
    manager.ask(LISTEN, 0);
    let mut device = Process::start(TEST, &path.with_extension("device"));
    device.ask(CONNECT, 0);
    device.ask(LEASE, C_SEGMENT.start());
    device.ask(HAMMER, 0x7000);
    assert_eq!(device.ask(DIGEST, 0), manager.ask(DIGEST, 0));

    for generation in 0..5_u64 {
        // At first nobody changes anything, later they die in the middle of a change.
        let busy = generation > 0;
        if busy {
            manager.ask(CHANGE_FOR_EVER, 0);
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
        }
        assert!(is_claimed(&kept));
        drop(manager);
        assert!(!is_claimed(&kept));
        // With nobody there.
        device.ask(WRITE_LEASE, generation);

        manager = Process::start(TEST, &path);
        let meeting = meet(&mut manager);
        kept.send(&meeting, AMPLE).unwrap();
        manager.ask(ADOPT, 0);
        assert!(is_claimed(&kept));
        // What it did besides the contents is done again.
        manager.ask(PROTECT, F_SEGMENT.start());
        manager.ask(LISTEN, 0);
        let mapped = device.ask(RECONNECT, 0);
        assert!(busy || mapped == 0, "what was the same was mapped again");
        assert_eq!(manager.ask(READ, C_SEGMENT.start()), generation);
        assert_eq!(device.ask(DIGEST, 0), manager.ask(DIGEST, 0));
        manager.ask(PROTECT, C_SEGMENT.start());
        assert_eq!(device.ask(DIGEST, 0), manager.ask(DIGEST, 0));
        // Taken while it could be written.
        device.ask(WRITE_LEASE, !generation);
        assert_eq!(manager.ask(READ, C_SEGMENT.start()), !generation);
    }
    assert_eq!(device.ask(STOP_HAMMER, 0), 0);
    device.end();
    manager.end();
}
