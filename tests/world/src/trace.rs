//! A program that runs under strace, so that every socket it opens is seen.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Traces of all runs of one program.
#[derive(Debug)]
pub struct Trace {
    directory: TempDir,
    program: PathBuf,
}

impl Trace {
    /// Makes a program that runs `binary`, each run with a trace of its own.
    pub fn of(binary: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let program = directory.path().join("traced");
        let script = format!(
            "#!/bin/sh\nexec strace -D -f --seccomp-bpf -qq -e trace=socket,connect,sendto,sendmsg,sendmmsg \
             -o {}/$$.trace {binary} \"$@\"\n",
            directory.path().display()
        );
        std::fs::write(&program, script)
            .and_then(|()| std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)))
            .expect("a program can be written");
        Self { directory, program }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The internet sockets that were opened.
    pub fn sockets(&self) -> Vec<String> {
        self.lines(|line| line.contains("socket(AF_INET"))
    }

    /// Everything that was sent to an internet address, or dialled.
    pub fn outwards(&self) -> Vec<String> {
        let calls = ["connect(", "sendto(", "sendmsg(", "sendmmsg("];
        self.lines(|line| {
            calls.iter().any(|call| line.contains(call)) && line.contains("sa_family=AF_INET")
        })
    }

    fn lines(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).expect("the traces can be listed");
        let paths = files.map(|file| file.expect("a trace can be listed").path());
        let traces = paths.filter(|path| path.extension().is_some_and(|it| it == "trace"));
        let lines = traces.flat_map(|path| {
            let trace = std::fs::read(path).expect("a trace can be read");
            let text = String::from_utf8_lossy(&trace).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        lines.filter(|line| wanted(line)).collect()
    }
}
