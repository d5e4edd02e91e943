//! What `client` prints for a mirror that is read with tokens alone, run as it is printed.

use crate::ci::{assert_installed, printed, recipes, repo, set_up_elsewhere};
use crate::runners::{
    build, in_image, make_token, makes_images, reads_yaml, run_gitlab, run_steps, set_runner, text,
    yaml,
};
use crate::{BINARY, skip};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use world::{Job, Keep, Mirror, Version, World, within};

#[test]
fn a_person_who_fills_in_a_token_installs_with_the_printed_lines() {
    let (world, mut keep, token) = closed();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        job.set("OPAMYES", "1");
        let url = keep.url();
        let said = keep.run(&["--json", "client", "--url", &url]).ok();
        let said: serde_json::Value = serde_json::from_str(&said).expect("--json prints JSON");
        let lines = |id: &str| -> String {
            let recipes = said["recipes"].as_array().expect("there are recipes");
            let recipe = recipes.iter().find(|it| it["id"] == id).expect("there is such a recipe");
            let lines = recipe["lines"].as_array().expect("a recipe has lines");
            lines.iter().map(|line| format!("{}\n", text(line))).collect()
        };
        let trust = lines("trust-shell");
        // Sandboxes are not what this is about, and not to be had everywhere.
        let init = lines("init").replace("opam init", "opam init --disable-sandboxing");
        assert_ne!(job.script("sh", &format!("{trust}{init}")).code, 0, "nothing without a token");
        let filled = lines("token").replace("TOKEN", &token);
        let caches = match version {
            Version::System => String::new(),
            _ => lines("archives-2.2"),
        };
        let install = "opam switch create default --empty\nopam install hello\n";
        let said = job.script("sh", &format!("{trust}{filled}{init}{caches}{install}")).ok();
        assert!(!said.contains(&token), "{said}");
        assert_installed(&job, &world);
        let update = job.script("sh", &format!("{trust}{}", lines("set-url"))).ok();
        assert!(!update.contains(&token), "{update}");
        assert_eq!(knowing(&token, &job.path(".opam")), "", "opam never sees the token");
    }
}

#[test]
fn the_steps_for_github_show_the_secret_and_install() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep, _) = closed();
    for version in VERSIONS {
        for (id, shell) in [("github-setup-ocaml", "bash"), ("github-container", "sh")] {
            let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
            let steps = yaml(&job, &printed(&mut keep, "github", id));
            run_steps(&mut job, &steps, &keep, shell);
            assert_installed(&job, &world);
        }
    }
}

#[test]
fn a_job_without_the_secret_says_so() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (_world, mut keep, _) = closed();
    let mut job = Job::without_opam();
    let steps = yaml(&job, &printed(&mut keep, "github", "github-container"));
    set_runner(&mut job);
    job.set("OPAM_KEEP_TOKEN", "");
    let steps = steps.as_array().expect("steps are a list");
    let step = steps.iter().find(|step| !step["env"]["OPAM_KEEP_TOKEN"].is_null());
    let said = job.script("sh", text(&step.expect("a step shows the token")["run"]));
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("OPAM_KEEP_TOKEN: is not set"), "{}", said.stderr);
}

#[test]
fn the_part_for_gitlab_shows_the_variable_and_installs() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep, token) = closed();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        let pasted = printed(&mut keep, "gitlab", "gitlab");
        let said = run_gitlab(&mut job, &keep, &pasted).ok();
        assert!(!said.contains(&token), "{said}");
        assert_installed(&job, &world);
    }
}

#[test]
fn the_parts_for_dockerfiles_leave_no_token_in_the_image() {
    let (world, mut keep, token) = closed();
    for id in ["docker-opam", "docker-debian"] {
        for version in VERSIONS {
            let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
            if !makes_images(&job, &keep) {
                skip!("no update-ca-certificates, or bwrap can't run it here");
            }
            match id {
                "docker-opam" => set_up_elsewhere(&job),
                // What Debian's packages bring is there already.
                _ => job.program("apt-get", Path::new("/bin/true")),
            }
            let dockerfile = printed(&mut keep, "docker", id);
            build(&mut job, &keep, &dockerfile);
            // Without the secret there is nothing to be had.
            assert_ne!(in_image(&job, &keep, "opam install hello --yes").code, 0);
            let mount = dockerfile.split_once("RUN --mount=").map(|(_, rest)| rest);
            let mount = mount.and_then(|it| it.split(' ').next()).expect("a step has the secret");
            in_image(&job, &keep, &format!("--mount={mount} opam install hello --yes")).ok();
            assert_installed(&job, &world);
            assert_eq!(knowing(&token, &job.path("")), "");
        }
    }
}

#[test]
fn dune_shows_a_token_for_the_packages_and_their_archives() {
    let job = Job::without_opam();
    let clients = std::env::var_os("OPAM_KEEP_CLIENTS").unwrap_or_default();
    let dune = Path::new(&clients).join("bin/dune-3.24");
    if !dune.is_file() {
        skip!("no dune-3.24 in OPAM_KEEP_CLIENTS/bin");
    }
    job.program("dune", &dune);
    let port = free_port();
    let mirror = |world: &World| {
        Mirror::of(world)
            .set("server.listen", vec![format!("127.0.0.1:{port}")])
            .set("server.public_url", format!("https://localhost:{port}"))
            .of_repository("rewrite_sources", true)
    };
    let (world, mut keep, token) = closed_as(mirror);
    std::fs::remove_file(job.path("project/project.opam")).expect("a file can be removed");
    job.write(
        "project/dune-project",
        "(lang dune 3.17)\n(package (name tiny) (allow_empty) (depends hello))\n",
    );
    std::fs::copy(keep.ca(), job.path("project/opam-keep-ca.pem")).expect("a file can be copied");
    job.write("project/dune-workspace", &printed(&mut keep, "dune", "dune-workspace"));
    let shown = printed(&mut keep, "dune", "token").replace("TOKEN", &token);
    let lock = printed(&mut keep, "dune", "dune-lock");
    job.script("sh", &format!("{shown}{lock}dune build @pkg-install")).ok();
    assert_eq!(
        world.count(world::Package::new("hello", "1.0").url()),
        1,
        "it was built, from here"
    );
    assert_eq!(knowing(&token, &job.path("project")), "");
}

#[test]
fn where_everyone_may_read_no_token_is_mentioned() {
    let world = World::start();
    world.publish(&repo());
    let mut keep = crate::start(&Mirror::of(&world));
    keep.index();
    let url = keep.url();
    for ci in ["github", "gitlab", "docker", "dune"] {
        let said = format!("{:?}", recipes(&keep, &url, ci));
        assert!(!said.contains("netrc") && !said.contains("TOKEN"), "{said}");
    }
}

/// A mirror that is read with tokens alone, and one of them.
fn closed() -> (World, Keep, String) {
    closed_as(Mirror::of)
}

fn closed_as(mirror: impl FnOnce(&World) -> Mirror) -> (World, Keep, String) {
    let world = World::start();
    world.publish(&repo());
    let keep = Keep::start(BINARY, &mirror(&world).set("access.read", "tokens"));
    let token = make_token(&keep);
    let snapshots = || keep.ledger().of_kind("snapshot").count();
    within(SOON, "a snapshot", || (snapshots() > 0).then_some(()));
    (world, keep, token)
}

/// The files of a directory that have these words in them.
fn knowing(words: &str, directory: &Path) -> String {
    let found = Command::new("grep").args(["-rlFs", words]).arg(directory).output();
    String::from_utf8_lossy(&found.expect("grep runs").stdout).into_owned()
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let address = socket.and_then(|it| it.local_addr());
    address.expect("this machine has a free port").port()
}

const SOON: Duration = Duration::from_secs(30);
const VERSIONS: [Version; 3] = [Version::System, Version::V2_3, Version::V2_6];
