//! A device in a process of its own serves a ring that lies in guest memory, and follows what the
//! guest sees while it serves.
//!
//!     cargo run -p guest_memory_manager --features remote --example device_process
//!
//! The VMM builds guest memory and starts this program again as the device, which connects to it and
//! follows the view: it has memory where the guest has it, read-only where the guest may only
//! read, and nothing where the guest has nothing. Another socket carries notices, one byte each.
//! Requests and data pass through guest memory, which both processes access with the same type and the
//! same checks. The driver's part, which is the guest's in a real machine, is played by the VMM.
//!
//! Between two rounds of requests the VMM makes one buffer read-only, and shows a file of its own in
//! a device window where there was nothing. It waits until the device has followed: from then on the
//! device cannot write to the one, and reads the other.

#![allow(missing_docs, reason = "an example is read, not linked against")]

use guest_memory_manager::{
    AccessError, GuestMemory, GuestMemoryBuilder, MemoryLayout, MemoryRange, RamVisibility,
    RemoteClientOptions, RemoteGrant, RemoteGuestMemory, RemoteOptions, SharedMemory,
};
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The word on the command line that makes this program the device.
const DEVICE: &str = "device";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the ring is: first how many requests were made and how many are served (`u32` each), then
/// the requests, 16 bytes each: address (`u64`), length (`u32`), and an answer (`u32`).
const RING: u64 = 0x1_0000;
const MADE: u64 = RING;
const SERVED: u64 = RING + 4;
const REQUESTS: u64 = RING + 16;
const SLOTS: u32 = 8;
/// The most bytes that the device handles for one request, whatever the driver asks for.
const MOST: u32 = 4096;
/// What the device answers to a request that it cannot serve.
const REFUSED: u32 = u32::MAX;

/// A buffer that is a region of RAM of its own, and a place where there is nothing at first.
const SEGMENT: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);
const GAP: MemoryRange = MemoryRange::new(0x20_0000..0x30_0000);
const FRAME: u64 = 0x1000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn request(number: u32) -> u64 {
    REQUESTS + u64::from(number % SLOTS) * 16
}

/// The device: follows the view, and serves whatever it is notified of.
fn device(path: &Path, mut notices: UnixStream) -> Outcome<()> {
    let options = RemoteClientOptions::new("summing device").deadline(TIMEOUT);
    let remote = RemoteGuestMemory::connect_to(path, options)?;
    let _driver = remote.spawn()?;
    let memory = remote.guest_memory();
    // Says that it is there.
    notices.write_all(&[0])?;
    let mut notice = [0];
    while notices.read(&mut notice)? > 0 {
        serve(&memory)?;
        notices.write_all(&notice)?;
    }
    Ok(())
}

/// Serves every request that has been made. Nothing in the ring is trusted: an address that is no
/// memory is an error of that request, and a count that runs ahead of the ring is the driver's
/// loss.
fn serve(memory: &GuestMemory) -> Result<(), AccessError> {
    let made = memory.read_plain::<u32>(MADE)?;
    let mut served = memory.read_plain::<u32>(SERVED)?;
    for _ in 0..made.wrapping_sub(served).min(SLOTS) {
        let at = request(served);
        let address = memory.read_plain::<u64>(at)?;
        let len = memory.read_plain::<u32>(at + 8)?.min(MOST);
        let sum = sum_and_clear(memory, address, len).unwrap_or_else(|error| {
            println!("device:  request {served} is refused: {error}");
            REFUSED
        });
        memory.write_plain(at + 12, &sum)?;
        served = served.wrapping_add(1);
        memory.write_plain(SERVED, &served)?;
    }
    Ok(())
}

/// What the bytes add up to, which are zero afterwards.
fn sum_and_clear(memory: &GuestMemory, address: u64, len: u32) -> Result<u32, AccessError> {
    let mut bytes = vec![0; len as usize];
    memory.read_at(address, &mut bytes)?;
    memory.fill_at(address, 0, u64::from(len))?;
    Ok(bytes.iter().map(|byte| u32::from(*byte)).sum())
}

/// The guest's driver.
struct Driver {
    memory: GuestMemory,
    notices: UnixStream,
    made: u32,
}

impl Driver {
    /// Asks for the sums of some bytes, and waits for them.
    fn sums(&mut self, asked: &[(u64, u32)]) -> Outcome<()> {
        let first = self.made;
        for (address, len) in asked {
            let at = request(self.made);
            self.memory.write_plain(at, address)?;
            self.memory.write_plain(at + 8, len)?;
            self.made = self.made.wrapping_add(1);
            self.memory.write_plain(MADE, &self.made)?;
        }
        self.notices.write_all(&[1])?;
        self.notices.read_exact(&mut [0])?;
        for (number, (address, len)) in (first..).zip(asked) {
            match self.memory.read_plain::<u32>(request(number) + 12)? {
                REFUSED => println!("driver:  {len:#x} bytes at {address:#x}: refused"),
                sum => println!("driver:  {len:#x} bytes at {address:#x}: sum {sum}"),
            }
        }
        Ok(())
    }
}

/// Starts the device, which is to follow at a path; notices go through its standard input.
fn start_device(path: &Path) -> Outcome<(Device, UnixStream)> {
    let (notices, theirs) = UnixStream::pair()?;
    notices.set_read_timeout(Some(TIMEOUT))?;
    let process = Command::new(env::current_exe()?)
        .arg(DEVICE)
        .arg(path)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok((Device(process), notices))
}

/// The device's process, which does not outlive this.
struct Device(Child);

impl Drop for Device {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The VMM.
fn vmm() -> Outcome<()> {
    let layout = MemoryLayout::new(8 << 20, &[GAP], None)?;
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout)?;
    let server = manager.serve_remote(RemoteOptions::new().deadline(TIMEOUT))?;
    let _driver = server.spawn()?;

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("guest-memory");
    let _socket = server.listen(&path, RemoteGrant::new().name("device"))?;
    let (mut device, mut notices) = start_device(&path)?;
    notices.read_exact(&mut [0])?;
    let process = server.processes().pop().ok_or("the device is gone")?;
    process.wait_ready(TIMEOUT)?;
    let memory = manager.client().guest_memory_now();
    let mut driver = Driver {
        memory: memory.clone(),
        notices,
        made: 0,
    };

    // RAM, a segment that is RAM still, and a place where there is nothing.
    let asked = [
        (0x50_0000, 1000),
        (SEGMENT.start(), 0x100),
        (GAP.start(), 16),
    ];
    memory.fill_at(0x50_0000, 3, 1000)?;
    memory.fill_at(SEGMENT.start(), 1, 0x100)?;
    driver.sums(&asked)?;

    memory.fill_at(0x50_0000, 5, 1000)?;
    memory.fill_at(SEGMENT.start(), 2, 0x100)?;
    let frame = SharedMemory::new("frame", FRAME)?;
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(FRAME, "frame buffer".into())?;
    let mut change = manager.transaction()?;
    change.set_ram_visibility(SEGMENT, RamVisibility::ReadOnly)?;
    change.map(&window, 0, &frame, 0, FRAME, true)?;
    change.map_to_guest(&mut control, GAP.start(), true)?;
    let followed = change.commit_now()?;
    followed.wait_until(Instant::now() + TIMEOUT)?;
    println!(
        "vmm:     the device has followed change {}",
        process.acknowledged()
    );
    memory.fill_at(GAP.start(), 7, 16)?;
    driver.sums(&asked)?;

    // The device ends with the socket.
    drop(driver);
    let status = device.0.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the device ended with {status}").into())
    }
}

fn main() -> Outcome<()> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    match &words[..] {
        [word, path] if word == DEVICE => {
            let notices = std::io::stdin().as_fd().try_clone_to_owned()?;
            device(Path::new(path), notices.into())
        }
        _ => vmm(),
    }
}
