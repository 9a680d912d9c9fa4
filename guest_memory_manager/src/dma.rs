//! Those who reach guest memory by themselves: devices that do DMA, vhost, other processes.

mod attach;
mod failure;
mod follower;
mod mapping;
mod memory_table;
mod options;
mod target;

pub use attach::DmaTargetId;
pub use failure::DmaFailure;
pub(crate) use follower::{Follower, Unfinished};
pub use mapping::DmaMapping;
pub use memory_table::{MemoryTable, MemoryTableEntry, TableFull};
pub use options::DmaOptions;
pub use target::{DmaTarget, DmaTargetError};
