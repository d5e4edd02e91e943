//! Both sides of the mirror, slowed down on purpose: clients that take half a minute and more for
//! a request, or for reading its answer, and upstreams that never get done.

use crate::start;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use world::http2::{self, DATA, END_HEADERS, HEADERS};
use world::{Keep, Kind, Memory, Mirror, Package, Repo, World, raw};

/// A client: what it sends at first, and then again and again.
type Slow = (&'static str, fn(&raw::Client, &str) -> io::Result<Duration>);

#[test]
fn a_client_that_never_gets_done_is_let_go_of_within_a_minute_or_so() {
    let (_world, mut keep, large) = mirror();
    let path = large.cache_path(Kind::Sha256);
    let clients: [Slow; 11] = [
        ("says nothing", |client, _| dribble(client, b"", b"")),
        ("a head, byte by byte", |client, _| dribble(client, b"GET / HTTP/1.1\r\nX: ", b"x")),
        ("a head, line by line", |client, _| dribble(client, b"GET / HTTP/1.1\r\n", b"X: y\r\n")),
        ("asks once and stays", |client, _| {
            dribble(client, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"")
        }),
        ("a form, byte by byte", |client, _| {
            let head = "POST /login HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n\
                        Content-Length: 1000\r\n\r\n";
            dribble(client, head.as_bytes(), b"x")
        }),
        ("what is refused, in chunks", |client, _| {
            let head = "POST /api/v1/sync HTTP/1.1\r\nHost: localhost\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            dribble(client, head.as_bytes(), b"1\r\nx\r\n")
        }),
        ("reads nothing", |client, path| {
            let client = client.clone().with_little_room();
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            deaf(&client, head.as_bytes())
        }),
        ("takes nothing more of one answer over HTTP/2, and others", |client, path| {
            one_unread(client, path, 1)
        }),
        ("takes nothing of one answer over HTTP/2, and others", |client, path| {
            one_unread(client, path, 0)
        }),
        ("headers of HTTP/2 that do not end", |client, _| {
            // So few frames may follow that they can't be sent one a second.
            dribble_http2(client, &http2::get_and_more_headers(1, "/"), b"")
        }),
        ("a form over HTTP/2, byte by byte", |client, _| {
            let head = [&http2::request("/login")[1..], &http2::field("sec-fetch-site", "none")];
            let head = http2::frame(HEADERS, END_HEADERS, 1, &[&[POST], &*head.concat()].concat());
            dribble_http2(client, &head, &http2::frame(DATA, 0, 1, b"x"))
        }),
    ];
    let client = keep.raw();
    thread::scope(|scope| {
        let running = clients.map(|(what, slow)| {
            let (client, path) = (&client, &path);
            (what, scope.spawn(move || slow(client, path)))
        });
        for (what, slow) in running {
            let took = slow.join().expect("it does not panic");
            let took = took.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(took < LONGEST, "{what}: still there after {took:?}");
            assert!(took > SOONEST, "{what}: refused after {took:?}, and not for its pace");
        }
    });
    let answer = client.get(&path).expect("it answers others");
    assert!(answer.body().expect("a whole body") == large.archive_bytes());
}

#[test]
fn g5_an_upstream_that_never_gets_done_costs_little_and_ends_in_404() {
    let world = World::start();
    let upstreams: [(&str, &[u8], &[u8]); 7] = [
        ("silent", b"", b""),
        ("dribbling", b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        ("headers", b"HTTP/1.1 200 OK\r\n", b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
        ("one-header", b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 4_096]),
        ("continuing", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("trickling", b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b"x"),
        (
            "extensions",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            b"extension-of-a-chunk",
        ),
    ];
    let package = |name: &str| {
        Package::new(name, "1.0").archive(&format!("http://{name}.example/x.tgz"), &[Kind::Sha256])
    };
    let packages = upstreams.map(|(name, ..)| package(name));
    let hello = Package::new("hello", "1.0");
    world.publish(&Repo::new(packages.iter().cloned().chain([hello.clone()])));
    let mut mirror =
        Mirror::of(&world).set("upstream.timeout", "2s").set("upstream.patience", "90s");
    for (name, first, again) in upstreams {
        mirror = mirror.resolve(&format!("{name}.example"), endless(first, again));
    }
    let mut keep = start(&mirror);
    keep.index();
    assert!(keep.curl().get(&hello.cache_path(Kind::Sha256)).is_whole());
    let memory = Memory::of(keep.pid());
    // Longer than any of them may take.
    let client = keep.raw().with_patience(Duration::from_secs(100));
    thread::scope(|scope| {
        for package in &packages {
            let client = &client;
            scope.spawn(move || {
                let begun = Instant::now();
                let answer = client.get(&package.cache_path(Kind::Sha256)).expect("an answer");
                assert_eq!(answer.status, 404, "{}", package.url());
                let reason = answer.header("x-opam-keep-reason").unwrap_or_default();
                // Told by the fetch that failed, not by patience that ran out.
                assert!(!reason.starts_with("fetching"), "{}: {reason}", package.url());
                assert!(begun.elapsed() < Duration::from_secs(80), "{}", package.url());
            });
        }
    });
    assert!(memory.grown() < 64 << 20, "{} MB", memory.grown() >> 20);
    assert!(keep.curl().get(&hello.cache_path(Kind::Sha256)).is_whole());
}

/// Sends `first`, and `again` every second, until the server has had enough; how long that took.
fn dribble(client: &raw::Client, first: &[u8], again: &[u8]) -> io::Result<Duration> {
    let mut connection = client.connect()?;
    let begun = Instant::now();
    // The handshake is done once something was written.
    connection.write(first)?;
    while begun.elapsed() < LONGEST && connection.is_open(EVERY) {
        // When the other side is gone, reading says so.
        let _sent = connection.write(again);
    }
    Ok(begun.elapsed())
}

fn dribble_http2(client: &raw::Client, first: &[u8], again: &[u8]) -> io::Result<Duration> {
    let mut connection = client.http2()?;
    let begun = Instant::now();
    connection.write(first)?;
    while begun.elapsed() < LONGEST && connection.is_open(EVERY) {
        let _sent = connection.write(again);
    }
    Ok(begun.elapsed())
}

/// Asks for a large file without room for it, and then for small ones, which it takes.
fn one_unread(client: &raw::Client, path: &str, room: u32) -> io::Result<Duration> {
    let mut connection = client.http2()?;
    let begun = Instant::now();
    connection.write(&[http2::initial_window(room), http2::get(1, path)].concat())?;
    for stream in (3..).step_by(2) {
        let small = [http2::get(stream, "/livez"), http2::window_update(stream, 1_000)].concat();
        if connection.write(&small).is_err() || connection.stay(EVERY).is_err() {
            break;
        }
        if begun.elapsed() > LONGEST {
            break;
        }
    }
    Ok(begun.elapsed())
}

/// Asks and reads nothing for a while; how long until the rest was cut.
fn deaf(client: &raw::Client, request: &[u8]) -> io::Result<Duration> {
    let mut connection = client.connect()?;
    let begun = Instant::now();
    connection.write(request)?;
    thread::sleep(DEAF);
    // What is under way is read to its end, which comes early.
    let mut rest = 0;
    while connection.is_open(EVERY) {
        rest += 1;
        if rest > 1_000 {
            return Ok(LONGEST);
        }
    }
    Ok(begun.elapsed())
}

/// An upstream that takes every connection and says `first`, then `again` without end, and nothing
/// useful.
fn endless(first: &[u8], again: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (first, again) = (first.to_vec(), again.to_vec());
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (first, again) = (first.clone(), again.clone());
            thread::spawn(move || say(socket, &first, &again));
        }
    });
    address
}

fn say(mut socket: TcpStream, first: &[u8], again: &[u8]) -> io::Result<()> {
    let _read = socket.read(&mut [0; 4_096])?;
    socket.write_all(first)?;
    loop {
        socket.write_all(again)?;
        // One byte at a time is slow; more are as fast as they are taken.
        if again.len() < 2 {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A mirror that has one large archive already.
fn mirror() -> (World, Keep, Package) {
    let bytes: Vec<u8> = (0..SIZE / 4).flat_map(u32::to_le_bytes).collect();
    let package = Package::new("large", "1.0").bytes(bytes, &[Kind::Sha256]);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world).set("upstream.patience", "60s"));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    (world, keep, package)
}

const EVERY: Duration = Duration::from_secs(1);
/// Longer than writing may wait.
const DEAF: Duration = Duration::from_secs(50);
/// Far more than the 70 seconds of the slowest of them, whose body may take half a minute and whose
/// answers to pings are then waited for.
const LONGEST: Duration = Duration::from_secs(150);
const SOONEST: Duration = Duration::from_secs(10);
/// More than sockets take up while their client does not read.
const SIZE: u32 = 40 << 20;
/// A field of HPACK's static table.
const POST: u8 = 0x83;
