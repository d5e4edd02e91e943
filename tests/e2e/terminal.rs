//! What people read in a terminal of 80 columns, and what programs read in a pipe.

use crate::{skip, start};
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, run, tar_gz};

#[test]
fn every_list_fits_into_80_columns() {
    if Command::new("script").arg("--version").output().is_err() {
        skip!("no script in PATH");
    }
    let (_world, keep) = filled();
    let mut coloured = 0;
    for arguments in reading(&keep) {
        let shown = in_terminal(&keep, &arguments);
        coloured += usize::from(shown.contains("\u{1b}["));
        for line in plain(&shown).lines() {
            let width = line.chars().count();
            let is_split = !line.split(' ').any(|word| word.chars().count() > UNBREAKABLE);
            assert!(width <= 80 || !is_split, "{arguments:?}: {width} columns: {line}\n{shown}");
        }
    }
    assert!(coloured > 5, "a terminal has colours: {coloured}");
}

#[test]
fn a_pipe_gets_no_colours_and_whole_lines() {
    let (_world, keep) = filled();
    for arguments in reading(&keep) {
        let run = keep.run(&words(&arguments));
        assert!(!run.said().contains('\u{1b}'), "{arguments:?}: {}", run.said());
    }
    let listed = keep.run(&["log"]).ok();
    let lines = |it: &str| it.lines().count();
    let narrow = in_terminal(&keep, &["log".to_owned()]);
    assert!(lines(&narrow) >= lines(&listed), "{listed}\n{narrow}");
}

#[test]
fn json_is_whole_lines_everywhere() {
    let (_world, keep) = filled();
    for mut arguments in reading(&keep) {
        arguments.push("--json".to_owned());
        let run = keep.run(&words(&arguments));
        let mut count = 0;
        for line in run.stdout.lines().chain(run.stderr.lines()) {
            count += 1;
            let value: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(value.is_ok(), "{arguments:?}: {line}");
        }
        // Who looks for findings and finds none has nothing to say.
        assert!(
            count > 0 || matches!(&*arguments[0], "audit" | "recheck"),
            "{arguments:?} says nothing"
        );
    }
}

#[test]
fn nothing_that_others_write_moves_a_cursor_or_begins_a_line() {
    let world = World::start();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\rforged";
    let source = |text: &str| {
        let name = format!("hello/{evil}");
        let archive = tar_gz([(name.as_str(), text.as_bytes()), ("hello/a", text.as_bytes())]);
        Package::new("hello", "1.0").synopsis(evil).bytes(archive, &[Kind::Sha256])
    };
    let (first, second) = (source(&format!("1{evil}\n")), source(&format!("2{evil}\n{evil}\n")));
    world.publish(&Repo::new([first.clone(), Package::new("led", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([
        second.clone().synopsis(&evil.repeat(2)),
        Package::new("led", "1.0"),
    ]));
    let led = Package::new("led", "1.0");
    world.lie(led.url(), Lie::Redirect(format!("https://evil.example/%1b[2J{}", "\u{9b}31m")));
    keep.curl().get(&led.cache_path(Kind::Sha256));
    keep.refresh().ok();
    keep.run(&["recheck", "--all"]);
    let ledger = keep.ledger();
    let divergences = (0..ledger.len()).filter(|it| ledger.at(*it)["kind"] == "divergence");
    let divergences: Vec<usize> = divergences.collect();
    // A reason may be anyone's text, such as that of a program with a token.
    let token = keep.run(&["token", "add", "bot", "--admin"]).ok();
    let bearer = format!("authorization: Bearer {}", token.trim());
    let why = json!({ "action": "acknowledge", "why": format!("{evil}\nforged") }).to_string();
    for id in &divergences {
        let path = format!("/api/v1/divergences/{id}");
        let decided = keep.curl().with(&["-d", &why, "-H", &bearer], &path);
        assert_eq!(decided.status, 200, "{decided:?}");
    }
    let moves = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
    for id in &divergences {
        let page = keep.curl().with(&["-H", "accept: text/html"], &format!("/divergences/{id}"));
        let page = String::from_utf8(page.body).expect("text");
        assert!(page.contains("acknowledged by") && !page.contains(moves), "{page}");
    }
    let decision = ledger.len();
    for path in [
        "/packages?q=hello",
        "/default/packages/hello",
        "/default/packages/hello/hello.1.0",
        "/ledger",
        &format!("/ledger/entries/{decision}"),
    ] {
        let page = keep.curl().with(&["-H", "accept: text/html"], path);
        assert_eq!(page.status, 200, "{path}");
        let page = String::from_utf8(page.body).expect("text");
        assert!(page.contains("\\u{202e}") || path == "/ledger", "{path}: {page}");
        assert!(!page.contains(moves), "{path}: {page}");
    }
    let mut commands = reading(&keep);
    for id in divergences {
        commands.push(vec!["divergences".into(), "diff".into(), id.to_string()]);
        commands.push(vec!["divergences".into(), "show".into(), id.to_string()]);
    }
    commands.push(vec!["log".into(), "hello.1.0".into()]);
    commands.push(vec!["log".into(), "--kind".into(), "decision".into()]);
    for mut arguments in commands.clone() {
        arguments.push("--json".into());
        commands.push(arguments);
    }
    commands.push(vec!["snapshots".into(), "diff".into(), "0".into(), ledger.len().to_string()]);
    let mut shown = 0;
    for arguments in commands {
        let said = keep.run(&words(&arguments)).said();
        shown += usize::from(said.contains("forged") || said.contains("owned"));
        assert!(!said.contains(moves), "{arguments:?}: {said:?}");
        assert!(!said.lines().any(|line| line.starts_with("forged")), "{arguments:?}: {said:?}");
    }
    assert!(shown > 0, "nothing of it was shown at all");
}

#[test]
fn mistakes_in_a_call_are_told_in_its_own_words() {
    let (_world, keep) = filled();
    let refused = |arguments: &[&str]| {
        let run = keep.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.said());
        run.stderr
    };
    for (arguments, sentence) in [
        (["import", "--from", "notaurl"], "a mirror's cache is https://host/cache"),
        (["repair", "--from", "/nosuch"], "there is no such directory"),
        (["repair", "--from", "ftp://x"], "another mirror's cache is https://host/cache"),
    ] {
        let said = refused(&arguments);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
    // What the environment says was not given as an argument.
    let mut command = Command::new(crate::BINARY);
    command.args(["import", "some.bundle"]).env("OPAM_KEEP_CONFIG", keep.config());
    let said = run(command.env("OPAM_KEEP_LOG", "error"), Duration::from_secs(60));
    let usage = said.stderr.lines().find(|line| line.starts_with("Usage:")).expect("a usage");
    assert!(!usage.contains("--config") && !usage.contains("--log"), "{usage}");
    let mut command = Command::new(crate::BINARY);
    command.env_clear().args(["status"]).env("OPAM_KEEP_CONFIG", keep.config());
    let said = run(&mut command, Duration::from_secs(60)).ok();
    assert!(said.contains(&keep.store().display().to_string()), "{said}");
}

#[test]
fn a_first_index_that_is_on_its_way_is_said_to_be() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    world.lie(&format!("{}/index.tar.gz", World::OPAM), Lie::NoHead);
    let keep = start(&Mirror::of(&world));
    let said = keep.run(&["status"]).ok();
    assert!(said.contains("its first index is being fetched"), "{said}");
}

/// Commands that only tell something, one of them an error.
fn reading(keep: &Keep) -> Vec<Vec<String>> {
    let ledger = keep.ledger();
    let of = |kind: &str| ledger.index_of(|entry| entry["kind"] == kind).to_string();
    let (divergence, snapshot) = (of("divergence"), of("snapshot"));
    [
        "status",
        "check-config",
        "log",
        "divergences",
        "divergences --all",
        &format!("divergences show {divergence}"),
        "divergences show 0",
        "snapshots",
        &format!("snapshots show {snapshot}"),
        "alerts",
        "token list",
        "health",
        "verify",
        "audit",
        "sync --all --dry-run",
        "refresh",
        "recheck",
    ]
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .into()
}

/// Everything that there is to list, with long names.
fn filled() -> (World, Keep) {
    let world = World::start();
    let long = Package::new("a-package-with-quite-a-long-name-as-some-have", "20240101.1.2~beta3");
    let repo = Repo::new([long.clone(), Package::new("hello", "1.0")]);
    world.publish(&repo);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&long.cache_path(Kind::Sha256)).is_whole());
    world.put(long.url(), "something else");
    keep.run(&["recheck", "--all"]);
    keep.run(&["token", "add", "someone-with-a-long-name@build-farm.example"]).ok();
    (world, keep)
}

/// What a command prints to a terminal of 80 columns.
fn in_terminal(keep: &Keep, arguments: &[String]) -> String {
    let command = keep.command(&words(arguments));
    let all: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|it| format!("'{}'", it.to_str().expect("text")))
        .collect();
    let line = format!("stty cols 80 rows 25; exec {}", all.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--command", &line, "/dev/null"]);
    script.env("TERM", "xterm").env("OPAM_KEEP_LOG", "error");
    script.env_remove("NO_COLOR");
    run(&mut script, Duration::from_secs(60)).stdout
}

/// Text without what colours it or moves the cursor.
fn plain(shown: &str) -> String {
    let mut text = String::new();
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().find(|c| c.is_ascii_alphabetic())),
            // What a progress bar draws, it draws over.
            '\r' if !rest.as_str().starts_with('\n') => {
                text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            }
            '\r' => {}
            c => text.push(c),
        }
    }
    text
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Checksums and URLs are as long as they are.
const UNBREAKABLE: usize = 55;
