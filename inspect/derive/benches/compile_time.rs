//! What deriving 200 structs of ten fields adds to a build, beside serde's `Serialize`.
//!
//! `cargo bench -p inspect_derive --bench compile_time -- --check` fails where it adds twice as
//! much or more. It writes a package to a temporary folder and builds it over and over, so it takes
//! a minute or two. What counts is processor time of the compiler: other programs don't matter.

#![allow(clippy::expect_used, reason = "a bench may stop at the first surprise")]

use nix::sys::resource::{UsageWho, getrusage};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How many times as much as serde's derive ours may add.
const BAR: f64 = 2.0;

const STRUCTS: usize = 200;

/// The derives that are compared; the first has none.
#[derive(Copy, Clone, PartialEq)]
enum Derive {
    None,
    Inspect,
    Serialize,
}

impl Derive {
    const ALL: [Self; 3] = [Self::None, Self::Inspect, Self::Serialize];

    fn package(self) -> &'static str {
        match self {
            Self::None => "without",
            Self::Inspect => "with_inspect",
            Self::Serialize => "with_serde",
        }
    }

    fn attribute(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Inspect => "#[derive(inspect::Inspect)]",
            Self::Serialize => "#[derive(serde::Serialize)]",
        }
    }

    /// Makes the compiler generate the code of the derived function.
    fn usage(self) -> &'static str {
        match self {
            Self::None => "std::hint::black_box(object);",
            Self::Inspect => "std::hint::black_box(inspect::inspect(object));",
            Self::Serialize => "std::hint::black_box(serde_json::to_string(object).is_ok());",
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    if !has("--bench") {
        // `cargo test --benches` has no use for it.
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_packages(folder.path());

    let mut kept = true;
    println!(
        "{:<26} {:>9} {:>9} {:>9} {:>7}",
        "", "without", "+ inspect", "+ serde", "ratio"
    );
    for (name, words) in [
        ("check", &["check"][..]),
        ("build", &["build"]),
        ("build --release", &["build", "--release"]),
    ] {
        let [none, inspect, serialize] = measure(folder.path(), words);
        let added = |with: Duration| (with.as_secs_f64() - none.as_secs_f64()).max(1e-3);
        let ratio = added(inspect) / added(serialize);
        kept &= ratio < BAR;
        println!(
            "{name:<26} {:>8.2}s {:>8.2}s {:>8.2}s {ratio:>7.2}",
            none.as_secs_f64(),
            added(inspect),
            added(serialize),
        );
    }
    if has("--check") && !kept {
        eprintln!("the derive adds {BAR} times what serde's adds, or more");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Writes a workspace with a package for each derive.
fn write_packages(folder: &Path) {
    let inspect = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let inspect = inspect.parent().expect("the folder of inspect");
    let members: Vec<_> = Derive::ALL
        .map(|derive| format!("{:?}", derive.package()))
        .into();
    write(
        &folder.join("Cargo.toml"),
        &format!(
            "[workspace]\nresolver = \"3\"\nmembers = [{}]\n",
            members.join(", ")
        ),
    );
    // The same versions as in this workspace, so that nothing needs to be fetched.
    let lock = inspect.parent().map(|root| root.join("Cargo.lock"));
    if let Some(lock) = lock.filter(|lock| lock.exists()) {
        fs::copy(lock, folder.join("Cargo.lock")).expect("a copy of the lock file");
    }
    for derive in Derive::ALL {
        let package = folder.join(derive.package());
        fs::create_dir_all(package.join("src")).expect("a folder for the package");
        let manifest = format!(
            "[package]\nname = {:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             inspect = {{ path = {inspect:?} }}\n\
             serde = {{ version = \"1\", features = [\"derive\"] }}\n\
             serde_json = \"1\"\n",
            derive.package(),
        );
        write(&package.join("Cargo.toml"), &manifest);
        write(&package.join("src/main.rs"), &source(derive));
    }
}

fn source(derive: Derive) -> String {
    let mut text = String::new();
    let mut uses = String::new();
    for index in 0..STRUCTS {
        let attribute = derive.attribute();
        writeln!(
            text,
            "{attribute}\npub struct S{index} {{ pub name: String, pub kind: u8, pub gpa: u64, \
             pub len: u64, pub priority: u8, pub mapped: bool, pub writable: Option<bool>, \
             pub backing: Vec<u32>, pub offset: i64, pub ratio: f64 }}\n\
             pub fn show_{index}(object: &S{index}) {{ {} }}",
            derive.usage()
        )
        .expect("a string takes everything");
        writeln!(
            uses,
            "    std::hint::black_box(show_{index} as fn(&S{index}));"
        )
        .expect("a string takes everything");
    }
    format!("{text}\nfn main() {{\n{uses}}}\n")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file in the temporary folder");
}

/// Returns the median time of the last package alone, for each derive.
fn measure(folder: &Path, words: &[&str]) -> [Duration; 3] {
    const ROUNDS: usize = 5;

    let build = |derive: Derive| {
        let main = folder.join(derive.package()).join("src/main.rs");
        write(&main, &source(derive));
        let before = compiler_time();
        let status = Command::new(env!("CARGO"))
            .args(words)
            .args(["--quiet", "--offline", "-p", derive.package()])
            // One thread each, and nothing kept from the build before.
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .env_remove("RUSTFLAGS")
            .current_dir(folder)
            .stdin(Stdio::null())
            .status()
            .expect("cargo runs");
        assert!(
            status.success(),
            "the package of {} builds",
            derive.package()
        );
        compiler_time() - before
    };
    // The dependencies, once.
    for derive in Derive::ALL {
        build(derive);
    }
    let mut times = Derive::ALL.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (derive, times) in Derive::ALL.into_iter().zip(&mut times) {
            times.push(build(derive));
        }
    }
    times.map(|mut times| {
        times.sort();
        times.get(ROUNDS / 2).copied().unwrap_or_default()
    })
}

/// Returns the processor time of all child processes so far.
fn compiler_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("every process has this");
    let time = |value: nix::sys::time::TimeVal| {
        let micros = u64::try_from(value.tv_usec()).unwrap_or_default();
        Duration::from_secs(u64::try_from(value.tv_sec()).unwrap_or_default())
            + Duration::from_micros(micros)
    };
    time(usage.user_time()) + time(usage.system_time())
}
