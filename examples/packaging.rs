//! Writes what a package has beside the binary: man pages, shell completions, and a mirror.toml for
//! a machine on which opam-keep is a service.
//!
//! `cargo run --example packaging -- target/packaging`

use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map_or("target/packaging".into(), PathBuf::from);
    let command = opam_keep::cli::command().name("opam-keep");
    let man = directory.join("man");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(command.clone(), &man)?;
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "opam-keep", &completions)?;
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("mirror.toml.example");
    let text = fs::read_to_string(example)?;
    let stored = text.lines().map(|line| match line.strip_prefix("# path = ") {
        Some(_) => "path = \"/var/lib/opam-keep\"",
        None => line,
    });
    let stored: Vec<&str> = stored.collect();
    fs::write(directory.join("mirror.toml"), stored.join("\n") + "\n")
}
