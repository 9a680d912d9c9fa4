//! What a machine is made from.

use crate::fw_cfg::Entries;
use crate::host_bridge::ShadowRam;
use guest_memory_manager::GuestMemoryManager;
use std::io::Write;
use std::time::Duration;

/// Replaces what carries out PAM writes: tests put mistakes there.
pub type ShadowMaker = Box<dyn FnOnce(&GuestMemoryManager) -> Box<dyn ShadowRam>>;

/// What a machine is made from.
pub struct Settings {
    /// The firmware's image.
    pub bios: Vec<u8>,
    /// RAM in MiB.
    pub mem_mib: u64,
    /// The number of CPUs.
    pub cpus: u8,
    /// What fw_cfg offers besides the number of CPUs.
    pub entries: Entries,
    /// Whether `etc/e820` is offered.
    pub e820: bool,
    /// The text that ends the run.
    pub until: Option<String>,
    /// How long it may take.
    pub limit: Option<Duration>,
    /// Where the firmware's messages go.
    pub out: Box<dyn Write + Send>,
    /// Where PAM writes and dropped writes are told, if anywhere.
    pub trace: Option<Box<dyn Write + Send>>,
    /// What carries out PAM writes; `None`: the manager's visibility control.
    pub shadow: Option<ShadowMaker>,
}

impl Settings {
    /// 64 MiB, one CPU, nothing to wait for, no limit, messages to nowhere.
    pub fn new(bios: Vec<u8>, cpus: u8) -> Self {
        Self {
            bios,
            mem_mib: 64,
            cpus,
            entries: Entries::new(cpus),
            e820: false,
            until: None,
            limit: None,
            out: Box::new(std::io::sink()),
            trace: None,
            shadow: None,
        }
    }
}
