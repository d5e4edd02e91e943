#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    opam_keep_fuzz::archive_zip(bytes);
});
