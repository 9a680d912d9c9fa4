//! What can be typed after `guest-inspect`.

use crate::complete;
use clap::{ArgAction, Parser, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCompleter;
use inspect::{Path, Sensitivity, Update};
use std::path::PathBuf;
use std::time::Duration;

/// Look into a running VMM, or into a tree that was saved
///
/// SOURCE is the socket of a VMM, or a file with a tree that was saved by --json. Without further
/// options the tree is shown as text.
#[derive(Debug, Parser)]
#[command(
    name = "guest-inspect",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        guest-inspect vmm.sock view/counters          what stands at a path\n  \
        guest-inspect vmm.sock --rates --watch 1      counters per second, every second\n  \
        guest-inspect vmm.sock --map --svg map.svg    the memory map, as a table and a drawing\n  \
        guest-inspect vmm.sock --json > before.json   save the state, and later see what changed:\n  \
        guest-inspect --diff before.json vmm.sock\n\n\
        Completion of options and of paths in the tree, for bash:\n  \
        source <(COMPLETE=bash guest-inspect)"
)]
pub(crate) struct CommandLine {
    /// The socket of a running VMM, or a file with a saved tree
    #[arg(value_hint = ValueHint::FilePath, required_unless_present_any = ["diff", "completions"])]
    pub(crate) source: Option<PathBuf>,

    /// Show only what stands at this path, such as `view/regions/0`
    #[arg(default_value = "", hide_default_value = true, add = ArgValueCompleter::new(complete::path))]
    pub(crate) path: Path,

    /// Open at most so many levels of directories
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,

    /// Print JSON
    #[arg(long, conflicts_with_all = ["map", "svg", "diff"])]
    pub(crate) json: bool,

    /// Show it again and again, so many seconds apart
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["svg", "diff", "set"])]
    pub(crate) watch: Option<Duration>,

    /// Stop watching after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    pub(crate) times: Option<u64>,

    /// Change a value in the VMM: `PATH=VALUE`; may be given several times
    #[arg(
        long,
        value_name = "PATH=VALUE",
        action = ArgAction::Append,
        conflicts_with_all = ["map", "svg", "rates", "diff"],
        add = ArgValueCompleter::new(complete::assignment)
    )]
    pub(crate) set: Vec<Update>,

    /// Show how fast counters grow, per second
    #[arg(long, conflicts_with_all = ["map", "svg", "diff"])]
    pub(crate) rates: bool,

    /// Draw the memory map as a table
    #[arg(long)]
    pub(crate) map: bool,

    /// Draw the memory map as SVG into a file; `-` is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,

    /// Choose the colours of the drawing
    #[arg(long, value_enum, default_value_t = ThemeName::Auto, requires = "svg")]
    pub(crate) theme: ThemeName,

    /// Show what changed in the memory map between two sources
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_hint = ValueHint::FilePath, conflicts_with = "map")]
    pub(crate) diff: Option<Vec<PathBuf>>,

    /// Choose what is seen: up to what is safe to publish, or what may hold secrets
    #[arg(long, value_enum, default_value_t = Level::Default)]
    pub(crate) sensitivity: Level,

    /// Print a completion script that knows the options, but not the paths of a tree
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub(crate) completions: Option<Shell>,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
pub(crate) enum ThemeName {
    /// As whoever looks at it prefers
    Auto,
    /// Light
    Light,
    /// Dark
    Dark,
}

impl From<ThemeName> for inspect_cli::Theme {
    fn from(name: ThemeName) -> Self {
        match name {
            ThemeName::Auto => Self::Auto,
            ThemeName::Light => Self::Light,
            ThemeName::Dark => Self::Dark,
        }
    }
}

#[derive(Copy, Clone, Debug, ValueEnum)]
pub(crate) enum Level {
    /// What may go into any bug report
    Safe,
    /// What is for whoever runs the VMM
    Default,
    /// What may contain secrets, if the VMM shows it at all
    Sensitive,
}

impl From<Level> for Sensitivity {
    fn from(level: Level) -> Self {
        match level {
            Level::Safe => Self::Safe,
            Level::Default => Self::Default,
            Level::Sensitive => Self::Sensitive,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const DAY: f64 = 24.0 * 60.0 * 60.0;

    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    if !(0.01..=DAY).contains(&seconds) {
        return Err("expected between 0.01 seconds and a day".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn intervals() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        let parse = |words: &[&str]| {
            CommandLine::try_parse_from(["guest-inspect"].iter().chain(words)).is_ok()
        };
        assert!(parse(&["s"]));
        assert!(parse(&[
            "s", "view", "--set", "a=1", "--set", "b=2", "--json"
        ]));
        assert!(parse(&["--diff", "a", "b", "--svg", "-"]));
        assert!(parse(&["s", "--map", "--watch", "1", "--times", "2"]));
        for words in [
            &[][..],
            &["--diff", "a"],
            &["s", "--json", "--map"],
            &["s", "--times", "2"],
            &["s", "--set", "novalue"],
            &["s", "--theme", "dark"],
            &["s", "a\\b"],
        ] {
            assert!(!parse(words), "{words:?}");
        }
    }
}
