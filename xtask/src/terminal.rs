//! Output for people: lines that stay, and one status line that is overwritten.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The widest status line; longer ones would wrap and could not be erased.
const STATUS_WIDTH: usize = 78;

/// How often the status line may change.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Where a command reports to: stdout, or stderr when stdout carries a JSON document.
///
/// Errors of writing are ignored: a closed pipe (`cargo xtask check | head`) must not
/// change what is checked, nor the exit code.
pub(crate) struct Terminal {
    to_stderr: bool,
    is_terminal: bool,
    colour: bool,
    status_shown: bool,
    last_status: Option<Instant>,
}

#[derive(Copy, Clone)]
pub(crate) enum Colour {
    Green,
    Red,
    Yellow,
    Dim,
}

impl Terminal {
    /// Picks stdout, or stderr when `json` says that stdout is taken.
    pub(crate) fn new(json: bool) -> Self {
        let is_terminal = if json {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        Self {
            to_stderr: json,
            is_terminal,
            // https://no-color.org: present and not empty means no colour.
            colour: is_terminal
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            status_shown: false,
            last_status: None,
        }
    }

    /// Tells whether colours are shown; commands whose output is relayed may then use them too.
    pub(crate) fn has_colour(&self) -> bool {
        self.colour
    }

    /// Tells whether a status line is shown: only on a terminal, never in a log.
    pub(crate) fn has_status(&self) -> bool {
        self.is_terminal
    }

    /// Wraps `text` in a colour, where there are colours.
    pub(crate) fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Dim => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints a line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        self.clear_status();
        self.write(&format!("{text}\n"));
    }

    /// Shows `text` until the next output; does nothing when the last one is too recent.
    pub(crate) fn status(&mut self, text: &str) {
        let now = Instant::now();
        let recent = self
            .last_status
            .is_some_and(|last| now.duration_since(last) < STATUS_INTERVAL);
        if !self.is_terminal || (recent && self.status_shown) {
            return;
        }
        let cut: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(STATUS_WIDTH)
            .collect();
        self.write(&format!("\r\x1b[K{cut}"));
        self.status_shown = true;
        self.last_status = Some(now);
    }

    /// Removes the status line, so that something else can be written there.
    pub(crate) fn clear_status(&mut self) {
        if self.status_shown {
            self.write("\r\x1b[K");
            self.status_shown = false;
        }
    }

    fn write(&self, text: &str) {
        let _ = if self.to_stderr {
            std::io::stderr().write_all(text.as_bytes())
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
    }
}

/// Writes a JSON document, indented, to stdout.
pub(crate) fn print_json(document: &serde_json::Value) {
    // A closed pipe is the reader's decision; the exit code still tells the outcome.
    let _ = writeln!(std::io::stdout(), "{document:#}");
}

/// Removes ANSI escape sequences (`ESC [ ... letter`), as cargo writes them for colours.
pub(crate) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\x1b' {
            plain.push(c);
        } else if chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_removed_and_the_text_kept() {
        assert_eq!(
            without_escapes("test result: \x1b[32mok\x1b[0m. 1 passed"),
            "test result: ok. 1 passed"
        );
        assert_eq!(without_escapes("\x1b[1;31merror\x1b[m"), "error");
        assert_eq!(without_escapes("cut off \x1b[3"), "cut off ");
        assert_eq!(without_escapes("plain [3m]"), "plain [3m]");
    }
}
