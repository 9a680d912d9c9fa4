//! Other processes that follow guest memory, and being one of them.

mod client;
mod error;
mod forwarder;
mod grant;
mod listener;
mod options;
mod process;
mod remotes;
mod server;
mod slot_taker;
mod socket;

pub use client::{ConnectPathError, RemoteGuestMemory};
pub use error::{AcceptError, ListenError, ProcessWaitError, ServeRemoteError};
pub use grant::RemoteGrant;
pub use options::{ProcessEvent, RemoteOptions};
pub use process::RemoteProcess;
pub(crate) use remotes::Remotes;
pub use server::{RemoteServer, RemoteServerThread};
pub use socket::RemoteSocket;

pub use mapping_manager::remote::{
    ClientOptions as RemoteClientOptions, ClientState, ClientThread, ConnectError, Eviction,
    ManagerLost, OfferError, ReconnectError, RemoteClient, WaitError,
};
