//! Clients that are known by a certificate: for as long as it is good, and no longer on whatever
//! connection they have.

use crate::BINARY;
use rustls::version::{TLS12, TLS13};
use std::thread;
use std::time::{Duration, SystemTime};
use world::{Ca, Keep, Mirror, Package, Repo, World, raw, within};

#[test]
fn a_certificate_that_has_ended_lets_nobody_in_also_on_old_connections_and_resumed_sessions() {
    let ca = Ca::new();
    let (_world, mut keep, _) = closed(&ca);
    let end = SystemTime::now() + Duration::from_secs(6);
    let alice = ca.client_until("alice", end);
    let other = ca.intermediate_until(end).client("of an authority that has ended");
    let of = |version| [&alice, &other].map(|identity| keep.raw().showing(identity, version));
    let clients = [&TLS12, &TLS13].map(of).concat();
    let connections: Vec<_> = clients
        .iter()
        .map(|client| {
            let (status, connection) = ask(client.connect().expect("it listens"));
            assert_eq!(status, 200);
            connection
        })
        .collect();
    let left = end.duration_since(SystemTime::now()).expect("all of that took less");
    thread::sleep(left + Duration::from_millis(1_100));
    for (connection, client) in connections.into_iter().zip(&clients) {
        assert_eq!(ask(connection).0, 401, "the connection is older than its end");
        let (status, connection) = ask(client.connect().expect("it listens"));
        assert!(connection.is_resumed(), "it was shown before its end");
        assert_eq!(status, 401, "so is the session");
    }
}

#[test]
fn a_certificate_of_an_authority_that_is_gone_lets_nobody_in_also_on_old_connections() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (_world, mut keep, mirror) = closed(&ca);
    let client = keep.raw().showing(&ca.client("alice"), &TLS13);
    let (status, connection) = ask(client.connect().expect("it listens"));
    assert_eq!(status, 200);
    keep.configure(&mirror.text(&keep.store()));
    let no_certificate_is_good = || {
        let (status, _) = ask(client.connect().ok()?);
        (status == 401).then_some(())
    };
    within(SOON, "no authority", no_certificate_is_good);
    let (status, connection) = ask(connection);
    assert_eq!(status, 401, "there is no authority any more");

    let file = keep.path("clients.pem");
    keep.configure(&mirror.clone().set("access.client_ca", text(&keep)).text(&keep.store()));
    let mut old = Some(connection);
    within(SOON, "the same authority", || {
        let (status, connection) = ask(old.take()?);
        old = Some(connection);
        (status == 200).then_some(())
    });
    // One more authority keeps nobody out, nor does one less that did not judge it.
    std::fs::write(&file, format!("{}{}", other.pem(), ca.pem())).expect("a file can be written");
    let others = keep.raw().showing(&other.client("eve"), &TLS13);
    within(SOON, "both authorities", || {
        let answer = others.connect().ok()?.send(REQUEST).ok()?;
        (answer.status == 200).then_some(())
    });
    let (status, connection) = ask(old.take().expect("it stays"));
    assert_eq!(status, 200);
    old = Some(connection);
    std::fs::write(file, other.pem()).expect("a file can be written");
    within(SOON, "another authority", || {
        let (status, connection) = ask(old.take()?);
        old = Some(connection);
        (status == 401).then_some(())
    });
}

#[test]
fn a_chain_of_which_a_certificate_has_no_end_is_as_good_as_another() {
    let ca = Ca::new();
    let (_world, mut keep, _) = closed(&ca);
    // RFC 5280 section 4.1.2.5: 99991231235959Z.
    let never = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let alice = ca.intermediate_until(never).client("alice");
    let bob = ca.client_until("bob", never);
    for identity in [alice, bob] {
        let client = keep.raw().showing(&identity, &TLS13);
        assert_eq!(ask(client.connect().expect("it listens")).0, 200);
    }
}

/// One request on a connection that stays.
fn ask(connection: raw::Connection) -> (u16, raw::Connection) {
    let answer = connection.send(REQUEST).expect("an answer");
    let status = answer.status;
    let (_, connection) = answer.finish().expect("a whole body");
    (status, connection)
}

/// A mirror that is read with tokens and certificates of `ca`, and the same without certificates.
fn closed(ca: &Ca) -> (World, Keep, Mirror) {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = Keep::stopped(BINARY);
    std::fs::write(keep.path("clients.pem"), ca.pem()).expect("a file can be written");
    let mirror = Mirror::of(&world).set("access.read", "tokens");
    keep.configure(&mirror.clone().set("access.client_ca", text(&keep)).text(&keep.store()));
    keep.restart();
    let client = keep.raw().showing(&ca.client("bob"), &TLS13);
    within(SOON, "an index", || {
        let (status, _) = ask(client.connect().ok()?);
        (status == 200).then_some(())
    });
    (world, keep, mirror)
}

fn text(keep: &Keep) -> String {
    keep.path("clients.pem").display().to_string()
}

const REQUEST: &[u8] = b"GET /repo HTTP/1.1\r\nhost: localhost\r\n\r\n";
const SOON: Duration = Duration::from_secs(30);
