//! A device in a process of its own serves a ring that lies in guest memory.
//!
//!     cargo run -p guest_memory_manager --example device_process
//!
//! The VMM builds guest memory, starts this program again as the device, and sends it the memory
//! through a socket. From then on the socket only carries notices, one byte each: requests and data
//! pass through guest memory, which both processes access with the same type and the same checks.
//! The driver's part, which is the guest's in a real machine, is played by the VMM.
//!
//! The device has RAM, at the addresses where the guest has it. It does not follow what the VMM
//! shows or hides later: a device whose ring may lie in memory that comes and goes belongs into
//! the VMM's process.

#![allow(missing_docs, reason = "an example is read, not linked against")]

use guest_memory_manager::{
    AccessError, GuestMemory, GuestMemoryBuilder, MemoryLayout, MemoryRange, SharedMemoryBacking,
};
use std::env;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The word on the command line that makes this program the device.
const DEVICE: &str = "device";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the ring is: first how many requests were made and how many are served (`u32` each), then
/// the requests, 16 bytes each: address (`u64`), length (`u32`), and the sum of the bytes (`u32`),
/// which the device fills in.
const RING: u64 = 0x1_0000;
const MADE: u64 = RING;
const SERVED: u64 = RING + 4;
const REQUESTS: u64 = RING + 16;
const SLOTS: u32 = 8;
/// The most bytes that the device reads for one request, whatever the driver asks for.
const MOST: u32 = 4096;
/// What the device answers to a request that it cannot serve.
const REFUSED: u32 = u32::MAX;

fn layout() -> Result<MemoryLayout, Box<dyn Error>> {
    let gap = MemoryRange::try_new(0x20_0000..0x30_0000)?;
    Ok(MemoryLayout::new(8 << 20, &[gap], None)?)
}

fn request(number: u32) -> u64 {
    REQUESTS + u64::from(number % SLOTS) * 16
}

/// The device: receives memory, and then serves whatever it is notified of.
fn device(mut socket: UnixStream) -> Result<(), Box<dyn Error>> {
    let backing = SharedMemoryBacking::receive(&socket, TIMEOUT)?;
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    let manager = builder.build_now(&layout()?)?;
    let memory = manager.client().guest_memory_now();
    let mut notice = [0];
    while socket.read(&mut notice)? > 0 {
        serve(&memory)?;
        socket.write_all(&notice)?;
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
        let mut bytes = vec![0; len as usize];
        let sum = match memory.read_at(address, &mut bytes) {
            Ok(()) => bytes.iter().map(|byte| u32::from(*byte)).sum(),
            Err(error) => {
                println!("device:  request {served} is refused: {error}");
                REFUSED
            }
        };
        memory.write_plain(at + 12, &sum)?;
        served = served.wrapping_add(1);
        memory.write_plain(SERVED, &served)?;
    }
    Ok(())
}

/// The VMM, and the guest's driver.
fn vmm() -> Result<(), Box<dyn Error>> {
    let builder = GuestMemoryBuilder::new().claim_backing(true);
    let manager = builder.build_now(&layout()?)?;
    let (mut socket, theirs) = UnixStream::pair()?;
    let mut process = Command::new(env::current_exe()?)
        .arg(DEVICE)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    manager.shared_memory_backing().send(&socket, TIMEOUT)?;

    let memory = manager.client().guest_memory_now();
    memory.fill_at(0x50_0000, 3, 1000)?;
    memory.fill_at(0x1f_ff00, 1, 0x100)?;
    // Bytes, bytes up to the gap, and bytes that reach into it.
    let asked: [(u64, u32); 3] = [(0x50_0000, 1000), (0x1f_ff00, 0x100), (0x1f_ff00, 0x101)];
    for (number, (address, len)) in (0..).zip(asked) {
        let at = request(number);
        memory.write_plain(at, &address)?;
        memory.write_plain(at + 8, &len)?;
        memory.write_plain(MADE, &(number + 1))?;
    }
    socket.write_all(&[1])?;
    let mut notice = [0];
    socket.read_exact(&mut notice)?;
    for (number, (address, len)) in (0..).zip(asked) {
        match memory.read_plain::<u32>(request(number) + 12)? {
            REFUSED => println!("driver:  {len:#x} bytes at {address:#x}: refused"),
            sum => println!("driver:  {len:#x} bytes at {address:#x}: sum {sum}"),
        }
    }
    // The device ends with the socket.
    drop(socket);
    let status = process.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the device ended with {status}").into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() != Some(DEVICE) {
        return vmm();
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    match device(UnixStream::from(socket)) {
        // The VMM is gone, and with it everything to be done.
        Err(error) if is_end(&*error) => Ok(()),
        result => result,
    }
}

fn is_end(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
}
