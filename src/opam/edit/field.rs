//! The fields of opam files: what an edit of each one is, and what it holds.

use super::EditKind;
use super::shape::Shape;
use crate::opam::syntax::Text;

/// What is known of a field at the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldRule {
    /// The name under which it is compared.
    pub(super) name: &'static str,
    /// What another value is.
    pub(super) kind: EditKind,
    /// What it holds.
    pub(super) shape: Shape,
}

/// The rule of the field of this name; none for a field that this program doesn't know.
pub(super) fn rule(name: &Text) -> Option<FieldRule> {
    let name = name.as_str()?;
    let name = if name == "author" { "authors" } else { name };
    FIELDS.iter().find(|field| field.name == name).copied()
}

/// Whether the name is of an extension, which opam keeps and, but for those with a rule of their
/// own, never acts on.
pub(super) fn is_extension(name: &Text) -> bool {
    name.as_bytes().starts_with(b"x-")
}

/// Every field of `opamFile.ml` through 2.6 (`OPAMSyntax.fields_gen`), and the extensions that
/// opam acts on.
const FIELDS: &[FieldRule] = &{
    use EditKind::{Build, Constraints, Description, ExtraSource, Files, Patches, SourceRewritten};
    [
        field("depends", Constraints, Shape::Formula),
        field("depopts", Constraints, Shape::Formula),
        field("conflicts", Constraints, Shape::Formula),
        field("conflict-class", Constraints, Shape::Names),
        field("available", Constraints, Shape::Filter),
        field("flags", Constraints, Shape::Words),
        field("features", Constraints, Shape::Any),
        field("depexts", Constraints, Shape::Any),
        // Before opam 2.0: parts of what `available` says now.
        field("ocaml-version", Constraints, Shape::Any),
        field("os", Constraints, Shape::Any),
        // The dependencies that a pinned package is locked to.
        field("x-locked", Constraints, Shape::Text),
        field("build", Build, Shape::Commands),
        field("install", Build, Shape::Commands),
        field("remove", Build, Shape::Commands),
        field("run-test", Build, Shape::Commands),
        field("build-test", Build, Shape::Commands),
        field("build-doc", Build, Shape::Commands),
        field("substs", Build, Shape::Texts),
        field("build-env", Build, Shape::Updates),
        field("setenv", Build, Shape::Updates),
        // From opam 2.3 on how paths are rewritten in what `setenv` and `build-env` say.
        field("x-env-path-rewrite", Build, Shape::Any),
        // Sources that nothing vouches for, taken when the package is pinned.
        field("pin-depends", Build, Shape::Pins),
        // The rules by which all the rest is read.
        field("opam-version", Build, Shape::Text),
        field("patches", Patches, Shape::FilteredTexts),
        // The form before opam 2.0; the sections of today are compared apart.
        field("extra-sources", ExtraSource, Shape::Any),
        field("extra-files", Files, Shape::HashedPaths),
        // `url.subpath` where the format has none: the part of the archive that is built.
        field("x-subpath", SourceRewritten, Shape::Text),
        // opam goes by the directory's name.
        field("name", Description, Shape::Text),
        field("version", Description, Shape::Text),
        field("synopsis", Description, Shape::Prose),
        field("description", Description, Shape::Prose),
        field("descr", Description, Shape::Prose),
        field("maintainer", Description, Shape::Texts),
        field("authors", Description, Shape::Texts),
        field("license", Description, Shape::Texts),
        field("tags", Description, Shape::Texts),
        field("homepage", Description, Shape::Texts),
        field("doc", Description, Shape::Texts),
        field("bug-reports", Description, Shape::Texts),
        field("dev-repo", Description, Shape::Text),
        field("messages", Description, Shape::FilteredProse),
        field("post-messages", Description, Shape::FilteredProse),
        // Read and never used.
        field("libraries", Description, Shape::Any),
        field("syntax", Description, Shape::Any),
        field("configure-style", Description, Shape::Any),
    ]
};

const fn field(name: &'static str, kind: EditKind, shape: Shape) -> FieldRule {
    FieldRule { name, kind, shape }
}
