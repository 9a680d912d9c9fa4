//! Decides what a guest sees at every guest physical address.
//!
//! A [region](RegionSpec) is a named piece of GPA space with a priority. It holds mappings
//! (which part of it shows which part of which backing) and is itself mapped at some GPA or
//! not. Regions may overlap in any way; what is visible is the [flat view](FlatView): at each
//! address the mapped region of the highest priority, and among equals the one created first.
//!
//! A change is made in a [`Transaction`]: any number of edits, one change of the flat view.
//! [`Transaction::commit`] compares the view before with the view after, computes the smallest
//! [`Plan`], and applies it step by step to the [`MappingSink`] (which puts backings at host
//! addresses), to every [`RegionListener`] (who holds slots) and every [`DmaListener`] (who maps
//! for DMA). When a step fails, the steps before it are undone and nothing has changed.
//!
//! A region can be an [alias](Transaction::create_alias) and show a part of another one; and it can
//! be [one slot](RegionSpec::one_slot), however much is mapped in it.
//!
//! ```
//! use memory_range::{Access, MemoryRange};
//! use region_manager::{Execute, MapParams, RegionManager, RegionSpec, VaOp};
//!
//! // A sink that only remembers: planning needs no kernel.
//! let (sink, log) = region_manager::recording_sink();
//! let manager: RegionManager<&'static str> = RegionManager::new(0x10_0000, sink)?;
//!
//! let mut change = manager.transaction()?;
//! let ram = change.create_region(RegionSpec::new("ram", 0x4000, 255))?;
//! change.add_mapping(ram, MemoryRange::new(0..0x4000), "memfd", 0, Access::ReadWrite)?;
//! change.map_region(ram, MapParams::new(0x8000, Access::ReadWrite))?;
//! let plan = change.commit()?;
//!
//! assert_eq!(plan.to_string(), "map 0x8000-0xc000 rw from memfd at 0x0\n\
//!                               add slot 0x8000-0xc000 rwx\n");
//! assert_eq!(log.lock().unwrap().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Neighbours
//!
//! `memory_range` below. Above, a facade implements [`MappingSink`] with a VA mapper, and
//! `partition_mapper` implements [`RegionListener`] with a hypervisor's slots.
//!
//! # What it does not do
//!
//! It holds no pointer, no file descriptor and no hypervisor, and makes no system call: a
//! backing is an opaque handle `B`. It knows one flat view; a VMM with several (one for each
//! trust level, say) makes several managers.

#![forbid(unsafe_code)]

mod borders;
mod call;
mod change_lock;
mod damage;
mod diff;
mod dma;
mod dma_failures;
mod error;
mod inspection;
mod interval_index;
mod journal;
mod ledger;
mod listener;
mod manager;
mod neighbours;
mod overlay;
mod params;
mod plan;
mod reason;
mod recording;
mod region;
mod registration;
mod sink;
mod slab;
mod slots;
mod table;
mod transaction;
mod va_ops;
mod view;

pub use change_lock::LockError;
pub use dma::{DmaFailure, DmaListener, Followed, SubMapping};
pub use error::{AddListenerError, CommitError, EditError, RemoveListenerError, StepFailure};
pub use listener::{ListenerError, ListenerId, RegionListener, SlotChange};
pub use manager::RegionManager;
pub use params::{Execute, MapParams, Permissions};
pub use plan::{Plan, Step};
pub use recording::{RecordedOps, recording_sink};
pub use region::{Mapping, MemoryKind, RegionId, RegionSpec};
pub use sink::{BackingHandle, MappingSink, SinkError};
pub use slots::Slot;
pub use transaction::Transaction;
pub use va_ops::VaOp;
pub use view::{FlatView, Visible};
