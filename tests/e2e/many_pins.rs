//! Pins by the thousand, appended as fast as a store takes them.

use opam_keep::clock::Clock;
use opam_keep::digest::Digests;
use opam_keep::ledger::entry::{Entry, Pin, Strength};
use opam_keep::store::Store;
use std::ops::Range;

/// Appends the pins of these numbers.
pub(crate) async fn append(store: &Store, numbers: Range<usize>) {
    let numbers: Vec<usize> = numbers.collect();
    for batch in numbers.chunks(AT_ONCE) {
        let appends = batch.iter().map(|number| store.append(pin(*number)));
        for appended in futures_util::future::join_all(appends).await {
            appended.expect("a pin can be appended");
        }
    }
}

fn pin(number: usize) -> Entry {
    let digests = digests(number);
    let url = format!("https://github.com/world/package-{number}/archive/v1.0.tar.gz");
    Entry::Pin(Pin {
        at: Clock::system().now(),
        repository: "default".to_owned(),
        packages: vec![format!("package-{number}.1.0")],
        from: url.clone(),
        url,
        src: None,
        sha256: digests.sha256,
        sha512: digests.sha512,
        md5: digests.md5,
        size: digests.size,
        declared: vec![format!("sha256={}", digests.sha256)],
        strength: Strength::Strong,
        agreed: Vec::new(),
        import: None,
    })
}

/// The hashes of what such a pin is of.
pub(crate) fn digests(number: usize) -> Digests {
    Digests::of(&number.to_be_bytes())
}

const AT_ONCE: usize = 2_048;
