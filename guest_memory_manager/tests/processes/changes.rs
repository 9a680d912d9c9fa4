//! A thousand random changes, and every page looked at after each of them.

use crate::census::alone;
use crate::child::{CONNECT, DIGEST, PAGE, READ, WRITE, follow, own_word};
use crate::fixture::{AMPLE, Fixture, GAP, layout, number_pages, page, page_addresses};
use crate::model::{Digest, Model};
use crate::random::Random;
use crate::second_process::{Process, child};
use crate::support::numbered;
use guest_memory_manager::{
    Acknowledgement, DeviceMemoryControl, DeviceMemoryWindow, RamVisibility, RemoteGrant,
    SharedMemory,
};
use memory_range::PAGE_SIZE;
use std::time::Instant;

const CHANGES: usize = 1000;
/// How long the windows and their file are, in pages.
const WINDOWS: [u64; 2] = [8, 24];
const FILE: u64 = 16;
const VISIBILITIES: [RamVisibility; 3] = [
    RamVisibility::Unmapped,
    RamVisibility::ReadOnly,
    RamVisibility::ReadWrite,
];

/// The manager, and what it is to show.
struct World {
    fixture: Fixture,
    model: Model,
    file: SharedMemory,
    windows: Vec<(DeviceMemoryControl, DeviceMemoryWindow)>,
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::new();
        number_pages(&fixture.view());
        let file = numbered("frames", FILE, 0x1000);
        let mapper = fixture.memory.device_memory_mapper();
        let windows = WINDOWS.map(|pages| {
            let name = format!("bar of {pages}");
            mapper.new_region(pages * PAGE_SIZE, name).unwrap()
        });
        let contents = (0..FILE).map(|page| 0x1000 + page).collect();
        Self {
            model: Model::new(|gpa| gpa ^ 0x5a5a, contents, WINDOWS),
            fixture,
            file,
            windows: windows.into(),
        }
    }

    /// Makes a random change there and in the model.
    fn change(&mut self, random: &mut Random) -> Acknowledgement {
        match random.below(10) {
            0..=2 => self.set_visibilities(random),
            3..=5 => self.map(random),
            6 => self.unmap(random),
            7..=8 => self.place(random),
            _ => self.displace(random),
        }
    }

    /// One to four regions at once.
    fn set_visibilities(&mut self, random: &mut Random) -> Acknowledgement {
        let mut change = self.fixture.memory.transaction().unwrap();
        for _ in 0..=random.below(4) {
            let index = random.below(self.model.regions.len() as u64) as usize;
            let (range, visibility) = &mut self.model.regions[index];
            *visibility = random.one(&VISIBILITIES);
            change.set_ram_visibility(*range, *visibility).unwrap();
        }
        change.commit_now().unwrap()
    }

    /// Some pages of a window, and where in it.
    fn slice(random: &mut Random, most: u64) -> (usize, u64, u64) {
        let window = random.below(2) as usize;
        let pages = WINDOWS[window];
        let count = 1 + random.below(pages.min(most));
        (window, random.below(pages - count + 1), count)
    }

    fn map(&mut self, random: &mut Random) -> Acknowledgement {
        let (window, first, count) = Self::slice(random, FILE);
        let from = random.below(FILE - count + 1);
        let writable = random.chance(70);
        for page in 0..count {
            let shown = ((from + page) as usize, writable);
            self.model.windows[window].pages[(first + page) as usize] = Some(shown);
        }
        let [offset, start, len] = [first, from, count].map(|pages| pages * PAGE_SIZE);
        let (_, handle) = &self.windows[window];
        handle
            .map(offset, &self.file, start, len, writable)
            .unwrap()
    }

    fn unmap(&mut self, random: &mut Random) -> Acknowledgement {
        let (window, first, count) = Self::slice(random, u64::MAX);
        let gone = first as usize..(first + count) as usize;
        self.model.windows[window].pages[gone].fill(None);
        let (_, handle) = &self.windows[window];
        handle.unmap(first * PAGE_SIZE, count * PAGE_SIZE).unwrap()
    }

    /// Anywhere in the gap mostly, or under RAM.
    fn place(&mut self, random: &mut Random) -> Acknowledgement {
        let window = random.below(2) as usize;
        let room = match random.chance(70) {
            true => GAP,
            false => guest_memory_manager::MemoryRange::new(0xa_0000..GAP.end()),
        };
        let places = room.len() / PAGE_SIZE - WINDOWS[window];
        let gpa = room.start() + random.below(places) * PAGE_SIZE;
        let writable = random.chance(80);
        self.model.windows[window].at = Some((gpa, writable));
        self.windows[window].0.map_to_guest(gpa, writable).unwrap()
    }

    fn displace(&mut self, random: &mut Random) -> Acknowledgement {
        let window = random.below(2) as usize;
        self.model.windows[window].at = None;
        self.windows[window].0.try_unmap_from_guest().unwrap()
    }
}

/// Says which page differs.
fn differs(other: &mut Process, model: &Model, step: usize) {
    for gpa in page_addresses() {
        let expected = model.seen(gpa);
        let mut digest = Digest::default();
        digest.add(expected);
        let seen = other.ask(PAGE, gpa);
        // Nobody but VTL2 sees its pages.
        assert_eq!(seen, digest.value(), "{gpa:#x} after {step}: {expected:?}");
    }
    panic!("after {step} the pages differed, and do no more");
}

#[test]
fn a_thousand_random_changes() {
    const TEST: &str = "changes::a_thousand_random_changes";
    if let Some((talk, path)) = child() {
        return follow(talk, &path);
    }
    let _alone = alone();
    let mut random = Random::new();
    let mut world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let grant = RemoteGrant::new().allow_lazy();
    let _socket = world.fixture.server.listen(&path, grant).unwrap();
    let mut eager = Process::start(TEST, &path);
    let mut lazy = Process::start(TEST, &path);
    eager.ask(CONNECT, 0);
    lazy.ask(CONNECT, 1);
    for process in world.fixture.server.processes() {
        process.wait_ready(AMPLE).unwrap();
    }
    for step in 0..CHANGES {
        let followed = world.change(&mut random);
        followed.wait_until(Instant::now() + AMPLE).unwrap();
        let model = &mut world.model;
        if eager.ask(DIGEST, 0) != model.digest() {
            differs(&mut eager, model, step);
        }
        // There and back.
        let gpa = random.below(GAP.end() / PAGE_SIZE) * PAGE_SIZE;
        let writer = random.one(&[0, 1, 2]);
        let (word, written) = match writer {
            0 => (own_word(gpa), eager.ask(WRITE, gpa) == 1),
            1 => (own_word(gpa), lazy.ask(WRITE, gpa) == 1),
            _ => {
                let word = random.next();
                let view = world.fixture.view();
                (word, view.write_plain(gpa, &word).is_ok())
            }
        };
        assert_eq!(model.write(gpa, word), written, "{gpa:#x} after {step}");
        if written {
            assert_eq!(eager.ask(READ, gpa), word);
            assert_eq!(lazy.ask(READ, gpa), word);
            assert_eq!(world.fixture.view().read_plain::<u64>(gpa).unwrap(), word);
        }
        // Whole in the end, and a little at a time.
        for _ in 0..8 {
            let gpa = random.below(layout().end() / PAGE_SIZE) * PAGE_SIZE;
            let mut digest = Digest::default();
            digest.add(model.seen(gpa));
            assert_eq!(lazy.ask(PAGE, gpa), digest.value(), "{gpa:#x} after {step}");
        }
    }
    let model = &world.model;
    assert_eq!(lazy.ask(DIGEST, 0), model.digest());
    for gpa in page_addresses().filter(|gpa| crate::fixture::in_vtl0(*gpa)) {
        assert_eq!(
            page(&world.fixture.view(), gpa),
            model.seen(gpa),
            "{gpa:#x}"
        );
    }
    lazy.end();
    eager.end();
}
