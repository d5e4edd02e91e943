//! What CI services and Docker do with what is pasted into them, as far as a test needs it.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use world::{Job, Keep, Run, installed, run};

/// Whether this machine can read YAML.
pub(crate) fn reads_yaml() -> bool {
    installed("python3")
        && run(Command::new("python3").args(["-c", "import yaml"]), LIMIT).code == 0
}

/// A YAML document.
pub(crate) fn yaml(job: &Job, document: &str) -> Value {
    job.write("document.yml", document);
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let path = job.path("document.yml").display().to_string();
    let json = job.wrapped(&["python3", "-c", read, &path]).ok();
    serde_json::from_str(&json).expect("python writes JSON")
}

/// What a runner of GitHub does with these steps.
pub(crate) fn run_steps(job: &mut Job, steps: &Value, keep: &Keep, shell: &str) {
    set_runner(job);
    let ca = std::fs::read_to_string(keep.ca()).expect("there is a CA");
    for step in steps.as_array().expect("steps are a list") {
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            let value = text(value).replace("${{ vars.OPAM_KEEP_CA }}", ca.trim_end());
            let token = token(keep).unwrap_or_default();
            job.set(name, &value.replace("${{ secrets.OPAM_KEEP_TOKEN }}", &token));
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

/// What a runner of GitLab does with the job `build`.
pub(crate) fn run_gitlab(job: &mut Job, keep: &Keep, pasted: &str) -> Run {
    let document = yaml(job, pasted);
    let build = &document["build"];
    let template = &document[text(&build["extends"])];
    for (name, value) in template["variables"].as_object().expect("there are variables") {
        job.set(name, text(value));
    }
    job.set("OPAM_KEEP_CA", &keep.ca().display().to_string());
    token(keep).iter().for_each(|token| job.set("OPAM_KEEP_TOKEN", token));
    let lines = [&template["before_script"], &build["script"]];
    let lines = lines.iter().flat_map(|lines| lines.as_array().into_iter().flatten());
    job.script("sh", &lines.map(text).collect::<Vec<_>>().join("\n"))
}

/// Runs the instructions of a Dockerfile that matter without Docker.
pub(crate) fn build(job: &mut Job, keep: &Keep, dockerfile: &str) {
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
                let said = in_image(job, keep, rest);
                let token = token(keep);
                assert!(token.is_none_or(|token| !said.said().contains(&token)), "{}", said.said());
                said.ok();
            }
            other => panic!("{other} is not understood here"),
        }
    }
}

/// Whether this machine can run commands as if in an image of Debian.
pub(crate) fn makes_images(job: &Job, keep: &Keep) -> bool {
    let programs = ["bwrap", "update-ca-certificates"];
    let found = |program| installed(program) || Path::new("/usr/sbin").join(program).is_file();
    programs.into_iter().all(found)
        && in_image(job, keep, "command -v update-ca-certificates").code == 0
}

/// Runs a command where what images have of their own is the job's and everything else read-only,
/// and secrets are there that its `--mount` asks for.
pub(crate) fn in_image(job: &Job, keep: &Keep, command: &str) -> Run {
    let (mut secrets, mut command) = (Vec::new(), command);
    while let Some((mount, rest)) =
        command.strip_prefix("--mount=").and_then(|it| it.split_once(' '))
    {
        let file = match mount {
            "type=secret,id=opam-keep-ca,required=true" => keep.ca(),
            "type=secret,id=opam-keep-netrc,mode=0444,required=true" => keep.path("netrc"),
            _ => panic!("{mount} is not understood here"),
        };
        let id = mount.split("id=").nth(1).and_then(|it| it.split(',').next()).expect("an id");
        let target = format!("/run/secrets/{id}");
        secrets.extend(["--ro-bind".to_owned(), file.display().to_string(), target]);
        command = rest.trim_start();
    }
    for directory in ["cas", "local-cas"] {
        std::fs::create_dir_all(job.path(directory)).expect("a directory can be made");
    }
    let home = job.path("").display().to_string();
    let (cas, local) = (format!("{home}/cas"), format!("{home}/local-cas"));
    let words = [
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
    ];
    let secrets = secrets.iter().map(String::as_str);
    let words = words.into_iter().chain(secrets).chain(["sh", "-e", "-c", command]);
    job.wrapped(&words.collect::<Vec<_>>())
}

/// Makes a token, which is the secret of all jobs from then on, also as a netrc file of a person's.
pub(crate) fn make_token(keep: &Keep) -> String {
    let token = keep.run(&["token", "add", "ci"]).ok().trim().to_owned();
    let netrc = format!("machine localhost login opam password {token}\n");
    for (name, text) in [("token", &token), ("netrc", &netrc)] {
        std::fs::write(keep.path(name), text).expect("a file can be written");
    }
    token
}

fn token(keep: &Keep) -> Option<String> {
    std::fs::read_to_string(keep.path("token")).ok()
}

/// Sets what a runner of GitHub sets for every step.
pub(crate) fn set_runner(job: &mut Job) {
    job.write("github-env", "");
    let (temp, variables) = (job.path("temp"), job.path("github-env"));
    job.set("RUNNER_TEMP", &temp.display().to_string());
    job.set("GITHUB_ENV", &variables.display().to_string());
}

/// A value that must be text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
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

const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
const LIMIT: Duration = Duration::from_secs(60);
