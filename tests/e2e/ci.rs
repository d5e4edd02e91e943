//! What `client --ci` prints, run as it is printed, with real opam and real dune in empty homes.

use crate::runners::{
    build, in_image, makes_images, reads_yaml, run_gitlab, run_steps, set_runner, text, yaml,
};
use crate::{BINARY, skip, start};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use world::{Job, Keep, Mirror, Package, Repo, Version, World};

#[test]
fn the_steps_for_github_install_with_setup_ocaml_through_the_mirror() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        let steps = yaml(&job, &printed(&mut keep, "github", "github-setup-ocaml"));
        run_steps(&mut job, &steps, &keep, "bash");
        assert_installed(&job, &world);
        // The .opamrc's caches are lost before 2.1.5, which setup-ocaml doesn't install.
        if version != Version::System {
            assert_eq!(caches(&job), [cache_of(&mut keep)], "{}", version.program());
        }
    }
}

#[test]
fn the_steps_for_github_install_in_a_container_through_the_mirror() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        let steps = yaml(&job, &printed(&mut keep, "github", "github-container"));
        run_steps(&mut job, &steps, &keep, "sh");
        assert_installed(&job, &world);
        let bundle = job.script("sh", "cat \"$CURL_CA_BUNDLE\"").ok();
        let system = std::fs::read_to_string(SYSTEM_CAS).unwrap_or_default();
        assert!(bundle.starts_with(&system), "jobs go on trusting what the system trusts");
    }
}

#[test]
fn the_step_for_github_says_which_variable_is_missing() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (_world, mut keep) = mirror();
    let mut job = Job::without_opam();
    let steps = yaml(&job, &printed(&mut keep, "github", "github-container"));
    set_runner(&mut job);
    job.set("OPAM_KEEP_CA", "");
    let said = job.script("sh", text(&steps[0]["run"]));
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("OPAM_KEEP_CA: is not set"), "{}", said.stderr);
}

#[test]
fn the_part_for_gitlab_installs_through_the_mirror() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        let pasted = printed(&mut keep, "gitlab", "gitlab");
        run_gitlab(&mut job, &keep, &pasted).ok();
        assert_installed(&job, &world);
    }
}

#[test]
fn the_part_for_gitlab_turns_an_image_with_an_opam_of_its_own_to_the_mirror() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        set_up_elsewhere(&job);
        let pasted = printed(&mut keep, "gitlab", "gitlab");
        run_gitlab(&mut job, &keep, &pasted).ok();
        assert_installed(&job, &world);
        assert_eq!(caches(&job), [cache_of(&mut keep)], "{}", version.program());
    }
}

#[test]
fn the_part_for_gitlab_takes_archives_from_the_mirror_of_a_repository_that_names_no_cache() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let world = World::start();
    world.publish(&repo().with_repo_file("opam-version: \"2.0\"\n"));
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    keep.index();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        let pasted = printed(&mut keep, "gitlab", "gitlab");
        run_gitlab(&mut job, &keep, &pasted).ok();
        assert_installed(&job, &world);
    }
}

#[test]
fn the_part_for_gitlab_installs_the_packages_of_a_time_that_the_url_names() {
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let (world, mut keep) = mirror();
    let past = format!("{}/at/{}", keep.url(), keep.ledger().len());
    world.publish(&repo().with(Package::new("hello", "2.0")));
    keep.refresh().ok();
    assert!(keep.index().packages().contains(&"hello.2.0"), "the present has a newer one");
    let Some(mut job) = Job::fresh(Version::System) else { skip!("no opam in PATH") };
    let pasted = printed_for(&keep, &past, "gitlab", "gitlab");
    run_gitlab(&mut job, &keep, &pasted).ok();
    assert_installed(&job, &world);
}

#[test]
fn the_part_for_a_dockerfile_installs_from_an_image_with_opam_through_the_mirror() {
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        set_up_elsewhere(&job);
        if !makes_images(&job, &keep) {
            skip!("no update-ca-certificates, or bwrap can't run it here");
        }
        let dockerfile = printed(&mut keep, "docker", "docker-opam");
        build(&mut job, &keep, &dockerfile);
        in_image(&job, &keep, "opam install hello --yes").ok();
        assert_installed(&job, &world);
        assert_eq!(caches(&job), [cache_of(&mut keep)], "{}", version.program());
    }
}

#[test]
fn the_part_for_a_dockerfile_installs_from_plain_debian_through_the_mirror() {
    let (world, mut keep) = mirror();
    for version in VERSIONS {
        let Some(mut job) = Job::fresh(version) else { skip!("no {}", version.program()) };
        if !makes_images(&job, &keep) {
            skip!("no update-ca-certificates, or bwrap can't run it here");
        }
        // What Debian's packages bring is there already.
        job.program("apt-get", Path::new("/bin/true"));
        let dockerfile = printed(&mut keep, "docker", "docker-debian");
        build(&mut job, &keep, &dockerfile);
        in_image(&job, &keep, "opam install hello --yes").ok();
        assert_installed(&job, &world);
    }
}

#[test]
fn a_secret_of_a_docker_build_makes_its_curl_trust_the_mirror() {
    let (_world, mut keep) = mirror();
    let mut job = Job::without_opam();
    if !makes_images(&job, &keep) {
        skip!("no update-ca-certificates, or bwrap can't run it here");
    }
    let ask = format!("curl -q -sS -o index {}/index.tar.gz", keep.url());
    assert_ne!(in_image(&job, &keep, &ask).code, 0, "nobody trusts it before");
    let dockerfile = printed(&mut keep, "docker", "docker-secret");
    build(&mut job, &keep, &dockerfile);
    in_image(&job, &keep, &ask).ok();
}

#[test]
fn dune_locks_and_builds_a_project_with_what_the_mirror_has() {
    let job = Job::without_opam();
    let clients = std::env::var_os("OPAM_KEEP_CLIENTS").unwrap_or_default();
    let dune = Path::new(&clients).join("bin/dune-3.24");
    if !dune.is_file() {
        skip!("no dune-3.24 in OPAM_KEEP_CLIENTS/bin");
    }
    job.program("dune", &dune);
    let world = World::start();
    world.publish(&repo());
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let port = socket.expect("this machine has a free port").port();
    let mut keep = start(
        &Mirror::of(&world)
            .set("server.listen", vec![format!("127.0.0.1:{port}")])
            .set("server.public_url", format!("https://localhost:{port}"))
            .of_repository("rewrite_sources", true),
    );
    keep.index();
    std::fs::remove_file(job.path("project/project.opam")).expect("a file can be removed");
    job.write(
        "project/dune-project",
        "(lang dune 3.17)\n(package (name tiny) (allow_empty) (depends hello))\n",
    );
    std::fs::copy(keep.ca(), job.path("project/opam-keep-ca.pem")).expect("a file can be copied");
    job.write("project/dune-workspace", &printed(&mut keep, "dune", "dune-workspace"));
    let lock = printed(&mut keep, "dune", "dune-lock");
    job.script("sh", &format!("{lock}dune build @pkg-install")).ok();
    assert_eq!(world.count(Package::new("hello", "1.0").url()), 1, "it was built, from here");
    let locked = || {
        let names = std::fs::read_dir(job.path("project/dune.lock")).expect("there is a lock");
        let names = names.map(|entry| entry.expect("it can be read").file_name());
        names.filter_map(|name| name.into_string().ok()).collect::<Vec<_>>()
    };
    assert!(locked().contains(&"hello.1.0.pkg".to_owned()), "{:?}", locked());

    // The second time it takes what is new, and what is gone is gone.
    let compiler = Package::bare("ocaml-base-compiler", "5.3.0");
    world.publish(&Repo::new([Package::new("hello", "1.1"), compiler]));
    keep.refresh().ok();
    job.script("sh", &lock).ok();
    assert!(locked().contains(&"hello.1.1.pkg".to_owned()), "{:?}", locked());
    assert!(!job.path("project/.opam-keep/packages/hello/hello.1.0").exists());
    assert!(!job.path("project/.opam-keep.new").exists());

    // A mirror that is away takes nothing away.
    keep.stop();
    assert_ne!(job.script("sh", &lock).code, 0);
    assert!(job.path("project/.opam-keep/packages/hello/hello.1.1").exists());
}

#[test]
fn what_is_printed_for_people_is_what_is_printed_for_programs() {
    let (_world, mut keep) = mirror();
    let url = keep.url();
    for ci in ["github", "gitlab", "docker", "dune"] {
        let shown = keep.run(&["client", "--ci", ci, "--url", &url]).ok();
        for recipe in recipes(&keep, &url, ci) {
            let lines = recipe["lines"].as_array().expect("a recipe has lines");
            let lines = lines.iter().map(text).collect::<Vec<_>>().join("\n");
            assert!(shown.contains(&lines), "{ci} lacks:\n{lines}\nin:\n{shown}");
        }
    }
    if !reads_yaml() {
        skip!("no python3 with yaml");
    }
    let job = Job::without_opam();
    let all = yaml(&job, &keep.run(&["client", "--ci", "github", "--url", &url]).ok());
    assert_eq!(all.as_array().map(Vec::len), Some(7), "{all}");
}

#[test]
fn clients_of_a_verbatim_repository_are_told_of_the_cache_first() {
    let keep = Keep::stopped(BINARY);
    let shown = |mode: &str| {
        let repository = "[[repository]]\nname = \"a\"\nupstream = \"https://a.example\"\n";
        keep.configure(&format!("{repository}mode = \"{mode}\"\n"));
        keep.run(&["client", "--url", "https://keep.example"]).ok()
    };
    let (verbatim, managed) = (shown("verbatim"), shown("managed"));
    let place = |text: &str, part: &str| text.find(part).expect(part);
    let option = "archive-mirrors=[\"https://keep.example/cache\"]";
    assert!(place(&verbatim, option) < place(&verbatim, "Trust it for good"), "{verbatim}");
    assert!(verbatim.contains("a repository in verbatim mode does not say that"), "{verbatim}");
    assert!(place(&managed, option) > place(&managed, "Trust it for good"), "{managed}");
    // A certificate is nothing to who speaks plain HTTP.
    let plain = keep.run(&["client", "--url", "http://keep.example"]).ok();
    assert!(!plain.contains("CURL_CA_BUNDLE") && !plain.contains("Trust"), "{plain}");
}

#[test]
fn every_repository_can_be_pasted() {
    let keep = Keep::stopped(BINARY);
    let repository = |name| {
        format!("[[repository]]\nname = \"{name}\"\nupstream = \"https://{name}.example\"\n")
    };
    keep.configure(&["first", "second", "third"].map(repository).concat());
    let shown = keep.run(&["client", "--url", "https://keep.example"]).ok();
    for name in ["second", "third"] {
        let line = format!(
            "  opam repository add --all-switches --set-default {name} https://keep.example/{name}\n"
        );
        assert!(shown.contains(&line), "{shown}");
    }
}

#[test]
fn a_place_or_a_url_that_can_not_be_pasted_is_refused() {
    let (_world, keep) = mirror();
    assert_eq!(keep.run(&["client", "--ci", "jenkins"]).code, 2);
    for url in ["opam.corp", "ftp://opam.corp", "https://opam.corp/?a=b", "https://opam.corp/$(x)"]
    {
        let said = keep.run(&["client", "--ci", "github", "--url", url]);
        assert_eq!(said.code, 2, "{url}: {}", said.said());
        assert!(said.stderr.contains("can't be pasted"), "{}", said.stderr);
    }
}

/// What projects need: `hello`, and the compiler that recipes name.
pub(crate) fn repo() -> Repo {
    Repo::new([Package::new("hello", "1.0"), Package::bare("ocaml-base-compiler", "5.3.0")])
}

/// A mirror of that.
fn mirror() -> (World, Keep) {
    let world = World::start();
    world.publish(&repo());
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

pub(crate) fn recipes(keep: &Keep, url: &str, ci: &str) -> Vec<Value> {
    let said = keep.run(&["--json", "client", "--ci", ci, "--url", url]).ok();
    let said: Value = serde_json::from_str(&said).expect("--json prints JSON");
    said["recipes"].as_array().expect("there are recipes").clone()
}

/// The lines of one recipe.
pub(crate) fn printed(keep: &mut Keep, ci: &str, id: &str) -> String {
    let url = keep.url();
    printed_for(keep, &url, ci, id)
}

/// The same for clients that reach the mirror at `url`.
fn printed_for(keep: &Keep, url: &str, ci: &str, id: &str) -> String {
    let recipes = recipes(keep, url, ci);
    let recipe = recipes.iter().find(|recipe| recipe["id"] == id).expect("there is such a recipe");
    let lines = recipe["lines"].as_array().expect("a recipe has lines");
    lines.iter().map(|line| format!("{}\n", text(line))).collect()
}

/// An opam with a switch, a repository and caches that are not the mirror's.
pub(crate) fn set_up_elsewhere(job: &Job) {
    Repo::new([Package::bare("other", "1.0")]).write(&job.path("elsewhere"));
    let directory = job.path("elsewhere").display().to_string();
    let init = ["opam", "init", "--bare", "--no-setup", "--disable-sandboxing", "--yes", "default"];
    job.wrapped(&[&init[..], &[directory.as_str()]].concat()).ok();
    job.script("sh", "opam switch create default --empty").ok();
    // Last, because opam would write this list on one line.
    job.script(
        "sh",
        "cat >> ~/.opam/config <<'END'\narchive-mirrors: [\n  \"https://localhost:9/cache\"\n  \
         \"https://localhost:9/more\"\n]\nEND",
    )
    .ok();
}

/// The global caches that an opam root's file names.
fn caches(job: &Job) -> Vec<String> {
    let config = std::fs::read_to_string(job.path(".opam/config")).expect("opam is set up");
    let (_, after) = config.split_once("archive-mirrors:").expect("there are caches");
    assert!(!after.contains("archive-mirrors:"), "{config}");
    let value = after.split_once('\n').map_or(after, |(line, _)| line);
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn cache_of(keep: &mut Keep) -> String {
    format!("{}/cache", keep.url())
}

/// Hello is there, and came from the mirror: nothing else answers, and upstream was asked once.
pub(crate) fn assert_installed(job: &Job, world: &World) {
    let found = job.script("sh", "opam list --installed --short --columns=package hello").ok();
    assert_eq!(found.trim(), "hello.1.0");
    assert_eq!(world.count(Package::new("hello", "1.0").url()), 1);
}

const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
const VERSIONS: [Version; 3] = [Version::System, Version::V2_3, Version::V2_6];
