//! Random changes against pages that are painted one by one.

use super::manager::{LONG, Manager, SPACE, fill, op, painted, range, shown, word};
use crate::remote::client::RemoteClient;
use crate::remote::message::{RangeOp, Shown, Source};
use proptest::prelude::*;

const PAGES: u64 = 24;
const FILE_PAGES: u64 = 32;

/// What one page shows, as the test thinks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Page {
    /// `None`: zeros.
    of: Option<(u64, u64)>,
    writable: bool,
}

type Pages = Vec<Option<Page>>;

fn paint(pages: &mut Pages, op: &RangeOp) {
    let first = op.range.start() >> 12;
    for page in first..op.range.end() >> 12 {
        let by = page - first;
        pages[page as usize] = op.shown.map(
            |Shown {
                 source,
                 offset,
                 writable,
             }| Page {
                of: match source {
                    Source::File(id) => Some((u64::from(id), (offset >> 12) + by)),
                    _ => None,
                },
                writable,
            },
        );
    }
}

/// What the client shows.
fn found(client: &RemoteClient) -> Pages {
    let memory = client.guest_memory();
    let page = |gpa: u64| {
        let first: u64 = memory.read_plain(gpa).ok()?;
        let last: u64 = memory.read_plain(gpa + 0xff8).unwrap();
        assert_eq!(first, last);
        // Written back as it was, where it can be.
        let writable = memory.write_plain(gpa, &first).is_ok();
        let of = (first != 0).then_some((first >> 32, first & 0xffff_ffff));
        Some(Page { of, writable })
    };
    (0..PAGES).map(|number| page(number << 12)).collect()
}

fn ops() -> impl Strategy<Value = RangeOp> {
    let places = (0..PAGES, 1..8_u64, 0..FILE_PAGES - 8);
    (places, 0..5_u32, any::<bool>()).prop_map(|((start, len, offset), what, writable)| {
        let end = (start + len).min(PAGES);
        let shown = match what {
            0 => None,
            1 => fill(Source::Zeros, writable),
            // Often with HVA and offset in step, so that there is something to join and to keep.
            2 => shown(1, start << 12, writable),
            id => shown(id - 2, offset << 12, writable),
        };
        op(start << 12, end << 12, shown)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn shows_what_is_painted(
        changes in proptest::collection::vec(proptest::collection::vec(ops(), 0..8), 1..12),
    ) {
        // Files are numbered from 1, so that no word of theirs is 0.
        let files = [painted(1, FILE_PAGES), painted(2, FILE_PAGES)];
        let (mut manager, client) =
            Manager::connected(&[(1, &files[0]), (2, &files[1])], Vec::new());
        let mut pages: Pages = vec![None; PAGES as usize];
        for ops in changes {
            for op in &ops {
                paint(&mut pages, op);
            }
            manager.change_now(&client, ops.clone());
            prop_assert_eq!(&found(&client), &pages);
            // Again, it changes nothing, and no call is made.
            let calls = client.mapper().reservation().calls();
            manager.change_now(&client, ops);
            prop_assert_eq!(client.mapper().reservation().calls(), calls);
            prop_assert_eq!(&found(&client), &pages);
        }
        // A manager that shows the same, page by page, changes nothing either.
        let before = client.mapper().reservation().calls();
        let (mut next, socket) = Manager::new();
        next.welcome(false);
        next.files(&[(8, &files[1]), (9, &files[0])]);
        let each = pages.iter().zip(0_u64..).filter_map(|(page, number)| {
            let page = (*page)?;
            let shown = match page.of {
                None => fill(Source::Zeros, page.writable),
                Some((file, of)) => shown(10 - file as u32, of << 12, page.writable),
            };
            Some(op(number << 12, (number + 1) << 12, shown))
        });
        next.change(each.collect());
        client.reconnect(socket).unwrap();
        prop_assert_eq!(client.mapper().reservation().calls(), before);
        prop_assert_eq!(&found(&client), &pages);
        next.receive();
        next.acknowledged();
        // One that shows nothing takes all away.
        let (mut last, socket) = Manager::new();
        last.welcome(false);
        last.commit();
        client.reconnect(socket).unwrap();
        prop_assert_eq!(client.mapper().mappings(), vec![]);
        prop_assert!(client.wait_for(1, LONG).is_ok());
        prop_assert_eq!(client.mapper().space(), range(0, SPACE));
    }
}

/// What words of painted memory the model takes apart.
#[test]
fn words_tell_where_they_are() {
    assert_eq!((word(2, 5) >> 32, word(2, 5) & 0xffff_ffff), (2, 5));
}
