//! What a firmware can ask for.

use super::directory;
use super::dma;
use std::collections::BTreeMap;

/// Entries with fixed keys.
pub const SIGNATURE: u16 = 0x00;
/// The interface's revision and features.
pub const ID: u16 = 0x01;
/// The number of CPUs that run.
pub const CPU_COUNT: u16 = 0x05;
/// Where the kernel proper is to lie, its size, and its bytes.
pub const KERNEL: [u16; 3] = [0x07, 0x08, 0x11];
/// The same of the command line, which ends with a zero.
pub const COMMAND_LINE: [u16; 3] = [0x13, 0x14, 0x15];
/// The same of the kernel's real-mode part.
pub const SETUP: [u16; 3] = [0x16, 0x17, 0x18];
/// The number of CPUs that there could be.
pub const MAX_CPUS: u16 = 0x0f;
/// The list of files.
pub const DIRECTORY: u16 = 0x19;
/// The key of the first file.
pub const FIRST_FILE: u16 = 0x20;

/// Entries by key, and files by name.
#[derive(Clone, Debug)]
pub struct Entries {
    by_key: BTreeMap<u16, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Entries {
    /// What every guest finds.
    pub fn new(cpus: u8) -> Self {
        let mut entries = Self {
            by_key: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        entries.set(SIGNATURE, b"QEMU".to_vec());
        let features = dma::REVISION | dma::FEATURE;
        entries.set(ID, features.to_le_bytes().to_vec());
        for key in [CPU_COUNT, MAX_CPUS] {
            entries.set(key, u16::from(cpus).to_le_bytes().to_vec());
        }
        entries
    }

    /// Sets an entry with a fixed key.
    pub fn set(&mut self, key: u16, bytes: Vec<u8>) {
        self.by_key.insert(key, bytes);
    }

    /// Adds a file, or replaces it.
    ///
    /// # Errors
    ///
    /// The name is empty, has a NUL, or is longer than 55 bytes.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        if name.is_empty() || name.len() > directory::LONGEST_NAME || name.contains('\0') {
            return Err(format!(
                "{name:?} cannot be the name of a fw_cfg file: it needs 1 to {} bytes, none of \
                 them NUL",
                directory::LONGEST_NAME
            ));
        }
        self.files.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// Whether there is such a file.
    pub fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The bytes of an entry.
    pub fn get(&self, key: u16) -> Option<&[u8]> {
        self.by_key.get(&key).map(Vec::as_slice)
    }

    /// Gives each file its key, by name, and makes the directory.
    pub(super) fn finish(&mut self) {
        let files = std::mem::take(&mut self.files);
        let keyed: Vec<_> = (FIRST_FILE..).zip(files).collect();
        let list = keyed
            .iter()
            .map(|(key, (name, bytes))| (*key, name.as_str(), bytes.len()));
        self.set(DIRECTORY, directory::encode(list));
        for (key, (_, bytes)) in keyed {
            self.set(key, bytes);
        }
    }
}
