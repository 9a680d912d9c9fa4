//! A manager that serves, and clients of it in this process.

use crate::support::range;
use guest_memory_manager::{
    ClientThread, GuestMemory, GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange,
    ProcessEvent, RamVisibility, RemoteClientOptions, RemoteGrant, RemoteGuestMemory,
    RemoteOptions, RemoteProcess, RemoteServer, RemoteServerThread,
};
use memory_range::PAGE_SIZE;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// More than any machine needs.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

/// A hole of the layout, where device windows go.
pub(crate) const GAP: MemoryRange = MemoryRange::new(0x20_0000..0x40_0000);
/// RAM that only VTL2 sees.
pub(crate) const VTL2: MemoryRange = MemoryRange::new(0x50_0000..0x51_0000);
/// Two of the segments of the first mebibyte, which are regions of their own.
pub(crate) const C_SEGMENT: MemoryRange = MemoryRange::new(0xc_0000..0xc_4000);
pub(crate) const F_SEGMENT: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);

pub(crate) fn layout() -> MemoryLayout {
    MemoryLayout::new(3 << 20, &[GAP], Some(VTL2)).unwrap()
}

pub(crate) fn build() -> GuestMemoryManager {
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout()).unwrap()
}

/// A manager whose server is driven by a thread.
pub(crate) struct Fixture {
    // Dropped first, so that nobody is told of what the rest does when it goes.
    pub(crate) memory: GuestMemoryManager,
    pub(crate) server: RemoteServer,
    _driver: RemoteServerThread,
    events: Receiver<ProcessEvent>,
}

/// A client that a thread drives.
pub(crate) struct Client {
    pub(crate) process: RemoteProcess,
    pub(crate) remote: RemoteGuestMemory,
    _driver: ClientThread,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(build(), RemoteOptions::new().deadline(AMPLE))
    }

    pub(crate) fn with(memory: GuestMemoryManager, options: RemoteOptions) -> Self {
        let (tell, events) = channel();
        let options = options.on_event(move |event| {
            // Whoever has gone does not listen.
            let _ = tell.send(event.clone());
        });
        let server = memory.serve_remote(options).unwrap();
        let driver = server.spawn().unwrap();
        Self {
            memory,
            server,
            _driver: driver,
            events,
        }
    }

    /// The next thing that happens to a process.
    pub(crate) fn event(&self) -> ProcessEvent {
        self.events.recv_timeout(AMPLE).unwrap()
    }

    /// Waits until a process has left.
    pub(crate) fn left(&self) -> RemoteProcess {
        loop {
            if let ProcessEvent::Left { process } = self.event() {
                return process;
            }
        }
    }

    /// Asserts that nothing more happens that is already under way.
    pub(crate) fn no_more_events(&self) {
        let next = self.events.recv_timeout(Duration::from_millis(50));
        assert!(next.is_err(), "{next:?}");
    }

    pub(crate) fn client(&self, grant: RemoteGrant) -> Client {
        self.client_with(grant, RemoteClientOptions::new("client").deadline(AMPLE))
    }

    pub(crate) fn client_with(&self, grant: RemoteGrant, options: RemoteClientOptions) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = self.server.accept(ours, grant).unwrap();
        let remote = RemoteGuestMemory::connect(theirs, options).unwrap();
        // Its first view may be there before the manager's side has noted that.
        process.wait_ready(AMPLE).unwrap();
        let driver = remote.spawn().unwrap();
        Client {
            process,
            remote,
            _driver: driver,
        }
    }

    pub(crate) fn set(&self, range: MemoryRange, visibility: RamVisibility) {
        let control = self.memory.ram_visibility_control();
        let followed = control.set_ram_visibility_now(range, visibility).unwrap();
        followed
            .wait_until(std::time::Instant::now() + AMPLE)
            .unwrap();
    }

    pub(crate) fn view(&self) -> GuestMemory {
        self.memory.client().guest_memory_now()
    }
}

impl Client {
    pub(crate) fn view(&self) -> GuestMemory {
        self.remote.guest_memory()
    }
}

/// The first address of each page that could be seen.
pub(crate) fn page_addresses() -> impl Iterator<Item = u64> {
    (0..layout().end()).step_by(PAGE_SIZE as usize)
}

/// What a page holds, and whether it can be written; `None` where nothing can be read.
///
/// It is written over with what it holds.
pub(crate) fn page(memory: &GuestMemory, gpa: u64) -> Option<(u64, bool)> {
    let word = memory.read_plain::<u64>(gpa).ok()?;
    Some((word, memory.write_plain(gpa, &word).is_ok()))
}

/// Writes to each page of RAM what tells it from the others.
pub(crate) fn number_pages(memory: &GuestMemory) {
    for gpa in page_addresses() {
        let _ = memory.write_plain(gpa, &(gpa ^ 0x5a5a));
    }
}

/// Asserts that two views show the same in every page of a range, as far as `seen` says so.
#[track_caller]
pub(crate) fn assert_same(manager: &GuestMemory, client: &GuestMemory, seen: impl Fn(u64) -> bool) {
    for gpa in page_addresses() {
        let expected = page(manager, gpa).filter(|_| seen(gpa));
        assert_eq!(page(client, gpa), expected, "{gpa:#x}");
    }
}

/// Whether an address is none of VTL2's.
pub(crate) fn in_vtl0(gpa: u64) -> bool {
    !VTL2.contains_addr(gpa)
}

/// Some pages in the gap.
pub(crate) fn gap(start: u64, end: u64) -> MemoryRange {
    range(
        GAP.start() + start * PAGE_SIZE,
        GAP.start() + end * PAGE_SIZE,
    )
}
