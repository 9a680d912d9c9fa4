//! A manager at a path.

use crate::fixture::{AMPLE, F_SEGMENT, Fixture, assert_same, in_vtl0};
use guest_memory_manager::{
    ConnectPathError, ListenError, RamVisibility, RemoteClientOptions, RemoteGrant,
    RemoteGuestMemory,
};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

fn options() -> RemoteClientOptions {
    RemoteClientOptions::new("client").deadline(AMPLE)
}

#[test]
fn processes_are_accepted_at_a_path() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
    assert_eq!(socket.path(), path);
    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    let remotes: Vec<_> = (0..3)
        .map(|_| RemoteGuestMemory::connect_to(&path, options()).unwrap())
        .collect();
    let _drivers: Vec<_> = remotes.iter().map(|one| one.spawn().unwrap()).collect();
    for process in fixture.server.processes() {
        process.wait_ready(AMPLE).unwrap();
    }
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    for remote in &remotes {
        assert_same(&fixture.view(), &remote.guest_memory(), in_vtl0);
    }

    drop(socket);
    assert!(!path.exists());
    let error = RemoteGuestMemory::connect_to(&path, options()).unwrap_err();
    assert!(
        matches!(error, ConnectPathError::Socket { .. }),
        "{error:?}"
    );
    // Who is connected stays so.
    fixture.set(F_SEGMENT, RamVisibility::Unmapped);
    for remote in &remotes {
        assert_same(&fixture.view(), &remote.guest_memory(), in_vtl0);
    }
}

#[test]
fn a_path_has_one_listener() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let listen = || fixture.server.listen(&path, RemoteGrant::new());
    let first = listen().unwrap();
    let second = listen().unwrap_err();
    assert!(matches!(second, ListenError::InUse { .. }), "{second:?}");
    assert!(path.exists());
    drop(first);
    drop(listen().unwrap());

    fs::write(&path, b"a file").unwrap();
    let error = listen().unwrap_err();
    assert!(matches!(error, ListenError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"a file");
    fs::remove_file(&path).unwrap();

    let missing = folder.path().join("none/guest");
    let error = fixture
        .server
        .listen(missing, RemoteGrant::new())
        .unwrap_err();
    assert!(matches!(error, ListenError::Open { .. }), "{error:?}");
    let long = folder.path().join("x".repeat(200));
    let error = fixture.server.listen(long, RemoteGrant::new()).unwrap_err();
    assert!(matches!(error, ListenError::Open { .. }), "{error:?}");
}

/// A process that was killed leaves its socket behind; its successor takes the path over. What somebody
/// else has put there meanwhile is not removed.
#[test]
fn a_leftover_is_replaced() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    drop(UnixListener::bind(&path).unwrap());
    let socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    RemoteGuestMemory::connect_to(&path, options()).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"another").unwrap();
    drop(socket);
    assert_eq!(fs::read(&path).unwrap(), b"another");
}

/// Sockets and managers go in any order.
#[test]
fn a_socket_outlives_its_manager() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let fixture = Fixture::new();
    let socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
    drop(fixture);
    assert!(RemoteGuestMemory::connect_to(&path, options()).is_err());
    drop(socket);
    assert!(!path.exists());
}
