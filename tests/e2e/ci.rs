//! What `client --ci` prints, run as it is printed, with real opam and real dune in empty homes.

use crate::{skip, start};
use serde_json::Value;
use std::path::Path;
use world::{Job, Keep, Mirror, Package, Repo, Run, Version, World, installed, run};

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
        run_gitlab(&mut job, &mut keep).ok();
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
        run_gitlab(&mut job, &mut keep).ok();
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
        run_gitlab(&mut job, &mut keep).ok();
        assert_installed(&job, &world);
    }
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
fn dune_locks_a_project_with_the_mirrors_packages() {
    let job = Job::without_opam();
    let clients = std::env::var_os("OPAM_KEEP_CLIENTS").unwrap_or_default();
    let dune = Path::new(&clients).join("bin/dune-3.24");
    if !dune.is_file() {
        skip!("no dune-3.24 in OPAM_KEEP_CLIENTS/bin");
    }
    job.program("dune", &dune);
    let (world, mut keep) = mirror();
    std::fs::remove_file(job.path("project/project.opam")).expect("a file can be removed");
    job.write(
        "project/dune-project",
        "(lang dune 3.17)\n(package (name tiny) (allow_empty) (depends hello))\n",
    );
    std::fs::copy(keep.ca(), job.path("project/opam-keep-ca.pem")).expect("a file can be copied");
    job.write("project/dune-workspace", &printed(&mut keep, "dune", "dune-workspace"));
    let lock = printed(&mut keep, "dune", "dune-lock");
    job.script("sh", &lock).ok();
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
        let text = keep.run(&["client", "--ci", ci, "--url", &url]).ok();
        for recipe in recipes(&mut keep, ci) {
            let lines = recipe["lines"].as_array().expect("a recipe has lines");
            let lines = lines.iter().map(text_of).collect::<Vec<_>>().join("\n");
            assert!(text.contains(&lines), "{ci} lacks:\n{lines}\nin:\n{text}");
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
fn repo() -> Repo {
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

fn recipes(keep: &mut Keep, ci: &str) -> Vec<Value> {
    let url = keep.url();
    let said = keep.run(&["--json", "client", "--ci", ci, "--url", &url]).ok();
    let said: Value = serde_json::from_str(&said).expect("--json prints JSON");
    said["recipes"].as_array().expect("there are recipes").clone()
}

/// The lines of one recipe.
fn printed(keep: &mut Keep, ci: &str, id: &str) -> String {
    let recipes = recipes(keep, ci);
    let recipe = recipes.iter().find(|recipe| recipe["id"] == id).expect("there is such a recipe");
    let lines = recipe["lines"].as_array().expect("a recipe has lines");
    lines.iter().map(|line| format!("{}\n", text(line))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn text_of(value: &Value) -> String {
    text(value).to_owned()
}

fn reads_yaml() -> bool {
    installed("python3")
        && run(std::process::Command::new("python3").args(["-c", "import yaml"]), LIMIT).code == 0
}

fn yaml(job: &Job, document: &str) -> Value {
    job.write("document.yml", document);
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let path = job.path("document.yml").display().to_string();
    let json = job.wrapped(&["python3", "-c", read, &path]).ok();
    serde_json::from_str(&json).expect("python writes JSON")
}

fn set_runner(job: &mut Job) {
    job.write("github-env", "");
    let (temp, variables) = (job.path("temp"), job.path("github-env"));
    job.set("RUNNER_TEMP", &temp.display().to_string());
    job.set("GITHUB_ENV", &variables.display().to_string());
}

/// What a runner of GitHub does with these steps.
fn run_steps(job: &mut Job, steps: &Value, keep: &Keep, shell: &str) {
    set_runner(job);
    let ca = std::fs::read_to_string(keep.ca()).expect("there is a CA");
    for step in steps.as_array().expect("steps are a list") {
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            job.set(name, &text(value).replace("${{ vars.OPAM_KEEP_CA }}", ca.trim_end()));
        }
        match step["uses"].as_str() {
            Some(action) => {
                assert_eq!(action, "ocaml/setup-ocaml@v3");
                setup_ocaml(job, &step["with"]);
            }
            None => drop(job.script(shell, text(&step["run"])).ok()),
        }
        let variables = std::fs::read_to_string(job.path("github-env")).expect("it is there");
        for (name, value) in variables.lines().filter_map(|line| line.split_once('=')) {
            job.set(name, value);
        }
    }
}

/// The calls of opam that setup-ocaml makes, in its order.
fn setup_ocaml(job: &mut Job, with: &Value) {
    assert_eq!(text(&with["cache-prefix"]), "opam-keep");
    job.set("OPAMYES", "1");
    job.wrapped(&[
        "opam",
        "init",
        "--auto-setup",
        "--bare",
        "--disable-sandboxing",
        "--enable-shell-hook",
    ])
    .ok();
    let before = job.wrapped(&["opam", "repository", "list", "--all-switches", "--short"]);
    let names: Vec<_> =
        before.stdout.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["default"], "the opam init without an address took it from .opamrc");
    job.wrapped(&["opam", "repository", "remove", "default", "--all-switches"]).ok();
    let repositories = yaml(job, text(&with["opam-repositories"]));
    for (name, url) in repositories.as_object().expect("repositories have names").iter().rev() {
        let add = ["opam", "repository", "add", name, text(url), "--all-switches", "--set-default"];
        job.wrapped(&add).ok();
    }
    let compiler = text(&with["ocaml-compiler"]);
    job.wrapped(&["opam", "switch", "create", ".", "--no-install", "--packages", compiler]).ok();
}

/// What a runner of GitLab does with the job `build`.
fn run_gitlab(job: &mut Job, keep: &mut Keep) -> Run {
    let document = yaml(job, &printed(keep, "gitlab", "gitlab"));
    let build = &document["build"];
    let template = &document[text(&build["extends"])];
    for (name, value) in template["variables"].as_object().expect("there are variables") {
        job.set(name, text(value));
    }
    job.set("OPAM_KEEP_CA", &keep.ca().display().to_string());
    let lines = [&template["before_script"], &build["script"]];
    let lines = lines.iter().flat_map(|lines| lines.as_array().into_iter().flatten());
    job.script("sh", &lines.map(text_of).collect::<Vec<_>>().join("\n"))
}

/// An opam with a switch, a repository and caches that are not the mirror's.
fn set_up_elsewhere(job: &Job) {
    Repo::new([Package::bare("other", "1.0")]).write(&job.path("elsewhere"));
    let directory = job.path("elsewhere").display().to_string();
    let init = ["opam", "init", "--bare", "--no-setup", "--disable-sandboxing", "--yes", "default"];
    job.wrapped(&[&init[..], &[directory.as_str()]].concat()).ok();
    job.script(
        "sh",
        "cat >> ~/.opam/config <<'END'\narchive-mirrors: [\n  \"https://localhost:9/cache\"\n  \
         \"https://localhost:9/more\"\n]\nEND\nopam switch create default --empty",
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
fn assert_installed(job: &Job, world: &World) {
    let found = job.script("sh", "opam list --installed --short --columns=package hello").ok();
    assert_eq!(found.trim(), "hello.1.0");
    assert_eq!(world.count(Package::new("hello", "1.0").url()), 1);
}

/// Runs the instructions of a Dockerfile that matter without Docker.
fn build(job: &mut Job, keep: &Keep, dockerfile: &str) {
    let whole = dockerfile.replace("\\\n", " ");
    for line in whole.lines().filter(|line| !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction has arguments");
        match instruction {
            "FROM" | "USER" => {}
            "ENV" => {
                let (name, value) = rest.split_once('=').expect("a variable has a value");
                job.set(name, value);
            }
            "COPY" => {
                let words: Vec<_> = rest.split(' ').collect();
                let [source, target] = words[..] else { panic!("{rest}") };
                assert_eq!(source, "opam-keep-ca.pem");
                let name = target.strip_prefix(LOCAL_CAS).expect("it is where Debian looks");
                let target = job.path("local-cas").join(name.trim_start_matches('/'));
                std::fs::copy(keep.ca(), target).expect("a file can be copied");
            }
            "RUN" => {
                let command =
                    rest.strip_prefix("--mount=type=secret,id=opam-keep-ca,required=true");
                drop(in_image(job, keep, command.unwrap_or(rest)).ok());
            }
            other => panic!("{other} is not understood here"),
        }
    }
}

/// Runs a command where what images have of their own is the job's and everything else read-only.
fn in_image(job: &Job, keep: &Keep, command: &str) -> Run {
    for directory in ["cas", "local-cas"] {
        std::fs::create_dir_all(job.path(directory)).expect("a directory can be made");
    }
    let home = job.path("").display().to_string();
    let (cas, local) = (format!("{home}/cas"), format!("{home}/local-cas"));
    let ca = keep.ca().display().to_string();
    job.wrapped(&[
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--bind",
        &home,
        &home,
        "--bind",
        &cas,
        "/etc/ssl/certs",
        "--bind",
        &local,
        LOCAL_CAS,
        // Hooks would tell other programs' stores, which are not there to be told.
        "--tmpfs",
        "/etc/ca-certificates/update.d",
        "--tmpfs",
        "/var/lib/apt/lists",
        "--tmpfs",
        "/run",
        "--ro-bind",
        &ca,
        "/run/secrets/opam-keep-ca",
        "sh",
        "-e",
        "-c",
        command,
    ])
}

fn makes_images(job: &Job, keep: &Keep) -> bool {
    let programs = ["bwrap", "update-ca-certificates"];
    let found = |program| installed(program) || Path::new("/usr/sbin").join(program).is_file();
    programs.into_iter().all(found)
        && in_image(job, keep, "command -v update-ca-certificates").code == 0
}

const VERSIONS: [Version; 3] = [Version::System, Version::V2_3, Version::V2_6];
const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
