//! One descriptor for each file, however many regions show it.

use crate::error::NotShown;
use guest_memory_manager::Mappable;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The files of what is shown now. vm-memory wants a `File` of its own.
#[derive(Default)]
pub(crate) struct Descriptors {
    files: HashMap<Mappable, Counted>,
}

struct Counted {
    file: Arc<File>,
    /// By how many pieces of memory it is used.
    uses: usize,
}

impl Descriptors {
    /// The file for one more piece of memory.
    pub(crate) fn take(&mut self, mappable: &Mappable) -> Result<Arc<File>, NotShown> {
        if let Some(counted) = self.files.get_mut(mappable) {
            counted.uses = counted.uses.saturating_add(1);
            return Ok(counted.file.clone());
        }
        #[cfg(test)]
        if crate::injection::fails() {
            return Err(NotShown::Descriptor {
                file: mappable.name().to_owned(),
                source: std::io::Error::from_raw_os_error(nix::libc::EMFILE),
            });
        }
        let descriptor = mappable.as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|source| NotShown::Descriptor {
            file: mappable.name().to_owned(),
            source,
        })?;
        let file = Arc::new(File::from(descriptor));
        let counted = Counted {
            file: file.clone(),
            uses: 1,
        };
        self.files.insert(mappable.clone(), counted);
        Ok(file)
    }

    /// Says that one piece of memory less uses a file. Regions of older snapshots keep it open.
    pub(crate) fn release(&mut self, mappable: &Mappable) {
        if let Some(counted) = self.files.get_mut(mappable) {
            counted.uses = counted.uses.saturating_sub(1);
            if counted.uses == 0 {
                self.files.remove(mappable);
            }
        }
    }
}
