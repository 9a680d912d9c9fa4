//! The program as a second process: against a live socket, and with saved trees.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use expect_test::{Expect, expect};
use inspect::live::{LiveServer, ServerOptions};
use inspect::{Inspect, Request};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guest-inspect");

/// Shows a little of everything; its counter grows each time that it is asked.
#[derive(Default)]
struct Vmm {
    exits: AtomicU64,
    verbosity: AtomicU64,
}

#[derive(Inspect)]
struct View<'a> {
    #[inspect(hex)]
    base: u64,
    #[inspect(mut)]
    verbosity: &'a AtomicU64,
}

impl Inspect for Vmm {
    fn inspect(&self, req: Request<'_>) {
        let exits = self.exits.fetch_add(1000, Ordering::Relaxed);
        req.respond()
            .counter("exits", exits)
            .field("name", &"a \u{1b}[31m name")
            .child("view", |req| {
                let view = View {
                    base: 0x1000,
                    verbosity: &self.verbosity,
                };
                view.inspect(req);
            });
    }
}

struct Setup {
    _server: LiveServer,
    folder: TempDir,
    socket: PathBuf,
    vmm: Arc<Vmm>,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vmm.sock");
    let vmm = Arc::new(Vmm::default());
    let options = ServerOptions::new().rate(10_000, Duration::ZERO);
    Setup {
        _server: options.serve(&socket, vmm.clone()).unwrap(),
        folder,
        socket,
        vmm,
    }
}

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/trees")
        .join(name)
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_remove("NO_COLOR").env_remove("COMPLETE");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the program, which must succeed without a word on stderr.
fn output(args: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// Runs the program, which must fail without a word on stdout; returns what it says.
fn failure(args: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

fn run(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = command();
    for arg in args {
        command.arg(arg);
    }
    command.output().unwrap()
}

fn check(text: &str, expected: &Expect) {
    assert!(
        !text.contains('\x1b'),
        "no escape codes where there is no terminal"
    );
    expected.assert_eq(text);
}

#[test]
fn the_tree_of_a_running_process() {
    let setup = setup();
    check(
        &output(&[&setup.socket]),
        &expect![[r#"
            exits: 0
            name: "a \u{1b}[31m name"
            view:
              base: 0x1000
              verbosity: 0
        "#]],
    );
    check(
        &output(&[&setup.socket, &"view/base"]),
        &expect![["0x1000\n"]],
    );
    check(
        &output(&[&setup.socket, &"--depth", &"1", &"--json"]),
        &expect![[r#"
            {
              "exits": 2000,
              "name": "a \u001b[31m name",
              "view": {
                "...": null
              }
            }
        "#]],
    );
}

#[test]
fn values_are_changed() {
    let setup = setup();
    let set = output(&[
        &setup.socket,
        &"--set",
        &"view/verbosity=3",
        &"--set",
        &"view/verbosity=4",
    ]);
    check(&set, &expect![["view/verbosity: 3\nview/verbosity: 4\n"]]);
    assert_eq!(setup.vmm.verbosity.load(Ordering::Relaxed), 4);
    let wrong = failure(&[&setup.socket, &"--set", &"view/verbosity=loud"]);
    assert!(
        wrong.contains("`view/verbosity`") && wrong.contains("loud"),
        "{wrong}"
    );
    let wrong = failure(&[&setup.socket, &"--set", &"view/base=1"]);
    check(
        &wrong,
        &expect![["guest-inspect: `view/base` can't be changed\n"]],
    );
    let wrong = failure(&[&setup.socket, &"--set", &"view/verbose=1"]);
    check(
        &wrong,
        &expect![[
            "guest-inspect: nothing stands at `view/verbose`\n  did you mean `view/verbosity`?\n"
        ]],
    );
}

#[test]
fn watching_repeats_until_it_is_enough() {
    let setup = setup();
    let watched = output(&[
        &setup.socket,
        &"exits",
        &"--watch",
        &"0.01",
        &"--times",
        &"3",
    ]);
    check(&watched, &expect![["0\n\n1000\n\n2000\n"]]);
}

#[test]
fn watching_ends_with_the_process() {
    let setup = setup();
    let mut child = command()
        .arg(&setup.socket)
        .args(["exits", "--watch", "0.01"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "0\n");
    drop(setup);
    // Reads on, so that the program does not wait for room in the pipe.
    let rest = std::io::read_to_string(stdout).unwrap();
    assert!(rest.ends_with("000\n") || rest.is_empty());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("closed the connection") || said.contains("failed"),
        "{said}"
    );
}

#[test]
fn rates_are_those_of_counters() {
    let setup = setup();
    let rates = output(&[
        &setup.socket,
        &"--rates",
        &"--watch",
        &"0.05",
        &"--times",
        &"2",
        &"--json",
    ]);
    let documents = serde_json::Deserializer::from_str(&rates).into_iter::<serde_json::Value>();
    let mut count = 0;
    for document in documents {
        let document = document.unwrap();
        // It grew by 1000 in at least 0.05 seconds.
        let rate = document["exits"].as_f64().unwrap();
        assert!(rate > 0.0 && rate <= 20_000.0, "{rate}");
        assert!(document.get("view").is_none());
        count += 1;
    }
    assert_eq!(count, 2);
    let saved = failure(&[&tree("demo.json"), &"--rates"]);
    assert!(saved.contains("stand still"), "{saved}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let setup = setup();
    let mut child = command()
        .arg(&setup.socket)
        .args(["exits", "--watch", "0.01"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn what_is_missing_is_named_and_what_to_do_is_said() {
    let setup = setup();
    let folder = setup.folder.path();
    let said = |args: &[&dyn AsRef<std::ffi::OsStr>]| {
        failure(args).replace(&folder.display().to_string(), "FOLDER")
    };
    check(
        &said(&[&folder.join("vm.sock")]),
        &expect![[r#"
            guest-inspect: there is no socket at `FOLDER/vm.sock`
              sockets in that folder: `vmm.sock`
        "#]],
    );
    drop(std::os::unix::net::UnixListener::bind(folder.join("dead.sock")).unwrap());
    check(
        &said(&[&folder.join("dead.sock")]),
        &expect![[r#"
            guest-inspect: nobody is listening at `FOLDER/dead.sock`
              the VMM that made this socket has ended; the next one at this path replaces it
        "#]],
    );
    check(
        &said(&[&folder]),
        &expect![[r#"
            guest-inspect: `FOLDER` is neither a socket nor a file
              give the socket of a running VMM, or a file saved with --json
        "#]],
    );
    check(
        &said(&[&setup.socket, &"veiw/base"]),
        &expect![[r#"
            guest-inspect: nothing stands at `veiw/base`
              did you mean `view`?
        "#]],
    );
    check(
        &said(&[&setup.socket, &"view/zzz"]),
        &expect![[r#"
            guest-inspect: nothing stands at `view/zzz`
              `view` has `base`, `verbosity`
        "#]],
    );
    fs::write(folder.join("no.json"), "no").unwrap();
    check(
        &said(&[&folder.join("no.json")]),
        &expect![[r#"
            guest-inspect: `FOLDER/no.json` is no JSON: expected ident at line 1 column 2
              save a tree with `guest-inspect SOCKET --json > FILE`
        "#]],
    );
    check(
        &said(&[&setup.socket, &"--map"]),
        &expect![[r#"
            guest-inspect: no memory map in the tree: no directory has both `regions` and `flat_view` (if the tree was saved with a limited depth, save it with more)
              a memory map is drawn from the tree of a guest memory manager; --depth and a path leave parts of it out
        "#]],
    );
}

#[test]
fn saved_trees_are_read_like_live_ones() {
    let counters = output(&[&tree("demo.json"), &"view/counters/changes"]);
    check(&counters, &expect![["11\n"]]);
    let shallow = output(&[&tree("demo.json"), &"layout", &"--depth", &"0"]);
    check(&shallow, &expect![["...\n"]]);
    let missing = failure(&[&tree("demo.json"), &"view/region"]);
    check(
        &missing,
        &expect![[
            "guest-inspect: nothing stands at `view/region`\n  did you mean `view/regions`?\n"
        ]],
    );
    let only_live = failure(&[&tree("demo.json"), &"--set", &"a=1"]);
    assert!(only_live.contains("give the socket"), "{only_live}");
}

#[test]
fn a_live_memory_map_is_drawn_and_compared_with_a_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vmm.sock");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(tree("demo.json")).unwrap()).unwrap();
    let _server = inspect::live::serve(&socket, Replay(json)).unwrap();

    let svg = folder.path().join("map.svg");
    let live = output(&[&socket, &"--map", &"--svg", &svg]);
    assert_eq!(live, output(&[&tree("demo.json"), &"--map"]));
    assert_eq!(live, output(&[&socket, &"view", &"--map"]));
    assert!(!live.contains('\x1b'));
    let saved = output(&[&tree("demo.json"), &"--svg", &"-"]);
    assert_eq!(fs::read_to_string(svg).unwrap(), saved);
    assert!(saved.starts_with("<svg"));

    check(
        &output(&[&"--diff", &tree("demo.json"), &socket]),
        &expect![["no difference between the two memory maps\n"]],
    );
    let diff = output(&[&"--diff", &socket, &tree("demo-after.json")]);
    assert!(
        diff.contains("~ 0xf0000-0x100000            64 KiB  ram 0xf0000-0x100000  rox → rwx"),
        "{diff}"
    );
    let svg = output(&[&"--diff", &socket, &tree("demo-after.json"), &"--svg", &"-"]);
    assert!(svg.starts_with("<svg") && svg.contains("rect class=\"box hue0 changed\""));
}

/// Answers with a tree that was saved.
struct Replay(serde_json::Value);

impl Inspect for Replay {
    fn inspect(&self, req: Request<'_>) {
        answer(&self.0, req);
    }
}

fn answer(json: &serde_json::Value, req: Request<'_>) {
    match json {
        serde_json::Value::Object(children) => {
            let mut response = req.respond();
            for (name, json) in children {
                response.child(name.clone(), |req| answer(json, req));
            }
        }
        serde_json::Value::String(text) => req.value(text.as_str()),
        serde_json::Value::Bool(truth) => req.value(*truth),
        serde_json::Value::Number(number) => req.value(number.as_u64()),
        _ => req.value(None::<u64>),
    }
}

/// What a shell is told when the last word is to be completed.
fn completions(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<String> {
    let mut command = command();
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .args(["--", "guest-inspect"]);
    for word in words {
        command.arg(word);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn paths_are_completed_from_the_running_process() {
    let setup = setup();
    assert_eq!(completions(&[&setup.socket, &"vi"]), ["view/"]);
    assert_eq!(
        completions(&[&setup.socket, &"view/"]),
        ["view/base", "view/verbosity"]
    );
    assert_eq!(
        completions(&[&setup.socket, &"--json", &"view/v"]),
        ["view/verbosity"]
    );
    assert_eq!(
        completions(&[&setup.socket, &"--set", &"view/v"]),
        ["view/verbosity="]
    );
    assert_eq!(completions(&[&setup.socket, &"view/zzz"]), [""; 0]);
    assert_eq!(
        completions(&[&tree("demo.json"), &"view/cou"]),
        ["view/counters/"]
    );
    assert_eq!(completions(&[&"/nonexistent", &"vi"]), [""; 0]);
    assert!(completions(&[&setup.socket, &"--wa"]).contains(&"--watch".to_owned()));
}

#[test]
fn static_completions_know_the_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&[&"--completions", &shell]);
        assert!(script.contains("watch") && script.contains("guest-inspect"));
    }
}
