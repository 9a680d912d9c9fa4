//! Runs machines for tests.

use crate::kvm::{kvm_for, skip};
use crate::machine::Machine;
use crate::pam;
use crate::run::{Report, run};
use crate::settings::Settings;
use guest_memory_manager::SharedMemoryBacking;
use kvm_ioctls::Kvm;
use sparse_alloc::HostRange;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Debian's package `seabios` has it.
const SEABIOS: &str = "/usr/share/seabios/bios-256k.bin";
/// Far longer than any run takes, on a busy machine, too: one that hangs fails, and does not stop
/// the tests.
const LIMIT: Duration = Duration::from_secs(300);

/// KVM and SeaBIOS. `None`: the test must return at once, and that has been reported.
pub fn seabios_for(test: &str) -> Option<(Kvm, Vec<u8>)> {
    match std::fs::read(SEABIOS) {
        Ok(bios) => Some((kvm_for(test)?, bios)),
        Err(error) => {
            skip(test, &format!("{SEABIOS} cannot be read: {error}"));
            None
        }
    }
}

/// What a run left behind.
pub struct Ran {
    pub report: Report,
    /// What the guest wrote to the debug port.
    pub output: Vec<u8>,
    /// What was traced.
    pub trace: String,
    ram: SharedMemoryBacking,
}

impl Ran {
    /// What the guest wrote, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// What the guest wrote after a text.
    pub fn after(&self, text: &str) -> Option<&[u8]> {
        let mut windows = self.output.windows(text.len());
        let at = windows.position(|window| window == text.as_bytes())?;
        Some(&self.output[at + text.len()..])
    }

    /// RAM's own bytes in a segment, visible or not.
    pub fn ram(&self, segment: usize) -> Vec<u8> {
        let range = pam::segment(segment);
        // The first mebibyte is the first of RAM.
        let view = self.ram.memories()[0].linear_view().clone();
        let host = HostRange::new(view, range.start(), range.len()).unwrap();
        let mut bytes = vec![0; range.len() as usize];
        host.read(0, &mut bytes).unwrap();
        bytes
    }
}

/// Runs a machine to its end.
pub fn run_machine(kvm: &Kvm, mut settings: Settings) -> Ran {
    let (output, trace) = (Shared::default(), Shared::default());
    settings.out = Box::new(output.clone());
    settings.trace = Some(Box::new(trace.clone()));
    settings.limit.get_or_insert(LIMIT);
    let machine = Machine::new(kvm, settings).unwrap();
    let ram = machine.memory.shared_memory_backing();
    let report = run(machine).unwrap();
    Ran {
        report,
        output: output.bytes(),
        trace: String::from_utf8(trace.bytes()).unwrap(),
        ram,
    }
}

/// Settings for a boot of SeaBIOS that asks nobody for a boot menu.
pub fn seabios_settings(bios: Vec<u8>) -> Settings {
    let mut settings = Settings::new(bios, 1);
    settings
        .entries
        .add_file("etc/show-boot-menu", vec![0; 8])
        .unwrap();
    settings
}

/// The sum of double words, as [`Code::sum`](crate::code::Code::sum) makes it.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(4).fold(0_u32, |sum, word| {
        sum.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()))
    })
}

/// Collects what is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
