//! Small opam repositories, made at test time, that real opam can install from without a
//! compiler.

use crate::archive::tar_gz;
use crate::checksum::Kind;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A package repository: its `repo` file and its packages.
#[derive(Clone, Debug)]
pub struct Repo {
    file: String,
    packages: Vec<Package>,
}

/// One version of one package. Installing it puts the archive's `content` into its share
/// directory.
#[derive(Clone, Debug)]
pub struct Package {
    name: String,
    version: String,
    synopsis: String,
    depends: Vec<String>,
    archive: Option<Archive>,
    extra_sources: Vec<(String, Archive)>,
}

/// Bytes behind URLs, as a package declares them.
#[derive(Clone, Debug)]
struct Archive {
    urls: Vec<String>,
    bytes: Vec<u8>,
    checksums: Vec<String>,
}

impl Repo {
    /// A repository of these packages, with the `repo` file that opam's own has.
    pub fn new(packages: impl IntoIterator<Item = Package>) -> Self {
        Self {
            file: "opam-version: \"2.0\"\narchive-mirrors: \"cache\"\n".to_owned(),
            packages: packages.into_iter().collect(),
        }
    }

    /// The same with another `repo` file.
    pub fn with_repo_file(mut self, text: &str) -> Self {
        text.clone_into(&mut self.file);
        self
    }

    /// The same with one more package.
    pub fn with(mut self, package: Package) -> Self {
        self.packages.push(package);
        self
    }

    /// The index.tar.gz.
    pub fn index(&self) -> Vec<u8> {
        let files = self.files();
        tar_gz(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())))
    }

    /// Writes the repository as a directory, as a checkout of it would be.
    pub fn write(&self, directory: &Path) {
        for (path, text) in self.files() {
            let path = directory.join(path);
            let parent = path.parent().expect("a file has a directory");
            std::fs::create_dir_all(parent).expect("a directory can be made");
            std::fs::write(path, text).expect("a file can be written");
        }
    }

    /// Every archive, by URL; mirrors have the same bytes as the first source.
    pub fn archives(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        let archives = self.packages.iter().flat_map(|package| {
            let extra = package.extra_sources.iter().map(|(_, archive)| archive);
            package.archive.iter().chain(extra)
        });
        archives.flat_map(|archive| {
            archive.urls.iter().map(|url| (url.as_str(), archive.bytes.clone()))
        })
    }

    fn files(&self) -> BTreeMap<String, String> {
        let opam = self.packages.iter().map(|package| (package.path(), package.opam()));
        opam.chain([("repo".to_owned(), self.file.clone())]).collect()
    }
}

impl Package {
    /// A package with an archive at a URL of its own, vouched for by sha256 and sha512.
    pub fn new(name: &str, version: &str) -> Self {
        let archive = format!("https://github.com/world/{name}/{name}-{version}.tar.gz");
        Self::bare(name, version).archive(&archive, &[Kind::Sha256, Kind::Sha512])
    }

    /// A package that is nothing but its opam file.
    pub fn bare(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            synopsis: "A package of the world".to_owned(),
            depends: Vec::new(),
            archive: None,
            extra_sources: Vec::new(),
        }
    }

    /// The same with an archive at `url`, vouched for by `kinds` in that order.
    pub fn archive(mut self, url: &str, kinds: &[Kind]) -> Self {
        let bytes = self.content();
        self.archive = Some(Archive::new(url, bytes, kinds));
        self
    }

    /// The same with an archive of exactly these bytes, which opam itself could not unpack.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>, kinds: &[Kind]) -> Self {
        let url = self.url().to_owned();
        self.archive = Some(Archive::new(&url, bytes.into(), kinds));
        self
    }

    /// The same with these checksums declared, true or not, as opam writes them.
    pub fn declaring(mut self, checksums: &[String]) -> Self {
        let archive = self.archive.as_mut().expect("only an archive has checksums");
        archive.checksums = checksums.to_vec();
        self
    }

    /// The same with another source for the archive.
    pub fn mirror(mut self, url: &str) -> Self {
        let archive = self.archive.as_mut().expect("only an archive has mirrors");
        archive.urls.push(url.to_owned());
        self
    }

    /// The same with an extra source, put under `name` in the source tree.
    pub fn extra_source(mut self, name: &str, url: &str, bytes: &[u8], kinds: &[Kind]) -> Self {
        self.extra_sources.push((name.to_owned(), Archive::new(url, bytes.to_vec(), kinds)));
        self
    }

    /// The same, saying something else of itself.
    pub fn synopsis(mut self, text: &str) -> Self {
        text.clone_into(&mut self.synopsis);
        self
    }

    /// The same, needing another package.
    pub fn depends(mut self, name: &str) -> Self {
        self.depends.push(name.to_owned());
        self
    }

    /// Where the archive is.
    pub fn url(&self) -> &str {
        &self.the_archive().urls[0]
    }

    /// What the archive is.
    pub fn archive_bytes(&self) -> &[u8] {
        &self.the_archive().bytes
    }

    /// Where a cache keeps the archive under `kind`.
    pub fn cache_path(&self, kind: Kind) -> String {
        kind.cache_path(self.archive_bytes())
    }

    /// `name.version`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.version)
    }

    fn the_archive(&self) -> &Archive {
        self.archive.as_ref().expect("this package has an archive")
    }

    /// A real source archive: one directory, one file in it.
    fn content(&self) -> Vec<u8> {
        let path = format!("{}-{}/content", self.name, self.version);
        let content = format!("This is {} {}.\n", self.name, self.version);
        tar_gz([(path.as_str(), content.as_bytes())])
    }

    fn path(&self) -> String {
        format!("packages/{}/{}/opam", self.name, self.full_name())
    }

    /// Its opam file.
    pub fn opam(&self) -> String {
        let mut text = format!(
            "opam-version: \"2.0\"\nsynopsis: \"{}\"\n\
             maintainer: \"world@example.org\"\nauthors: \"world\"\n\
             homepage: \"https://example.org\"\nbug-reports: \"https://example.org\"\n\
             license: \"ISC\"\ndepends: [{}]\n",
            self.synopsis,
            quoted(&self.depends),
        );
        if let Some(archive) = &self.archive {
            text.push_str("install: [\"install\" \"-D\" \"-m\" \"644\" \"content\" ");
            text.push_str("\"%{share}%/%{name}%/content\"]\n");
            section(&mut text, "url", archive);
        }
        for (name, archive) in &self.extra_sources {
            section(&mut text, &format!("extra-source \"{name}\""), archive);
        }
        text
    }
}

impl Archive {
    fn new(url: &str, bytes: Vec<u8>, kinds: &[Kind]) -> Self {
        let checksums =
            kinds.iter().map(|kind| format!("{}={}", kind.name(), kind.of(&bytes))).collect();
        Self { urls: vec![url.to_owned()], bytes, checksums }
    }
}

fn section(text: &mut String, title: &str, archive: &Archive) {
    let (source, mirrors) = archive.urls.split_first().expect("an archive has a source");
    let mut write = |line: String| writeln!(text, "{line}").expect("a String takes it all");
    write(format!("{title} {{\n  src: \"{source}\""));
    if !archive.checksums.is_empty() {
        write(format!("  checksum: [{}]", quoted(&archive.checksums)));
    }
    if !mirrors.is_empty() {
        write(format!("  mirrors: [{}]", quoted(mirrors)));
    }
    write("}".to_owned());
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ")
}
