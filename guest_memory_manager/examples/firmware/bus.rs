//! Routes the guest's accesses to ports and to memory that is not there.

use crate::cmos::{self, Cmos};
use crate::debug_port::{self, DebugPort};
use crate::exit_port;
use crate::fw_cfg::{self, FwCfg};
use crate::host_bridge::{self, HostBridge};
use crate::outcome::Outcome;
use crate::pam;
use crate::port92::{self, Port92};
use guest_memory_manager::{GuestMemory, RamVisibilityControl};
use std::io::Write;

/// The ports of the host bridge, address and data.
const CONFIG_PORTS: std::ops::RangeInclusive<u16> =
    host_bridge::ADDRESS_PORT..=host_bridge::DATA_PORT + 3;

/// Every device, and guest memory. Only one CPU at a time is here.
pub struct Bus {
    pub debug_port: DebugPort,
    pub cmos: Cmos,
    pub port92: Port92,
    pub fw_cfg: FwCfg,
    pub host_bridge: HostBridge,
    pub memory: GuestMemory,
    pub visibility: RamVisibilityControl,
    pub stores: Stores,
    /// Where each change of PAM and each dropped write is told; `None`: nowhere.
    pub trace: Option<Box<dyn Write + Send>>,
}

/// What became of stores that left the guest.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stores {
    /// Those that were meant for read-only memory, and were dropped.
    pub dropped: u64,
    /// Those that went to RAM that was hidden, or had just been.
    pub to_hidden_ram: u64,
    /// Those to addresses where nothing is.
    pub to_nothing: u64,
}

impl Bus {
    /// Answers a read of a port; all ones where no device is.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) {
        match port {
            cmos::INDEX_PORT..=cmos::DATA_PORT => data.fill_with(|| self.cmos.read(port)),
            port92::PORT => data.fill(self.port92.read()),
            debug_port::PORT => data.fill(debug_port::PRESENT),
            fw_cfg::SELECTOR_PORT..fw_cfg::END_PORT => self.fw_cfg.read(port, data),
            port if CONFIG_PORTS.contains(&port) => self.host_bridge.read(port, data),
            _ => data.fill(0xff),
        }
    }

    /// Takes a write to a port. The error says how the run ends because of it.
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> Result<(), Outcome> {
        match port {
            cmos::INDEX_PORT..=cmos::DATA_PORT => {
                for byte in data {
                    self.cmos.write(port, *byte);
                }
            }
            port92::PORT => {
                for byte in data {
                    self.port92.write(*byte);
                }
            }
            debug_port::PORT => return self.debug_write(data),
            exit_port::PORT => return Err(Outcome::Exit(exit_port::value(data))),
            fw_cfg::SELECTOR_PORT..fw_cfg::END_PORT => self.fw_cfg.write(port, data),
            port if CONFIG_PORTS.contains(&port) => {
                let before = self.host_bridge.pam_writes().len();
                let written = self.host_bridge.write(port, data);
                written.map_err(Outcome::Failed)?;
                self.trace_pam(before);
            }
            _ => {}
        }
        Ok(())
    }

    fn debug_write(&mut self, data: &[u8]) -> Result<(), Outcome> {
        match self.debug_port.write(data) {
            Ok(true) => Err(Outcome::Until),
            Ok(false) => Ok(()),
            Err(failure) => Err(Outcome::Failed(failure)),
        }
    }

    /// Answers a load from where nothing is.
    pub fn memory_read(&self, data: &mut [u8]) {
        data.fill(0xff);
    }

    /// Takes a store to where nothing is, or to memory that the guest may not write.
    pub fn memory_write(&mut self, gpa: u64, data: &[u8]) -> Result<(), Outcome> {
        // RAM that takes writes while ROM is read. The second try is for a store that another CPU
        // overtook by showing the RAM; of RAM that is read-only it is refused.
        if self.visibility.write_hidden_ram(gpa, data).is_ok()
            || self.memory.write_at(gpa, data).is_ok()
        {
            self.stores.to_hidden_ram += 1;
            return Ok(());
        }
        if self.memory.read_at(gpa, &mut [0]).is_err() {
            self.stores.to_nothing += 1;
            return Ok(());
        }
        self.stores.dropped += 1;
        self.tell(|out| writeln!(out, "dropped: {data:02x?} to read-only memory at {gpa:#x}"));
        Ok(())
    }

    /// Tells what PAM writes did, those after the first `before`.
    fn trace_pam(&mut self, before: usize) {
        let Some(out) = &mut self.trace else {
            return;
        };
        for write in &self.host_bridge.pam_writes()[before..] {
            let bytes: Vec<String> = write
                .data
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            // Whoever reads the trace may have gone; that stops no guest.
            let _ = writeln!(
                out,
                "pam: {} at {:#x}: {} segments change",
                bytes.join(" "),
                write.offset,
                write.transitions.len()
            );
            for (segment, from, to) in &write.transitions {
                let _ = writeln!(
                    out,
                    "pam:   {segment} {} -> {}",
                    pam::word(*from),
                    pam::word(*to)
                );
            }
        }
    }

    fn tell(&mut self, line: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
        if let Some(out) = &mut self.trace {
            let _ = line(out);
        }
    }
}
