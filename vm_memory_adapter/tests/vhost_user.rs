//! A vhost-user front end hands guest memory to a back end in another process, which reads a ring.

#![cfg(feature = "vhost")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{DmaOptions, RamVisibility};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{GAP, LOW_END, RAM_END, pc, segment, set};
use vhost::VhostBackend;
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueT;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vm_memory_adapter::{
    AccessView, AddressSpace, Ring, RingError, RingLayout, RingPart, SnapshotOptions, VhostTable,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

const SOCKET: &str = "VHOST_USER_TEST_SOCKET";
const VERSION_1: u64 = 1 << 32;
const SIZE: u16 = 8;
const WRITE: u16 = 2;
const NEXT: u16 = 1;

/// A device that answers each request with its bytes, reversed.
struct Reverser {
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
}

impl VhostUserBackendMut for Reverser {
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

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> std::io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        _: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> std::io::Result<()> {
        let memory = self.memory.as_ref().unwrap().memory();
        let mut vring = vrings[0].get_mut();
        while let Some(chain) = vring.get_queue_mut().pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let mut request = Vec::new();
            let mut written = 0;
            for descriptor in chain {
                let len = descriptor.len() as usize;
                if descriptor.is_write_only() {
                    request.reverse();
                    memory
                        .write_slice(&request[..len], descriptor.addr())
                        .unwrap();
                    written += descriptor.len();
                } else {
                    let start = request.len();
                    request.resize(start + len, 0);
                    memory
                        .read_slice(&mut request[start..], descriptor.addr())
                        .unwrap();
                }
            }
            vring
                .get_queue_mut()
                .add_used(&*memory, head, written)
                .unwrap();
        }
        vring.signal_used_queue()
    }
}

/// Not a test of its own: the process of the back end.
#[test]
fn back_end_process() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let backend = Arc::new(Mutex::new(Reverser { memory: None }));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("reverser".into(), backend, memory).unwrap();
    daemon.start_client(&socket).unwrap();
    // Ends with an error when the front end hangs up, as it does.
    let _ = daemon.wait();
}

struct BackEnd(Child);

impl Drop for BackEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_back_end(folder: &Path) -> (UnixStream, BackEnd) {
    let socket = folder.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "back_end_process", "--nocapture"])
        .env(SOCKET, &socket)
        .stdout(std::process::Stdio::null())
        .spawn();
    let back_end = BackEnd(child.unwrap());
    (listener.accept().unwrap().0, back_end)
}

/// Waits for an event, and not for one of a back end that is dead.
fn wait_for(event: &EventFd) {
    let polled = Epoll::new().unwrap();
    let what = EpollEvent::new(EventSet::IN, 0);
    polled
        .ctl(ControlOperation::Add, event.as_raw_fd(), what)
        .unwrap();
    let mut events = [EpollEvent::default()];
    assert_eq!(polled.wait(30_000, &mut events).unwrap(), 1, "no answer");
    event.read().unwrap();
}

/// The driver's side of a split ring, with one request at a time.
struct Driver {
    space: AddressSpace<AccessView>,
    ring: Ring,
    sent: u16,
    kick: EventFd,
    call: EventFd,
}

impl Driver {
    /// Has the device reverse bytes, which lie at `at`, and writes what it answers behind them.
    fn reverse(&mut self, at: u64, bytes: &[u8]) -> Vec<u8> {
        let memory = self.space.memory();
        let len = bytes.len() as u32;
        let answer = at + u64::from(len);
        memory.write_slice(bytes, GuestAddress(at)).unwrap();
        let chain = [
            Descriptor::new(at, len, NEXT, 1),
            Descriptor::new(answer, len, WRITE, 0),
        ];
        for (nth, descriptor) in (0_u64..).zip(chain) {
            let place = GuestAddress(self.ring.descriptors + 16 * nth);
            memory
                .write_obj(RawDescriptor::from(descriptor), place)
                .unwrap();
        }
        let entry = self.ring.driver + 4 + 2 * u64::from(self.sent % SIZE);
        memory.write_obj(0_u16, GuestAddress(entry)).unwrap();
        self.sent += 1;
        let index = GuestAddress(self.ring.driver + 2);
        memory
            .store(self.sent, index, std::sync::atomic::Ordering::Release)
            .unwrap();
        self.kick.write(1).unwrap();
        // A notification may find nothing new: the back end looks at a ring once when it is enabled,
        // and notifies though it found no request.
        let index = GuestAddress(self.ring.device + 2);
        let mut used = self.sent.wrapping_sub(1);
        while used != self.sent {
            wait_for(&self.call);
            let before = used;
            used = memory
                .load(index, std::sync::atomic::Ordering::Acquire)
                .unwrap();
            assert!(
                used == before || used == self.sent,
                "used {used} of {}",
                self.sent
            );
        }
        let mut found = vec![0; bytes.len()];
        memory.read_slice(&mut found, GuestAddress(answer)).unwrap();
        found
    }
}

#[test]
fn a_back_end_in_another_process_serves_a_ring() {
    if std::env::var(SOCKET).is_ok() {
        return;
    }
    let manager = pc();
    let folder = tempfile::tempdir().unwrap();
    let (stream, _back_end) = start_back_end(folder.path());
    // A back end that dies must not stop the test for ever.
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut front_end = Frontend::from_stream(stream, 1);
    front_end.set_owner().unwrap();
    let features = front_end.get_features().unwrap();
    front_end.set_features(features).unwrap();
    let protocol = front_end.get_protocol_features().unwrap();
    front_end.set_protocol_features(protocol).unwrap();
    // So that a change of memory ends when the back end has the new table, not while it may yet read it.
    front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);

    let sent = Arc::new(Mutex::new(Vec::new()));
    let (back_end, counted) = (front_end.clone(), sent.clone());
    let table = VhostTable::attach(&manager, "reverser", 8, DmaOptions::new(), move |regions| {
        counted.lock().unwrap().push(regions.len());
        if !regions.is_empty() {
            back_end.set_mem_table(regions)?;
        }
        Ok(())
    });
    let table = table.unwrap();
    assert_eq!(*sent.lock().unwrap(), [2]);

    let ring = Ring {
        layout: RingLayout::Split,
        size: SIZE,
        event_index: false,
        descriptors: 0x1_0000,
        // One part in the other region.
        driver: GAP.end(),
        device: 0x1_2000,
    };
    let place = table.ring(&ring).unwrap();
    front_end.set_vring_num(0, SIZE).unwrap();
    front_end.set_vring_base(0, 0).unwrap();
    front_end.set_vring_addr(0, &place).unwrap();
    let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
    front_end.set_vring_call(0, &call).unwrap();
    front_end.set_vring_kick(0, &kick).unwrap();
    front_end.set_vring_enable(0, true).unwrap();

    let space = AddressSpace::attach(&manager, "driver", &SnapshotOptions::new()).unwrap();
    let mut driver = Driver {
        space,
        ring,
        sent: 0,
        kick,
        call,
    };
    assert_eq!(driver.reverse(0x2_0000, b"a ring"), b"gnir a");
    assert_eq!(
        driver.reverse(GAP.end() + 0x1000, b"elsewhere"),
        b"erehwesle"
    );

    // It goes on through changes of the table.
    set(&manager, segment(2), RamVisibility::Unmapped);
    assert_eq!(*sent.lock().unwrap(), [2, 3]);
    assert_eq!(
        driver.reverse(segment(3).start(), b"beside it"),
        b"ti ediseb"
    );
    set(&manager, segment(2), RamVisibility::ReadWrite);
    assert_eq!(
        driver.reverse(segment(2).start(), b"and in it"),
        b"ti ni dna"
    );
    assert_eq!(*sent.lock().unwrap(), [2, 3, 2]);

    drop(front_end);
    manager.detach_dma_target(table.id()).unwrap();
    assert_eq!(*sent.lock().unwrap(), [2, 3, 2, 0]);
}

fn split(size: u16) -> Ring {
    Ring {
        layout: RingLayout::Split,
        size,
        event_index: true,
        descriptors: 0x1_0000,
        driver: 0x2_0000,
        device: 0x3_0000,
    }
}

#[test]
fn a_ring_is_checked_from_its_first_to_its_last_byte() {
    let manager = pc();
    let table = VhostTable::attach(&manager, "blk", 8, DmaOptions::new(), |_| Ok(())).unwrap();
    let host = table.regions()[0].userspace_addr;
    let place = table.ring(&split(256)).unwrap();
    assert_eq!(place.desc_table_addr, host + 0x1_0000);
    assert_eq!(place.avail_ring_addr, host + 0x2_0000);
    assert_eq!(place.used_ring_addr, host + 0x3_0000);
    let kernel = table.kernel_ring(&split(256)).unwrap();
    assert_eq!(kernel.desc_table_addr, 0x1_0000);
    assert_eq!(kernel.used_ring_addr, 0x3_0000);

    // Each part may end where its region does, and not a byte later. 6 + 2n and 6 + 8n bytes with
    // the event index.
    for (part, len, alignment) in [
        (RingPart::Descriptors, 256 * 16, 16),
        (RingPart::Driver, 6 + 256 * 2, 2),
        (RingPart::Device, 6 + 256 * 8, 4),
    ] {
        let last = (LOW_END - len) / alignment * alignment;
        for (gpa, fits) in [
            (last, true),
            (last + alignment, false),
            (GAP.start(), false),
        ] {
            let mut ring = split(256);
            match part {
                RingPart::Descriptors => ring.descriptors = gpa,
                RingPart::Driver => ring.driver = gpa,
                RingPart::Device => ring.device = gpa,
            }
            let there = LOW_END.saturating_sub(gpa);
            let expected = RingError::NotContiguous {
                part,
                gpa,
                len,
                there,
            };
            match table.ring(&ring) {
                Ok(_) => assert!(fits, "{part} at {gpa:#x}"),
                Err(error) => {
                    assert!(!fits, "{part} at {gpa:#x}");
                    assert_eq!(error, expected);
                }
            }
        }
    }
    // Without the event index they are two bytes shorter.
    let mut ring = split(256);
    ring.driver = LOW_END - 4 - 512;
    assert!(table.ring(&ring).is_err());
    ring.event_index = false;
    assert!(table.ring(&ring).is_ok());

    // A change in the middle of a ring.
    set(&manager, segment(1), RamVisibility::ReadOnly);
    let mut ring = split(4096);
    ring.descriptors = segment(0).start();
    assert!(matches!(
        table.ring(&ring),
        Err(RingError::NotContiguous {
            part: RingPart::Descriptors,
            there: 0x4000,
            ..
        })
    ));
}

#[test]
fn a_ring_has_a_size_and_an_alignment() {
    let manager = pc();
    let table = VhostTable::attach(&manager, "blk", 8, DmaOptions::new(), |_| Ok(())).unwrap();
    for (layout, size, fits) in [
        (RingLayout::Split, 0, false),
        (RingLayout::Split, 1, true),
        (RingLayout::Split, 3, false),
        (RingLayout::Split, 0x8001, false),
        (RingLayout::Packed, 0, false),
        (RingLayout::Packed, 3, true),
        (RingLayout::Packed, 0x8001, false),
    ] {
        let ring = Ring {
            layout,
            ..split(size)
        };
        assert_eq!(table.ring(&ring).is_ok(), fits, "{layout:?} {size}");
    }
    for (descriptors, driver, device, layout) in [
        (0x1_0008, 0x2_0000, 0x3_0000, RingLayout::Split),
        (0x1_0000, 0x2_0001, 0x3_0000, RingLayout::Split),
        (0x1_0000, 0x2_0000, 0x3_0002, RingLayout::Split),
        (0x1_0000, 0x2_0002, 0x3_0000, RingLayout::Packed),
    ] {
        let ring = Ring {
            layout,
            size: 8,
            event_index: false,
            descriptors,
            driver,
            device,
        };
        assert!(matches!(
            table.ring(&ring),
            Err(RingError::Unaligned { .. })
        ));
    }
    let end = Ring {
        descriptors: u64::MAX - 15,
        ..split(8)
    };
    assert!(matches!(
        table.ring(&end),
        Err(RingError::NotContiguous { there: 0, .. })
    ));
}

#[test]
fn regions_say_where_they_are_and_a_full_table_refuses_the_change() {
    let manager = pc();
    let table = VhostTable::attach(&manager, "blk", 2, DmaOptions::new(), |_| Ok(())).unwrap();
    let regions = table.regions();
    let shape: Vec<_> = regions
        .iter()
        .map(|one| (one.guest_phys_addr, one.memory_size, one.mmap_offset))
        .collect();
    assert_eq!(
        shape,
        [(0, LOW_END, 0), (GAP.end(), RAM_END - GAP.end(), LOW_END)]
    );
    assert_eq!(
        regions[1].userspace_addr - regions[0].userspace_addr,
        GAP.end()
    );
    assert_eq!(regions[0].mmap_handle, regions[1].mmap_handle);
    let control = manager.ram_visibility_control();
    let refused = control.set_ram_visibility_now(segment(0), RamVisibility::Unmapped);
    assert!(refused.is_err());
    assert_eq!(table.regions().len(), 2);
}

/// Kernel vhost asks for regions; an address space of such is what it takes.
#[test]
fn kernel_vhost_takes_the_address_space() {
    fn takes<S: vhost::vhost_kern::PhysicalGuestAddressSpace>(_: &S) {}
    let manager = pc();
    let options = SnapshotOptions::new();
    let space =
        AddressSpace::<vm_memory_adapter::BackendSnapshot>::attach(&manager, "net", &options);
    let space = space.unwrap();
    takes(&space);
    // Where the kernel has it, it takes the table and a ring, too.
    let Ok(net) = vhost::vhost_kern::net::Net::new(space.clone()) else {
        println!("no /dev/vhost-net here");
        return;
    };
    let table = VhostTable::attach(&manager, "net", 64, DmaOptions::new(), |_| Ok(())).unwrap();
    net.set_owner().unwrap();
    net.set_mem_table(&table.regions()).unwrap();
    net.set_vring_num(0, 256).unwrap();
    let ring = table.kernel_ring(&split(256)).unwrap();
    net.set_vring_addr(0, &ring).unwrap();
}
