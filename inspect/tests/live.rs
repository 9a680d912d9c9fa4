//! The live socket: what it serves, and what no client can do to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use inspect::live::{
    self, Client, ConnectError, RefusalKind, RequestError, ServeError, ServerOptions,
};
use inspect::{Inspect, MAX_DEPTH, Node, Path, Request, Sensitivity, Style, Value};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[derive(Default, Inspect)]
struct Vmm {
    #[inspect(hex)]
    ram: u64,
    #[inspect(counter)]
    exits: AtomicU64,
    #[inspect(mut)]
    verbosity: AtomicU64,
    #[inspect(sensitive)]
    key: u64,
    #[inspect(rename = "a/b \"\n")]
    odd: Vec<u8>,
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vmm.sock");
    (folder, socket)
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn all(client: &mut Client) -> Result<Node, RequestError> {
    client.get(&Path::ROOT, MAX_DEPTH, Sensitivity::Sensitive)
}

fn refusal(result: Result<impl std::fmt::Debug, RequestError>) -> live::Refusal {
    match result {
        Err(RequestError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits for something that must come, however long a busy machine takes for it.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until the server closes the connection.
fn drain(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // It was closed with something unread in it.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    bytes
}

#[test]
fn the_tree_arrives_as_it_is() {
    let (_folder, socket) = folder();
    let vmm = Arc::new(Vmm {
        ram: 0x1000,
        odd: vec![1, 2],
        ..Vmm::default()
    });
    let server = live::serve(&socket, vmm.clone()).unwrap();
    assert_eq!(server.path(), socket);
    let mut client = Client::connect(&socket).unwrap();
    let seen = client.get(&Path::ROOT, MAX_DEPTH, Sensitivity::Default);
    assert_eq!(seen.unwrap(), inspect::inspect(&*vmm));

    vmm.exits.fetch_add(7, Ordering::Relaxed);
    let exits = client.get(&path("exits"), 0, Sensitivity::Safe);
    assert_eq!(
        refusal(exits).kind(),
        RefusalKind::NotFound,
        "less than what was asked for is not seen"
    );
    let exits = client.get(&path("exits"), 0, Sensitivity::Default).unwrap();
    assert_eq!(exits, Node::Value(Value::Unsigned(7, Style::Counter)));
    let below = client.get(
        &Path::from_names(["a/b \"\n", "1"]).unwrap(),
        1,
        Sensitivity::Default,
    );
    assert_eq!(below.unwrap().as_value().and_then(Value::as_u64), Some(2));
    let shallow = client.get(&Path::ROOT, 1, Sensitivity::Default).unwrap();
    assert_eq!(shallow.child("a/b \"\n"), Some(&Node::Unopened));
}

#[test]
fn the_server_decides_how_much_is_seen() {
    let (_folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    assert!(
        all(&mut Client::connect(&socket).unwrap())
            .unwrap()
            .child("key")
            .is_none()
    );

    let (_folder, socket) = self::folder();
    let options = ServerOptions::new().sensitivity(Sensitivity::Sensitive);
    let _server = options.serve(&socket, Vmm::default()).unwrap();
    assert!(
        all(&mut Client::connect(&socket).unwrap())
            .unwrap()
            .child("key")
            .is_some()
    );
}

#[test]
fn what_allows_it_is_changed_and_nothing_else() {
    let (_folder, socket) = folder();
    let vmm = Arc::new(Vmm::default());
    let _server = live::serve(&socket, vmm.clone()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    let value = client.set(&path("verbosity"), "3").unwrap();
    assert_eq!(value.as_u64(), Some(3));
    assert_eq!(vmm.verbosity.load(Ordering::Relaxed), 3);

    let kinds = [
        ("verbosity", "loud", RefusalKind::InvalidValue),
        ("ram", "3", RefusalKind::ReadOnly),
        ("verbose", "3", RefusalKind::NotFound),
    ];
    for (at, text, kind) in kinds {
        let refusal = refusal(client.set(&path(at), text));
        assert_eq!(refusal.kind(), kind, "{at}");
        assert!(refusal.message().contains(at), "{}", refusal.message());
    }
    assert_eq!(vmm.verbosity.load(Ordering::Relaxed), 3);

    let (_folder, socket) = self::folder();
    let _server = ServerOptions::new()
        .read_only()
        .serve(&socket, vmm.clone())
        .unwrap();
    let mut client = Client::connect(&socket).unwrap();
    let refusal = refusal(client.set(&path("verbosity"), "4"));
    assert_eq!(refusal.kind(), RefusalKind::ReadOnly);
    assert_eq!(vmm.verbosity.load(Ordering::Relaxed), 3);
}

#[test]
fn a_path_that_leads_nowhere_is_told_what_is_there() {
    let (_folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    let refusal = refusal(client.get(&path("rams"), 1, Sensitivity::Default));
    assert_eq!(refusal.kind(), RefusalKind::NotFound);
    assert!(refusal.children().contains(&"ram".to_owned()));
}

/// Has a child that defers its answer and never gives it.
struct Hangs;

impl Inspect for Hangs {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .child("a", |req| std::mem::forget(req.defer()))
            .value("b", 1_u8);
    }
}

#[test]
fn a_child_that_never_answers_hides_nothing() {
    let (_folder, socket) = folder();
    let options = ServerOptions::new().deadline(Duration::from_millis(20));
    let _server = options.serve(&socket, Hangs).unwrap();
    let tree = all(&mut Client::connect(&socket).unwrap()).unwrap();
    assert!(matches!(tree.child("a"), Some(Node::Unresolved(_))));
    assert_eq!(
        tree.child("b")
            .and_then(Node::as_value)
            .and_then(Value::as_u64),
        Some(1)
    );
}

#[test]
fn only_the_user_can_connect() {
    let (_folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn nothing_else_is_left_in_the_folder() {
    let (folder, socket) = folder();
    let server = live::serve(&socket, Vmm::default()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(server);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_leftover_is_replaced() {
    let (folder, socket) = folder();
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    all(&mut Client::connect(&socket).unwrap()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_process_that_listens_is_left_alone() {
    let (folder, socket) = folder();
    let first = live::serve(&socket, Vmm::default()).unwrap();
    let second = live::serve(&socket, Vmm::default());
    assert!(matches!(second, Err(ServeError::InUse { path }) if path == socket));
    all(&mut Client::connect(&socket).unwrap()).unwrap();
    drop(first);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // One that does not accept anything, and whose queue is full, listens too.
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = Vec::new();
    let deaf = fill_queue(&socket, &mut waiting);
    assert!(matches!(
        live::serve(&socket, Vmm::default()),
        Err(ServeError::InUse { .. })
    ));
    drop((listener, deaf));
}

/// Fills the queue of a listener; what is returned keeps it full.
fn fill_queue(socket: &std::path::Path, waiting: &mut Vec<UnixStream>) -> usize {
    // A blocking connect waits for a place in the queue, so each is tried from a thread that may
    // wait; one of them still waiting means that the queue is full.
    for _ in 0..200 {
        let socket = socket.to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = sender.send(UnixStream::connect(socket));
        });
        match receiver.recv_timeout(Duration::from_millis(500)) {
            Ok(stream) => waiting.extend(stream),
            Err(_) => break,
        }
    }
    waiting.len()
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (folder, socket) = folder();
    fs::write(&socket, "precious").unwrap();
    let refused = live::serve(&socket, Vmm::default());
    assert!(matches!(refused, Err(ServeError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_path_that_no_socket_can_have_is_an_error() {
    let (folder, _) = folder();
    for name in ["x".repeat(200), "missing/folder".into()] {
        let refused = live::serve(folder.path().join(name), Vmm::default());
        assert!(matches!(refused, Err(ServeError::Open { .. })));
    }
    assert!(matches!(
        live::serve("/", Vmm::default()),
        Err(ServeError::Open { .. })
    ));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_socket_that_was_replaced_meanwhile_is_not_removed() {
    let (_folder, socket) = folder();
    let first = live::serve(&socket, Vmm::default()).unwrap();
    fs::remove_file(&socket).unwrap();
    let _second = live::serve(&socket, Vmm::default()).unwrap();
    drop(first);
    all(&mut Client::connect(&socket).unwrap()).unwrap();
}

#[test]
fn of_many_that_find_a_leftover_one_gets_its_place() {
    const RACERS: u64 = 4;

    for _ in 0..30 {
        let (_folder, socket) = folder();
        drop(UnixListener::bind(&socket).unwrap());
        let barrier = Arc::new(Barrier::new(usize::try_from(RACERS).unwrap()));
        let racers: Vec<_> = (0..RACERS)
            .map(|ram| {
                let (barrier, socket) = (barrier.clone(), socket.clone());
                thread::spawn(move || {
                    barrier.wait();
                    let vmm = Vmm {
                        ram,
                        ..Vmm::default()
                    };
                    (ram, live::serve(socket, vmm))
                })
            })
            .collect();
        let results: Vec<_> = racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect();
        let winners: Vec<u64> = results
            .iter()
            .filter_map(|(ram, result)| result.as_ref().ok().map(|_| *ram))
            .collect();
        let [winner] = winners.as_slice() else {
            panic!("{} got the place", winners.len());
        };
        let tree = all(&mut Client::connect(&socket).unwrap()).unwrap();
        let ram = tree
            .child("ram")
            .and_then(Node::as_value)
            .and_then(Value::as_u64);
        assert_eq!(
            ram,
            Some(*winner),
            "the name leads to whoever was told that it is his"
        );
    }
}

#[test]
fn who_is_missing_is_named() {
    let (_folder, socket) = folder();
    let nothing = Client::connect(&socket).unwrap_err();
    assert!(
        matches!(nothing, ConnectError::NoSocket { .. }),
        "{nothing}"
    );
    drop(UnixListener::bind(&socket).unwrap());
    let nobody = Client::connect(&socket).unwrap_err();
    assert!(
        matches!(nobody, ConnectError::NobodyListens { .. }),
        "{nobody}"
    );
}

#[test]
fn garbage_is_answered_and_cut_off() {
    let (_folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    let deep = "[".repeat(60_000);
    let messages: [&[u8]; 6] = [
        b"",
        b"\0\xff\xfe",
        b"{",
        b"GET / HTTP/1.1",
        b"{\"version\": 9}",
        deep.as_bytes(),
    ];
    for message in messages {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let length = u32::try_from(message.len()).unwrap();
        stream.write_all(&length.to_le_bytes()).unwrap();
        stream.write_all(message).unwrap();
        let answer = drain(&mut stream);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("bad_request"), "{answer}");
    }
    all(&mut Client::connect(&socket).unwrap()).unwrap();
}

#[test]
fn huge_lengths_are_refused_without_waiting_for_the_rest() {
    let (_folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    for length in [64 * 1024 + 1, u32::MAX] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&length.to_le_bytes()).unwrap();
        let answer = drain(&mut stream);
        assert!(String::from_utf8_lossy(&answer).contains(&length.to_string()));
    }
    all(&mut Client::connect(&socket).unwrap()).unwrap();
}

#[test]
fn a_peer_that_goes_away_in_the_middle_is_forgotten() {
    let (_folder, socket) = folder();
    let server = live::serve(&socket, Vmm::default()).unwrap();
    for part in [&b""[..], b"\x10", b"\x10\0\0\0", b"\x10\0\0\0{\"ver"] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(part).unwrap();
        drop(stream);
    }
    wait_until(|| server.connections() == 0);
    all(&mut Client::connect(&socket).unwrap()).unwrap();
}

#[test]
fn a_client_that_hangs_is_cut_off() {
    let (_folder, socket) = folder();
    let short = Duration::from_millis(50);
    let server = ServerOptions::new()
        .patience(short, short)
        .serve(&socket, Vmm::default())
        .unwrap();
    for part in [&b""[..], b"\x10\0", b"\x10\0\0\0{\"ver"] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(part).unwrap();
        assert_eq!(
            drain(&mut stream),
            b"",
            "the connection is closed, though this end is open"
        );
    }
    wait_until(|| server.connections() == 0);
}

#[test]
fn a_client_that_drips_gets_no_more_time() {
    let (_folder, socket) = folder();
    let patience = Duration::from_millis(100);
    let options = ServerOptions::new().patience(Duration::from_secs(600), patience);
    let server = options.serve(&socket, Vmm::default()).unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&60_000_u32.to_le_bytes()).unwrap();
    // Each byte comes long before a timeout of a single read would pass.
    while stream.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    wait_until(|| server.connections() == 0);
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off() {
    let (_folder, socket) = folder();
    let options = ServerOptions::new()
        .patience(Duration::from_secs(600), Duration::from_millis(50))
        .rate(10_000, Duration::ZERO);
    let asked = Arc::new(AtomicU64::new(0));
    let counts = asked.clone();
    let large = inspect::from_fn(move |req| {
        counts.fetch_add(1, Ordering::Relaxed);
        req.value("x".repeat(4 << 20));
    });
    let server = options.serve(&socket, large).unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    let request = br#"{"version": 1, "get": {"path": ""}}"#;
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_le_bytes()).unwrap();
    stream.write_all(request).unwrap();
    wait_until(|| asked.load(Ordering::Relaxed) == 1);
    wait_until(|| server.connections() == 0);
}

#[test]
fn a_client_that_floods_is_cut_off() {
    let (_folder, socket) = folder();
    let options = ServerOptions::new().rate(3, Duration::MAX);
    let _server = options.serve(&socket, Vmm::default()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    for _ in 0..3 {
        all(&mut client).unwrap();
    }
    assert_eq!(refusal(all(&mut client)).kind(), RefusalKind::Busy);
    assert!(matches!(all(&mut client), Err(RequestError::Closed)));
    // Connecting again does not help: all clients together have no more.
    let mut client = Client::connect(&socket).unwrap();
    assert_eq!(refusal(all(&mut client)).kind(), RefusalKind::Busy);
}

#[test]
fn one_client_too_many_is_turned_away() {
    let (_folder, socket) = folder();
    let server = ServerOptions::new()
        .connections(2)
        .serve(&socket, Vmm::default())
        .unwrap();
    let mut first = Client::connect(&socket).unwrap();
    let mut second = Client::connect(&socket).unwrap();
    all(&mut first).unwrap();
    all(&mut second).unwrap();
    let mut third = Client::connect(&socket).unwrap();
    assert_eq!(refusal(all(&mut third)).kind(), RefusalKind::Busy);
    drop(first);
    wait_until(|| server.connections() == 1);
    all(&mut Client::connect(&socket).unwrap()).unwrap();
    all(&mut second).unwrap();
}

#[test]
fn dropping_the_server_closes_its_connections() {
    let (_folder, socket) = folder();
    let server = live::serve(&socket, Vmm::default()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    all(&mut client).unwrap();
    drop(server);
    assert!(matches!(all(&mut client), Err(RequestError::Closed)));
    assert!(!socket.exists());
}

#[test]
fn an_object_that_panics_ends_one_connection_only() {
    let (_folder, socket) = folder();
    let asked = AtomicU64::new(0);
    let object = inspect::from_fn(move |req| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("a bug in an object, provoked by a test");
        }
        req.value(1_u8);
    });
    let server = live::serve(&socket, object).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    assert!(matches!(all(&mut client), Err(RequestError::Closed)));
    all(&mut Client::connect(&socket).unwrap()).unwrap();
    wait_until(|| server.connections() == 0);
}

#[test]
fn clients_and_changes_go_on_side_by_side() {
    let (_folder, socket) = folder();
    let options = ServerOptions::new().rate(100_000, Duration::ZERO);
    let vmm = Arc::new(Vmm::default());
    let _server = options.serve(&socket, vmm.clone()).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&socket).unwrap();
                let mut last = 0;
                for _ in 0..100 {
                    let tree = all(&mut client).unwrap();
                    let exits = tree.child("exits").and_then(Node::as_value);
                    let exits = exits.and_then(Value::as_u64).unwrap();
                    assert!(exits >= last);
                    last = exits;
                }
            })
        })
        .collect();
    for _ in 0..10_000 {
        vmm.exits.fetch_add(1, Ordering::Relaxed);
    }
    for client in clients {
        client.join().unwrap();
    }
}

/// Runs this test binary again as another user, who then finds the environment variable.
#[test]
fn another_user_is_turned_away() {
    use std::os::unix::process::CommandExt;
    const VARIABLE: &str = "INSPECT_TEST_SOCKET_OF_ANOTHER_USER";

    if let Some(socket) = std::env::var_os(VARIABLE) {
        let mut client = Client::connect(socket).unwrap();
        assert!(matches!(all(&mut client), Err(RequestError::Closed)));
        return;
    }
    let (folder, socket) = folder();
    let _server = live::serve(&socket, Vmm::default()).unwrap();
    // As if somebody had opened it for all: the server itself must refuse.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_user_is_turned_away"])
        .env(VARIABLE, &socket)
        .uid(65534)
        .output();
    match child {
        Ok(output) => assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        // Only root can become somebody else.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: this user can't start a process as another one");
        }
        Err(error) => panic!("{error}"),
    }
}
