//! For whoever accesses guest memory.

use crate::error::ClientError;
use crate::shared::Shared;
use mapping_manager::GuestMemory;
use std::fmt;
use std::sync::Arc;

/// Gives access to guest memory.
#[derive(Clone)]
pub struct GuestMemoryClient {
    shared: Arc<Shared>,
}

impl GuestMemoryClient {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The flat view as devices see it, permissions included.
    ///
    /// However often it is called, there is one VA mapper in this process.
    ///
    /// # Errors
    ///
    /// None: the type has no value. Who follows from another process can fail to connect.
    pub async fn guest_memory(&self) -> Result<GuestMemory, ClientError> {
        Ok(self.guest_memory_now())
    }

    /// As [`guest_memory`](Self::guest_memory), for a caller without an executor.
    pub fn guest_memory_now(&self) -> GuestMemory {
        self.shared.mapper.guest_memory()
    }
}

impl fmt::Debug for GuestMemoryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryClient").finish_non_exhaustive()
    }
}
