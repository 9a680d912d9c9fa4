//! How a run ends.

use std::error::Error;

/// Why the VMM itself cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The text that was waited for appeared.
    Until,
    /// The time was up.
    Limit,
    /// The guest cannot go on; the text says everything that is known about it.
    Stuck(String),
    /// The guest wrote this value to the exit port.
    Exit(u32),
    /// The VMM cannot go on.
    Failed(Failure),
}

impl Outcome {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Until => 0,
            Self::Limit => 124,
            Self::Stuck(_) => 2,
            // What is kept of it, as the process's parent keeps no more.
            Self::Exit(value) => (value.wrapping_shl(1) | 1).to_le_bytes()[0],
            // `EX_SOFTWARE` of sysexits.h: no other outcome has it, since a guest's are odd.
            Self::Failed(_) => 70,
        }
    }

    /// One word for reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Until => "until",
            Self::Limit => "limit",
            Self::Stuck(_) => "stuck",
            Self::Exit(_) => "exit",
            Self::Failed(_) => "failed",
        }
    }
}
