//! Why an answer is missing.

use core::fmt;

/// Says why a place that answers later has not answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unresolved {
    /// The answer had not come by the deadline.
    Late,
    /// Whoever was to answer has dropped the question.
    Dropped,
}

impl Unresolved {
    /// All reasons, for whoever reads them back.
    #[cfg(feature = "json")]
    pub(crate) const ALL: &[Self] = &[Self::Late, Self::Dropped];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "no answer by the deadline",
            Self::Dropped => "dropped without an answer",
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
