//! TLS as others judge it, who have looked at many servers.

use crate::{skip, start};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use world::{Keep, Mirror, Package, Repo, World, installed, run};

#[test]
fn testssl_finds_nothing_but_what_an_authority_of_ones_own_can_not_have() {
    if !installed("testssl") {
        skip!("no testssl in PATH");
    }
    let (_world, mut keep) = mirror();
    let findings = judged(&mut keep);
    for (id, expected) in [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered with final"),
        ("cipherlist_NULL", "not offered"),
        ("cipherlist_aNULL", "not offered"),
        ("cipherlist_EXPORT", "not offered"),
        ("cipherlist_LOW", "not offered"),
        ("cipherlist_3DES_IDEA", "not offered"),
        // Block ciphers with a MAC after them, and keys that RSA carries.
        ("cipherlist_AVERAGE", "not offered"),
        ("cipherlist_STRONG", "offered"),
        ("cert_trust", "Ok via SAN"),
        ("cert_chain_of_trust", "passed."),
        ("secure_renego", "supported"),
        ("secure_client_renego", "not vulnerable"),
        ("heartbleed", "not vulnerable"),
        ("ROBOT", "not vulnerable"),
        ("CRIME_TLS", "not vulnerable"),
        ("BREACH", "not vulnerable"),
        ("SWEET32", "not vulnerable"),
        ("LUCKY13", "not vulnerable"),
        ("RC4", "not vulnerable"),
    ] {
        let (_, finding) = findings.get(id).unwrap_or_else(|| panic!("{id}: {findings:#?}"));
        assert!(finding.starts_with(expected), "{id}: {finding}");
    }
    let bad = |(id, (severity, _)): &(&String, &(String, String))| {
        matches!(&**severity, "MEDIUM" | "HIGH" | "CRITICAL" | "FATAL")
            && !ACCEPTED.iter().any(|(accepted, _)| id == accepted)
    };
    let bad: Vec<_> = findings.iter().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// What testssl says of each thing it looks at: how severe, and what it is.
fn judged(keep: &mut Keep) -> BTreeMap<String, (String, String)> {
    let json = keep.path("testssl.json");
    let mut testssl = Command::new("testssl");
    testssl
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "min"])
        .args(["--ip", "127.0.0.1", "--connect-timeout", "10", "--openssl-timeout", "10"])
        // Protocols, kinds of ciphers, the certificate, vulnerabilities.
        .args(["-p", "-s", "-S", "-U"])
        .arg("--add-ca")
        .arg(keep.ca())
        .arg("--jsonfile")
        .arg(&json)
        .arg(keep.url().trim_start_matches("https://"))
        .current_dir(keep.path(""))
        .env("HOME", keep.path(""));
    let ran = run(&mut testssl, Duration::from_secs(400));
    let text = std::fs::read(&json).unwrap_or_else(|error| panic!("{error}: {}", ran.said()));
    let findings: Vec<Value> = serde_json::from_slice(&text).expect("it writes JSON");
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let entry = |it: &Value| (text(it, "id"), (text(it, "severity"), text(it, "finding")));
    findings.iter().map(entry).collect()
}

fn mirror() -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([Package::bare("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

/// What it minds, and why that is as it should be.
const ACCEPTED: [(&str, &str); 1] =
    [("cert_revocation", "the self-made authority has no server that would tell of revocations")];
