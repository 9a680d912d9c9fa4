//! A client that says what a test wants it to, and paints what it is told.

use super::LONG;
use crate::remote::frame::{FrameLimits, FrameReader, ReadOutcome};
use crate::remote::message::{Fetch, Hello, SlotAdded, Source, ToClient, ToServer, Welcome};
use memory_range::{MemoryRange, PAGE_SIZE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What a page shows: the inode of a file or the name of a fill, the offset, and whether it can be
/// written.
pub(super) type Paint = (String, u64, bool);

pub(super) struct Player {
    pub(super) stream: UnixStream,
    reader: FrameReader,
    space: u64,
    pending: Vec<ToClient>,
    pub(super) files: HashMap<u32, OwnedFd>,
    pub(super) pages: BTreeMap<u64, Paint>,
    pub(super) slots: BTreeMap<(u32, u64), SlotAdded>,
    /// What each change consisted of, by the names of its messages.
    pub(super) changes: Vec<Vec<&'static str>>,
    pub(super) sequence: u64,
}

/// The inode of a file, as a name.
pub(super) fn inode(file: impl AsFd) -> String {
    rustix::fs::fstat(file).unwrap().st_ino.to_string()
}

impl Player {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            reader: FrameReader::new(FrameLimits::OF_SERVER),
            space: u64::MAX,
            pending: Vec::new(),
            files: HashMap::new(),
            pages: BTreeMap::new(),
            slots: BTreeMap::new(),
            changes: Vec::new(),
            sequence: 0,
        }
    }

    pub(super) fn say(&mut self, message: &ToServer) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        // A manager that has closed is found out by reading.
        let _ = self.stream.write_all(&bytes);
    }

    pub(super) fn say_hello(&mut self, lazy: bool) {
        self.say(&ToServer::Hello(Hello {
            name: "player".to_owned(),
            lazy,
        }));
    }

    pub(super) fn greet(&mut self, lazy: bool) -> Welcome {
        self.say_hello(lazy);
        self.hear_welcome()
    }

    pub(super) fn hear_welcome(&mut self) -> Welcome {
        match self.hear() {
            Some(ToClient::Welcome(welcome)) => {
                self.space = welcome.space;
                welcome
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn acknowledge(&mut self) {
        self.say(&ToServer::Acknowledged {
            sequence: self.sequence,
        });
    }

    pub(super) fn fetch(&mut self, request: u64, range: MemoryRange) {
        self.say(&ToServer::Fetch(Fetch { request, range }));
    }

    /// Nothing has come.
    pub(super) fn is_idle(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 0
    }

    /// The next message; `None` when the manager has closed.
    pub(super) fn hear(&mut self) -> Option<ToClient> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                let count = frame.fds.len();
                let message = ToClient::decode(frame.kind, frame.body, count, self.space).unwrap();
                if let ToClient::Files(files) = &message {
                    for (info, fd) in files.iter().zip(frame.fds) {
                        let stat = rustix::fs::fstat(&fd).unwrap();
                        let is_device = rustix::fs::FileType::from_raw_mode(stat.st_mode)
                            == rustix::fs::FileType::CharacterDevice;
                        let len = u64::try_from(stat.st_size).ok();
                        assert_eq!(info.len, len.filter(|_| !is_device));
                        let before = self.files.insert(info.id, fd);
                        assert!(before.is_none(), "file {} is given twice", info.id);
                    }
                }
                return Some(message);
            }
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            let timeout = Timespec::try_from(LONG).unwrap();
            assert_eq!(poll(&mut fds, Some(&timeout)).unwrap(), 1, "nothing comes");
            match self.reader.read(self.stream.as_fd()) {
                Ok(ReadOutcome::Some | ReadOutcome::WouldBlock) => {}
                Err(crate::remote::frame::FrameError::Ended { within: 0 }) => return None,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Takes messages up to the end of a change, and makes it; returns its number, or `None` for a
    /// message that is none of a change, which is returned then.
    pub(super) fn step(&mut self) -> Result<u64, Option<ToClient>> {
        loop {
            match self.hear() {
                Some(ToClient::Commit { sequence }) => {
                    assert_eq!(sequence, self.sequence + 1);
                    self.sequence = sequence;
                    self.make();
                    return Ok(sequence);
                }
                Some(
                    message @ (ToClient::Welcome(_)
                    | ToClient::Fetched { .. }
                    | ToClient::Goodbye { .. }),
                ) => {
                    assert!(self.pending.is_empty());
                    return Err(Some(message));
                }
                None => return Err(None),
                Some(message) => self.pending.push(message),
            }
        }
    }

    /// Follows up to a change, and acknowledges each.
    pub(super) fn follow(&mut self, sequence: u64) {
        while self.sequence < sequence {
            self.step().unwrap();
            self.acknowledge();
        }
    }

    /// Follows to the end; returns the reason that the manager gave, if it gave one.
    pub(super) fn end(&mut self) -> Option<String> {
        let mut said = None;
        loop {
            match self.step() {
                Ok(_) => {}
                Err(Some(ToClient::Goodbye { reason })) => said = Some(reason),
                Err(Some(_)) => {}
                Err(None) => return said,
            }
        }
    }

    fn make(&mut self) {
        let mut names = Vec::new();
        for message in std::mem::take(&mut self.pending) {
            names.push(match message {
                ToClient::Files(_) => "files",
                ToClient::Forget(ids) => {
                    for id in ids {
                        let file = self.files.remove(&id).unwrap();
                        let name = inode(&file);
                        assert!(!self.pages.values().any(|(shown, _, _)| *shown == name));
                    }
                    "forget"
                }
                ToClient::SlotsRemoved(slots) => {
                    for slot in slots {
                        let key = (slot.partition, slot.range.start());
                        let removed = self.slots.remove(&key).unwrap();
                        assert_eq!(removed.range, slot.range);
                    }
                    "slots removed"
                }
                ToClient::Ranges(ops) => {
                    for op in ops {
                        for page in op.range.page_numbers() {
                            let gpa = page * PAGE_SIZE;
                            let into = gpa - op.range.start();
                            let paint = op.shown.map(|shown| match shown.source {
                                Source::File(id) => {
                                    (inode(&self.files[&id]), shown.offset + into, shown.writable)
                                }
                                Source::Zeros => ("zeros".to_owned(), 0, shown.writable),
                                Source::Ones => ("ones".to_owned(), 0, shown.writable),
                            });
                            match paint {
                                Some(paint) => self.pages.insert(gpa, paint),
                                None => self.pages.remove(&gpa),
                            };
                        }
                    }
                    "ranges"
                }
                ToClient::SlotsAdded(slots) => {
                    for slot in slots {
                        let key = (slot.partition, slot.range.start());
                        assert!(self.slots.insert(key, slot).is_none());
                    }
                    "slots added"
                }
                other => panic!("{other:?}"),
            });
        }
        self.changes.push(names);
    }
}
