//! The `opam-keep` program: wiring only, the commands live in [`opam_keep::cli`].

fn main() -> std::process::ExitCode {
    opam_keep::cli::main()
}
