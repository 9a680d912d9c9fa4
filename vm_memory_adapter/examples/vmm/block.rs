//! A disk in a file, after virtio 1.2, section 5.2.

use std::fs::File;
use std::os::unix::fs::FileExt;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

pub(crate) const SECTOR: u64 = 512;
pub(crate) const READ: u32 = 0;
pub(crate) const WRITE: u32 = 1;
pub(crate) const OK: u8 = 0;
pub(crate) const FAILED: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A buffer of a request.
#[derive(Copy, Clone)]
pub(crate) struct Buffer {
    pub(crate) at: GuestAddress,
    pub(crate) len: u32,
    /// By the device.
    pub(crate) is_writable: bool,
}

impl From<&Descriptor> for Buffer {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            at: descriptor.addr(),
            len: descriptor.len(),
            is_writable: descriptor.is_write_only(),
        }
    }
}

pub(crate) struct Disk {
    file: File,
}

impl Disk {
    pub(crate) fn new(file: File) -> Self {
        Self { file }
    }

    /// Serves a request, and returns how many bytes it has written to guest memory.
    pub(crate) fn serve<M: GuestMemory>(&self, memory: &M, buffers: &[Buffer]) -> u32 {
        let [header, data @ .., status] = buffers else {
            return 0;
        };
        let (byte, written) = match self.transfer(memory, header, data) {
            Ok((byte, written)) => (byte, written),
            Err(_) => (FAILED, 0),
        };
        match status.is_writable && memory.write_obj(byte, status.at).is_ok() {
            true => written + 1,
            false => written,
        }
    }

    fn transfer<M: GuestMemory>(
        &self,
        memory: &M,
        header: &Buffer,
        data: &[Buffer],
    ) -> Result<(u8, u32), Box<dyn std::error::Error>> {
        let kind: u32 = memory.read_obj(header.at)?;
        let sector: u64 = memory.read_obj(GuestAddress(header.at.0 + 8))?;
        let mut at = sector.checked_mul(SECTOR).ok_or("no such sector")?;
        let mut written = 0;
        for buffer in data {
            let mut bytes = vec![0; buffer.len as usize];
            match kind {
                READ if buffer.is_writable => {
                    self.file.read_exact_at(&mut bytes, at)?;
                    memory.write_slice(&bytes, buffer.at)?;
                    written += buffer.len;
                }
                WRITE if !buffer.is_writable => {
                    memory.read_slice(&mut bytes, buffer.at)?;
                    self.file.write_all_at(&bytes, at)?;
                }
                _ => return Ok((UNSUPPORTED, written)),
            }
            at += u64::from(buffer.len);
        }
        Ok((OK, written))
    }
}
