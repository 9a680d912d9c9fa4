//! Random accesses through a tracked view of a part of guest memory, against one byte array: the
//! answers, the bytes and the pages marked are the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{AccessError, Cause, DirtyBitmap, GuestRange, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::collections::BTreeSet;
use std::sync::Arc;

const PAGES: u64 = 6;
const LEN: u64 = PAGES * PAGE_SIZE;

#[derive(Clone, Debug)]
enum Op {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Fill(u64, u8, u64),
    Named(u64, Vec<u8>),
    LoadWord(u64),
    StoreWord(u64, u32),
    StoreBytes(u64, [u8; 7]),
    Exchange(u64, u32, u32),
    Change(u64, Change, u64),
    /// Compares with what is there, but for one byte, if any.
    Compare(u64, usize, Option<(usize, u8)>),
    Copy(u64, u64, u64),
    ReadScattered(Vec<(u64, u64)>, usize),
    WriteScattered(Vec<(u64, u64)>, Vec<u8>),
    /// Address and number of elements, index, and elements.
    ReadElements(u64, u64, u64, usize),
    WriteElements(u64, u64, u64, Vec<u32>),
}

#[derive(Copy, Clone, Debug)]
enum Change {
    Or,
    And,
    Xor,
    Add,
    Swap,
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => 0..LEN,
        // Near the border of a page.
        10 => (0..=PAGES, 0..24_u64).prop_map(|(page, near)| (page * PAGE_SIZE + near).saturating_sub(12)),
        1 => any::<u64>(),
        1 => (0..24_u64).prop_map(|below| u64::MAX - below),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![0..32_usize, 0..300_usize, 0..9000_usize]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (len(), any::<u8>()).prop_map(|(len, seed)| {
        (0..len)
            .map(|index| (index as u8).wrapping_mul(7).wrapping_add(seed))
            .collect()
    })
}

fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let len = prop_oneof![
        6 => 0..40_u64,
        3 => 0..5000_u64,
        1 => Just(0),
        1 => any::<u64>(),
    ];
    proptest::collection::vec((offset(), len), 0..6)
}

/// Where an atomic access goes: mostly aligned.
fn word() -> impl Strategy<Value = u64> {
    (offset(), 0..4_u8).prop_map(|(at, odd)| if odd == 0 { at } else { at & !3 })
}

fn op() -> impl Strategy<Value = Op> {
    let change = prop_oneof![
        Just(Change::Or),
        Just(Change::And),
        Just(Change::Xor),
        Just(Change::Add),
        Just(Change::Swap),
    ];
    let count = prop_oneof![10 => 0..600_u64, 1 => any::<u64>()];
    let index = prop_oneof![10 => 0..40_u64, 1 => any::<u64>()];
    let fill = prop_oneof![5 => 0..9000_u64, 1 => any::<u64>()];
    prop_oneof![
        (offset(), len()).prop_map(|(at, len)| Op::Read(at, len)),
        (offset(), bytes()).prop_map(|(at, bytes)| Op::Write(at, bytes)),
        (offset(), any::<u8>(), fill.clone()).prop_map(|(at, byte, len)| Op::Fill(at, byte, len)),
        (offset(), bytes()).prop_map(|(at, bytes)| Op::Named(at, bytes)),
        offset().prop_map(Op::LoadWord),
        (offset(), any::<u32>()).prop_map(|(at, word)| Op::StoreWord(at, word)),
        (offset(), any::<[u8; 7]>()).prop_map(|(at, bytes)| Op::StoreBytes(at, bytes)),
        (word(), 0..2_u32, any::<u32>()).prop_map(|(at, old, new)| Op::Exchange(at, old, new)),
        (word(), change, any::<u64>()).prop_map(|(at, change, word)| Op::Change(at, change, word)),
        (
            offset(),
            len(),
            proptest::option::of((any::<usize>(), 1..=255_u8))
        )
            .prop_map(|(at, len, differs)| Op::Compare(at, len, differs)),
        (offset(), offset(), fill).prop_map(|(from, to, len)| Op::Copy(from, to, len)),
        (ranges(), len()).prop_map(|(ranges, len)| Op::ReadScattered(ranges, len)),
        (ranges(), bytes()).prop_map(|(ranges, bytes)| Op::WriteScattered(ranges, bytes)),
        (offset(), count.clone(), index.clone(), 0..40_usize)
            .prop_map(|(at, count, index, len)| Op::ReadElements(at, count, index, len)),
        (
            offset(),
            count,
            index,
            proptest::collection::vec(any::<u32>(), 0..40)
        )
            .prop_map(|(at, count, index, words)| Op::WriteElements(at, count, index, words)),
    ]
}

type Stop = (u64, Cause);

/// The slow and clear version.
struct Model {
    kinds: Vec<Option<Access>>,
    bytes: Vec<u8>,
    /// Which GPAs the view shows.
    start: u64,
    end: u64,
    marked: BTreeSet<u64>,
}

impl Model {
    /// Walks over an access byte by byte; says where and why it stops.
    fn walk(&self, at: u64, len: u64, writes: bool) -> Result<(), Stop> {
        let (start, end) = (self.start, self.end);
        let fits = u128::from(at) + u128::from(len) <= u128::from(end - start);
        if !fits {
            return Err((
                0,
                match (start, end) {
                    (0, LEN) => Cause::OutOfRange { end },
                    _ => Cause::OutsideView { start, end },
                },
            ));
        }
        for done in 0..len {
            let gpa = start + at + done;
            match self.kinds[(gpa / PAGE_SIZE) as usize] {
                None => return Err((done, Cause::Hole { gpa })),
                Some(Access::ReadOnly) if writes => return Err((done, Cause::ReadOnly { gpa })),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn at(&self, at: u64) -> usize {
        (self.start + at) as usize
    }

    fn read(&self, at: u64, len: u64) -> (Vec<u8>, Result<(), Stop>) {
        let result = self.walk(at, len, false);
        let done = result.map_or_else(|(done, _)| done, |()| len) as usize;
        let bytes = match done {
            0 => Vec::new(),
            done => self.bytes[self.at(at)..][..done].to_vec(),
        };
        (bytes, result)
    }

    /// Puts bytes, and marks their pages.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            let start = self.at(at);
            self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
            let last = start as u64 + bytes.len() as u64 - 1;
            self.marked
                .extend(start as u64 / PAGE_SIZE..=last / PAGE_SIZE);
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Stop> {
        let result = self.walk(at, bytes.len() as u64, true);
        let done = result.map_or_else(|(done, _)| done as usize, |()| bytes.len());
        self.put(at, &bytes[..done]);
        result
    }

    /// Writes all of the bytes or none.
    fn write_whole(&mut self, at: u64, bytes: &[u8]) -> Result<(), Stop> {
        let result = self.walk(at, bytes.len() as u64, true);
        result.map_err(|(_, cause)| (0, cause))?;
        self.put(at, bytes);
        Ok(())
    }

    /// The word of an atomic access.
    fn word(&self, at: u64) -> Result<u32, Stop> {
        let out_of_range = |(done, cause): &Stop| match cause {
            Cause::OutOfRange { .. } | Cause::OutsideView { .. } => Some((*done, *cause)),
            _ => None,
        };
        let walk = self.walk(at, 4, true);
        if let Some(stop) = walk.as_ref().err().and_then(out_of_range) {
            return Err(stop);
        }
        if !(self.start + at).is_multiple_of(4) {
            return Err((0, Cause::Unaligned { len: 4 }));
        }
        walk?;
        Ok(u32::from_ne_bytes(
            self.bytes[self.at(at)..][..4].try_into().unwrap(),
        ))
    }
}

fn stop<T>(result: Result<T, AccessError>) -> Result<T, Stop> {
    result.map_err(|error| (error.done(), error.cause()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_tracked_view_equals_a_byte_array(
        kinds in proptest::collection::vec(0..5_u8, PAGES as usize),
        view in prop_oneof![1 => Just((0, LEN)), 4 => (0..=LEN, 0..=LEN)],
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let ram = SharedMemory::new("ram", LEN).unwrap();
        let backing = Backing::from(ram.mappable().clone());
        let rw = Access::ReadWrite;
        let space = MemoryRange::new(0..LEN);
        let whole = VaMapper::new("all of it", LEN, Alignment::Page).unwrap();
        whole.map(space, &backing, 0, rw).unwrap();
        let all = whole.guest_memory();
        let mapper = VaMapper::new("guest", LEN, Alignment::Page).unwrap();
        let kinds: Vec<_> = kinds.into_iter().map(|kind| match kind {
            0 => None,
            1 => Some(Access::ReadOnly),
            _ => Some(rw),
        }).collect();
        for (page, kind) in (0..).zip(&kinds) {
            if let Some(access) = kind {
                let range = MemoryRange::from_page_numbers(page..page + 1).unwrap();
                mapper.map(range, &backing, range.start(), *access).unwrap();
            }
        }
        let (start, end) = (view.0.min(view.1), view.0.max(view.1));
        let bitmap = Arc::new(DirtyBitmap::new(space).unwrap());
        let memory = mapper.guest_memory().tracked(bitmap.clone()).unwrap();
        let memory = memory.subrange(start..end).unwrap();
        let bytes = vec![0; LEN as usize];
        let mut model = Model { kinds, bytes, start, end, marked: BTreeSet::new() };

        for op in ops {
            match op {
                Op::Read(at, len) => {
                    let mut found = vec![0; len];
                    let result = stop(memory.read_at(at, &mut found));
                    let (bytes, expected) = model.read(at, len as u64);
                    prop_assert_eq!(result, expected);
                    prop_assert!(found.starts_with(&bytes));
                }
                Op::Write(at, bytes) => {
                    let result = stop(memory.write_at(at, &bytes));
                    prop_assert_eq!(result, model.write(at, &bytes));
                }
                Op::Fill(at, byte, len) => {
                    let result = stop(memory.fill_at(at, byte, len));
                    let expected = match model.walk(at, len, true) {
                        Ok(()) => model.write(at, &vec![byte; len as usize]),
                        Err((done, cause)) => {
                            model.put(at, &vec![byte; done as usize]);
                            Err((done, cause))
                        }
                    };
                    prop_assert_eq!(result, expected);
                }
                Op::Named(at, bytes) => {
                    let result = stop(memory.write_read_only_at(at, &bytes));
                    let expected = model.walk(at, bytes.len() as u64, false);
                    let done = expected.map_or_else(|(done, _)| done as usize, |()| bytes.len());
                    model.put(at, &bytes[..done]);
                    prop_assert_eq!(result, expected);
                }
                Op::LoadWord(at) => {
                    let (bytes, expected) = model.read(at, 8);
                    let expected = expected.map(|()| bytes);
                    let found = stop(memory.read_plain::<u64>(at));
                    prop_assert_eq!(found.map(|word| word.to_ne_bytes().to_vec()), expected);
                }
                Op::StoreWord(at, word) => {
                    let result = stop(memory.write_plain(at, &word));
                    prop_assert_eq!(result, model.write_whole(at, &word.to_ne_bytes()));
                }
                Op::StoreBytes(at, bytes) => {
                    let result = stop(memory.write_plain(at, &bytes));
                    prop_assert_eq!(result, model.write(at, &bytes));
                }
                Op::Exchange(at, old, new) => {
                    let result = stop(memory.compare_exchange(at, old, new));
                    let there = model.word(at);
                    if there == Ok(old) {
                        model.put(at, &new.to_ne_bytes());
                    }
                    let expected = there.map(|there| if there == old { Ok(old) } else { Err(there) });
                    prop_assert_eq!(result, expected);
                }
                Op::Change(at, change, word) => {
                    let word = word as u32;
                    let result = stop(match change {
                        Change::Or => memory.fetch_or(at, word),
                        Change::And => memory.fetch_and(at, word),
                        Change::Xor => memory.fetch_xor(at, word),
                        Change::Add => memory.fetch_add(at, word),
                        Change::Swap => memory.swap(at, word),
                    });
                    let there = model.word(at);
                    if let Ok(there) = there {
                        let new = match change {
                            Change::Or => there | word,
                            Change::And => there & word,
                            Change::Xor => there ^ word,
                            Change::Add => there.wrapping_add(word),
                            Change::Swap => word,
                        };
                        model.put(at, &new.to_ne_bytes());
                    }
                    prop_assert_eq!(result, there);
                }
                Op::Compare(at, len, differs) => {
                    let (mut bytes, expected) = model.read(at, len as u64);
                    let readable = bytes.len();
                    bytes.resize(len, 0);
                    let there = bytes.clone();
                    if let Some((index, by)) = differs.filter(|_| len > 0) {
                        bytes[index % len] ^= by;
                    }
                    let result = stop(memory.compare_at(at, &bytes));
                    let order = there[..readable].cmp(&bytes[..readable]);
                    let expected = if order.is_ne() { Ok(order) } else { expected.map(|()| order) };
                    prop_assert_eq!(result, expected);
                }
                Op::Copy(from, to, len) => {
                    let overlap = from.abs_diff(to) < len;
                    if overlap && u128::from(from.max(to)) + u128::from(len) <= u128::from(LEN) {
                        continue;
                    }
                    let result = stop(memory.copy_to(from, &memory, to, len));
                    let read = model.walk(from, len, false);
                    let write = model.walk(to, len, true);
                    let out_of_range = |side: &Result<(), Stop>| matches!(
                        side,
                        Err((_, Cause::OutOfRange { .. } | Cause::OutsideView { .. }))
                    );
                    // Where both stop at the same byte, it is read first.
                    let expected = match (read, write) {
                        (read, _) if out_of_range(&read) => read,
                        (_, write) if out_of_range(&write) => write,
                        (Err(read), Err(write)) if write.0 < read.0 => Err(write),
                        (Err(read), _) => Err(read),
                        (Ok(()), write) => write,
                    };
                    let done = expected.map_or_else(|(done, _)| done, |()| len);
                    if done > 0 {
                        let copied = model.bytes[model.at(from)..][..done as usize].to_vec();
                        model.put(to, &copied);
                    }
                    prop_assert_eq!(result, expected);
                }
                Op::ReadScattered(ranges, len) => {
                    let chain: Vec<_> =
                        ranges.iter().map(|(gpa, len)| GuestRange::new(*gpa, *len)).collect();
                    let mut found = vec![0; len];
                    let result = memory.read_scattered(&chain, &mut found);
                    let mut expected = Vec::new();
                    let mut stopped = None;
                    for (index, (at, range_len)) in ranges.into_iter().enumerate() {
                        let part = range_len.min((len - expected.len()) as u64);
                        if part == 0 {
                            continue;
                        }
                        let (bytes, result) = model.read(at, part);
                        expected.extend(bytes);
                        if let Err((_, cause)) = result {
                            stopped = Some((index, expected.len(), cause));
                            break;
                        }
                    }
                    prop_assert!(found.starts_with(&expected));
                    let result = result
                        .map_err(|error| (error.index(), error.done(), error.access().cause()));
                    prop_assert_eq!(result, stopped.map_or(Ok(expected.len()), Err));
                }
                Op::WriteScattered(ranges, bytes) => {
                    let chain: Vec<_> =
                        ranges.iter().map(|(gpa, len)| GuestRange::new(*gpa, *len)).collect();
                    let result = memory.write_scattered(&chain, &bytes);
                    let mut done = 0;
                    let mut stopped = None;
                    for (index, (at, range_len)) in ranges.into_iter().enumerate() {
                        let part = range_len.min((bytes.len() - done) as u64) as usize;
                        if part == 0 {
                            continue;
                        }
                        match model.write(at, &bytes[done..done + part]) {
                            Ok(()) => done += part,
                            Err((here, cause)) => {
                                done += here as usize;
                                stopped = Some((index, done, cause));
                                break;
                            }
                        }
                    }
                    let result = result
                        .map_err(|error| (error.index(), error.done(), error.access().cause()));
                    prop_assert_eq!(result, stopped.map_or(Ok(done), Err));
                }
                Op::ReadElements(at, count, index, len) => {
                    let fits = u128::from(at) + u128::from(count) * 4 <= u128::from(end - start);
                    let slice = memory.slice_at::<u32>(at, count);
                    prop_assert_eq!(slice.is_ok(), fits);
                    let Ok(slice) = slice else { continue };
                    let mut found = vec![0; len];
                    let result = stop(slice.read_into(index, &mut found));
                    if u128::from(index) + len as u128 > u128::from(count) {
                        prop_assert!(matches!(result, Err((0, _))), "{:?}", result);
                        prop_assert_eq!(slice.get(count).is_ok(), false);
                        continue;
                    }
                    let (bytes, expected) = model.read(at + index * 4, len as u64 * 4);
                    prop_assert_eq!(result, expected);
                    let read: Vec<u8> = found.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    prop_assert!(read.starts_with(&bytes));
                    if expected.is_ok() {
                        let one_by_one: Result<Vec<u32>, _> =
                            slice.iter().skip(index as usize).take(len).collect();
                        prop_assert_eq!(one_by_one.unwrap(), found);
                    }
                }
                Op::WriteElements(at, count, index, words) => {
                    let Ok(slice) = memory.slice_at::<u32>(at, count) else { continue };
                    let result = stop(slice.copy_from(index, &words));
                    if u128::from(index) + words.len() as u128 > u128::from(count) {
                        prop_assert!(matches!(result, Err((0, _))), "{:?}", result);
                        prop_assert!(slice.set(count, 1).is_err());
                        continue;
                    }
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    prop_assert_eq!(result, model.write(at + index * 4, &bytes));
                }
            }
            let taken = bitmap.take(space);
            let taken: BTreeSet<u64> = taken.iter().flat_map(|range| range.page_numbers()).collect();
            prop_assert_eq!(&taken, &model.marked);
            model.marked.clear();
            let mut bytes = vec![0; LEN as usize];
            all.read_at(0, &mut bytes).unwrap();
            prop_assert!(bytes == model.bytes, "the bytes differ");
        }
    }
}
