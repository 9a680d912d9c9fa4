//! Guest memory of a manager in another process.

use super::slot_taker::PartitionSlots;
use inspect::Inspect;
use mapping_manager::GuestMemory;
use mapping_manager::remote::{
    ClientOptions, ClientThread, ConnectError, ManagerLost, OfferError, ReconnectError,
    RemoteClient,
};
use partition_mapper::PartitionMemoryMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Guest memory of a manager in another process: a VA mapper of this process, which shows what that
/// one's view shows, and follows every change of it.
///
/// [`guest_memory`](Self::guest_memory) is what a device in the manager's own process has: the same
/// type, as fast, with the same errors. What the manager does not grant is a hole.
///
/// Somebody must make the changes: a thread ([`spawn`](Self::spawn)) or a task
/// ([`serve`](Self::serve)). When the manager is gone, what is mapped stays mapped, leases stay valid,
/// and the slots of offered partitions stay; [`reconnect`](Self::reconnect) goes on with its
/// successor. More of it is told by the [client](Self::client) inside.
///
/// A clone is a handle of the same client. [`RemoteServer`](crate::RemoteServer) has an example.
#[derive(Clone)]
pub struct RemoteGuestMemory {
    client: RemoteClient,
}

/// Why a manager at a path was not connected to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectPathError {
    /// Nobody listens at the path, or nobody that lets this user in.
    #[error("nobody can be connected to at {}", .path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there, and the connection did not come about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Somebody listens there, and the client was not connected to it anew.
    #[error(transparent)]
    Reconnect(#[from] ReconnectError),
}

impl RemoteGuestMemory {
    /// Connects by a stream socket whose other end the manager
    /// [accepts](crate::RemoteServer::accept), and waits for the first view, but not longer than the
    /// options' deadline.
    ///
    /// # Errors
    ///
    /// The manager refuses, is none, dies, or is too slow; there is no room for its address space; or
    /// its view cannot be mapped.
    pub fn connect(
        stream: impl Into<OwnedFd>,
        options: ClientOptions,
    ) -> Result<Self, ConnectError> {
        let client = RemoteClient::connect(stream, options)?;
        Ok(Self { client })
    }

    /// As [`connect`](Self::connect), to a manager that [listens](crate::RemoteServer::listen) at a
    /// path.
    ///
    /// # Errors
    ///
    /// Nobody can be connected to there; or as [`connect`](Self::connect).
    pub fn connect_to(
        path: impl AsRef<Path>,
        options: ClientOptions,
    ) -> Result<Self, ConnectPathError> {
        Ok(Self::connect(open(path.as_ref())?, options)?)
    }

    /// Goes on with another manager, which has the same guest memory: the successor of one that died.
    ///
    /// What it shows as the last one did is not touched. Leases stay valid, partitions are offered
    /// again, and slots that stay as they are are not touched, either.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); or the manager's address space has another length.
    pub fn reconnect(&self, stream: impl Into<OwnedFd>) -> Result<(), ReconnectError> {
        self.client.reconnect(stream)
    }

    /// As [`reconnect`](Self::reconnect), to a manager that listens at a path.
    ///
    /// # Errors
    ///
    /// Nobody can be connected to there; or as [`reconnect`](Self::reconnect).
    pub fn reconnect_to(&self, path: impl AsRef<Path>) -> Result<(), ConnectPathError> {
        Ok(self.client.reconnect(open(path.as_ref())?)?)
    }

    /// The view as devices see it.
    pub fn guest_memory(&self) -> GuestMemory {
        self.client.guest_memory()
    }

    /// Offers a partition of this process to the manager, which finds it by `name` and may
    /// [attach](crate::GuestMemoryManager::attach_partition) it. Returns the number by which it is
    /// [taken back](Self::withdraw_partition).
    ///
    /// Its slots are the manager's from then on: as many as it has left now. While a change takes slots
    /// away and gives others in the same place, its vCPUs are stopped, if it can
    /// [stop them](PartitionMemoryMap::barrier). What it cannot take, a
    /// read-only slot for one, ends the connection. They lie in host addresses of this client, and
    /// stay when the manager goes; when the client ends they are taken away before the addresses are
    /// given up, and where that fails the addresses are leaked.
    ///
    /// # Errors
    ///
    /// There is no manager; the client is lazy; it offers as many as it may; or this is called from a
    /// callback of the connection.
    pub fn offer_partition(
        &self,
        name: &str,
        partition: Arc<dyn PartitionMemoryMap>,
    ) -> Result<u32, OfferError> {
        let slots = partition.slot_budget().map(|budget| budget.free());
        let kind = partition.name().to_owned();
        let taker = Box::new(PartitionSlots::new(partition));
        self.client.offer_partition(name, &kind, slots, taker)
    }

    /// Takes a partition back: its slots are taken away, and the manager detaches it.
    ///
    /// # Errors
    ///
    /// There is no such partition; or it has kept a slot, and is taken back all the same.
    pub fn withdraw_partition(&self, partition: u32) -> Result<(), OfferError> {
        self.client.withdraw_partition(partition)
    }

    /// Makes the changes on a thread of its own, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// There can be no thread, or no descriptor to stop it by.
    pub fn spawn(&self) -> io::Result<ClientThread> {
        self.client.spawn()
    }

    /// Makes the changes as a task of a tokio runtime whose I/O is enabled, until there is no manager
    /// any more; says why.
    pub async fn serve(&self) -> ManagerLost {
        self.client.serve().await
    }

    /// The client itself: its state, the changes that it has made, and ways to wait for them.
    pub fn client(&self) -> &RemoteClient {
        &self.client
    }
}

fn open(path: &Path) -> Result<UnixStream, ConnectPathError> {
    UnixStream::connect(path).map_err(|source| ConnectPathError::Socket {
        path: path.to_owned(),
        source,
    })
}

impl Inspect for RemoteGuestMemory {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.client.inspect(req);
    }
}

impl fmt::Debug for RemoteGuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.client, f)
    }
}
