//! Clients that keep connections busy, or open, for nothing: they are let go of, cost little, and
//! keep nobody else from being served.
//!
//! After the handshake, a silent, a dribbling or a deaf client is borne for half a minute and more:
//! `slow` waits for that.

use crate::abandoned::hard_to_compare;
use crate::{BINARY, start};
use std::fs::Permissions;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};
use world::http2::Frame;
use world::{Curl, Keep, Kind, Memory, Mirror, Package, Repo, World, http2, raw, within};

#[test]
fn a_client_that_does_not_get_done_with_tls_is_let_go_of() {
    let (_world, mut keep, _) = kept(|mirror| mirror);
    let address = keep.address("https");
    let dribble = [&TLS_RECORD[..], &[0; 30]].concat();
    let clients = [Vec::new(), dribble].map(|bytes| {
        thread::spawn(move || {
            let mut socket = TcpStream::connect(address).expect("it listens");
            socket.set_read_timeout(Some(DRIBBLE)).expect("a socket has a timeout");
            let begun = Instant::now();
            let mut bytes = bytes.iter();
            while begun.elapsed() < PATIENCE && is_open(&mut socket) {
                if let Some(byte) = bytes.next() {
                    // When the other side is gone, reading says so.
                    let _sent = socket.write(&[*byte]);
                }
            }
            begun.elapsed()
        })
    });
    for client in clients {
        let took = client.join().expect("a client does not panic");
        assert!(took < PATIENCE, "still connected after {took:?}");
        assert!(took > DRIBBLE * 5, "what it sent was refused after {took:?}, not its pace");
    }
}

#[test]
fn a_client_that_asked_for_nothing_yet_holds_up_no_stop() {
    let (_world, mut keep, _) = kept(|mirror| mirror);
    let address = keep.address("https");
    let clients = [&[][..], &TLS_RECORD].map(|bytes| {
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.write_all(bytes).expect("it reads");
        socket
    });
    // Whoever connects later is served, so these two were accepted.
    assert!(keep.curl().get("/repo").is_whole());
    let begun = Instant::now();
    keep.stop();
    // It would have waited twice as long for them to get done with TLS.
    assert!(begun.elapsed() < PATIENCE / 4, "it waited for {clients:?}");
}

#[test]
fn connections_of_one_address_past_the_cap_are_closed_and_no_others() {
    let (_world, mut keep, package) =
        kept(|mirror| mirror.set("server.max_connections_per_address", 3));
    past_the_cap_connections_are_closed(&mut keep, &package, true);
}

#[test]
fn connections_past_the_cap_are_closed_whoever_they_come_from() {
    let (_world, mut keep, package) = kept(|mirror| mirror.set("server.max_connections", 3));
    past_the_cap_connections_are_closed(&mut keep, &package, false);
}

#[test]
fn connections_leave_files_for_what_is_fetched_and_kept() {
    let (kept, missing) = (Package::new("kept", "1.0"), Package::new("missing", "1.0"));
    let world = World::start();
    world.publish(&Repo::new([kept.clone(), missing.clone()]));
    // It may have so few files open.
    let directory = tempfile::tempdir().expect("a directory can be made");
    let limited = directory.path().join("limited");
    let script = format!("#!/bin/sh\nulimit -n 100\nexec '{BINARY}' \"$@\"\n");
    std::fs::write(&limited, script).expect("a file can be written");
    let mode = Permissions::from_mode(0o755);
    std::fs::set_permissions(&limited, mode).expect("a file has a mode");
    let mut keep = Keep::start(limited.to_str().expect("a path is text"), &Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&path(&kept)).is_whole());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let before = keep.raw().connect().and_then(|it| it.send(&get("/livez")));
    let (_, before) = before.and_then(raw::Answer::finish).expect("an answer");
    let address = keep.address("https");
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(address)).collect();
    thread::sleep(Duration::from_secs(1));
    let answer = before.send(&get(&path(&missing))).expect("an answer");
    assert_eq!((answer.status, answer.header("x-opam-keep-reason")), (200, None));
    assert_eq!(answer.body().expect("a whole body"), missing.archive_bytes());
    drop(idle);
    let told = keep.logged();
    let count = |text: &str| {
        let lines = told.iter().filter_map(|line| line["message"].as_str());
        lines.filter(|message| message.contains(text)).count()
    };
    assert_eq!(count("the limit of open files is too low"), 1, "{told:#?}");
    assert!(count("can't be accepted") <= 1, "{told:#?}");
}

#[test]
fn a_client_that_resets_streams_as_it_opens_them_is_told_to_go_away() {
    let (_world, mut keep, package) = kept(|mirror| mirror);
    let path = path(&package);
    let resets: Vec<u8> = (0..100)
        .flat_map(|n| [http2::get(2 * n + 1, "/"), http2::reset(2 * n + 1)])
        .flatten()
        .collect();
    let client = keep.raw();
    let memory = Memory::of(keep.pid());
    let flood = thread::spawn(move || {
        for _ in 0..100 {
            let mut connection = client.http2().expect("it listens");
            connection.write(&resets).expect("it reads");
            assert_eq!(connection.go_away().expect("a GOAWAY"), ENHANCE_YOUR_CALM);
        }
    });
    others_are_served(&keep.curl(), &path, &package);
    flood.join().expect("it went away each time");
    assert!(memory.grown() < LITTLE, "memory grew by {}", memory.grown());
}

#[test]
fn a_client_that_has_the_server_reset_streams_is_told_to_go_away() {
    let (_world, mut keep, package) = kept(|mirror| mirror);
    let client = keep.raw();
    let memory = Memory::of(keep.pid());
    // A request, and more room for its answer than there can be: the server resets the stream.
    let wrong = |stream| [http2::get(stream, "/"), http2::window_update(stream, (1 << 31) - 1)];
    let mut connection = client.http2().expect("it listens");
    // One at a time, so that all of it is read before the end and its code arrives.
    let over = (0..20_000).find_map(|n| {
        connection.write(&wrong(2 * n + 1).concat()).expect("it reads");
        loop {
            match connection.frame().expect("it goes on") {
                Frame::GoAway(code) => return Some(code),
                Frame::Reset(_) => return None,
                Frame::Head(..) | Frame::Data(..) | Frame::Other(_) => {}
            }
        }
    });
    assert_eq!(over, Some(ENHANCE_YOUR_CALM));
    assert!(memory.grown() < LITTLE, "memory grew by {}", memory.grown());
    others_are_served(&keep.curl(), &path(&package), &package);
}

#[test]
fn headers_that_unpack_to_a_thousand_times_their_size_are_refused() {
    let (_world, mut keep, package) = kept(|mirror| mirror);
    let client = keep.raw();
    let memory = Memory::of(keep.pid());
    // One long field for the table, and then its number in there again and again: 47 MB.
    let field = [&[0x40], &*http2::text("name"), &*http2::text(&"x".repeat(3_900))].concat();
    let bomb = [&http2::request("/livez"), &field, &[0xbe; 12_000][..]].concat();
    let whole = http2::END_STREAM | http2::END_HEADERS;
    for _ in 0..5 {
        let mut connection = client.http2().expect("it listens");
        connection.write(&http2::frame(http2::HEADERS, whole, 1, &bomb)).expect("it reads");
        assert_eq!(connection.go_away().expect("a GOAWAY"), ENHANCE_YOUR_CALM);
    }
    assert!(memory.grown() < LITTLE, "memory grew by {}", memory.grown());
    others_are_served(&keep.curl(), &path(&package), &package);
}

#[test]
fn headers_without_end_over_http_2_are_cut_off() {
    let (_world, mut keep, package) = kept(|mirror| mirror);
    let client = keep.raw();
    let memory = Memory::of(keep.pid());
    let mut connection = client.http2().expect("it listens");
    connection.write(&http2::get_and_more_headers(1, "/")).expect("it reads");
    let header = http2::one_more_header(1, "name", &"x".repeat(200));
    let sent = pour(&mut connection, &header);
    assert!(sent < LITTLE, "it took {sent} bytes of headers");
    assert!(memory.grown() < LITTLE, "memory grew by {}", memory.grown());
    others_are_served(&keep.curl(), &path(&package), &package);
}

#[test]
fn files_over_http2_that_nobody_takes_cost_little() {
    let (world, mut keep, _) = kept(|mirror| mirror);
    let large = Package::new("large", "1.0").bytes(vec![7; 1 << 20], &[Kind::Sha256]);
    world.publish(&Repo::new([large.clone()]));
    keep.refresh().ok();
    assert!(keep.curl().get(&path(&large)).is_whole());
    let memory = Memory::of(keep.pid());
    let asked: Vec<u8> = (0..60).flat_map(|n| http2::get(2 * n + 1, &path(&large))).collect();
    let asked = [http2::initial_window(1), asked].concat();
    let connections: Vec<_> = (0..40)
        .map(|_| {
            let mut connection = keep.raw().http2().expect("it listens");
            connection.write(&asked).expect("it reads");
            connection.stay(Duration::from_millis(200)).expect("it goes on");
            connection
        })
        .collect();
    // Eight chunks of 16 KiB by connection, and what 2,400 streams and 40 connections are.
    assert!(memory.grown() < 48 << 20, "memory grew by {}", memory.grown());
    let files = std::fs::read_dir(format!("/proc/{}/fd", keep.pid())).expect("it runs").count();
    assert!(files < 40 * (1 + 8) + 200, "{files} files are open");
    others_are_served(&keep.curl(), &path(&large), &large);
    drop(connections);
}

#[test]
fn answers_over_http2_that_are_made_for_one_and_not_taken_cost_little() {
    let (_world, mut keep, id) = hard_to_compare();
    let (client, path) = (keep.raw(), format!("/api/v1/divergences/{id}"));
    let whole = client.get(&path).expect("an answer").body().expect("a whole body").len();
    assert!(whole > 200_000, "{whole} bytes are few");
    let memory = Memory::of(keep.pid());
    let asked: Vec<u8> = (0..60).flat_map(|n| http2::get(2 * n + 1, &path)).collect();
    let asked = [http2::initial_window(0), asked].concat();
    let mut connections: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = client.http2().expect("it listens");
            connection.write(&asked).expect("it reads");
            connection.stay(Duration::from_millis(200)).expect("it goes on");
            connection
        })
        .collect();
    // A few of them by connection, and not all that were asked for: those are over 200 MB.
    assert!(memory.grown() < 64 << 20, "memory grew by {}", memory.grown());
    assert_eq!(client.get("/divergences").expect("an answer").status, 200);

    let mut connection = connections.pop().expect("there are twenty");
    let room = [http2::initial_window(1 << 20), http2::window_update(0, 1 << 30)].concat();
    connection.write(&room).expect("it reads");
    let (mut left, mut taken) = (60, 0);
    while left > 0 {
        match connection.frame().expect("it goes on") {
            Frame::Data(bytes, is_last) => {
                taken += bytes.len();
                left -= usize::from(is_last);
            }
            Frame::Head(..) | Frame::Other(_) => {}
            over => panic!("{over:?}, with {left} answers left"),
        }
    }
    assert_eq!(taken, 60 * whole, "whoever takes them gets all of them");
}

#[test]
fn pings_whose_answers_nobody_reads_cost_little() {
    unread_answers_cost_little(&http2::ping());
}

#[test]
fn settings_whose_acknowledgements_nobody_reads_cost_little() {
    unread_answers_cost_little(&http2::settings());
}

/// With three connections permitted, and whether another address has three of its own.
fn past_the_cap_connections_are_closed(keep: &mut Keep, package: &Package, elsewhere: bool) {
    let (client, curl, path) = (keep.raw(), keep.curl(), path(package));
    // Those that asked for the index may take a moment to go.
    let mut open: Vec<_> = (0..3)
        .map(|_| within(PATIENCE, "a place", || asked_again(client.connect().ok()?, &path).ok()))
        .collect();
    for _ in 0..10 {
        let begun = Instant::now();
        assert!(client.get(&path).is_err(), "a fourth connection was served");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let other = curl.with(&["--interface", "127.0.0.2"], &path);
    assert_eq!(other.is_whole(), elsewhere, "{other:?}");

    open = open
        .into_iter()
        .map(|connection| asked_again(connection, &path).expect("it goes on"))
        .collect();
    open.pop();
    within(PATIENCE, "the place that was given back", || client.get(&path).ok());
}

/// Sends the same frame again and again, and reads nothing of what that causes.
fn unread_answers_cost_little(frame: &[u8]) {
    let (_world, mut keep, package) = kept(|mirror| mirror);
    let client = keep.raw().with_little_room();
    let memory = Memory::of(keep.pid());
    let mut connection = client.http2().expect("it listens");
    let frame = frame.to_vec();
    let flood = thread::spawn(move || {
        let sent = pour(&mut connection, &frame);
        (connection, sent)
    });
    others_are_served(&keep.curl(), &path(&package), &package);
    let (connection, sent) = flood.join().expect("a flood does not panic");
    assert!(sent < MOST, "it took {sent} bytes and goes on");
    assert!(memory.grown() < LITTLE, "memory grew by {}", memory.grown());
    others_are_served(&keep.curl(), &path(&package), &package);
    drop(connection);
}

/// Sends `frame` until nobody takes it any more; how many bytes that were.
fn pour(connection: &mut http2::Connection, frame: &[u8]) -> usize {
    connection.write_within(Duration::from_secs(1));
    let frames = frame.repeat(16 * 1024 / frame.len());
    let mut sent = 0;
    while sent < MOST && connection.write(&frames).is_ok() {
        sent += frames.len();
    }
    sent
}

fn others_are_served(curl: &Curl, path: &str, package: &Package) {
    for _ in 0..20 {
        let answer = curl.get(path);
        assert!(answer.is_whole() && answer.body == package.archive_bytes(), "{answer:?}");
        assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
    }
}

/// One more request on a connection that stays open.
fn asked_again(connection: raw::Connection, path: &str) -> io::Result<raw::Connection> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = connection.send(request.as_bytes())?;
    assert_eq!(answer.status, 200);
    Ok(answer.finish()?.1)
}

/// Waits for a word of the other side for as long as reading may take.
fn is_open(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0; 1024]) {
        Ok(read) => read > 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock),
    }
}

/// A mirror that has one small archive already.
fn kept(settings: fn(Mirror) -> Mirror) -> (World, Keep, Package) {
    let package = Package::new("hello", "1.0");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&settings(Mirror::of(&world)));
    keep.index();
    within(PATIENCE, "the archive", || keep.curl().get(&path(&package)).is_whole().then_some(()));
    (world, keep, package)
}

fn path(package: &Package) -> String {
    package.cache_path(Kind::Sha256)
}

const DRIBBLE: Duration = Duration::from_secs(1);
/// RFC 9113, section 7.
const ENHANCE_YOUR_CALM: u32 = 11;
const LITTLE: usize = 16 << 20;
const MOST: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// The beginning of a ClientHello of 512 bytes.
const TLS_RECORD: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];
