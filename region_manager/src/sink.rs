//! Who puts backings at host addresses.

use crate::VaOp;
use std::fmt;

/// An opaque handle of something that holds bytes.
///
/// The manager compares handles to learn whether contents change, copies them into plans, and
/// displays them as a name; it never looks inside. Equality must mean *the same bytes, now and later*: two handles of
/// one memfd are equal, two memfds with equal contents are not.
pub trait BackingHandle: Clone + PartialEq + fmt::Debug + fmt::Display + Send + 'static {}

impl<T: Clone + PartialEq + fmt::Debug + fmt::Display + Send + 'static> BackingHandle for T {}

/// The cause for which a sink refused an operation.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Puts backings at the host addresses that belong to guest physical addresses.
///
/// Called under the manager's change lock, like a listener.
pub trait MappingSink<B>: Send {
    /// Carries out one operation.
    ///
    /// # Errors
    ///
    /// What stood in the operation's range stands there still: the manager undoes only the
    /// operations that succeeded.
    fn apply(&mut self, op: &VaOp<B>) -> Result<(), SinkError>;

    /// Carries out one operation that restores an earlier state.
    ///
    /// The same as [`apply`](Self::apply), but the sink may draw on what it holds back for
    /// this purpose (spare VMAs, say), because a failure here leaves the range as it should
    /// not be.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply). The manager reports the range and tries again with the
    /// next change.
    fn undo(&mut self, op: &VaOp<B>) -> Result<(), SinkError>;
}
