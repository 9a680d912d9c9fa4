//! The demo's steps as tests, and proof that the demo notices what goes wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    dead_code,
    reason = "a test may stop at the first surprise, and uses only a part of the demo's modules"
)]

#[path = "../examples/demo/cpu.rs"]
mod cpu;
#[path = "../examples/demo/guest.rs"]
mod guest;
#[cfg(feature = "kvm")]
#[path = "../examples/demo/kvm.rs"]
mod kvm;
#[path = "../examples/demo/memory_map.rs"]
mod memory_map;
#[path = "../examples/demo/report.rs"]
mod report;
#[path = "../examples/demo/scenario.rs"]
mod scenario;
#[path = "../examples/demo/steps.rs"]
mod steps;
#[cfg(feature = "kvm")]
#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod support;
#[path = "../examples/demo/vmm.rs"]
mod vmm;

use guest::Request;
use scenario::{Backend, DemoResult};
use std::io::Write;
use std::process::Command;

fn run(backend: Backend, ignores: Option<Request>) -> DemoResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let demo = scenario::run(backend, ignores, None);
    runtime.block_on(demo).unwrap()
}

fn failed(result: &DemoResult) -> Vec<u8> {
    let failed = result.steps.iter().filter(|step| !step.ok());
    failed.map(|step| step.number).collect()
}

#[track_caller]
fn check_all_steps(backend: Backend) {
    let result = run(backend, None);
    assert_eq!(result.steps.len(), 8);
    assert!(result.ok(), "{}", report::text(&result, None));
}

/// Each request that the VMM forgets makes just the steps fail that depend on it.
#[track_caller]
fn check_forgotten_requests(backend: Backend) {
    for (ignored, expected) in [
        // Step 3 then shows RAM that was never written.
        (Request::ShowRam, vec![2, 3, 7]),
        (Request::ProtectRam, vec![3, 7]),
        (Request::MoveWindow, vec![5, 7]),
    ] {
        let result = run(backend, Some(ignored));
        assert!(!result.ok());
        assert_eq!(failed(&result), expected, "{}", report::text(&result, None));
    }
}

#[test]
fn every_step_is_as_it_must_be_without_a_hypervisor() {
    check_all_steps(Backend::Software);
}

#[test]
fn a_vmm_that_forgets_a_request_is_caught_without_a_hypervisor() {
    check_forgotten_requests(Backend::Software);
}

#[cfg(feature = "kvm")]
#[test]
fn every_step_is_as_it_must_be_on_kvm() {
    if support::kvm_for("every_step_is_as_it_must_be_on_kvm").is_some() {
        check_all_steps(Backend::Kvm);
    }
}

#[cfg(feature = "kvm")]
#[test]
fn a_vmm_that_forgets_a_request_is_caught_on_kvm() {
    if support::kvm_for("a_vmm_that_forgets_a_request_is_caught_on_kvm").is_some() {
        check_forgotten_requests(Backend::Kvm);
    }
}

#[test]
fn the_json_says_the_same_as_the_text() {
    let result = run(Backend::Software, None);
    let json = report::json(&result, Some("chosen"));
    let parsed: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
    assert_eq!(parsed["backend"], "software");
    assert_eq!(parsed["ok"], true);
    assert_eq!(parsed["steps"].as_array().unwrap().len(), 8);
    // The BIOS segment shows RAM, and the ROM lies hidden under it.
    let map = parsed["memory_map"].as_array().unwrap();
    let bios = map
        .iter()
        .find(|row| row["range"] == "0xf0000-0x100000")
        .unwrap();
    assert_eq!(bios["permissions"], "rox");
    assert_eq!(bios["hidden"][0]["region"], "bios");
    assert_eq!(bios["slots"].as_array().unwrap().len(), 3);
    assert!(parsed["inspection"]["view"]["flat_view"]["0xf0000-0x100000"].is_object());

    let text = report::text(&result, Some("chosen"));
    assert!(text.ends_with("demo: ok (software)\n"), "{text}");
    for row in map {
        assert!(text.contains(row["range"].as_str().unwrap()));
    }
}

/// The tree without what is another each time: addresses, process ids, durations.
fn masked(name: &str, node: &inspect::Node) -> inspect::Node {
    use inspect::{Node, Value};
    match (name, node) {
        (_, Node::Directory(children)) => {
            let children = children.iter();
            let children = children.map(|(name, child)| (name.to_owned(), masked(name, child)));
            Node::Directory(children.collect())
        }
        ("base" | "hva", Node::Value(_)) => Node::Value(Value::from("(address)")),
        ("process", Node::Value(_)) => Node::Value(Value::from("(process)")),
        (_, Node::Value(Value::Duration(_))) => Node::Value(Value::from("(duration)")),
        _ => node.clone(),
    }
}

#[test]
fn the_whole_tree_is_as_it_was() {
    let result = run(Backend::Software, None);
    let tree = masked("", &result.tree).to_string();
    expect_test::expect_file!["demo/tree.txt"].assert_eq(&tree);
}

#[test]
fn the_tree_can_be_looked_at_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("demo.sock");
    let demo = scenario::run(Backend::Software, None, Some(&socket));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let result = runtime.block_on(demo).unwrap();
    let mut client = inspect::live::Client::connect(&socket).unwrap();
    let path = "view".parse().unwrap();
    let view = client
        .get(&path, inspect::MAX_DEPTH, inspect::Sensitivity::Default)
        .unwrap();
    let ours = result.tree.child("view").unwrap();
    assert_eq!(masked("", &view), masked("", ours));
    drop(result);
    assert!(!socket.exists());
}

/// The bytes in the example are what an assembler makes of the source beside them.
#[test]
fn the_guest_is_what_its_source_says() {
    let program: Vec<_> = [steps::Runs::Vtl0, steps::Runs::Vtl2]
        .into_iter()
        .flat_map(|runs| steps::program(&steps::steps(), runs))
        .collect();
    let mut source = String::from(".code16\n.intel_syntax noprefix\n");
    for (line, _) in program.iter().flat_map(|one| one.assembly()) {
        source.push_str(&line);
        source.push('\n');
    }
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("guest.o");
    let assembler = Command::new("as")
        .args(["--32", "-o"])
        .arg(&object)
        .stdin(std::process::Stdio::piped())
        .spawn();
    let Ok(mut assembler) = assembler else {
        let _ = writeln!(std::io::stderr(), "not compared: no assembler (`as`) here");
        return;
    };
    let mut stdin = assembler.stdin.take().unwrap();
    stdin.write_all(source.as_bytes()).unwrap();
    drop(stdin);
    assert!(assembler.wait().unwrap().success(), "{source}");
    let flat = dir.path().join("guest.bin");
    let copied = Command::new("objcopy")
        .args(["-O", "binary", "-j", ".text"])
        .args([&object, &flat])
        .status();
    assert!(copied.unwrap().success());
    let assembled = std::fs::read(flat).unwrap();
    let ours = guest::machine_code(&program);
    // The section is padded to its alignment.
    assert_eq!(&assembled[..ours.len()], &ours[..]);
    assert!(assembled.len() - ours.len() < 4);
}
