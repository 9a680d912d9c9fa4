//! Random changes against pages that are painted one by one.

use super::player::{Paint, Player, inode};
use super::{World, options, ram};
use crate::remote::message::ToClient;
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use sparse_alloc::Backing;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

const PAGES: u64 = 24;

#[derive(Clone, Debug)]
enum Step {
    Show {
        pages: (u64, u64),
        backing: usize,
        offset: u64,
        writable: bool,
    },
    Hide {
        pages: (u64, u64),
    },
    /// The change is complete.
    Seal,
    /// All that came since the last seal is taken back, in some other pieces, and sealed.
    Undo,
    /// A lazy client touches a page.
    Fetch {
        page: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let pages = (0..PAGES, 1..8_u64).prop_map(|(at, len)| (at, (at + len).min(PAGES)));
    let show = (pages.clone(), 0..5_usize, 0..4_u64, any::<bool>());
    prop_oneof![
        6 => show.prop_map(|(pages, backing, offset, writable)| Step::Show {
            pages,
            backing,
            offset,
            writable,
        }),
        3 => pages.prop_map(|pages| Step::Hide { pages }),
        4 => Just(Step::Seal),
        1 => Just(Step::Undo),
        3 => (0..PAGES).prop_map(|page| Step::Fetch { page }),
    ]
}

type Painted = BTreeMap<u64, (usize, u64, bool)>;

fn range(pages: (u64, u64)) -> MemoryRange {
    MemoryRange::from_page_numbers(pages.0..pages.1).unwrap()
}

/// As the player would have it.
fn paint(backings: &[Backing], (backing, offset, writable): (usize, u64, bool)) -> Paint {
    match &backings[backing] {
        Backing::Mappable(file) => (inode(file.as_fd()), offset, writable),
        Backing::Zeros => ("zeros".to_owned(), 0, writable),
        _ => ("ones".to_owned(), 0, writable),
    }
}

fn play(steps: Vec<Step>, lazy: bool) {
    let world = World::new();
    let (peer, mut player) = world.greeted(options(), lazy);
    let backings = [ram("a"), ram("b"), ram("c"), Backing::Zeros, Backing::Ones];
    let mut now = Painted::new();
    let mut sealed = Painted::new();
    let mut request = 0;
    peer.seal();
    player.follow(1);
    for step in steps.into_iter().chain([Step::Seal]) {
        match step {
            Step::Show {
                pages,
                backing,
                offset,
                writable,
            } => {
                let offset = offset * PAGE_SIZE;
                let access = Access::from_writable(writable);
                peer.show(range(pages), &backings[backing], offset, access);
                for (into, page) in (pages.0..pages.1).enumerate() {
                    let into = u64::try_from(into).unwrap() * PAGE_SIZE;
                    now.insert(page * PAGE_SIZE, (backing, offset + into, writable));
                }
            }
            Step::Hide { pages } => {
                peer.hide(range(pages));
                now.retain(|gpa, _| !range(pages).contains_addr(*gpa));
            }
            Step::Undo => {
                peer.hide(range((0, PAGES)));
                for (gpa, (backing, offset, writable)) in &sealed {
                    let page = MemoryRange::try_from_len(*gpa, PAGE_SIZE).unwrap();
                    let access = Access::from_writable(*writable);
                    peer.show(page, &backings[*backing], *offset, access);
                }
                assert_eq!(peer.seal(), None, "there is no difference");
                now = sealed.clone();
            }
            Step::Seal => {
                let sequence = peer.seal();
                if !lazy {
                    let paint = |what: &Painted| -> Vec<_> {
                        let one = |(gpa, held): (&u64, _)| (*gpa, paint(&backings, held));
                        what.iter().map(|(gpa, held)| one((gpa, *held))).collect()
                    };
                    let differs = paint(&now) != paint(&sealed);
                    assert_eq!(sequence.is_some(), differs);
                }
                player.follow(sequence.unwrap_or(0));
                sealed = now.clone();
                check(&player, &backings, &sealed, lazy);
            }
            Step::Fetch { page } if lazy => {
                // Half a change would hold the answer back.
                player.follow(peer.seal().unwrap_or(0));
                sealed = now.clone();
                request += 1;
                player.fetch(request, range((page, page + 1)));
                loop {
                    match player.step() {
                        Ok(_) => player.acknowledge(),
                        Err(Some(ToClient::Fetched { request: answered })) => {
                            assert_eq!(answered, request);
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                let gpa = page * PAGE_SIZE;
                let there = sealed.get(&gpa).map(|held| paint(&backings, *held));
                assert_eq!(player.pages.get(&gpa), there.as_ref());
                check(&player, &backings, &sealed, lazy);
            }
            Step::Fetch { .. } => {}
        }
    }
}

/// An eager client has exactly what is to be seen; what a lazy one has is to be seen.
fn check(player: &Player, backings: &[Backing], sealed: &Painted, lazy: bool) {
    for (gpa, has) in &player.pages {
        let meant = sealed.get(gpa).map(|held| paint(backings, *held));
        assert_eq!(Some(has), meant.as_ref(), "at {gpa:#x}");
    }
    if !lazy {
        assert_eq!(player.pages.len(), sealed.len());
    }
    // Exactly the files that are shown.
    let mut files: Vec<_> = player.files.values().map(inode).collect();
    let mut shown: Vec<_> = player
        .pages
        .values()
        .map(|(name, _, _)| name.clone())
        .filter(|name| name != "zeros" && name != "ones")
        .collect();
    files.sort();
    shown.sort();
    shown.dedup();
    assert_eq!(files, shown);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_eager_client_has_what_is_to_be_seen(steps in prop::collection::vec(step(), 1..40)) {
        play(steps, false);
    }

    #[test]
    fn a_lazy_client_has_nothing_else(steps in prop::collection::vec(step(), 1..40)) {
        play(steps, true);
    }
}
