//! opam-keep as a service: what systemd is told and hands over, the units, the package, the image.

use crate::{BINARY, skip};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use world::{Keep, Kind, Mirror, Package, Repo, World, within};

#[test]
fn a_supervisor_hears_when_it_is_ready_reloads_lives_and_stops() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let path = keep.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
    socket.set_read_timeout(Some(SOON)).expect("a socket has a timeout");
    let mut command = keep.command(&["serve"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let server = Server::spawn(&mut command);
    let mut heard = Vec::new();
    let hear = |until: &str, heard: &mut Vec<String>| {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            let mut bytes = [0; 4_096];
            let length = socket.recv(&mut bytes).expect("the supervisor hears something");
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            heard.push(text.clone());
            if text.lines().any(|line| line == until) {
                return;
            }
        }
        panic!("no {until}: {heard:?}");
    };
    hear("READY=1", &mut heard);
    let begun = Instant::now();
    for _ in 0..5 {
        hear("WATCHDOG=1", &mut heard);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "five signs of life took {took:?}");
    server.tell(Signal::HUP);
    hear("RELOADING=1", &mut heard);
    assert!(heard.last().is_some_and(|it| it.contains("MONOTONIC_USEC=")), "{heard:?}");
    hear("READY=1", &mut heard);
    // What hangs says nothing, so that it is restarted.
    server.tell(Signal::STOP);
    socket.set_read_timeout(Some(Duration::from_millis(900))).expect("a socket has a timeout");
    let mut bytes = [0; 64];
    while socket.recv(&mut bytes).is_ok() && begun.elapsed() < SOON {}
    assert!(begun.elapsed() < SOON, "it says that it lives while it is stopped");
    server.tell(Signal::CONT);
    socket.set_read_timeout(Some(SOON)).expect("a socket has a timeout");
    server.tell(Signal::TERM);
    hear("STOPPING=1", &mut heard);
}

#[test]
fn health_tells_of_the_server_whatever_is_in_mirror_toml_by_now() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world);
    let mut keep = Keep::start(BINARY, &mirror);
    keep.index();
    let good = mirror.text(&keep.store());
    for (name, text) in
        [("a mistake", format!("listn = 1\n{good}")), ("no TOML", format!("{good}\n[server"))]
    {
        keep.configure(&text);
        let told = within(SOON, name, || {
            let health = keep.run(&["health"]);
            assert_eq!(health.code, 0, "{name}: {}", health.said());
            health.stdout.contains("the change is refused").then_some(health.stdout)
        });
        assert!(told.contains("store: ok"), "{name}: {told}");
        assert_eq!(keep.run(&["health", "--ready"]).code, 1, "{name}");
    }
    // As in a container, where the environment says where the store is.
    keep.configure("listn = 1\n");
    let mut command = keep.command(&["health"]);
    let health = run(command.env("OPAM_KEEP_STORE__PATH", keep.store()));
    assert_eq!(health.status.code(), Some(0), "{}", said(&health));
    keep.configure(&format!("listn = 1\n{good}"));
    for command in [&["log"][..], &["divergences"], &["snapshots"], &["verify"]] {
        let run = keep.run(command);
        assert!(run.code == 0 && !run.stdout.is_empty(), "{command:?}: {}", run.said());
        assert!(run.stderr.contains("mirror.toml:1:1:"), "{command:?}: {}", run.said());
    }
    for command in
        [&["sync", "--all"][..], &["divergences", "ack", "1"], &["snapshots", "show", "1"]]
    {
        assert_eq!(keep.run(command).code, 2, "{command:?} needs what is configured");
    }
    keep.stop();
    assert_eq!(keep.run(&["health"]).code, 2, "without a server the mistake is what is wrong");
}

#[test]
fn only_what_needs_a_secret_fails_without_it() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world);
    let mut keep = Keep::start(BINARY, &mirror);
    keep.index();
    let hook = "url = \"https://hooks.example/x\"\nsecret_file = \"nowhere\"";
    keep.configure(&mirror.sink("webhook", hook).text(&keep.store()));
    for command in [
        &["token", "list"][..],
        &["log"],
        &["verify"],
        &["client"],
        &["status"],
        &["health"],
        &["alerts"],
    ] {
        keep.run(command).ok();
    }
    let nowhere = keep.path("nowhere").display().to_string();
    for command in [&["check-config"][..], &["alerts", "test"], &["serve"]] {
        let run = keep.run(command);
        assert!(run.code == 2 && run.stderr.contains(&nowhere), "{command:?}: {}", run.said());
    }
}

#[test]
fn sockets_that_systemd_binds_are_served_in_place_of_the_configured_ones() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        skip!("no systemd-socket-activate");
    }
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let keep = Keep::stopped(BINARY);
    let port = || {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        free.expect("this machine has a free port").port()
    };
    let (https, http) = (port(), port());
    // Nobody could listen there: these addresses are not looked at.
    let mirror = Mirror::of(&world).set("server.listen", vec!["192.0.2.1:1"]);
    keep.configure(&mirror.text(&keep.store()));
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &format!("127.0.0.1:{https}"), "-l", &format!("127.0.0.1:{http}")]);
    command.args(["--fdname=https:http", "--setenv=OPAM_KEEP_LOG=info"]);
    command.arg(BINARY).arg("--config").arg(keep.config()).arg("serve");
    let _server = Server::spawn(&mut command);
    let curl = |url: String| {
        let ca = keep.ca().display().to_string();
        let arguments = ["-sS", "--cacert", &ca, "-o", "/dev/null", "-w", "%{http_code}", &url];
        let output = Command::new("curl").args(arguments).output().expect("curl is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let path = hello().cache_path(Kind::Sha256);
    within(SOON, "plain HTTP", || {
        (curl(format!("http://127.0.0.1:{http}{path}")) == "200").then_some(())
    });
    assert_eq!(curl(format!("https://127.0.0.1:{https}{path}")), "200");
}

#[test]
fn a_socket_for_plain_http_alone_is_told_to_clients_as_that_also_after_a_reload() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let keep = Keep::stopped(BINARY);
    let mirror = Mirror::of(&world);
    keep.configure(&mirror.text(&keep.store()));
    let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let _server = Server::spawn_given(&keep, listener.into());
    let is_told = |url: &str| {
        let told = keep.run(&["client"]).ok();
        // Others than this machine are told of a URL that is none.
        let told = told.replace("https://HOST", "");
        (told.contains(url) && !told.contains("https://") && !told.contains("ca.pem")).then_some(())
    };
    within(SOON, "plain HTTP", || is_told(&format!("http://localhost:{port}")));
    let elsewhere = mirror.set("server.hostnames", vec!["keep.example"]);
    keep.configure(&elsewhere.text(&keep.store()));
    within(SOON, "another name", || is_told(&format!("http://keep.example:{port}")));
}

#[test]
fn a_socket_that_does_not_listen_is_refused_in_one_sentence() {
    let world = World::start();
    let keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let connected = TcpStream::connect(address).expect("it listens");
    let mut server = given(&keep, connected.into());
    let mut server = server.stderr(Stdio::piped()).spawn().expect("there is a shell");
    let begun = Instant::now();
    while begun.elapsed() < SOON && matches!(server.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // One that has ended by itself has its own code.
    let _killed = server.kill();
    let output = server.wait_with_output().expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("socket 0 of the supervisor does not listen"), "{said}");
}

#[test]
fn the_units_are_ones_that_systemd_takes_and_let_little_through() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skip!("no systemd-analyze");
    }
    for unit in ["opam-keep.service", "opam-keep-verify.service"] {
        let path = root().join("systemd").join(unit);
        let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager"];
        let output = run(Command::new("systemd-analyze").args(arguments).arg(&path));
        assert!(output.status.success(), "exposed by more than 1.5: {}", said(&output));
    }
    // The program must be there, and here that is the built one.
    let directory = tempfile::tempdir().expect("a directory can be made");
    let units = [
        "opam-keep.service",
        "opam-keep.socket",
        "opam-keep-verify.service",
        "opam-keep-verify.timer",
    ];
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in units {
        let text = std::fs::read_to_string(root().join("systemd").join(unit)).expect("it is there");
        let text = text.replace("/usr/bin/opam-keep", BINARY);
        let path = directory.path().join(unit);
        std::fs::write(&path, text).expect("a file can be written");
        verify.arg(path);
    }
    let output = run(&mut verify);
    let text = said(&output);
    let about_us = text.lines().filter(|line| line.contains("opam-keep"));
    let about_us: Vec<&str> = about_us.collect();
    assert!(output.status.success() && about_us.is_empty(), "{text}");
}

#[test]
fn the_package_installs_serves_upgrades_and_leaves_the_data() {
    if std::env::var_os("OPAM_KEEP_INSTALL").is_none() {
        skip!("OPAM_KEEP_INSTALL is not set, so nothing is installed on this machine");
    }
    if Command::new("cargo-deb").arg("--version").output().is_err() {
        skip!("no cargo-deb in PATH");
    }
    assert!(!Path::new("/usr/bin/opam-keep").exists(), "this machine has an opam-keep of its own");
    let _cleaner = Uninstall;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (first, second) = (package(directory.path(), "1"), package(directory.path(), "2"));
    install(&first);
    for path in [
        "/usr/bin/opam-keep",
        "/usr/lib/systemd/system/opam-keep.service",
        "/usr/lib/systemd/system/opam-keep-verify.timer",
        "/usr/share/man/man1/opam-keep.1.gz",
        "/usr/share/man/man1/opam-keep-verify.1.gz",
        "/usr/share/bash-completion/completions/opam-keep",
        "/usr/share/zsh/vendor-completions/_opam-keep",
        "/usr/share/doc/opam-keep/copyright",
        "/usr/share/doc/opam-keep/monitoring/alerts.yml",
        "/etc/opam-keep/mirror.toml",
    ] {
        assert!(Path::new(path).exists(), "{path}");
    }
    let checked = as_user(&["opam-keep", "check-config"]);
    assert!(said(&checked).contains("/etc/opam-keep/mirror.toml"), "{}", said(&checked));

    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let configuration = Mirror::of(&world).set("server.listen", vec!["127.0.0.1:18443"]);
    // The service's user can't read the temporary directory of another one.
    std::fs::copy(world.ca(), "/etc/opam-keep/ca.pem").expect("a file can be copied");
    let configuration = configuration.set("upstream.extra_ca", "/etc/opam-keep/ca.pem");
    let text = configuration.text(Path::new("/var/lib/opam-keep"));
    std::fs::write("/etc/opam-keep/mirror.toml", &text).expect("a file can be written");
    let path = hello().cache_path(Kind::Sha256);
    let serve = || {
        let mut command = Command::new("runuser");
        command.args(["-u", "opam-keep", "--", "opam-keep", "serve"]);
        let server = Server::spawn(&mut command);
        within(SOON, "the service's server", || fetch(&path));
        server
    };
    drop(serve());
    world.kill();
    install(&second);
    let kept = std::fs::read_to_string("/etc/opam-keep/mirror.toml").expect("it is there");
    assert_eq!(kept, text, "an upgrade leaves the configuration alone");
    let server = serve();
    let status = as_user(&["opam-keep", "status"]);
    assert!(said(&status).contains("1 pin"), "{}", said(&status));
    assert!(as_user(&["opam-keep", "health"]).status.success());
    drop(server);
    let ledger = std::fs::read("/var/lib/opam-keep/ledger/checkpoint").expect("a checkpoint");
    for how in ["remove", "purge"] {
        let removed = apt(&[how, "opam-keep"]);
        assert!(removed.status.success(), "{}", said(&removed));
        assert!(!Path::new("/usr/bin/opam-keep").exists());
        let left = std::fs::read("/var/lib/opam-keep/ledger/checkpoint").expect("a checkpoint");
        assert_eq!(left, ledger, "{how} leaves the data");
    }
    assert!(!Path::new("/etc/opam-keep/mirror.toml").exists(), "a purge takes the configuration");
}

#[test]
fn the_file_system_of_the_image_is_enough_to_serve_without_any_right() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root may chroot");
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let image = directory.path().join("image");
    let made = run(Command::new(root().join("packaging/rootfs")).arg(BINARY).arg(&image));
    assert!(made.status.success(), "{}", said(&made));
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let address = world::free_address();
    let mirror = Mirror::of(&world).set("server.listen", vec![address.to_string()]);
    let mirror = mirror.set("upstream.extra_ca", "/etc/world.pem");
    std::fs::copy(world.ca(), image.join("etc/world.pem")).expect("a file can be copied");
    let text = mirror.text(Path::new("/var/lib/opam-keep"));
    std::fs::write(image.join("etc/mirror.toml"), text).expect("a file can be written");
    let chroot = |arguments: &[&str]| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg("--userspec=65532:65532").arg(&image).arg("/usr/bin/opam-keep");
        command.args(["--config", "/etc/mirror.toml"]).args(arguments).env_clear();
        command
    };
    let before = run(&mut chroot(&["health"]));
    assert_eq!(before.status.code(), Some(1), "{}", said(&before));
    let _server = Server::spawn(&mut chroot(&["serve"]));
    let ca = image.join("var/lib/opam-keep/tls/ca.pem");
    let (port, path) = (address.port(), hello().cache_path(Kind::Sha256));
    let url = format!("https://localhost:{port}{path}");
    within(SOON, "the image's server", || {
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "-o", "/dev/null", "--cacert"]).arg(&ca).arg(&url);
        run(&mut curl).status.success().then_some(())
    });
    let health = run(&mut chroot(&["health", "--ready"]));
    assert!(health.status.success() && said(&health).contains("store: ok"), "{}", said(&health));
}

/// A server under a supervisor; told to stop, and waited for, when dropped.
struct Server(Child);

impl Server {
    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// With a socket as systemd hands it over, for plain HTTP.
    fn spawn_given(keep: &Keep, socket: OwnedFd) -> Self {
        let mut command = given(keep, socket);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn tell(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a pid"), signal).expect("a child can be told");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tell(Signal::TERM);
        let _ended = self.0.wait();
    }
}

/// A server that is given a socket as systemd does it: as its file 3, and told so by its own id.
fn given(keep: &Keep, socket: OwnedFd) -> Command {
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; exec \"$@\" 3<&0";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", BINARY, "--config"]).arg(keep.config()).arg("serve");
    command.stdin(socket).stdout(Stdio::null());
    command
}

/// Leaves the machine as it was.
struct Uninstall;

impl Drop for Uninstall {
    fn drop(&mut self) {
        apt(&["purge", "opam-keep"]);
        for directory in ["/var/lib/opam-keep", "/etc/opam-keep"] {
            let _removed = std::fs::remove_dir_all(directory);
        }
        let _removed = Command::new("userdel").arg("opam-keep").output();
    }
}

/// Builds the package of the binary that is tested, with a revision.
fn package(directory: &Path, revision: &str) -> PathBuf {
    let generated = root().join("target/packaging");
    let mut generate = Command::new(env!("CARGO"));
    generate.args(["run", "--quiet", "--example", "packaging", "--"]).arg(&generated);
    let generated = run(generate.current_dir(root()));
    assert!(generated.status.success(), "{}", said(&generated));
    let path = directory.join(format!("opam-keep_{revision}.deb"));
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "deb",
        "--profile",
        "dev",
        "--no-build",
        "--no-strip",
        "--fast",
        "--deb-revision",
        revision,
    ]);
    let built = run(build.arg("--output").arg(&path).current_dir(root()));
    assert!(built.status.success(), "{}", said(&built));
    path
}

fn install(package: &Path) {
    let path = package.display().to_string();
    let installed = apt(&["install", "--no-install-recommends", "--allow-downgrades", &path]);
    assert!(installed.status.success(), "{}", said(&installed));
}

fn apt(arguments: &[&str]) -> Output {
    let mut command = Command::new("apt-get");
    command.args(["--yes", "-o", "Dpkg::Options::=--force-confold"]).args(arguments);
    run(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn as_user(arguments: &[&str]) -> Output {
    run(Command::new("runuser").args(["-u", "opam-keep", "--"]).args(arguments).current_dir("/"))
}

fn fetch(path: &str) -> Option<()> {
    let url = format!("https://localhost:18443{path}");
    let arguments = ["-sSf", "-o", "/dev/null", "--cacert", "/var/lib/opam-keep/tls/ca.pem", &url];
    run(Command::new("curl").args(arguments)).status.success().then_some(())
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const SOON: Duration = Duration::from_secs(30);
