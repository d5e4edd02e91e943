//! opam files: what is parsed stands in the file as it says, edits touch nothing else, and two
//! files differ as little from each other as the other way round.

use bytes::Bytes;
use opam_keep::digest::Digests;
use opam_keep::opam::syntax::{Field, Item, Span};
use opam_keep::opam::{
    ArchiveSource, Edit, ExtraSources, MAX_CHANGE_TEXT, OpamFile, Package, PackageName,
    PackageVersion, Rewrite, VersionFiles, Wanted, archive_sources, dependencies,
    rewrite_repo_file, strengthen,
};

/// A file prints back, its spans are where its values are, and edits leave the rest alone.
pub fn opam_file(source: &[u8]) {
    let _ = Wanted::read(source);
    let Ok(file) = OpamFile::parse(source) else { return };
    assert_eq!(file.to_bytes(), source);
    check_spans(source, file.items(), Span { start: 0, end: source.len() });
    for item in file.items().iter().take(LOOKED_AT) {
        if let Item::Field(field) = item {
            check_alone(source, field);
        }
    }
    check_edits(&file, source);
    check_sources(&file, source);
}

/// Items come one after the other within what holds them, and begin with their names.
fn check_spans(source: &[u8], items: &[Item], within: Span) {
    let mut at = within.start;
    for item in items {
        let span = item.span();
        assert!(at <= span.start && span.start < span.end && span.end <= within.end);
        at = span.end;
        let name = match item {
            Item::Field(field) => &field.name,
            Item::Section(section) => &section.kind,
        };
        assert!(source[span.range()].starts_with(name.as_bytes()));
        match item {
            Item::Field(field) => {
                assert!(span.start < field.value.span.start && field.value.span.end == span.end);
            }
            Item::Section(section) => check_spans(source, &section.items, span),
        }
    }
}

/// A value means the same where nothing is around it.
fn check_alone(source: &[u8], field: &Field) {
    let span = field.value.span;
    let mut alone = vec![b' '; span.end];
    alone[..2].copy_from_slice(b"x:");
    alone[span.range()].copy_from_slice(&source[span.range()]);
    let file = OpamFile::parse(&alone).expect("a value parses alone");
    let again = file.field("x").expect("the field is there");
    assert_eq!(format!("{:?}", again.value), format!("{:?}", field.value));
}

fn check_edits(file: &OpamFile, source: &[u8]) {
    let items = file.items().len();
    if let Some(Item::Field(first)) = file.items().first() {
        let name = first.name.to_string();
        let mut edited = file.clone();
        assert!(edited.remove_field(&name).expect("what is left parses"));
        assert!(edited.field(&name).is_none() && edited.items().len() < items);
    }
    if file.field(NEW).is_none() {
        let mut edited = file.clone();
        edited.set_field(NEW, "\"a\"").expect("there is room for a field");
        assert_eq!(edited.items().len(), items + 1);
        edited.set_field(NEW, "[1]").expect("it can be set again");
        assert!(edited.remove_field(NEW).expect("it can go again"));
        let left = edited.to_bytes();
        assert!(left == source || left.strip_suffix(b"\n") == Some(source));
    }
}

/// Once sources are rewritten, every archive comes from the mirror, and rewriting it again changes
/// nothing; a checksum that is added leaves the declared ones in front.
fn check_sources(file: &OpamFile, source: &[u8]) {
    let package: Package = "a.1".parse().expect("a package");
    let _ = dependencies(file).iter().filter(|it| it.lets_in(&package.version)).count();
    let before = archive_sources(file);
    let rewrite = Rewrite::new(MIRROR);
    for extra in [ExtraSources::Rewritten, ExtraSources::AsDeclared] {
        let Ok(Some(rewritten)) = rewrite.apply(&package, source, extra) else { continue };
        let again = rewrite.apply(&package, &rewritten, extra).expect("it can be read again");
        assert!(again.is_none_or(|again| again == rewritten));
        let file = OpamFile::parse(&rewritten).expect("what is rewritten parses");
        if let (Ok(before), Ok(after), ExtraSources::Rewritten) =
            (&before, archive_sources(&file), extra)
        {
            let said = |it: &ArchiveSource| (it.role.clone(), it.checksums.clone());
            assert!(before.iter().map(said).eq(after.iter().map(said)));
            assert!(after.iter().flat_map(|it| &it.urls).all(|url| url.starts_with(MIRROR)));
        }
    }
    let digests = Digests::of(b"an archive");
    if let Some(strong) = strengthen(file, &digests) {
        let strong = OpamFile::parse(&strong).expect("what is strengthened parses");
        assert!(strengthen(&strong, &digests).is_none());
    }
}

/// Versions and names are in one total order that agrees with equality.
pub fn opam_version(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    check_order::<PackageVersion>(text);
    check_order::<PackageName>(text);
    check_order::<Package>(text);
}

fn check_order<T: std::str::FromStr + Ord>(text: &str) {
    let words: Vec<T> = text.split(' ').filter_map(|word| word.parse().ok()).take(3).collect();
    for left in &words {
        assert!(left.cmp(left).is_eq());
        for right in &words {
            assert_eq!(left.cmp(right), right.cmp(left).reverse());
            assert_eq!(left.cmp(right).is_eq(), left == right);
            for third in &words {
                assert!(!(left <= right && right <= third) || left <= third);
            }
        }
    }
}

/// A file is no edit of itself; an edit is one in both directions, in bounded words.
pub fn edit(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let package: Package = "a.1".parse().expect("a package");
    let mut states = parts.by_ref().take(2).map(|opam| VersionFiles::new(opam.to_vec().into()));
    let (Some(old), Some(mut new)) = (states.next(), states.next()) else { return };
    drop(states);
    if let Some(url) = parts.next() {
        new.insert("url".parse().expect("a path"), url.to_vec().into());
    }
    assert_eq!(Edit::between(&package, Some(&old), Some(&old.clone())), None);
    let there = Edit::between(&package, Some(&old), Some(&new));
    let back = Edit::between(&package, Some(&new), Some(&old));
    assert_eq!(there.is_some(), back.is_some());
    let added = Edit::between(&package, None, Some(&new));
    let removed = Edit::between(&package, Some(&old), None);
    assert!(added.is_some() && removed.is_some());
    for edit in [there, back, added, removed].into_iter().flatten() {
        assert!(edit.changes.is_sorted_by(|one, next| one.kind < next.kind));
        for text in edit.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten()
        {
            assert!(text.len() <= MAX_CHANGE_TEXT && !text.is_empty());
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
        let json = serde_json::to_string(&edit).expect("an edit is JSON");
        assert_eq!(serde_json::from_str::<Edit>(&json).expect("it reads back"), edit);
    }
}

/// Whatever upstream's `repo` file says, clients get one that they read and that leads nowhere
/// else.
pub fn repo_file(upstream: &[u8]) {
    for browse in [None, Some("https://opam.corp/default/packages/")] {
        let once: Bytes = rewrite_repo_file(Some(upstream), browse);
        assert_eq!(rewrite_repo_file(Some(&once), browse), once);
        let file = OpamFile::parse(&once).expect("clients read it");
        for (name, count) in [("opam-version", 1), ("archive-mirrors", 1), ("redirect", 0)] {
            assert_eq!(file.fields(name).count(), count, "{name}");
        }
        assert!(browse.is_none() || file.fields("browse").count() == 1);
    }
}

/// As many fields are looked at one by one.
const LOOKED_AT: usize = 8;
/// A field that files rarely have.
const NEW: &str = "x-new";
/// Where rewritten sources point.
const MIRROR: &str = "https://opam.corp/default/";
