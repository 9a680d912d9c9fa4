//! What can be typed after `cargo xtask`.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about,
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Hold the code to the project's rules: graph, manifests, format, Clippy, docs
    ///
    /// Every step runs, also after one has failed, and a failed one says what mends it.
    /// The exit code is 0 when none failed; a step whose tool is not installed is skipped
    /// and says so.
    Check(CheckArgs),

    /// Run every test (unit, integration, doc, KVM) and count them
    ///
    /// The tests' own output is shown as it comes. The last line is plain and stable:
    /// `312 passed, 0 failed, 1 skipped`. A KVM test that could not run counts as skipped
    /// there, although for cargo it passed. The exit code is 0 when nothing failed.
    ///
    /// What stands after `--` goes to `cargo test`, and after a second `--` to the tests:
    /// `cargo xtask test -- -p region_manager -- --nocapture`.
    Test(TestArgs),

    /// Run the example guest on the whole stack, on KVM where there is one
    ///
    /// Builds guest_memory_manager's `demo` example for release and hands over to it: its
    /// output and its exit code are passed on unchanged.
    Demo(DemoArgs),

    /// Look into a running VMM: its tree, its counters, its memory map
    ///
    /// Builds inspect_cli's `guest-inspect` and hands over to it: its output and its exit code are
    /// passed on unchanged. `cargo xtask inspect --help` is its help.
    #[command(disable_help_flag = true)]
    Inspect(InspectArgs),

    /// Compare speeds, one run of everything side by side, with bars to reach
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Access to guest memory: ours beside a raw access and vm-memory's
    ///
    /// Everything takes turns in one process, in slices of less than a millisecond. Ratios are
    /// medians over pairs of slices, and raw measured against itself (A/A) says how exact they
    /// are: on a busy machine, not very. Takes about a minute. The table stands on stdout, the
    /// progress on stderr.
    ///
    /// The exit code is not 0 where a baseline is implausible, and with --check where a bar is
    /// missed.
    Access(PairsArgs),

    /// Changes of the memory map: ours beside the same system calls made by hand
    ///
    /// Everything takes turns in one process. The own time of a change is what it takes longer than
    /// the calls by hand, a median of the differences within a round; the calls by hand measured
    /// against themselves (A/A) say how exact that is. Each change is measured with 17 regions and
    /// with 30,000 device windows more, and its system calls are listed as ptrace saw them. Where
    /// there is KVM, the whole time on an idle VM is compared, too, without a bar. Takes less than a
    /// minute. The tables stand on stdout, the progress on stderr.
    ///
    /// The exit code is not 0 where the calls by hand differ from themselves, and with --check where
    /// a bar is missed or a change makes other calls than it should.
    Changes(RoundsArgs),

    /// Other processes that follow guest memory: ours beside bytes and descriptors by hand
    ///
    /// A change until 1, 4 and 16 processes have followed it, a hand-over of 1 TiB, and an access that
    /// fetches, each beside the least that it takes between the same processes: a byte there and back,
    /// a descriptor, an mmap. By hand and ours take turns; what ours takes longer is a median of the
    /// differences within a round, and by hand measured against itself (A/A) says how exact that is.
    /// Takes seconds. The table stands on stdout, the progress on stderr.
    ///
    /// The exit code is not 0 where a bar is missed, with --check.
    Processes(RoundsArgs),

    /// Access through vm-memory's traits: the adapter beside vm-memory's own memory
    ///
    /// Everything takes turns in one process, with 1 region and with 1,024. Ratios are medians over pairs
    /// of slices, and GuestMemoryMmap measured against itself (A/A) says how exact they are. A second
    /// table has what an address space adds to a change of memory, with up to 30,000 regions. Takes less
    /// than a minute. The tables stand on stdout, the progress on stderr.
    ///
    /// The exit code is not 0 where the machine is too busy to compare, and with --check where a bar
    /// is missed.
    Adapter(PairsArgs),

    /// Looking at the whole tree of guest memory: ours beside serde_json for a plain structure
    ///
    /// The tree of a guest with 17 regions and of one with 10,000, as text and as JSON, and how long
    /// a change would have waited for it. Takes seconds. The exit code is not 0 where a bar is
    /// missed, with --check.
    Inspect(InspectBenchArgs),
}

/// For comparisons that measure pairs of slices.
#[derive(Args)]
pub(crate) struct PairsArgs {
    /// Fail when a bar is missed
    #[arg(long)]
    pub(crate) check: bool,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Measure only the operations whose name contains this
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,

    /// Take the medians of so many pairs of slices [default: 257]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(40..))]
    pub(crate) pairs: Option<u32>,
}

/// For comparisons that measure rounds in which everybody takes turns.
#[derive(Args)]
pub(crate) struct RoundsArgs {
    /// Fail when a bar is missed
    #[arg(long)]
    pub(crate) check: bool,

    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,

    /// Measure only that whose name contains this
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,

    /// Take the medians of so many rounds [default: 257]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(40..))]
    pub(crate) rounds: Option<u32>,
}

#[derive(Args)]
pub(crate) struct InspectBenchArgs {
    /// Fail when a bar is missed
    #[arg(long)]
    pub(crate) check: bool,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Run only these steps
    #[arg(value_name = "STEP")]
    pub(crate) steps: Vec<StepName>,

    /// Print one JSON document on stdout, and the progress on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

/// The steps of `check`, in the order in which they run: the quick ones first.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StepName {
    /// Every edge between two crates of the workspace is in the table of allowed ones
    Graph,
    /// The lower layers bring no tokio, no KVM and no system calls along
    Purity,
    /// Every manifest takes the workspace's lints; folders are named as their crates
    Manifests,
    /// `forbid(unsafe_code)` stands where it must; no crate switches off a lint
    Sources,
    /// `cargo fmt --check`
    Format,
    /// Clippy on all targets with all features, warnings denied
    Clippy,
    /// Clippy again on each crate that has features, without them
    Features,
    /// `cargo doc`, warnings denied
    Docs,
    /// `cargo deny check` against deny.toml, where cargo-deny is installed
    Deny,
}

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Fail when no KVM test ran, and make one that cannot run fail
    #[arg(long)]
    pub(crate) require_kvm: bool,

    /// Print one JSON document on stdout, and the tests' output on stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Passed on to `cargo test`
    #[arg(last = true, value_name = "CARGO TEST ARGS")]
    pub(crate) cargo_args: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Passed on to the example, for example `--json`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "DEMO ARGS"
    )]
    pub(crate) args: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Passed on to the program, for example `vmm.sock --map`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "INSPECT ARGS"
    )]
    pub(crate) args: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> CommandLine {
        let words = ["cargo xtask"].iter().chain(words);
        CommandLine::try_parse_from(words).expect("parses")
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_reaches_cargo_test_and_the_tests() {
        let Command::Test(args) =
            parse(&["test", "--json", "--", "-p", "x", "--", "--nocapture"]).command
        else {
            panic!("not the test command");
        };
        assert!(args.json && !args.require_kvm);
        assert_eq!(args.cargo_args, ["-p", "x", "--", "--nocapture"]);
    }

    #[test]
    fn demo_passes_flags_on_unread() {
        let Command::Demo(args) = parse(&["demo", "--json", "--seed", "3"]).command else {
            panic!("not the demo command");
        };
        assert_eq!(args.args, ["--json", "--seed", "3"]);
    }

    #[test]
    fn inspect_passes_everything_on_unread() {
        let words = ["--diff", "a.json", "b.json", "--help", "--", "-V"];
        let all = ["inspect"].iter().chain(&words).copied();
        let Command::Inspect(args) = parse(&all.collect::<Vec<_>>()).command else {
            panic!("not the inspect command");
        };
        assert_eq!(args.args, words);
    }

    #[test]
    fn bench_takes_no_fewer_pairs_than_make_a_median() {
        let Command::Bench(BenchCommand::Access(args)) =
            parse(&["bench", "access", "--check", "--pairs", "40"]).command
        else {
            panic!("not the bench command");
        };
        assert!(args.check && !args.json);
        assert_eq!(args.pairs, Some(40));
        let changes = parse(&["bench", "changes", "--json", "--rounds", "40"]).command;
        assert!(matches!(
            changes,
            Command::Bench(BenchCommand::Changes(RoundsArgs {
                json: true,
                rounds: Some(40),
                ..
            }))
        ));
        let inspect = parse(&["bench", "inspect", "--check"]).command;
        assert!(matches!(
            inspect,
            Command::Bench(BenchCommand::Inspect(InspectBenchArgs {
                check: true,
                json: false,
            }))
        ));
        for words in [
            &["access", "--pairs", "39"][..],
            &["inspect", "--rounds", "41"],
            &["changes", "--rounds", "39"],
            &["adapter", "--pairs", "39"],
            &[],
            &["speed"],
        ] {
            let words = ["cargo xtask", "bench"].iter().chain(words);
            assert!(CommandLine::try_parse_from(words).is_err());
        }
    }

    #[test]
    fn check_takes_steps_by_name() {
        let Command::Check(args) = parse(&["check", "graph", "docs"]).command else {
            panic!("not the check command");
        };
        assert_eq!(args.steps, [StepName::Graph, StepName::Docs]);
        assert!(CommandLine::try_parse_from(["cargo xtask", "check", "nonsense"]).is_err());
    }
}
