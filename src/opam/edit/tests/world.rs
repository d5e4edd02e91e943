//! Two real snapshots of the public repository, two months apart.

use super::*;
use crate::opam::tree::world;
use std::collections::BTreeMap;

/// Looked at by hand, one by one, in the two opam files; the fields and sections that opam 2.1.2
/// itself prints differently for the two (`opam lint --normalise`) are those of these kinds.
const JUDGED: &[(&str, &str)] = &[
    // Dependencies that were missing, another architecture, a bound on dune.
    ("accessor.v0.14.0", "constraints"),
    ("base.v0.17.2", "constraints"),
    ("bonsai.v0.17.0", "constraints"),
    // Another order of two alternatives: the first one is the one that some solvers prefer.
    ("conf-cairo.1", "constraints"),
    // The compiler's metadata got `x-revision` and dependencies on Windows.
    ("ocaml.4.14.2", "constraints description"),
    // Tests run no longer with newer versions of dune.
    ("avro.0.1", "build"),
    ("batsat.0.7", "build"),
    ("conf-libcurl.2", "constraints build"),
    ("ctypes.0.24.0", "description build"),
    ("ctypes-foreign.0.24.0", "description build"),
    // Links, and on which systems it is known to fail.
    ("lun.0.0.1", "description"),
    ("conf-aarch64-linux-gnu-gcc.1", "description"),
    // Sources that upstream lost, now in ocaml/opam-source-archives, checksums as before;
    // in some everything else was put in another order.
    ("ambient-context.0.1.0", "source-moved"),
    ("ansicolor.0.5", "source-moved"),
    ("lablgtk-extras.1.6", "source-moved"),
    ("netkat.0.1", "source-moved"),
    ("wol-mirage.1.0", "source-moved"),
    // As well, and made unavailable or available again.
    ("exenum.0.82.0", "constraints description source-moved"),
    ("riot.0.0.2", "constraints description source-moved"),
    ("ocaml-manual.5.4.0", "constraints source-moved"),
    ("tm-grammars.1.0.0", "constraints source-moved"),
    // Had an md5 alone.
    ("bigstringaf.0.10.0", "checksum-added"),
    // Run a script now that is an extra source.
    ("conf-c++.1.0", "constraints description extra-source build"),
    ("conf-mingw-w64-g++-i686.1", "constraints description extra-source build"),
    ("conf-mingw-w64-g++-x86_64.1", "constraints description extra-source build"),
    // Had no source, and now have one of which they run a script.
    ("conf-mingw-w64-gcc-i686.1", "constraints description source-rewritten build"),
    ("conf-mingw-w64-gcc-x86_64.1", "constraints description source-rewritten build"),
    ("awa.0.6.0", "version-added"),
    ("conf-cc.1", "version-added"),
    ("ocaml-src.5.0.dev", "version-removed"),
    ("ocaml-variants.5.5.0+trunk", "version-removed"),
];

/// How many edits of each kind there are.
const COUNTED: &[(EditKind, usize)] = &[
    (EditKind::VersionAdded, 512),
    (EditKind::VersionRemoved, 5),
    (EditKind::Constraints, 314),
    (EditKind::Description, 109),
    (EditKind::ChecksumAdded, 1),
    (EditKind::SourceMoved, 24),
    (EditKind::SourceRewritten, 2),
    (EditKind::ExtraSource, 3),
    (EditKind::Build, 79),
];

#[test]
fn two_months_of_real_edits_are_told_as_people_judged_them() {
    let snapshots = world::snapshots();
    let [(first, before), (second, after)] = &snapshots[..] else { return };
    let start = std::time::Instant::now();
    let edits = edits(before, after);
    println!("{} edits from {first} to {second} in {:?}", edits.len(), start.elapsed());
    assert!(edits.is_sorted_by(|one, next| one.package < next.package));
    let told: BTreeMap<String, String> =
        edits.iter().map(|edit| (edit.package.to_string(), names(&edit.changes))).collect();
    for (package, expected) in JUDGED {
        assert_eq!(told.get(*package).map(String::as_str), Some(*expected), "{package}");
    }
    // It no longer says what opam takes from the directory's name, and nothing else.
    assert_eq!(told.get("catala-lsp.1.1.1"), None);
    let mut counts: BTreeMap<EditKind, usize> = BTreeMap::new();
    for kind in edits.iter().flat_map(Edit::kinds) {
        *counts.entry(kind).or_default() += 1;
    }
    println!("{counts:?}");
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), COUNTED);
}

#[test]
fn of_all_real_files_just_the_one_is_unreadable_that_opam_complains_of() {
    for (name, tree) in world::snapshots() {
        let mut unreadable = Vec::new();
        for (package, _) in tree.versions() {
            let files = VersionFiles::of(&tree, package).unwrap();
            if let Some(problems) = State::read(package, &files).problems() {
                unreadable.push(format!("{package}: {problems}"));
            }
        }
        // `opam lint`: error 3, file format error in 'depends', expected version-expr.
        let expected = "snoke.0.3: depends: it should be a formula of packages and constraints";
        assert_eq!(unreadable, [expected], "{name}");
    }
}
