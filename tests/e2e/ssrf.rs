//! Where metadata and redirects may lead the mirror (promise G6): asked on a machine that is every
//! address there is, so that whatever is dialled is seen.

use crate::{BINARY, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;
use world::{Keep, Kind, Package, Repo, run};

#[test]
fn g6_no_spelling_of_an_inner_address_is_dialled_from_metadata_or_after_a_redirect() {
    let forms = INNER.iter().enumerate().flat_map(|(number, host)| {
        let direct = format!("http://{host}/direct-{number}");
        [direct, format!("http://public.example/to?http://{host}/led-{number}")]
    });
    let forms: Vec<String> = forms.collect();
    let Some(seen) = sync(&forms, "opam-version: \"2.0\"\n") else {
        skip!("no network namespace can be made here")
    };
    let expected: BTreeSet<String> = [format!("{PUBLIC} 80")].into();
    assert_eq!(seen.dialled, expected, "{}", seen.said);
    for url in &forms {
        let archive = seen.archive(url);
        assert!(archive["entry"].is_null(), "{archive}");
    }
    // What is refused is refused for its address, not because it could not be read; a source that
    // led there is told of.
    for url in &forms {
        let problem = seen.archive(url)["problem"].to_string();
        let reason = if url.contains("/to?") { "diverged" } else { "address: name its range" };
        assert!(problem.contains(reason), "{url}: {problem}");
    }
}

#[test]
fn g6_public_addresses_and_those_that_redirects_lead_to_are_dialled() {
    let forms = [
        "http://1.2.3.4/a",
        "http://public.example/to?http://2.3.4.5:8080/b",
        // Of several addresses only the public one.
        "http://mixed.example/c",
        "http://[64:ff9b::102:304]/d",
    ]
    .map(str::to_owned);
    let Some(seen) = sync(&forms, REPO_FILE) else {
        skip!("no network namespace can be made here")
    };
    let expected = ["1.2.3.4 80", "2.3.4.5 8080", "64:ff9b::102:304 80"];
    assert_eq!(seen.dialled, expected.map(str::to_owned).into(), "{}", seen.said);
    for url in &forms {
        assert!(seen.archive(url)["entry"].is_u64(), "{url}: {}", seen.said);
    }
}

#[test]
fn g6_what_is_no_http_is_neither_dialled_nor_run() {
    let ran = std::env::temp_dir().join(format!("ran-by-a-transport-{}", std::process::id()));
    let touch = format!("touch% {}", ran.display());
    let mut forms = OTHER_SCHEMES.map(str::to_owned).to_vec();
    forms.extend([format!("git+ext::sh% -c% {touch}"), format!("ext::{touch}")]);
    for scheme in OTHER_SCHEMES {
        forms.push(format!("http://public.example/to?{scheme}"));
    }
    let Some(seen) = sync(&forms, "opam-version: \"2.0\"\n") else {
        skip!("no network namespace can be made here")
    };
    assert_eq!(seen.dialled, [format!("{PUBLIC} 80")].into(), "{}", seen.said);
    assert!(!ran.exists(), "a transport ran a command");
    assert!(seen.archives.iter().all(|it| it["entry"].is_null()), "{}", seen.said);
}

#[test]
fn an_upstream_that_would_have_git_run_something_is_no_upstream() {
    for upstream in [
        "git+ext::sh -c touch% /tmp/x",
        "git+ssh://-oProxyCommand=x/y",
        "git+http://host.example/x",
        "ext::sh -c x",
        "--upload-pack=x",
        "ftp://host.example/x",
        "javascript:alert(1)",
    ] {
        let keep = Keep::stopped(BINARY);
        let repository = format!("[[repository]]\nname = \"x\"\nupstream = \"{upstream}\"\n");
        keep.configure(&format!("{repository}[store]\npath = {:?}\n", keep.store()));
        let checked = keep.run(&["check-config"]);
        assert_eq!(checked.code, 2, "{upstream}: {}", checked.said());
    }
    // What is no branch is found when git is to be asked for it.
    let keep = Keep::stopped(BINARY);
    let repository = "[[repository]]\nname = \"x\"\n\
                      upstream = \"git+https://host.example/x#--upload-pack=touch\"\n";
    keep.configure(&format!("{repository}[store]\npath = {:?}\n", keep.store()));
    let synced = keep.run(&["sync", "--all", "--quiet"]);
    assert_ne!(synced.code, 0, "{}", synced.said());
    assert!(synced.said().contains("can't be the name of a branch"), "{}", synced.said());
}

/// What was dialled, and what came of each archive.
struct Seen {
    dialled: BTreeSet<String>,
    archives: Vec<Value>,
    said: String,
}

impl Seen {
    /// What came of the archive whose URL was written so; it is told in its usual form.
    fn archive(&self, url: &str) -> &Value {
        let (_, file) = url.rsplit_once('/').expect("a URL has a path");
        let is_file = |told: &str| told.rsplit_once('/').is_some_and(|(_, name)| name == file);
        let of_url = |archive: &&Value| archive["url"].as_str().is_some_and(is_file);
        self.archives.iter().find(of_url).unwrap_or_else(|| panic!("{url}: {}", self.said))
    }
}

/// Syncs a package for each URL, on a machine that is every address; `None` where none can be made.
fn sync(urls: &[String], repo_file: &str) -> Option<Seen> {
    let keep = Keep::stopped(BINARY);
    let package = |(number, url): (usize, &String)| {
        // What the machine gives, wherever that is.
        let (_, bytes) = url.rsplit_once('/').unwrap_or_default();
        Package::bare(&format!("p{number}"), "1").archive(url, &[]).bytes(bytes, &[Kind::Sha256])
    };
    let checkout = keep.path("checkout");
    Repo::new(urls.iter().enumerate().map(package)).with_repo_file(repo_file).write(&checkout);
    let mut config = format!(
        "[[repository]]\nname = \"default\"\nupstream = \"file://{}\"\n",
        checkout.display()
    );
    write!(config, "[store]\npath = {:?}\n[upstream]\ntimeout = \"3s\"\n", keep.store()).ok()?;
    keep.configure(&config);
    let resolv = keep.path("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n").ok()?;
    let script = format!(
        "ip link set lo up && ip route add local 0.0.0.0/0 dev lo \
         && ip -6 route add local ::/0 dev lo && mount --bind {} /etc/resolv.conf \
         && exec python3 {}/tests/everywhere.py '{NAMES}' \"$@\"",
        resolv.display(),
        env!("CARGO_MANIFEST_DIR")
    );
    let command = keep.command(&["sync", "--all", "--json"]);
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "sh", "-c", &script, "sh"]);
    unshare.arg(command.get_program()).args(command.get_args());
    let outcome = run(&mut unshare, Duration::from_secs(120));
    if outcome.code != 0 {
        eprintln!("{}", outcome.stderr.trim());
        return None;
    }
    let seen: Value = serde_json::from_str(&outcome.stdout).expect("it prints JSON");
    let said = seen["said"].as_str().expect("a text").to_owned();
    let archives = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let dialled = serde_json::from_value(seen["dialled"].clone()).expect("a list of texts");
    Some(Seen { dialled, archives, said })
}

/// What DNS says.
const NAMES: &str = r#"{"public.example": ["1.2.3.4"], "mixed.example": ["10.9.9.9", "1.2.3.4"],
"inner.example": ["10.9.9.9", "fd00::9"], "metadata.example": ["169.254.169.254"],
"zero.example": ["0.0.0.0"], "mapped.example": ["::ffff:10.9.9.9"],
"translated.example": ["64:ff9b::7f00:1"], "tunnelled.example": ["2002:a09:909::"]}"#;

/// None of these caches is asked.
const REPO_FILE: &str = "opam-version: \"2.0\"\narchive-mirrors: [\"http://169.254.169.254/cache\" \
                         \"http://inner.example/cache\" \"file:///etc\" \"gopher://10.9.9.9:70/\"]\n";

const INNER: [&str; 38] = [
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "user:password@127.0.0.1",
    "public.example@127.0.0.1",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "172.16.0.1",
    "192.168.0.1:8080",
    "198.18.0.1",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::102:304]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "localhost",
    "localhost.",
    "inner.example",
    "metadata.example.",
    "mapped.example",
    "translated.example",
    "tunnelled.example",
    "zero.example",
];
const OTHER_SCHEMES: [&str; 7] = [
    "file:///etc/passwd",
    "gopher://10.9.9.9:70/x",
    "ftp://10.9.9.9/x",
    "git://10.9.9.9/x",
    "git+http://10.9.9.9/x",
    "rsync://10.9.9.9/x",
    "git+ssh://-oProxyCommand=touch/x",
];
const PUBLIC: &str = "1.2.3.4";
