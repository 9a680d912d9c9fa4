//! Running cargo: with its output relayed line by line, or handing the terminal over to it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a line is waited for before the caller gets a chance to show that time passes.
const TICK: Duration = Duration::from_millis(100);

/// How long output is still read after cargo has ended. A process that a test left behind
/// may keep the pipe open for ever.
const GRACE: Duration = Duration::from_secs(2);

/// Cargo could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("could not start `{command}`")]
    Start {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("lost sight of `{command}`")]
    Wait {
        command: String,
        #[source]
        source: std::io::Error,
    },
}

/// Names the cargo that runs us, so that a `+toolchain` holds for what we run too.
pub(crate) fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// One cargo command line, with the environment variables it needs.
#[derive(Clone)]
pub(crate) struct Cargo {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    colour: bool,
    folder: PathBuf,
}

/// What is told while a command runs.
pub(crate) enum Progress<'a> {
    /// A line of its output, without the line end; stdout and stderr in the order written.
    Line(&'a str),
    /// Nothing was written for a moment.
    Tick,
}

impl Cargo {
    /// Prepares `cargo <args>` in `folder`.
    pub(crate) fn new<A: Into<OsString>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: cargo_program(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            colour: false,
            folder: folder.to_owned(),
        }
    }

    /// Sets an environment variable for the command.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Asks for coloured output, which cargo leaves out where it writes to a pipe.
    pub(crate) fn coloured(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    /// Writes the command as one would type it, without the folder.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.env {
            let _ = write!(text, "{name}={} ", quoted(value));
        }
        text.push_str("cargo");
        for arg in &self.args {
            let _ = write!(text, " {}", quoted(arg));
        }
        text
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.folder);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if self.colour {
            command.env("CARGO_TERM_COLOR", "always");
        }
        command
    }

    /// Runs the command with this process's own stdin, stdout and stderr.
    pub(crate) fn hand_over(&self) -> Result<ExitStatus, RunError> {
        self.command().status().map_err(|source| RunError::Start {
            command: self.shown(),
            source,
        })
    }

    /// Runs the command and reports every line, and every moment without one.
    ///
    /// stdout and stderr go through one pipe: with two, a test's failure could appear
    /// before the line that says which test binary it belongs to.
    pub(crate) fn relay(
        &self,
        mut report: impl FnMut(Progress<'_>),
    ) -> Result<ExitStatus, RunError> {
        let start = |source| RunError::Start {
            command: self.shown(),
            source,
        };
        let wait = |source| RunError::Wait {
            command: self.shown(),
            source,
        };

        let (reader, writer) = std::io::pipe().map_err(start)?;
        let mut command = self.command();
        command.stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(start)?);
        command.stderr(writer);
        let mut child = command.spawn().map_err(start)?;
        // The command holds the last writing ends on our side; without them gone, the
        // pipe would never end.
        drop(command);

        let lines = read_lines(reader);
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => report(Progress::Line(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => report(Progress::Tick),
            }
            if ended.is_none() {
                ended = child
                    .try_wait()
                    .map_err(wait)?
                    .map(|status| (status, Instant::now()));
            }
            if ended.is_some_and(|(_, at)| at.elapsed() > GRACE) {
                break;
            }
        }
        match ended {
            Some((status, _)) => Ok(status),
            None => child.wait().map_err(wait),
        }
    }
}

/// Reads lines on a thread of its own, so that waiting for one can time out.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        // Bytes, not `lines()`: output that is not UTF-8 must not end the reading.
        while reader
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            let line = String::from_utf8_lossy(&bytes);
            let line = line.strip_suffix('\n').unwrap_or(&line);
            if sender.send(line.to_owned()).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}

/// Puts quotes around a word that a shell would split or interpret.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Cargo {
        let mut cargo = Cargo::new(Path::new("/"), ["-c", script]);
        cargo.program = "sh".into();
        cargo
    }

    fn lines_of(cargo: &Cargo) -> (Vec<String>, ExitStatus) {
        let mut lines = Vec::new();
        let status = cargo
            .relay(|progress| {
                if let Progress::Line(line) = progress {
                    lines.push(line.to_owned());
                }
            })
            .expect("sh runs");
        (lines, status)
    }

    #[test]
    fn both_streams_arrive_in_the_order_written() {
        let (lines, status) = lines_of(&shell("echo a; echo b >&2; echo c; exit 3"));
        assert_eq!(lines, ["a", "b", "c"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_last_line_without_an_end_and_bytes_that_are_not_text_arrive() {
        let (lines, _) = lines_of(&shell(r"printf 'x\377y\nlast'"));
        assert_eq!(lines, ["x\u{fffd}y", "last"]);
    }

    #[test]
    fn a_process_left_behind_does_not_hold_us() {
        // The sleeper inherits the pipe and outlives its parent by far more than the grace.
        let (lines, status) = lines_of(&shell("(sleep 30; echo late) & echo done; exit 0"));
        assert_eq!(lines, ["done"]);
        assert!(status.success());
    }

    #[test]
    fn the_environment_reaches_the_command() {
        let (lines, _) =
            lines_of(&shell(r#"echo "$XTASK_TEST_WORD""#).env("XTASK_TEST_WORD", "here"));
        assert_eq!(lines, ["here"]);
    }

    #[test]
    fn a_program_that_is_missing_is_an_error_that_names_the_command() {
        let mut cargo = Cargo::new(Path::new("/"), ["fmt"]);
        cargo.program = "/nonexistent/cargo".into();
        let error = cargo.hand_over().expect_err("there is no such program");
        assert_eq!(error.to_string(), "could not start `cargo fmt`");
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let cargo = Cargo::new(Path::new("/"), ["doc", "--no-deps", "a b", ""])
            .env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            cargo.shown(),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'a b' ''"
        );
    }
}
