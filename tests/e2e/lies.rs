//! Upstream lies about an archive: nobody gets it, nothing keeps it, the ledger tells it.

use crate::start;
use std::time::Duration;
use world::{Answer, Keep, Kind, Lie, Mirror, Package, Repo, World, evidence, within};

#[test]
fn g1_a_flipped_byte_is_never_served_or_pinned() {
    nothing_wrong_gets_through(Lie::FlippedByte, "mismatch");
}

#[test]
fn g1_a_page_of_html_is_never_served_or_pinned() {
    nothing_wrong_gets_through(Lie::Html, "mismatch");
}

#[test]
fn g1_a_shorter_body_is_never_served_or_pinned() {
    nothing_wrong_gets_through(Lie::Half, "mismatch");
}

#[test]
fn g1_a_body_that_breaks_off_is_never_served_or_pinned() {
    nothing_wrong_gets_through(Lie::CutShort, "truncated");
}

#[test]
fn g1_an_endless_body_is_never_served_or_pinned() {
    nothing_wrong_gets_through(Lie::Endless, "too-large");
}

#[test]
fn g6_a_redirect_to_a_loopback_address_is_not_followed() {
    let mut lied = Lied::new();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"] {
        let port = lied.world.address().port();
        lied.world.put("https://127.0.0.1/secret", lied.package.archive_bytes().to_vec());
        lied.world.put("https://localhost/secret", lied.package.archive_bytes().to_vec());
        let to = format!("https://{host}:{port}/secret");
        lied.world.lie(lied.package.url(), Lie::Redirect(to));
        let before = lied.world.count(lied.package.url());
        lied.ask_until_fetched(before + 1);
        lied.nothing_was_kept(host);
    }
    let asked = lied.world.requests();
    assert!(!asked.iter().any(|request| request.url.ends_with("/secret")), "{asked:?}");
    assert_eq!(lied.divergence()["what"], "forbidden-redirect");
}

#[test]
fn g6_a_redirect_from_https_to_http_is_not_followed() {
    let mut lied = Lied::new();
    lied.world.put("http://github.com/plain", lied.package.archive_bytes().to_vec());
    let to = Lie::Redirect("http://github.com/plain".to_owned());
    lied.world.lie(lied.package.url(), to);
    lied.ask_until_fetched(1);
    lied.nothing_was_kept("http");
    assert!(!lied.world.requests().iter().any(|request| request.scheme == "http"));
    assert_eq!(lied.divergence()["what"], "forbidden-redirect");
}

#[test]
fn g6_redirects_without_end_are_given_up() {
    let mut lied = Lied::new();
    lied.world.lie(lied.package.url(), Lie::Redirect(lied.package.url().to_owned()));
    let answer = lied.ask();
    assert_eq!((answer.exit, answer.status), (0, 404));
    let asked = lied.world.count(lied.package.url());
    assert!((2..=30).contains(&asked), "{asked} requests for one redirect loop");
}

#[test]
fn a_redirect_to_an_endless_url_is_one_more_source_that_failed() {
    for to in ["https://objects.example.org", "http://github.com", "https://127.0.0.1"] {
        let endless = Lie::Redirect(format!("{to}/{}", "a".repeat(100_000)));
        let mut lied = Lied::with(&[], &[OBJECT]);
        lied.world.lie(lied.package.url(), endless.clone());
        let answer = lied.ask();
        assert_eq!((answer.exit, answer.status), (0, 404), "{to}");
        let reason = answer.header("x-opam-keep-reason").expect("a 404 has a reason");
        assert!(!reason.is_empty() && !reason.starts_with("store"), "{to}: {reason}");
        lied.nothing_was_kept(to);
        lied.world.be_honest(lied.package.url());
        within(PATIENCE, "the truth", || lied.ask().is_whole().then_some(()));

        let mut lied = Lied::with(&[MIRROR], &[OBJECT]);
        lied.world.lie(lied.package.url(), endless);
        assert!(lied.ask().is_whole(), "{to}: the mirror was not asked");
        assert_eq!(lied.keep.ledger().pin(MIRROR)["src"], lied.package.url(), "{to}");
    }
}

#[test]
fn a_redirect_to_another_public_host_is_followed() {
    let mut lied = Lied::with(&[], &[OBJECT]);
    lied.world.lie(lied.package.url(), Lie::Redirect(OBJECT.to_owned()));
    let answer = lied.ask();
    assert!(answer.is_whole() && answer.body == lied.package.archive_bytes());
    assert_eq!(lied.world.count(OBJECT), 1);
    let size = lied.package.archive_bytes().len();
    assert_eq!(lied.keep.ledger().pin(lied.package.url())["size"], size);
}

#[test]
fn the_next_source_is_tried_after_every_lie() {
    for lie in [
        Lie::FlippedByte,
        Lie::Html,
        Lie::Half,
        Lie::CutShort,
        Lie::Endless,
        Lie::Redirect("https://127.0.0.1/".to_owned()),
        Lie::Redirect("http://github.com/".to_owned()),
        Lie::Status(404),
        Lie::Status(500),
        Lie::NoHead,
        Lie::StallMidBody,
        Lie::HangUp,
    ] {
        let mut lied = Lied::with(&[MIRROR], &[]);
        lied.world.lie(lied.package.url(), lie.clone());
        within(PATIENCE, "the mirror's bytes", || {
            let answer = lied.ask();
            answer.is_whole().then_some(())
        });
        assert_eq!(lied.world.count(MIRROR), 1, "{lie:?}");
        let ledger = lied.keep.ledger();
        // Who gave other bytes, or none, is pinned to nothing.
        assert_eq!(ledger.pins(lied.package.url()).len(), 0, "{lie:?}");
        assert_eq!(ledger.pin(MIRROR)["src"], lied.package.url(), "{lie:?}");
    }
}

#[test]
fn a_client_never_sees_a_5xx_and_never_waits_long() {
    for lie in [
        Lie::Status(500),
        Lie::Status(503),
        Lie::Status(429),
        Lie::Status(403),
        Lie::NoHead,
        Lie::StallMidBody,
        Lie::HangUp,
    ] {
        let mut lied = Lied::new();
        lied.world.lie(lied.package.url(), lie.clone());
        let answer = lied.ask();
        assert!(answer.took < Duration::from_secs(10), "{lie:?}: {:?}", answer.took);
        assert!(!answer.is_whole(), "{lie:?}");
        lied.nothing_was_kept(&format!("{lie:?}"));
    }
}

#[test]
fn a_fetch_that_outlasts_patience_goes_on_in_the_background() {
    let mut lied = Lied::new();
    let size = lied.package.archive_bytes().len() as u64;
    lied.world.lie(lied.package.url(), Lie::Slow(size / 6));
    let first = lied.ask();
    assert!(first.is_whole() || first.took < Duration::from_secs(6), "{:?}", first.took);
    let whole = within(PATIENCE, "the slow archive", || {
        let answer = lied.ask();
        answer.is_whole().then_some(answer)
    });
    assert_eq!(whole.body, lied.package.archive_bytes());
    assert_eq!(lied.world.count(lied.package.url()), 1, "one fetch was enough");
}

#[test]
fn a_silent_upstream_costs_a_client_no_more_than_patience() {
    let package = Package::new("silent", "1.0");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    world.lie(package.url(), Lie::NoHead);
    let mirror = quick(&world).set("upstream.timeout", "60s").set("upstream.patience", "2s");
    let mut keep = start(&mirror);
    keep.index();
    let answer = keep.curl().get(&package.cache_path(Kind::Sha256));
    assert_eq!((answer.exit, answer.status), (0, 404));
    assert!(answer.took < Duration::from_secs(6), "{:?}", answer.took);
}

#[test]
fn an_upstream_that_recovers_is_believed() {
    let mut lied = Lied::new();
    lied.world.lie_times(lied.package.url(), Lie::Status(503), 2);
    let whole = within(PATIENCE, "the archive", || {
        let answer = lied.ask();
        answer.is_whole().then_some(answer)
    });
    assert_eq!(whole.body, lied.package.archive_bytes());
}

#[test]
fn an_unstable_entity_tag_changes_nothing() {
    let mut lied = Lied::new();
    lied.world.lie(lied.package.url(), Lie::Unstable);
    for _ in 0..3 {
        let answer = lied.ask();
        assert!(answer.is_whole() && answer.body == lied.package.archive_bytes());
    }
    assert_eq!(lied.world.count(lied.package.url()), 1);
}

#[test]
fn a_missing_archive_asked_for_a_thousand_times_is_asked_of_upstream_once() {
    let package = Package::new("gone", "1.0");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mirror = Mirror::of(&world).set("upstream.retry_after", "10m");
    world.take_down(package.url());
    let mut keep = start(&mirror);
    keep.index();
    world.forget_requests();
    let client = keep.raw();
    let path = package.cache_path(Kind::Sha256);
    for _ in 0..1_000 {
        let answer = client.get(&path).expect("it answers");
        assert_eq!(answer.status, 404);
        assert!(answer.header("x-opam-keep-reason").is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(world.count(package.url()), 1, "its own source was asked once");
    assert!(world.requests().len() <= 4, "{:?}", world.requests());
    let logged = keep.logged();
    let missing: Vec<_> =
        logged.iter().filter(|line| line["message"] == "archive not to be had").collect();
    assert_eq!(missing.len(), 1, "{missing:#?}");
    assert_eq!(
        (&missing[0]["packages"], &missing[0]["url"]),
        (&"gone.1.0".into(), &package.url().into())
    );
}

#[test]
fn g1_a_range_retry_never_gets_withheld_bytes() {
    for version in ["--http1.1", "--http2"] {
        let mut lied = Lied::new();
        lied.world.lie(lied.package.url(), Lie::FlippedByte);
        let path = lied.package.cache_path(Kind::Sha256);
        let length = lied.package.archive_bytes().len();
        let first = lied.keep.curl().with(&[version], &path);
        assert!(!first.is_whole() && first.body.len() < length, "{} bytes", first.body.len());
        let rest = format!("{}-", first.body.len());
        for range in [rest.as_str(), "-1", "0-", &format!("{}-", length - 1)] {
            let retry = lied.keep.curl().with(&[version, "-r", range], &path);
            let got_some = retry.exit == 0 && matches!(retry.status, 200 | 206);
            assert!(!got_some, "{range}: {} bytes", retry.body.len());
            assert!(retry.body.len() < length, "{range}");
        }
    }
}

#[test]
fn g1_the_end_of_a_large_archive_is_withheld_until_all_of_it_is_verified() {
    for version in ["--http1.1", "--http2"] {
        let bytes: Vec<u8> = (0..3_500_000_u32).flat_map(u32::to_le_bytes).collect();
        let package = Package::new("large", "1.0").bytes(bytes.clone(), &Kind::ALL).mirror(MIRROR);
        let world = World::start();
        world.publish(&Repo::new([package.clone()]));
        world.put(MIRROR, bytes.clone());
        let mut wrong = bytes.clone();
        wrong[10] ^= 1;
        world.put(package.url(), wrong.clone());
        world.lie(package.url(), Lie::Slow(10 << 20));
        let mut keep = start(&quick(&world).set("upstream.max_archive_size", "64MiB"));
        keep.index();
        let path = package.cache_path(Kind::Sha256);

        let streamed = keep.curl().with(&[version], &path);
        assert_eq!(streamed.status, 200, "{version}: it flows before all of it is here");
        assert!(!streamed.is_whole(), "{version}: wrong bytes looked whole");
        let withheld = bytes.len() - streamed.body.len();
        assert!(withheld >= 64 * 1024, "{version}: only {withheld} bytes were withheld");
        assert!(wrong.starts_with(&streamed.body), "{version}");

        let whole = within(PATIENCE, "the mirror's bytes", || {
            let answer = keep.curl().with(&[version], &path);
            answer.is_whole().then_some(answer)
        });
        assert!(whole.body == bytes, "{version}");
        let ledger = keep.ledger();
        assert_eq!(ledger.pin(MIRROR)["src"], package.url());
        assert_eq!(ledger.divergences(package.url()).len(), 1);
    }
}

#[test]
fn g1_an_archive_that_matches_only_one_of_its_checksums_is_never_served_or_pinned() {
    let package = Package::new("half", "1.0");
    let bytes = package.archive_bytes().to_vec();
    for (right, wrong) in [(Kind::Md5, Kind::Sha256), (Kind::Sha256, Kind::Sha512)] {
        let good = format!("{}={}", right.name(), right.of(&bytes));
        let bad = format!("{}={}", wrong.name(), wrong.of(b"something else"));
        for declared in [[good.clone(), bad.clone()], [bad, good]] {
            let package = package.clone().declaring(&declared);
            let world = World::start();
            world.publish(&Repo::new([package.clone()]));
            let mut keep = start(&quick(&world));
            keep.index();
            for path in [right.cache_path(&bytes), wrong.cache_path(b"something else")] {
                let answer = keep.curl().get(&path);
                assert!(!answer.is_whole() && answer.status < 500, "{declared:?}: {answer:?}");
            }
            assert_eq!(keep.ledger().pins(package.url()).len(), 0, "{declared:?}");
        }
    }
}

#[test]
fn g2_bytes_once_pinned_outlast_every_later_lie() {
    let mut lied = Lied::new();
    assert!(lied.ask().is_whole());
    for lie in [Lie::FlippedByte, Lie::Html, Lie::Status(404), Lie::HangUp] {
        lied.world.lie(lied.package.url(), lie);
        let answer = lied.ask();
        assert!(answer.is_whole() && answer.body == lied.package.archive_bytes());
    }
    lied.keep.ledger().pin(lied.package.url());
    assert_eq!(lied.world.count(lied.package.url()), 1);
}

#[test]
fn g6_credentials_never_leave_for_another_host() {
    let world = World::start();
    let package = Package::bare("private", "1.0")
        .archive("https://objects.example.org/private.tar.gz", &[Kind::Sha256]);
    let repo = Repo::new([package.clone()]);
    world.publish_at("https://private.example.org", &repo);
    let mirror = quick(&world).repository("private", "https://user:secret@private.example.org");
    let mut keep = start(&mirror);
    keep.index_at("/private/index.tar.gz");
    let path = format!("/private{}", package.cache_path(Kind::Sha256));
    assert!(keep.curl().get(&path).is_whole());
    for request in world.requests() {
        let ours = request.url.starts_with("private.example.org/");
        assert_eq!(request.header("authorization").is_some(), ours, "{request:?}");
    }
    let said = [keep.run(&["log", "--json"]), keep.run(&["status"]), keep.run(&["client"])];
    assert!(said.iter().all(|run| !run.said().contains("secret")), "{said:?}");
}

/// A mirror of one package whose source lies always.
fn nothing_wrong_gets_through(lie: Lie, what: &str) {
    let mut lied = Lied::new();
    lied.world.lie(lied.package.url(), lie.clone());
    let answer = lied.ask();
    assert!(answer.took < Duration::from_secs(10), "{:?}", answer.took);
    assert!(answer.exit != 0 || answer.status == 404, "status {}", answer.status);

    let divergence = lied.divergence();
    assert_eq!(divergence["what"], what);
    let evidence = evidence(&divergence);
    assert!(what != "mismatch" || !evidence.is_empty(), "{divergence}");
    for sha256 in evidence {
        let bytes = std::fs::read(lied.keep.blob_named(&sha256)).expect("evidence is kept");
        assert_eq!(Kind::Sha256.of(&bytes), sha256);
        assert_ne!(bytes, lied.package.archive_bytes(), "evidence is what upstream said");
    }

    // The third fetch begins only after the second one was judged.
    lied.ask_until_fetched(3);
    let ledger = lied.keep.ledger();
    assert_eq!(ledger.divergences(lied.package.url()).len(), 1, "told once, not each time");
    lied.nothing_was_kept(what);
    assert_eq!(lied.keep.run(&["verify"]).code, 0);

    lied.world.be_honest(lied.package.url());
    let whole = within(PATIENCE, "the truth", || {
        let answer = lied.ask();
        answer.is_whole().then_some(answer)
    });
    assert_eq!(whole.body, lied.package.archive_bytes());
    lied.keep.ledger().pin(lied.package.url());
}

/// A world with one package, and a mirror of it that soon forgets what failed.
struct Lied {
    world: World,
    keep: Keep,
    package: Package,
}

impl Lied {
    fn new() -> Self {
        Self::with(&[], &[])
    }

    /// With mirrors that the package declares, and with its bytes elsewhere too.
    fn with(mirrors: &[&str], elsewhere: &[&str]) -> Self {
        let package = Package::new("victim", "1.0").bytes(big_enough_to_stream(), &Kind::ALL);
        let package = mirrors.iter().fold(package, |package, url| package.mirror(url));
        let world = World::start();
        world.publish(&Repo::new([package.clone()]));
        for url in elsewhere {
            world.put(url, package.archive_bytes().to_vec());
        }
        let mut keep = start(&quick(&world));
        keep.index();
        Self { world, keep, package }
    }

    /// Asks as opam does, and checks what holds for every answer.
    fn ask(&mut self) -> Answer {
        let answer = self.keep.curl().get(&self.package.cache_path(Kind::Sha256));
        let right = answer.body == self.package.archive_bytes();
        assert!(answer.status < 500, "a client saw {}", answer.status);
        assert!(right || !answer.is_whole(), "wrong bytes looked whole: {}", answer.body.len());
        answer
    }

    /// Asks until upstream was asked that often.
    fn ask_until_fetched(&mut self, times: usize) {
        within(PATIENCE, "another fetch", || {
            self.ask();
            (self.world.count(self.package.url()) >= times).then_some(())
        });
    }

    /// The one divergence of the package's source, once it is in the ledger.
    fn divergence(&self) -> serde_json::Value {
        within(PATIENCE, "a divergence in the ledger", || {
            let ledger = self.keep.ledger();
            let divergences = ledger.divergences(self.package.url());
            divergences.first().map(|&divergence| divergence.clone())
        })
    }

    fn nothing_was_kept(&self, what: &str) {
        assert_eq!(self.keep.ledger().pins(self.package.url()).len(), 0, "{what}");
        assert!(!self.keep.blob(self.package.archive_bytes()).exists(), "{what}");
    }
}

/// Short waits, so that what is tried again is tried again soon.
fn quick(world: &World) -> Mirror {
    Mirror::of(world)
        .set("upstream.timeout", "2s")
        .set("upstream.patience", "4s")
        .set("upstream.retry_after", "1s")
        .set("upstream.max_archive_size", "4MiB")
}

/// Too much for any one buffer on the way, so that withholding the end is seen.
fn big_enough_to_stream() -> Vec<u8> {
    (0..400_000_u32).flat_map(u32::to_le_bytes).collect()
}

const OBJECT: &str = "https://objects.example.org/blob?token=1";
const MIRROR: &str = "https://mirror.example.org/victim.tar.gz";
const PATIENCE: Duration = Duration::from_secs(40);
