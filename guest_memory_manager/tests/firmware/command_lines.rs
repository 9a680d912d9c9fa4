//! The command line, without a machine.

use crate::command_line::Arguments;
use clap::Parser;
use clap::error::ErrorKind;
use std::time::Duration;

fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from([&["firmware"], arguments].concat())
}

#[test]
fn everything_that_can_be_said_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (bios, file) = (path("bios", b"rom"), path("file", b"contents"));
    let kernel = path("kernel", &crate::devices::bz_image(b"kernel"));
    let named = format!("opt/file={file}");
    let arguments = parse(&[
        "--bios",
        &bios,
        "--mem",
        "128",
        "--cpus",
        "2",
        "--fw-cfg",
        &named,
        "--fw-cfg-int",
        "etc/one=0x10",
        "--fw-cfg-int",
        "etc/two=2",
        "--kernel",
        &kernel,
        "--cmdline",
        "quiet",
        "--e820",
        "--until",
        "text",
        "--limit",
        "1.5",
        "--json",
        "out",
        "--trace",
    ]);
    let arguments = arguments.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(arguments.json.as_deref(), Some("out".as_ref()));
    let settings = arguments.settings().unwrap();
    assert_eq!(
        (settings.mem_mib, settings.cpus, settings.e820),
        (128, 2, true)
    );
    assert_eq!(settings.bios, b"rom");
    assert_eq!(settings.until.as_deref(), Some("text"));
    assert_eq!(settings.limit, Some(Duration::from_millis(1500)));
    assert!(settings.trace.is_some());
    for file in [
        "opt/file",
        "etc/one",
        "etc/two",
        "genroms/kernel.rom",
        "bootorder",
    ] {
        assert!(settings.entries.has_file(file), "{file}");
    }
    assert_eq!(settings.entries.get(0x15), Some(&b"quiet\0"[..]));
}

#[test]
fn the_bios_is_all_that_is_needed() {
    let arguments = parse(&["--bios", "/dev/null"]).unwrap_or_else(|error| panic!("{error}"));
    let settings = arguments.settings().unwrap();
    assert_eq!((settings.mem_mib, settings.cpus), (64, 1));
    assert!(settings.until.is_none() && settings.limit.is_none() && settings.trace.is_none());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        &[][..],
        &["--bios"],
        &["--bios", "b", "--mem", "0"],
        &["--bios", "b", "--cpus", "0"],
        &["--bios", "b", "--cpus", "300"],
        &["--bios", "b", "--fw-cfg", "name"],
        &["--bios", "b", "--fw-cfg-int", "=5"],
        &["--bios", "b", "--limit", "-1"],
        &["--bios", "b", "--limit", "soon"],
        &["--bios", "b", "--cmdline", "no kernel"],
        &["--bios", "b", "more"],
    ] {
        assert!(parse(arguments).is_err(), "{arguments:?}");
    }
    let settings = |arguments: &[&str]| {
        let arguments = parse(arguments).unwrap_or_else(|error| panic!("{error}"));
        arguments.settings().map(drop).unwrap_err().to_string()
    };
    assert!(settings(&["--bios", "/nowhere/bios"]).contains("/nowhere/bios"));
    let wrong = settings(&["--bios", "/dev/null", "--fw-cfg-int", "etc/n=many"]);
    assert!(wrong.contains("etc/n") && wrong.contains("many"), "{wrong}");
    let wrong = settings(&["--bios", "/dev/null", "--kernel", "/dev/null"]);
    assert!(
        wrong.contains("/dev/null: ") && wrong.contains("Linux"),
        "{wrong}"
    );
}

#[test]
fn help_tells_the_exit_codes() {
    let Err(error) = parse(&["--help"]) else {
        panic!("--help is no run");
    };
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    let text = error.to_string();
    for part in ["124", "(value << 1) | 1", "--fw-cfg-int", "standard output"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
