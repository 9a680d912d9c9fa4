//! Messages there and back, and what is refused.

use super::*;
use crate::remote::frame::{FrameLimits, HEADER_LEN};
use proptest::prelude::*;

const SPACE: u64 = 1 << 40;

fn range() -> impl Strategy<Value = MemoryRange> {
    (0..(1_u64 << 27), 1..(1_u64 << 20))
        .prop_map(|(at, len)| MemoryRange::from_page_numbers(at..at + len).unwrap())
}

fn source() -> impl Strategy<Value = (Source, u64)> {
    prop_oneof![
        (any::<u32>(), 0..(1_u64 << 40)).prop_map(|(id, page)| (Source::File(id), page << 12)),
        Just((Source::Zeros, 0)),
        Just((Source::Ones, 0)),
    ]
}

fn name(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..most)
        .prop_map(move |chars| bounded(&String::from_iter(chars), most))
}

fn to_client() -> impl Strategy<Value = ToClient> {
    let shown = (source(), any::<bool>()).prop_map(|((source, offset), writable)| Shown {
        source,
        offset,
        writable,
    });
    let range_op =
        (range(), prop::option::of(shown)).prop_map(|(range, shown)| RangeOp { range, shown });
    let removed =
        (any::<u32>(), range()).prop_map(|(partition, range)| SlotRemoved { partition, range });
    let added = (
        any::<u32>(),
        range(),
        0..(1_u64 << 20),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(partition, range, page, writable, executable)| SlotAdded {
            partition,
            range,
            gpa: page << 12,
            writable,
            executable,
        });
    let file = (any::<u32>(), any::<Option<u64>>(), name(MOST_NAME))
        .prop_map(|(id, len, name)| FileInfo { id, len, name });
    prop_oneof![
        (
            1..SPACE >> 12,
            12..31_u32,
            any::<[bool; 2]>(),
            name(MOST_NAME)
        )
            .prop_map(|(pages, shift, [lazy, read_only], name)| ToClient::Welcome(
                Welcome {
                    space: pages << 12,
                    alignment: 1 << shift,
                    lazy,
                    read_only,
                    name,
                }
            )),
        prop::collection::vec(file, 0..=MOST_FILES).prop_map(ToClient::Files),
        prop::collection::vec(any::<u32>(), 0..20).prop_map(ToClient::Forget),
        prop::collection::vec(removed, 0..20).prop_map(ToClient::SlotsRemoved),
        prop::collection::vec(range_op, 0..20).prop_map(ToClient::Ranges),
        prop::collection::vec(added, 0..20).prop_map(ToClient::SlotsAdded),
        any::<u64>().prop_map(|sequence| ToClient::Commit { sequence }),
        any::<u64>().prop_map(|request| ToClient::Fetched { request }),
        name(MOST_TEXT).prop_map(|reason| ToClient::Goodbye { reason }),
    ]
}

fn to_server() -> impl Strategy<Value = ToServer> {
    let fetched = (any::<u64>(), 0..(1_u64 << 27), 1..512_u64).prop_map(|(request, at, len)| {
        let range = MemoryRange::from_page_numbers(at..at + len).unwrap();
        ToServer::Fetch(Fetch { request, range })
    });
    prop_oneof![
        (name(MOST_NAME), any::<bool>())
            .prop_map(|(name, lazy)| ToServer::Hello(Hello { name, lazy })),
        any::<u64>().prop_map(|sequence| ToServer::Acknowledged { sequence }),
        fetched,
        (
            any::<u32>(),
            name(MOST_NAME),
            name(MOST_NAME),
            any::<Option<u64>>()
        )
            .prop_map(|(partition, name, kind, slots)| ToServer::Offer(Offer {
                partition,
                name,
                kind,
                slots,
            })),
        any::<u32>().prop_map(|partition| ToServer::Withdraw { partition }),
        (any::<u64>(), name(MOST_TEXT))
            .prop_map(|(sequence, text)| ToServer::Failed(Failed { sequence, text })),
    ]
}

/// Reads one frame off bytes.
fn parts(bytes: &[u8]) -> (u16, &[u8], usize) {
    let kind = u16::from_le_bytes([bytes[6], bytes[7]]);
    let len = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let fds = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
    assert_eq!(bytes.len(), HEADER_LEN + usize::try_from(len).unwrap());
    (kind, &bytes[HEADER_LEN..], fds)
}

proptest! {
    #[test]
    fn what_a_manager_says_is_understood(message in to_client()) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let (kind, body, fds) = parts(&bytes);
        let understood = ToClient::decode(kind, body, fds, SPACE);
        prop_assert_eq!(understood.as_ref(), Ok(&message));
        // A client's messages are others.
        let other = ToServer::decode(kind, body, fds, SPACE);
        prop_assert_eq!(other, Err(MessageError::Kind { kind }));
        // Each byte counts.
        for cut in 0..body.len() {
            prop_assert!(ToClient::decode(kind, &body[..cut], fds, SPACE).is_err());
        }
        let longer = [body, &[0]].concat();
        prop_assert!(ToClient::decode(kind, &longer, fds, SPACE).is_err());
        // Of descriptors there are exactly so many.
        let wrong = ToClient::decode(kind, body, fds + 1, SPACE);
        let is_told = matches!(wrong, Err(MessageError::Descriptors { .. }));
        prop_assert!(is_told);
    }

    #[test]
    fn what_a_client_says_is_understood(message in to_server()) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let (kind, body, fds) = parts(&bytes);
        prop_assert_eq!(fds, 0);
        prop_assert!(body.len() <= FrameLimits::OF_CLIENT.body);
        let understood = ToServer::decode(kind, body, fds, SPACE);
        prop_assert_eq!(understood.as_ref(), Ok(&message));
        prop_assert_eq!(
            ToClient::decode(kind, body, fds, SPACE),
            Err(MessageError::Kind { kind })
        );
        let gift = ToServer::decode(kind, body, 1, SPACE);
        let is_told = matches!(gift, Err(MessageError::Descriptors { .. }));
        prop_assert!(is_told);
    }

    #[test]
    fn any_bytes_are_understood_or_refused(
        kind in 0..110_u16,
        body in prop::collection::vec(any::<u8>(), 0..200),
        fds in 0..3_usize,
    ) {
        if let Ok(message) = ToClient::decode(kind, &body, fds, SPACE) {
            // What is understood keeps its promises.
            if let ToClient::Ranges(ops) = &message {
                for op in ops {
                    prop_assert!(!op.range.is_empty() && op.range.end() <= SPACE);
                }
            }
            let mut again = Vec::new();
            message.encode(&mut again).unwrap();
        }
        let _ = ToServer::decode(kind, &body, fds, SPACE);
    }
}

fn refused<T: Serialize>(kind: u16, body: &T) -> String {
    let body = postcard::to_allocvec(body).unwrap();
    ToClient::decode(kind, &body, 0, SPACE)
        .unwrap_err()
        .to_string()
}

#[test]
fn ranges_and_what_they_show() {
    let shown = |offset: u64| Some((0_u8, 7_u32, offset, true));
    let op = |start: u64, len: u64, shown| vec![((start, len), shown)];
    let malformed = "message of kind 5 is malformed";
    assert_eq!(refused(5, &op(0x1000, 0, shown(0))), malformed);
    assert_eq!(refused(5, &op(0x1001, 0x1000, shown(0))), malformed);
    assert_eq!(
        refused(5, &op(u64::MAX - 0xfff, 0x1000, shown(0))),
        malformed
    );
    assert_eq!(
        refused(5, &op(SPACE - 0x1000, 0x2000, shown(0))),
        "0xfffffff000-0x10000001000 does not lie in a space of 0x10000000000 bytes, or is longer \
         than allowed"
    );
    let value = |value: &str| format!("address, offset or length {value} is unaligned or too high");
    assert_eq!(refused(5, &op(0, 0x1000, shown(0x10))), value("0x10"));
    assert_eq!(
        refused(5, &op(0, 0x1000, shown(0x7fff_ffff_ffff_f000))),
        value("0x7ffffffffffff000")
    );
    assert_eq!(
        refused(5, &op(0, 0x1000, shown(0xffff_ffff_ffff_f000))),
        value("0xfffffffffffff000")
    );
    // A fill has no offset.
    let fill = vec![((0_u64, 0x1000_u64), Some((1_u8, 0x1000_u64, true)))];
    assert_eq!(refused(5, &fill), value("0x1000"));
}

#[test]
fn slots_lie_in_the_space_wherever_the_partition_sees_them() {
    let slot = |gpa: u64| vec![(1_u32, (SPACE, 0x2000_u64), gpa, true, true)];
    let body = postcard::to_allocvec(&slot(0x1000)).unwrap();
    assert!(ToClient::decode(6, &body, 0, SPACE).is_ok());
    assert!(refused(6, &slot(SPACE - 0x1000)).contains("does not lie in a space"));
    assert!(refused(6, &slot(0x123)).contains("0x123 is unaligned"));
    assert!(refused(6, &slot(u64::MAX - 0xfff)).contains("is unaligned or too high"));
}

#[test]
fn a_welcome_of_nothing() {
    let welcome =
        |space: u64, alignment: u64| refused(1, &(space, alignment, false, false, "manager"));
    let value = |value: &str| format!("address, offset or length {value} is unaligned or too high");
    assert_eq!(welcome(0, 0x1000), value("0x0"));
    assert_eq!(welcome(0x1800, 0x1000), value("0x1800"));
    assert_eq!(welcome(0x1000, 0), value("0x0"));
    assert_eq!(welcome(0x1000, 0x800), value("0x800"));
    assert_eq!(welcome(0x1000, 0x3000), value("0x3000"));
}

#[test]
fn lists_are_bounded() {
    let ids: Vec<u32> = (0..1025).collect();
    let too_many = "a list of 1025 items, of which 1024 are allowed";
    assert_eq!(refused(3, &ids), too_many);
    let mut bytes = Vec::new();
    assert!(
        ToClient::Forget(ids[1..].to_vec())
            .encode(&mut bytes)
            .is_ok()
    );
    bytes.clear();
    assert!(ToClient::Forget(ids).encode(&mut bytes).is_err());
    assert!(bytes.is_empty(), "nothing is left of what cannot be sent");
    // A list that says it is endless, in a body of a few bytes.
    assert_eq!(refused(3, &u64::MAX), "message of kind 3 is malformed");

    // The longest lists of the longest items fit into a frame.
    let high = MemoryRange::new(0xffff_ffff_fff0_0000..0xffff_ffff_ffff_f000);
    let op = RangeOp {
        range: high,
        shown: Some(Shown {
            source: Source::File(u32::MAX),
            offset: 0x7fff_ffff_0000_0000,
            writable: true,
        }),
    };
    let slot = SlotAdded {
        partition: u32::MAX,
        range: high,
        gpa: high.start(),
        writable: true,
        executable: true,
    };
    let file = FileInfo {
        id: u32::MAX,
        len: Some(u64::MAX),
        name: "x".repeat(MOST_NAME),
    };
    for message in [
        ToClient::Ranges(vec![op; MOST_ITEMS]),
        ToClient::SlotsAdded(vec![slot; MOST_ITEMS]),
        ToClient::Files(vec![file; MOST_FILES]),
    ] {
        message.encode(&mut Vec::new()).unwrap();
    }
}

#[test]
fn texts_are_cut_between_characters_and_are_one_line() {
    assert_eq!(bounded("two\nlines\u{7}", 64), "two lines ");
    assert_eq!(bounded("äöü", 5), "äö");
    assert_eq!(bounded("äöü", 0), "");
}
