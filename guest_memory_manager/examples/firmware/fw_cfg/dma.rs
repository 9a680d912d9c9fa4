//! Transfers between an entry and guest memory.

use super::FwCfg;
use guest_memory_manager::AccessError;

/// What the DMA address register reads as.
pub const SIGNATURE: &[u8; 8] = b"QEMU CFG";
/// The interface has always this revision bit.
pub const REVISION: u32 = 1;
/// The bit that says that there is DMA.
pub const FEATURE: u32 = 2;

const ERROR: u32 = 1;
const READ: u32 = 2;
const SKIP: u32 = 4;
const SELECT: u32 = 8;
const WRITE: u32 = 16;

/// How much is copied at a time: a guest may ask for 4 GiB, for which the host needs no buffer.
const CHUNK: usize = 64 << 10;

/// Carries out the request at `address`: control, length, address, all big-endian. Control is
/// written back: zero, or the error bit.
pub fn transfer(device: &mut FwCfg, address: u64) {
    let memory = device.memory.clone();
    let Ok(request) = memory.read_plain::<[u8; 16]>(address) else {
        // Where there is no request, there is nowhere to answer.
        return;
    };
    let word = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|index| request[at + index]);
        u32::from_be_bytes(bytes)
    };
    let (control, len) = (word(0), word(4));
    let target = u64::from(word(8)) << 32 | u64::from(word(12));
    if control & SELECT != 0 {
        let [high, low, ..] = control.to_be_bytes();
        device.select(u16::from_be_bytes([high, low]));
    }
    let done = match control & (READ | SKIP | WRITE) {
        // The entries are not the guest's to write.
        bits if bits & WRITE != 0 => Err(()),
        bits if bits & READ != 0 => read(device, target, len).map_err(|_| ()),
        bits if bits & SKIP != 0 => {
            device.offset = device.offset.saturating_add(len as usize);
            Ok(())
        }
        _ => Ok(()),
    };
    let answer = if done.is_ok() { 0 } else { ERROR };
    // A request in memory that cannot be written is not answered.
    let _ = memory.write_plain(address, &answer.to_be_bytes());
}

/// Copies the next `len` bytes of the entry to guest memory, as far as it may be written.
fn read(device: &mut FwCfg, target: u64, len: u32) -> Result<(), AccessError> {
    let memory = device.memory.clone();
    let mut buffer = vec![0; CHUNK.min(len as usize)];
    let (mut at, mut left) = (target, len as usize);
    while left > 0 {
        let part = left.min(CHUNK);
        device.take(&mut buffer[..part]);
        memory.write_at(at, &buffer[..part])?;
        at = at.wrapping_add(part as u64);
        left -= part;
    }
    Ok(())
}
