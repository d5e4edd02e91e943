//! The admin socket: for the store's owner alone, and unmoved by what it is sent.

use crate::{skip, start};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use world::{Keep, Memory, Mirror, Package, Repo, World, installed, run};

#[test]
fn nobody_but_the_stores_owner_connects_to_the_admin_socket() {
    let (_world, keep) = mirror();
    let socket = socket(&keep);
    let mode =
        |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    keep.refresh().ok();
    if !installed("setpriv") || !rustix::process::geteuid().is_root() {
        skip!("only root can be someone else, with setpriv");
    }
    // The directories on the way may be open; the socket is not.
    for directory in socket.ancestors().skip(1).take(2) {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
            .expect("the directory is ours");
    }
    let ask = |mut command: Command| {
        command.args(["-q", "-sSv", "--max-time", "30", "http://localhost/status"]);
        run(command.arg("--unix-socket").arg(&socket), Duration::from_secs(60))
    };
    ask(Command::new("curl")).ok();
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "curl"]);
    let refused = ask(stranger);
    assert!(
        refused.code != 0 && refused.stderr.contains("Permission denied"),
        "a stranger: {}",
        refused.said()
    );
}

#[test]
fn what_the_admin_socket_can_not_read_changes_nothing_and_it_goes_on() {
    let (_world, mut keep) = mirror();
    let entries = keep.ledger().len();
    let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
    let long = "x".repeat(1 << 20);
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let accept = r#"{"action": "accept", "by": "x", "why": null}"#;
    let memory = Memory::of(keep.pid());
    for (what, request) in [
        ("nothing", String::new()),
        ("noise", "\0\u{1}\u{2}\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\0\u{5}hello".to_owned()),
        ("another method", "DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("no such command", post("/nothing", "{}")),
        ("a way out", post("/history/default/../../../etc/passwd", "{}")),
        ("a repository of dots", post("/history/../x", "{}")),
        ("no commit", post("/history/default/--upload-pack=x", "sha256")),
        ("no divergence", post("/divergences/18446744073709551616", accept)),
        ("a divergence before the first", post("/divergences/-1", accept)),
        ("another entry", post("/divergences/0", accept)),
        ("no JSON", post("/divergences/0", "{")),
        ("deep JSON", post("/recheck", &deep)),
        ("deep JSON of a list", post("/blobs", &deep)),
        ("an unknown field", post("/divergences/0", r#"{"action": "accept", "by": "x", "as": 1}"#)),
        ("a long decision", post("/divergences/0", &long)),
        ("a number too large", post("/recheck", r#"{"about": 1e999}"#)),
        ("no repository", post("/refresh/%2e%2e", "")),
        ("an offer of nowhere", "PUT /offers/md5=0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a bundle that is none", post("/bundle", &long).replacen("POST", "PUT", 1)),
        ("a head without end", format!("GET /status HTTP/1.1\r\nX: {long}\r\n\r\n")),
    ] {
        let mut stream = UnixStream::connect(socket(&keep)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        // It may hang up in the middle.
        let _sent = stream.write_all(request.as_bytes());
        if request.is_empty() {
            stream.shutdown(Shutdown::Write).expect("it listens");
        }
        let mut answer = Vec::new();
        let _cut = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or("none");
        assert!(status == "none" || status.starts_with('4'), "{what}: {answer}");
        assert!(!answer.contains("panicked"), "{what}: {answer}");
    }
    assert!(memory.grown() < 64 << 20, "{} MB", memory.grown() >> 20);
    assert_eq!(keep.ledger().len(), entries);
    keep.refresh().ok();
    keep.run(&["status"]).ok();
}

fn mirror() -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([Package::bare("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

fn socket(keep: &Keep) -> PathBuf {
    keep.store().join("admin.sock")
}

/// Longer than a head may take.
const PATIENCE: Duration = Duration::from_secs(30);
