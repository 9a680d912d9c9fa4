//! Why the handler is not there.

use std::ffi::c_int;
use std::io;

/// Why the signal handler could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The recovery table in the binary is not what the accesses wrote into it: the linker or a
    /// tool after it has damaged it.
    #[error("the recovery table of this binary is malformed")]
    MalformedTable,
    /// The system refused a handler for that signal.
    #[error("no handler can be set for signal {signal}")]
    Refused {
        /// The signal's number.
        signal: c_int,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
