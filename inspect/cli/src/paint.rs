//! Colours, and text that is safe to show.

use inspect::Value;
use std::io::IsTerminal;

/// Tells how text may be written to where it goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Paint {
    terminal: bool,
    colour: bool,
    width: Option<u16>,
}

/// A colour of the terminal, so that its own scheme decides what it looks like.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ink {
    /// What was added, and what may be written.
    Green,
    /// What was removed, and errors.
    Red,
    /// What was changed, and what is read-only.
    Yellow,
    /// Names.
    Blue,
    /// What matters less.
    Dim,
    /// Headings.
    Bold,
}

impl Paint {
    /// Writes no escape codes, and lines as long as they are.
    pub const PLAIN: Self = Self {
        terminal: false,
        colour: false,
        width: None,
    };

    /// Writes colours, and lines as long as they are.
    pub const COLOUR: Self = Self {
        terminal: false,
        colour: true,
        width: None,
    };

    /// Looks at standard output: colours only if it is a terminal, and `NO_COLOR` is unset or empty;
    /// lines as wide as it is.
    #[must_use]
    pub fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        // https://no-color.org: present and not empty means no colour.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            terminal,
            colour: terminal && wanted,
            width: terminal
                .then(|| comfy_table::Table::new().width())
                .flatten(),
        }
    }

    /// Tells whether the text goes to a terminal, on which it can be overwritten.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Tells whether colours may be used.
    #[must_use]
    pub const fn has_colour(self) -> bool {
        self.colour
    }

    /// Returns how many characters a line may have; `None` if any number.
    #[must_use]
    pub const fn width(self) -> Option<u16> {
        self.width
    }

    /// Wraps `text` in a colour, where there are colours.
    #[must_use]
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Green => 32,
            Ink::Red => 31,
            Ink::Yellow => 33,
            Ink::Blue => 34,
            Ink::Dim => 2,
            Ink::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Returns text as trees show it: quoted where it could be taken for something else or would act on
/// a terminal.
pub(crate) fn clean(text: &str) -> String {
    Value::from(text).to_string()
}
