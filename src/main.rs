//! The `opam-keep` program: wiring only, the commands live in [`opam_keep::cli`].

/// The system's allocator spends a sixth of a large download's time on buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    opam_keep::cli::main()
}
