//! Blobs that rotted or went, had again from whoever still has the very same bytes.
//!
//! This needs neither the store's lock nor its server: a blob's file gives way at once to one whose
//! bytes are what its name says, and a running server looks at a file that is another one.

use super::sources;
use crate::config::Config;
use crate::digest::Sha256;
use crate::ledger::entry::{Entry, Pin};
use crate::opam::Checksum;
use crate::safe_url::SafeUrl;
use crate::store::blobs::{BlobWriter, Blobs};
use crate::store::layout::Layout;
use crate::store::log::{LogError, LogReader};
use crate::upstream::{Awaited, Client, Request, SetupError};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use url::Url;

/// A place that may have the bytes of any blob.
#[derive(Clone, Debug)]
pub enum Place {
    /// A directory laid out as opam's caches are, which the blobs of a store are too.
    Directory(PathBuf),
    /// The cache of another mirror.
    Cache(Url),
}

/// A blob that is damaged or missing.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Its name.
    pub sha256: Sha256,
    /// The pins that name it; none where it is metadata or evidence.
    pub pins: Vec<Pin>,
}

/// What came of one blob.
#[derive(Clone, Debug, Serialize)]
pub struct Repaired {
    /// Its name.
    pub sha256: Sha256,
    /// The packages that it is pinned for.
    pub packages: BTreeSet<String>,
    /// Who had the bytes; nobody when there is a problem.
    pub from: Option<String>,
    /// Why nobody had them.
    pub problem: Option<String>,
}

/// Asks those who may still have what was lost.
pub struct Repairs {
    blobs: Blobs,
    client: Client,
    /// Asked before those that gave the bytes at first.
    places: Vec<Place>,
    caches: Vec<Url>,
    max_size: u64,
}

impl Lost {
    /// What the ledger says of blobs.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub fn of(log: &LogReader, names: &BTreeSet<Sha256>) -> Result<Vec<Self>, LogError> {
        let mut pins: BTreeMap<Sha256, Vec<Pin>> =
            names.iter().map(|name| (*name, Vec::new())).collect();
        for entry in log.entries(0, log.size()?) {
            if let (_, Entry::Pin(pin)) = entry?
                && let Some(known) = pins.get_mut(&pin.sha256)
            {
                known.push(pin);
            }
        }
        Ok(pins.into_iter().map(|(sha256, pins)| Self { sha256, pins }).collect())
    }

    /// Every checksum that it may be kept under elsewhere.
    fn checksums(&self) -> Vec<Checksum> {
        let more =
            self.pins.first().map(|pin| [Checksum::Sha512(pin.sha512), Checksum::Md5(pin.md5)]);
        std::iter::once(Checksum::Sha256(self.sha256)).chain(more.into_iter().flatten()).collect()
    }

    /// Who gave these bytes before, or is declared to have them.
    fn sources(&self) -> Vec<Url> {
        let mut seen = Vec::new();
        for pin in &self.pins {
            let said = [Some(&pin.from), Some(&pin.url), pin.src.as_ref()];
            for url in said.into_iter().flatten().chain(&pin.agreed) {
                let url = Url::parse(url).ok().filter(|url| url.scheme().starts_with("http"));
                seen.extend(url.filter(|url| !seen.contains(url)));
            }
        }
        seen
    }
}

impl Repairs {
    /// For the store at `layout`, asking on the terms of `config`.
    ///
    /// # Errors
    /// When `[upstream]` can't be used.
    pub fn new(layout: Layout, config: &Config, places: Vec<Place>) -> Result<Self, SetupError> {
        Ok(Self {
            blobs: Blobs::at(layout),
            client: Client::new(&config.upstream)?,
            places,
            caches: config.upstream.caches.iter().map(|cache| cache.expose().clone()).collect(),
            max_size: config.upstream.max_archive_size.bytes(),
        })
    }

    /// Repairs what can be, several at a time, and tells of each as it is done.
    pub fn repair(self: Arc<Self>, lost: Vec<Lost>) -> impl Stream<Item = Repaired> {
        stream::iter(lost)
            .map(move |lost| {
                let repairs = Arc::clone(&self);
                async move { repairs.repair_one(&lost).await }
            })
            .buffer_unordered(AT_A_TIME)
    }

    async fn repair_one(&self, lost: &Lost) -> Repaired {
        let had = self.find(lost).await;
        let packages = lost.pins.iter().flat_map(|pin| pin.packages.iter().cloned()).collect();
        let (from, problem) = match had {
            Ok(from) => (Some(from), None),
            Err(problem) => (None, Some(problem)),
        };
        Repaired { sha256: lost.sha256, packages, from, problem }
    }

    /// Asks one after the other, and puts the first right bytes in place.
    async fn find(&self, lost: &Lost) -> Result<String, String> {
        let mut answers = Vec::new();
        for place in &self.places {
            if let Place::Directory(directory) = place {
                for checksum in lost.checksums() {
                    let hex = checksum.hex();
                    let below = format!("{}/{}/{hex}", checksum.kind(), &hex[..2]);
                    let path = directory.join(below);
                    match self.copy(lost, &path) {
                        Ok(()) => return Ok(path.display().to_string()),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => answers.push(format!("{}: {error}", path.display())),
                    }
                }
            }
        }
        let given = self.places.iter().filter_map(|place| match place {
            Place::Cache(cache) => Some(cache),
            Place::Directory(_) => None,
        });
        let cached = |cache: &Url| {
            let checksums = lost.checksums();
            checksums.iter().map(|it| sources::cached(cache, it)).collect::<Vec<_>>()
        };
        let mut urls: Vec<Url> = given.flat_map(cached).collect();
        urls.extend(lost.sources());
        if !lost.pins.is_empty() {
            urls.extend(self.caches.iter().flat_map(cached));
        }
        for url in urls {
            match self.fetch(lost, &url).await {
                Ok(()) => return Ok(SafeUrl::from(url).to_string()),
                Err(problem) => {
                    answers.push(format!("{}: {problem}", url.host_str().unwrap_or_default()));
                }
            }
        }
        answers.dedup();
        Err(match answers.is_empty() {
            true => "nobody is known to have it: name a backup's blobs with --from".to_owned(),
            false => answers.join(", "),
        })
    }

    fn copy(&self, lost: &Lost, path: &std::path::Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut writer = self.blobs.writer()?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return self.put(lost, writer),
                read => writer.write(&buffer[..read])?,
            }
        }
    }

    async fn fetch(&self, lost: &Lost, url: &Url) -> Result<(), String> {
        let most = lost.pins.first().map_or(self.max_size, |pin| pin.size);
        let request = Request::new(SafeUrl::from(url.clone()), most).awaited(Awaited::by_none());
        let mut response =
            self.client.get(request).await.map_err(|error| error.kind.to_string())?;
        let mut writer = self.blobs.writer().map_err(|error| error.to_string())?;
        while let Some(chunk) = response.chunk().await.map_err(|error| error.kind.to_string())? {
            writer.write(&chunk).map_err(|error| error.to_string())?;
        }
        self.put(lost, writer).map_err(|error| error.to_string())
    }

    fn put(&self, lost: &Lost, writer: BlobWriter) -> io::Result<()> {
        let hashed = writer.finish();
        if hashed.digests().sha256 != lost.sha256 {
            return Err(io::Error::other("it has other bytes"));
        }
        self.blobs.restore(hashed)
    }
}

/// How many blobs are repaired at a time; each host has its own turns.
const AT_A_TIME: usize = 8;
