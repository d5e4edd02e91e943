//! dune, which takes a repository from a directory and archives from nowhere but their sources.

use crate::{BINARY, skip};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use world::{Keep, Mirror, Network, Recorded, Run, Trace, World, installed, run};

#[test]
fn dune_locks_and_builds_from_the_exported_directory_with_archives_from_the_mirror_alone() {
    let Some(recorded) = Recorded::find() else { skip!("no recorded world") };
    let Some(program) = dune() else { skip!("no dune-3.24 in OPAM_KEEP_CLIENTS/bin") };
    for program in ["ocaml", "make", "gcc", "strace", "curl"] {
        if !installed(program) {
            skip!("no {program} in PATH");
        }
    }
    let Some(network) = Network::start() else { skip!("no network namespaces here") };
    let world = World::start();
    recorded.publish(&world, &recorded.snapshots()[0]);
    let port = free_port();
    let mut keep = Keep::stopped(BINARY);
    let mirror = Mirror::of(&world)
        .set("server.listen", vec![format!("0.0.0.0:{port}")])
        .set("server.hostnames", vec!["localhost".to_owned(), network.address().to_string()])
        .set("server.public_url", format!("https://{}:{port}", network.address()))
        .of_repository("rewrite_sources", true);
    keep.configure(&mirror.text(&keep.store()));
    keep.restart();
    keep.index();
    let exported = keep.path("exported").display().to_string();
    keep.run(&["export", "--unpacked", "--static", &exported]).ok();

    let project = keep.path("project");
    std::fs::create_dir(&project).expect("a directory can be made");
    let version = run(Command::new("ocamlc").arg("-version"), PATIENCE).ok();
    let workspace = WORKSPACE.replace("DIRECTORY", &exported).replace("VERSION", version.trim());
    for (file, text) in [
        ("dune-workspace", workspace.as_str()),
        ("dune-project", PROJECT),
        ("dune", "(rule (with-stdout-to said.txt (run ocamlbuild -version)))\n"),
    ] {
        std::fs::write(project.join(file), text).expect("a file can be written");
    }
    let trace = Trace::of(&program.display().to_string());
    let dune = |arguments: &[&str]| -> Run {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", network.name()])
            .arg(trace.program())
            .args(arguments)
            .env("HOME", keep.path("home"))
            .env("XDG_CACHE_HOME", keep.path("home"))
            .env("CURL_CA_BUNDLE", keep.ca())
            .current_dir(&project);
        run(&mut command, PATIENCE)
    };
    dune(&["pkg", "lock"]).ok();
    let built = dune(&["build", "./said.txt"]);
    assert_eq!(built.code, 0, "{}", built.said());
    let said = std::fs::read_to_string(project.join("_build/default/said.txt"));
    assert_eq!(said.expect("it is built"), "ocamlbuild 0.14.1\n");

    let urls = recorded.urls_of("ocamlbuild.0.14.1");
    assert!(!urls.is_empty() && urls.iter().all(|url| world.count(url) == 1), "{urls:?}");
    let here = format!("sin_port=htons({port}), sin_addr=inet_addr(\"{}\")", network.address());
    let outwards = trace.outwards();
    assert!(outwards.iter().any(|line| line.contains(&here)), "the trace sees the mirror");
    let elsewhere: Vec<_> = outwards.iter().filter(|line| !line.contains(&here)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}

fn dune() -> Option<PathBuf> {
    let directory = std::env::var_os("OPAM_KEEP_CLIENTS")?;
    let program = Path::new(&directory).join("bin/dune-3.24");
    program.is_file().then_some(program)
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|it| it.local_addr());
    socket.expect("this machine has a free port").port()
}

const WORKSPACE: &str = "\
(lang dune 3.20)
(repository (name keep) (url \"file://DIRECTORY\"))
(lock_dir (repositories keep) (solver_env (sys-ocaml-version VERSION)))
";
const PROJECT: &str = "\
(lang dune 3.20)
(package (name project) (allow_empty) (depends ocaml-system (ocamlbuild (= 0.14.1))))
";
const PATIENCE: Duration = Duration::from_secs(600);
