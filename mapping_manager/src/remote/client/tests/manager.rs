//! The other end of a client's socket.

use crate::descriptors::send_now;
use crate::remote::client::{ClientOptions, ConnectError, RemoteClient};
use crate::remote::frame::{FrameLimits, FrameReader, ReadOutcome};
use crate::remote::message::{
    Fetch, FileInfo, RangeOp, Shown, SlotAdded, SlotRemoved, Source, ToClient, ToServer, Welcome,
};
use memory_range::MemoryRange;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sparse_alloc::SharedMemory;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(super) const SPACE: u64 = 0x100_0000;
/// Longer than any test takes, however busy the machine is.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// A memory whose every word says which page of which memory it is in.
pub(super) fn painted(tag: u64, pages: u64) -> SharedMemory {
    let memory = SharedMemory::new("painted", pages * 0x1000).unwrap();
    let whole = sparse_alloc::HostRange::new(memory.linear_view().clone(), 0, memory.len());
    let whole = whole.unwrap();
    for page in 0..pages {
        for at in (0..0x1000).step_by(8) {
            let bytes = word(tag, page).to_ne_bytes();
            whole.write(page * 0x1000 + at, &bytes).unwrap();
        }
    }
    memory
}

/// What a painted page is full of.
pub(super) fn word(tag: u64, page: u64) -> u64 {
    (tag << 32) | page
}

pub(super) fn shown(id: u32, offset: u64, writable: bool) -> Option<Shown> {
    let source = Source::File(id);
    Some(Shown {
        source,
        offset,
        writable,
    })
}

pub(super) fn fill(source: Source, writable: bool) -> Option<Shown> {
    Some(Shown {
        source,
        offset: 0,
        writable,
    })
}

pub(super) fn op(start: u64, end: u64, shown: Option<Shown>) -> RangeOp {
    RangeOp {
        range: range(start, end),
        shown,
    }
}

pub(super) fn options() -> ClientOptions {
    ClientOptions::new("client")
        .deadline(LONG)
        .fetch_timeout(LONG)
}

pub(super) struct Manager {
    pub(super) socket: UnixStream,
    reader: FrameReader,
    pub(super) sequence: u64,
}

impl Manager {
    /// A manager, and the socket that a client is to use.
    pub(super) fn new() -> (Self, UnixStream) {
        let (socket, client) = UnixStream::pair().unwrap();
        let manager = Self {
            socket,
            reader: FrameReader::new(FrameLimits::OF_CLIENT),
            sequence: 0,
        };
        (manager, client)
    }

    /// A manager that shows one view at once, and its client.
    pub(super) fn connected(
        files: &[(u32, &SharedMemory)],
        ops: Vec<RangeOp>,
    ) -> (Self, RemoteClient) {
        let (mut manager, socket) = Self::new();
        manager.welcome(false);
        manager.files(files);
        manager.change(ops);
        let client = RemoteClient::connect(socket, options()).unwrap();
        assert!(matches!(manager.receive(), ToServer::Hello(_)));
        manager.acknowledged();
        (manager, client)
    }

    /// As [`connected`](Self::connected), of a lazy client, which is shown nothing yet.
    pub(super) fn connected_lazily(files: &[(u32, &SharedMemory)]) -> (Self, RemoteClient) {
        Self::try_lazy(files, options()).unwrap()
    }

    pub(super) fn try_lazy(
        files: &[(u32, &SharedMemory)],
        options: ClientOptions,
    ) -> Result<(Self, RemoteClient), ConnectError> {
        let (mut manager, socket) = Self::new();
        manager.welcome(true);
        manager.files(files);
        manager.commit();
        let client = RemoteClient::connect(socket, options.lazy(true))?;
        let ToServer::Hello(hello) = manager.receive() else {
            panic!("no greeting");
        };
        assert!(hello.lazy);
        manager.acknowledged();
        Ok((manager, client))
    }

    pub(super) fn welcome(&mut self, lazy: bool) {
        self.welcome_with(|welcome| welcome.lazy = lazy);
    }

    pub(super) fn welcome_with(&mut self, change: impl FnOnce(&mut Welcome)) {
        let mut welcome = Welcome {
            space: SPACE,
            alignment: 0x20_0000,
            lazy: false,
            read_only: false,
            name: "manager".to_owned(),
        };
        change(&mut welcome);
        self.send(&ToClient::Welcome(welcome), &[]);
    }

    /// Sends all of a message, waiting for room.
    pub(super) fn send(&mut self, message: &ToClient, fds: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.send_bytes(&bytes, fds);
    }

    pub(super) fn send_bytes(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        assert!(self.try_send_bytes(bytes, fds), "the client is gone");
    }

    /// `false`: the client is gone.
    pub(super) fn try_send_bytes(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds } else { &[] };
            match send_now(self.socket.as_fd(), &bytes[sent..], fds) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ) =>
                {
                    return false;
                }
                Err(error) => panic!("{error}"),
            }
        }
        true
    }

    fn wait(&self, flags: PollFlags) {
        let timeout = Timespec::try_from(LONG).unwrap();
        let ready = poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout)).unwrap();
        assert_ne!(ready, 0, "the client says nothing");
    }

    pub(super) fn files(&mut self, files: &[(u32, &SharedMemory)]) {
        if files.is_empty() {
            return;
        }
        let infos = files.iter().map(|(id, memory)| FileInfo {
            id: *id,
            len: Some(memory.len()),
            name: memory.name().to_owned(),
        });
        let fds: Vec<_> = files
            .iter()
            .map(|(_, memory)| memory.mappable().as_fd())
            .collect();
        self.send(&ToClient::Files(infos.collect()), &fds);
    }

    pub(super) fn ranges(&mut self, ops: Vec<RangeOp>) {
        self.send(&ToClient::Ranges(ops), &[]);
    }

    pub(super) fn add_slots(&mut self, slots: Vec<SlotAdded>) {
        self.send(&ToClient::SlotsAdded(slots), &[]);
    }

    pub(super) fn remove_slots(&mut self, slots: Vec<SlotRemoved>) {
        self.send(&ToClient::SlotsRemoved(slots), &[]);
    }

    pub(super) fn commit(&mut self) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&ToClient::Commit { sequence }, &[]);
    }

    pub(super) fn change(&mut self, ops: Vec<RangeOp>) {
        self.ranges(ops);
        self.commit();
    }

    /// A change, made by the client on this thread, and acknowledged.
    pub(super) fn change_now(&mut self, client: &RemoteClient, ops: Vec<RangeOp>) {
        self.change(ops);
        client.wait_for(self.sequence, LONG).unwrap();
        self.acknowledged();
    }

    /// The next message; `None` if the client has closed.
    pub(super) fn try_receive(&mut self) -> Option<ToServer> {
        loop {
            if let Some(message) = self.at_hand() {
                return Some(message);
            }
            match self.reader.read(self.socket.as_fd()) {
                Ok(ReadOutcome::Some) => {}
                Ok(ReadOutcome::WouldBlock) => self.wait(PollFlags::IN),
                Err(_) => return None,
            }
        }
    }

    /// The next message, if it was read together with another.
    pub(super) fn at_hand(&mut self) -> Option<ToServer> {
        let frame = self.reader.next_frame().unwrap()?;
        let message = ToServer::decode(frame.kind, frame.body, frame.fds.len(), SPACE);
        Some(message.unwrap())
    }

    pub(super) fn receive(&mut self) -> ToServer {
        self.try_receive().expect("the client has closed")
    }

    /// Takes the acknowledgement of the last change.
    pub(super) fn acknowledged(&mut self) {
        let sequence = self.sequence;
        assert_eq!(self.receive(), ToServer::Acknowledged { sequence });
    }

    /// Takes a question.
    pub(super) fn asked(&mut self) -> Fetch {
        match self.receive() {
            ToServer::Fetch(fetch) => fetch,
            other => panic!("{other:?}"),
        }
    }

    /// Answers a question, with what is there.
    pub(super) fn answer(&mut self, fetch: Fetch, ops: Vec<RangeOp>) {
        if !ops.is_empty() {
            self.change(ops);
        }
        let request = fetch.request;
        self.send(&ToClient::Fetched { request }, &[]);
    }

    /// What the client says when a change fails. Acknowledgements before that are passed over.
    pub(super) fn failure(&mut self) -> String {
        loop {
            match self.receive() {
                ToServer::Failed(failed) => return failed.text,
                ToServer::Acknowledged { .. } | ToServer::Hello(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
