//! A mistake in the set-up is one sentence that says where it is and what to do.

use crate::{BINARY, skip, start};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use world::{Ca, Identity, Keep, Mirror, Package, Repo, Run, World};

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    let said = refused("[server]\nlistn = [\"127.0.0.1:0\"]\n");
    assert!(said.contains("mirror.toml:2:") && said.contains("listn"), "{said}");
    assert!(said.contains("listen"), "it does not say what to write instead: {said}");
}

#[test]
fn a_bad_duration_is_named_with_its_line() {
    let said = refused("[upstream]\n\n\ntimeout = \"30 parsecs\"\n");
    assert!(said.contains("mirror.toml:4:") && said.contains("30 parsecs"), "{said}");
}

#[test]
fn a_missing_certificate_is_named_with_its_line() {
    let said = refused(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\
         tls = { cert = \"/nowhere/cert.pem\", key = \"/nowhere/key.pem\" }\n",
    );
    assert!(said.contains("mirror.toml:3:") && said.contains("/nowhere/cert.pem"), "{said}");
}

#[test]
fn a_relative_path_begins_beside_mirror_toml_wherever_the_command_runs() {
    let keep = Keep::stopped(BINARY);
    keep.configure("[store]\npath = \"store\"\n");
    let mut command = keep.command(&["check-config", "--json"]);
    let output = command.current_dir("/").output().expect("the binary can be run");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["store"], keep.store().display().to_string());
    keep.configure("[upstream]\nextra_ca = \"nowhere/ca.pem\"\n");
    let output = keep.command(&["serve"]).current_dir("/").output().expect("the binary can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    let tried = keep.path("nowhere/ca.pem").display().to_string();
    assert!(said.contains("mirror.toml:2:12: ") && said.contains(&tried), "{said}");
}

#[test]
fn rules_for_a_repository_that_is_not_there_are_a_mistake_and_no_silence() {
    let said =
        refused("[[policy.override]]\nrepository = \"nosuch\"\nsource_rewritten = \"hold\"\n");
    assert!(said.contains("mirror.toml:2:14: no repository \"nosuch\""), "{said}");
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), "no certificate").expect("a file can be written");
    let file = file.path().display().to_string();
    let said = refused(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ntls = {{ cert = \"{file}\", key = \"{file}\" }}\n"
    ));
    assert!(said.contains(&file), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    let said = refused(&format!("[server]\nlisten = [\"{address}\"]\n"));
    assert!(said.contains(&address), "{said}");
}

#[test]
fn a_store_that_another_process_holds_is_named_with_its_holder() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mirror = Mirror::of(&world);
    let mut holder = start(&mirror);
    let second = Keep::stopped(BINARY);
    second.configure(&mirror.text(&holder.store()));
    let said = one_sentence(&second.run(&["serve"]));
    assert!(said.contains(&holder.store().display().to_string()), "{said}");
    assert!(said.contains(&holder.pid().to_string()), "it does not say who holds it: {said}");
    holder.index();
}

#[test]
fn a_missing_mirror_toml_is_named() {
    let keep = Keep::stopped(BINARY);
    for command in ["serve", "check-config", "verify", "status"] {
        let said = one_sentence(&keep.run(&[command]));
        assert!(said.contains("mirror.toml"), "{command}: {said}");
    }
}

#[test]
fn check_config_says_what_serve_would_say() {
    let keep = stopped();
    assert_eq!(keep.run(&["check-config"]).code, 0);
    keep.configure("[policy]\nno_checksum = \"perhaps\"\n");
    let (checked, served) = (keep.run(&["check-config"]), keep.run(&["serve"]));
    assert_eq!(one_sentence(&checked), one_sentence(&served));
    assert!(served.stderr.contains("mirror.toml:2:"), "{}", served.stderr);
}

#[test]
fn check_config_prints_an_example_whatever_is_in_mirror_toml() {
    let keep = Keep::stopped(BINARY);
    keep.configure("[server\n");
    let example = keep.run(&["check-config", "--example"]).ok();
    assert!(example.contains("listen = [\"127.0.0.1:8443\"]"), "{example}");
    keep.configure(&example);
    keep.run(&["check-config"]).ok();
}

#[test]
fn what_is_no_address_and_no_duration_is_told_what_one_looks_like() {
    let keep = stopped();
    for (arguments, expected) in [
        (&["serve", "--listen", "8443"][..], "expected an address with a port, such as"),
        (
            &["token", "add", "ci", "--expires", "soon"],
            "expected a duration longer than zero, such as",
        ),
        (
            &["token", "add", "ci", "--expires", "0s"],
            "expected a duration longer than zero, such as",
        ),
    ] {
        let run = keep.run(arguments);
        assert!(run.code == 2 && run.stderr.contains(expected), "{}", run.said());
    }
    keep.configure("[server]\nlisten = \"127.0.0.1:8443\"\n");
    let said = one_sentence(&keep.run(&["serve"]));
    assert!(said.contains("mirror.toml:2:10: ") && said.contains("a list in brackets"), "{said}");
    let run = stopped().run(&["--log", "zzz", "status"]);
    assert!(run.code == 2 && run.stderr.contains("--log zzz: write error, warn"), "{}", run.said());
    let run = stopped().command(&["status"]).env("OPAM_KEEP_LOG", "zzz").output();
    let said = run.expect("the binary can be run").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("OPAM_KEEP_LOG zzz: write error, warn"), "{said}");
}

#[test]
fn check_config_warns_of_an_upstream_directory_that_is_not_there() {
    let keep = stopped();
    let repository = |upstream: &str| {
        keep.configure(&format!("[[repository]]\nname = \"own\"\nupstream = \"{upstream}\"\n"));
        keep.run(&["check-config"]).ok()
    };
    let said = repository("file:///nowhere/own-repository");
    let warning = "warning: /nowhere/own-repository, upstream of own, is no directory";
    assert!(said.contains(warning), "{said}");
    let said = repository("file:///tmp");
    assert!(!said.contains("warning"), "{said}");
    let said = repository("git+file:///nowhere/own-repository");
    assert!(said.contains(warning), "{said}");
    let said = repository("http://opam.example");
    assert!(said.contains("warning: nothing vouches for what comes of own's upstream"), "{said}");
}

#[test]
fn check_config_warns_of_names_and_addresses_that_clients_can_not_use() {
    let keep = stopped();
    let check = |server: &str| {
        keep.configure(&format!("[server]\n{server}\n"));
        let told = keep.run(&["--json", "check-config"]).ok();
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["warnings"].as_array().expect("a list").clone()
    };
    let Identity { cert, key } = Ca::new().server(&["keep.corp"]);
    let (cert_file, key_file) = (keep.path("cert.pem"), keep.path("key.pem"));
    fs::write(&cert_file, cert).expect("a file can be written");
    fs::write(&key_file, key).expect("a file can be written");
    let tls = format!("tls = {{ cert = {cert_file:?}, key = {key_file:?} }}");
    for (server, warning) in [
        ("public_url = \"https://keep.corp\"", "to server.hostnames"),
        ("public_url = \"https://keep.corp\"\nhostnames = [\"keep.corp\"]", ""),
        ("public_url = \"https://other.corp\"\nTLS", "it is not for other.corp"),
        ("public_url = \"https://keep.corp\"\nTLS", ""),
        ("listen = [\"[::]:8449\"]\nplain_http = [\"0.0.0.0:8449\"]", "unless net.ipv6"),
        ("listen = [\"[::]:8449\"]\nplain_http = [\"0.0.0.0:8450\"]", ""),
    ] {
        let told = check(&server.replace("TLS", &tls));
        assert_eq!(told.is_empty(), warning.is_empty(), "{server}: {told:?}");
        assert!(told.iter().all(|told| told.to_string().contains(warning)), "{server}: {told:?}");
    }
}

#[test]
fn check_config_warns_of_an_alert_that_nothing_can_run() {
    let keep = stopped();
    let check = |program: &str| {
        keep.configure(&format!("[[alert.command]]\nrun = [\"{program}\", \"-x\"]\n"));
        let told: Value =
            serde_json::from_str(&keep.run(&["--json", "check-config"]).ok()).unwrap();
        told["warnings"].as_array().expect("a list").clone()
    };
    for program in ["nosuch-program", "/nowhere/program", "/etc/passwd"] {
        assert_eq!(check(program), [format!("{program}, which alerts run, is no program here")]);
    }
    for program in ["true", "/bin/true"] {
        assert_eq!(check(program), Vec::<Value>::new());
    }
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let keep = stopped();
    for arguments in [&["sreve"] as &[&str], &["verify", "--jsno"], &["prove"], &[]] {
        let run = keep.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.said());
        assert!(!run.said().contains("panicked"), "{}", run.said());
    }
}

#[test]
fn a_store_of_another_user_is_not_written_to() {
    let mut keep = stopped();
    let store = keep.store();
    fs::create_dir_all(&store).expect("a directory can be made");
    let nobody = Some(65_534);
    if std::os::unix::fs::chown(&store, nobody, None).is_err() {
        skip!("only root can give a directory away");
    }
    let said = one_sentence(&keep.run(&["serve"]));
    assert!(said.contains("belongs to the user with id 65534"), "{said}");
    assert!(!store.join("ledger").exists());
    std::os::unix::fs::chown(&store, Some(0), None).expect("it was root's before");
    keep.restart();
}

#[test]
fn who_may_not_read_a_store_is_told_whose_it_is() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let home = keep.path("");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY, "--config"]);
        let output = command.arg(keep.config()).args(arguments).current_dir("/").output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.code()?, String::from_utf8_lossy(&said).into_owned()))
    };
    if as_nobody(&["--version"]).is_none_or(|(code, _)| code != 0) {
        skip!("the binary can't be run as another user here");
    }
    let (_, said) = as_nobody(&["check-config"]).expect("it ran before");
    if said.contains("--config") {
        skip!("another user can't reach temporary files here");
    }
    let owner = rustix::process::geteuid().as_raw();
    let owner = format!("run it as the store's owner, which is the user with id {owner}");
    for command in [&["status"][..], &["health"], &["log"], &["token", "list"], &["verify"]] {
        let (code, said) = as_nobody(command).expect("it ran before");
        assert!(code != 0 && said.contains(&owner), "{command:?}: {said}");
    }
    let (code, said) = as_nobody(&["client"]).expect("it ran before");
    assert!(code == 0 && said.contains(&owner) && said.contains("/assets/ca.pem"), "{said}");
    assert!(!said.contains("is made at the first start"), "{said}");
}

#[test]
fn a_refresh_never_begins_a_store() {
    let keep = stopped();
    let said = one_sentence(&keep.run(&["refresh"]));
    assert!(said.contains("holds no opam-keep store"), "{said}");
}

#[test]
fn output_that_can_not_be_written_is_one_sentence_and_no_panic() {
    let keep = stopped();
    for command in [&["check-config"][..], &["client"], &["check-config", "--json"]] {
        let full = std::fs::File::create("/dev/full").expect("Linux has it");
        let mut command = keep.command(command);
        let output = command.stdout(full).output().expect("the binary can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("opam-keep: standard output") && said.lines().count() == 1);
    }
}

#[test]
fn every_command_explains_itself_and_speaks_json() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    for command in ["verify", "status", "log", "check-config", "client", "refresh"] {
        let help = keep.run(&[command, "--help"]).ok();
        assert!(help.contains("--json") && help.contains("--config"), "{command}: {help}");
        let said = keep.run(&[command, "--json"]).ok();
        for line in said.lines().filter(|_| command == "log") {
            serde_json::from_str::<serde_json::Value>(line).expect("log is one object a line");
        }
        if command != "log" {
            serde_json::from_str::<serde_json::Value>(&said)
                .unwrap_or_else(|error| panic!("{command}: {error}: {said}"));
        }
    }
}

#[test]
fn a_key_in_the_store_is_nobody_elses_to_read() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let mut secrets = 0;
    for directory in ["keys", "tls"] {
        for path in files(&keep.store().join(directory)) {
            let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("PRIVATE KEY") {
                secrets += 1;
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
    }
    assert!(secrets > 0, "the keys of a new store are kept in it");
    let socket = fs::metadata(keep.store().join("admin.sock")).expect("it listens there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

/// What `serve` says to this mirror.toml, which it must refuse.
fn refused(text: &str) -> String {
    let keep = Keep::stopped(BINARY);
    keep.configure(&format!("{text}\n[store]\npath = \"{}\"\n", keep.store().display()));
    one_sentence(&keep.run(&["serve"]))
}

/// Nothing runs, and mirror.toml is fine.
fn stopped() -> Keep {
    let keep = Keep::stopped(BINARY);
    let store = keep.store();
    keep.configure(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[store]\npath = \"{}\"\n",
        store.display()
    ));
    keep
}

/// The one line of an error that is the user's to correct.
fn one_sentence(run: &Run) -> String {
    assert_eq!(run.code, 2, "{}", run.said());
    assert!(!run.said().contains("panicked"), "{}", run.said());
    let errors: Vec<_> = run.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(errors.len(), 1, "not one sentence: {}", run.stderr);
    errors[0].to_owned()
}
