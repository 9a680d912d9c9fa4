//! The same disk in another process: a vhost-user front end gives it the guest's memory, and tells it of
//! each change.

use crate::block::{Buffer, Disk};
use crate::driver::{Places, Ring, SIZE, SplitRing};
use crate::machine::{SECTORS, use_disk};
use guest_memory_manager::{DmaOptions, GuestMemoryManager, MemoryRange, RamVisibility};
use std::error::Error;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vhost::VhostBackend;
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap};
use vm_memory_adapter::{AddressSpace, BackendSnapshot, RingLayout, SnapshotOptions, VhostTable};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};
use vmm_sys_util::eventfd::EventFd;

const RING: u64 = 0x60_0000;
/// What the back end takes at most.
const REGIONS: usize = 8;
/// A back end that has not answered by then is dead.
const PATIENCE: Duration = Duration::from_secs(30);
const VERSION_1: u64 = 1 << 32;

/// What was done.
pub(crate) struct Served {
    pub(crate) process: u32,
    pub(crate) requests: u64,
    /// How many tables were sent, and how many regions they had.
    pub(crate) tables: usize,
    pub(crate) regions: RangeInclusive<usize>,
}

/// The front end. `start` starts a process that comes to [`back_end`] with this socket.
pub(crate) fn front_end(
    manager: &GuestMemoryManager,
    turns: u64,
    start: impl FnOnce(&Path) -> io::Result<Child>,
) -> Result<Served, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket)?;
    let mut process = Running(start(&socket)?);
    let stream = accept(&listener, &mut process.0)?;
    let served = serve(manager, turns, stream)?;
    // The front end has hung up.
    wait_for("it ends", || Ok(process.0.try_wait()?))?;
    Ok(Served {
        process: process.0.id(),
        ..served
    })
}

/// A process that does not outlive this one's interest in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer, or nobody has patience any more.
fn wait_for<T>(
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("the back end does not answer: waited until {what}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the back end, and not for one that is dead.
fn accept(listener: &UnixListener, process: &mut Child) -> Result<UnixStream, Box<dyn Error>> {
    listener.set_nonblocking(true)?;
    let stream = wait_for("it connects", || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
        Err(_) => match process.try_wait()? {
            None => Ok(None),
            Some(status) => Err(format!("the back end ended early: {status}").into()),
        },
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn serve(
    manager: &GuestMemoryManager,
    turns: u64,
    stream: UnixStream,
) -> Result<Served, Box<dyn Error>> {
    let mut front_end = Frontend::from_stream(stream, 1);
    front_end.set_owner()?;
    front_end.set_features(front_end.get_features()?)?;
    let protocol = front_end.get_protocol_features()?;
    front_end.set_protocol_features(protocol)?;
    // So that a change of memory ends when the back end has the new table.
    front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);

    let sent = Arc::new(Mutex::new(Vec::new()));
    let (device, counted) = (front_end.clone(), sent.clone());
    let table = VhostTable::attach(
        manager,
        "disk2",
        REGIONS,
        DmaOptions::new(),
        move |regions| {
            if !regions.is_empty() {
                device.set_mem_table(regions)?;
                counted.lock().map_err(|_| "poisoned")?.push(regions.len());
            }
            Ok(())
        },
    )?;

    let places = Places::from(RING);
    let place = table.ring(&ring(&places))?;
    let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
    front_end.set_vring_num(0, SIZE)?;
    front_end.set_vring_base(0, 0)?;
    front_end.set_vring_addr(0, &place)?;
    front_end.set_vring_call(0, &call)?;
    front_end.set_vring_kick(0, &kick)?;
    front_end.set_vring_enable(0, true)?;

    let space = AddressSpace::attach(manager, "driver2", &SnapshotOptions::new())?;
    let mut driver = Kicked {
        ring: SplitRing { places, sent: 0 },
        kick,
    };
    for turn in 0..turns {
        // Memory that the disk has nothing to do with, so that it gets another table in each turn.
        let start = 0xc_0000 + turn / 2 % 12 * 0x4000;
        let visibility = match turn.is_multiple_of(2) {
            true => RamVisibility::Unmapped,
            false => RamVisibility::ReadWrite,
        };
        let segment = MemoryRange::new(start..start + 0x4000);
        manager
            .ram_visibility_control()
            .set_ram_visibility_now(segment, visibility)?;
        use_disk(&space, &mut driver, turn);
    }
    manager.detach_dma_target(table.id())?;
    manager.detach_dma_target(space.id())?;
    let sent = sent.lock().map_err(|_| "poisoned")?;
    let least = sent.iter().copied().min().unwrap_or(0);
    let most = sent.iter().copied().max().unwrap_or(0);
    Ok(Served {
        process: 0,
        requests: u64::from(driver.ring.sent),
        tables: sent.len(),
        regions: least..=most,
    })
}

fn ring(places: &Places) -> vm_memory_adapter::Ring {
    vm_memory_adapter::Ring {
        layout: RingLayout::Split,
        size: SIZE,
        event_index: false,
        descriptors: places.descriptors,
        driver: places.available,
        device: places.used,
    }
}

/// A ring whose device is told of each request.
struct Kicked {
    ring: SplitRing,
    kick: EventFd,
}

impl Ring for Kicked {
    fn places(&self) -> &Places {
        self.ring.places()
    }

    fn send<M: GuestMemory>(&mut self, memory: &M, request: [(u64, u32, u16); 3]) {
        self.ring.send(memory, request);
        self.kick.write(1).unwrap();
    }

    fn is_served<M: GuestMemory>(&self, memory: &M) -> bool {
        self.ring.is_served(memory)
    }
}

/// Gives kernel vhost the table and a ring, where there is kernel vhost; says what came of it.
pub(crate) fn kernel(manager: &GuestMemoryManager) -> String {
    match kernel_table(manager) {
        Ok(regions) => format!("/dev/vhost-net got a table of {regions} regions, and a ring"),
        Err(error) => format!("skipped: /dev/vhost-net: {error}"),
    }
}

fn kernel_table(manager: &GuestMemoryManager) -> Result<usize, Box<dyn Error>> {
    let options = SnapshotOptions::new();
    let space = AddressSpace::<BackendSnapshot>::attach(manager, "net", &options)?;
    let net = vhost::vhost_kern::net::Net::new(space.clone()).map_err(|error| error.to_string());
    let table = VhostTable::attach(manager, "net", 64, DmaOptions::new(), |_| Ok(()))?;
    let given = net.map_err(Into::into).and_then(|net| {
        let places = Places::from(RING);
        net.set_owner()?;
        net.set_mem_table(&table.regions())?;
        net.set_vring_num(0, SIZE)?;
        net.set_vring_addr(0, &table.kernel_ring(&ring(&places))?)?;
        Ok(table.regions().len())
    });
    manager.detach_dma_target(table.id())?;
    manager.detach_dma_target(space.id())?;
    given
}

/// The back end: serves a disk until the front end hangs up.
pub(crate) fn back_end(socket: &Path) -> Result<(), Box<dyn Error>> {
    let file = tempfile::tempfile()?;
    file.set_len(SECTORS * crate::block::SECTOR)?;
    let device = Device {
        disk: Disk::new(file),
        memory: GuestMemoryAtomic::new(GuestMemoryMmap::new()),
    };
    let memory = device.memory.clone();
    let mut daemon = VhostUserDaemon::new("disk2".into(), Arc::new(Mutex::new(device)), memory)
        .map_err(|error| error.to_string())?;
    let socket = socket.to_str().ok_or("the socket's name is no text")?;
    daemon
        .start_client(socket)
        .map_err(|error| error.to_string())?;
    // That the front end hangs up is how it ends.
    let _ = daemon.wait();
    Ok(())
}

struct Device {
    disk: Disk,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        usize::from(SIZE)
    }

    fn features(&self) -> u64 {
        VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, _: bool) {}

    // Without it the daemon waits for its threads for ever.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn handle_event(
        &mut self,
        _: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        let memory = self.memory.memory();
        let mut vring = vrings[0].get_mut();
        while let Some(chain) = vring.get_queue_mut().pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let buffers: Vec<_> = chain.map(|one| Buffer::from(&one)).collect();
            let written = self.disk.serve(&*memory, &buffers);
            let queue = vring.get_queue_mut();
            queue
                .add_used(&*memory, head, written)
                .map_err(io::Error::other)?;
        }
        vring.signal_used_queue()
    }
}
