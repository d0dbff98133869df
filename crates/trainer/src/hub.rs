//! Files of Hugging Face repositories: `hf:OWNER/NAME`, downloaded once, then found in the cache.
//!
//! The cache is the one of Python's huggingface_hub, and so are the environment's variables. A download goes on where it
//! stopped, is checked against the SHA-256 that the hub gives, and only then gets its name. Without a connection, what is in
//! the cache is used, and said to be. Nothing that a server sends becomes a path before it is checked, and the token goes to
//! the endpoint alone.
//!
//! The crate hf-hub 1.0 does the same, but brings tokio and reqwest for it; ureq is a few small crates and blocks, which is all
//! that one file after another needs.

mod cache;
mod client;
pub mod config;
mod error;
mod repository;
mod settings;

use std::io::{Read, Seek};
use std::path::PathBuf;

use foreign_weights::{ShardIndex, ShardsError};

pub use config::PretrainedConfig;
pub use error::{Fault, HubError};
pub use repository::Repository;
pub use settings::{HubSettings, Token};

use cache::Cache;
use client::{Client, Metadata};
use repository::{SHA256_DIGITS, is_commit, path_fault};

/// Larger weights, in one file or in several, are not fetched: GhostNets have 10 to 60 MB.
const MAX_WEIGHTS_BYTES: u64 = 4 << 30;
/// The description of a model with 21 000 named classes has about 1 MB.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// What weights are called, in the order of preference: timm's `HF_SAFE_WEIGHTS_NAME` and `HF_WEIGHTS_NAME`
/// (`timm/models/_hub.py`, timm 1.0.31), each followed by the index of the same weights in several files, as transformers looks for them
/// (`SAFE_WEIGHTS_INDEX_NAME` and `WEIGHTS_INDEX_NAME` in `transformers/utils/__init__.py`).
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
const INDEX_ENDING: &str = ".index.json";
const CONFIG: &str = "config.json";

/// A hub, and the cache of what came from it.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

/// A file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Where it lies. Not to be written to: other programs use it too.
    pub path: PathBuf,
    /// The commit that it belongs to, 40 hexadecimal digits.
    pub commit: String,
    /// What the user should know: that the hub was not asked whether there is a newer one, and why.
    pub note: Option<String>,
}

/// How far the download of a file is, also if another process downloads it. It falls back if a server starts over, and starts at 0 for each
/// file of weights in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    ///
    /// [`HubError::Environment`], if a variable cannot be meant.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::new(HubSettings::from_environment()?)
    }

    /// A hub with any settings.
    ///
    /// # Errors
    ///
    /// [`HubError::Environment`], if the endpoint is no address or the certificates cannot be read.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        Ok(Self { client: Client::new(&settings)?, settings })
    }

    /// Fetches one file, unless the cache has it as it is now.
    ///
    /// # Errors
    ///
    /// [`HubError::File`], with the [`Fault`].
    pub fn file(
        &self,
        repository: &Repository,
        file: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<HubFile, HubError> {
        self.fetch(repository, file, MAX_WEIGHTS_BYTES, progress).map_err(|fault| about(repository, file, fault))
    }

    /// Fetches the weights, whichever of their usual names they have. Of weights in several files it gives the index, and the files that it
    /// names lie beside it.
    ///
    /// # Errors
    ///
    /// [`HubError::File`], with the file and the [`Fault`]; [`HubError::Shards`] if weights in several files cannot be joined.
    pub fn weights(&self, repository: &Repository, progress: &mut dyn FnMut(Progress)) -> Result<HubFile, HubError> {
        let cache = Cache::new(&self.settings.cache, repository);
        let mut unreached = None;
        for file in WEIGHTS {
            let max_bytes = if file.ends_with(INDEX_ENDING) { MAX_CONFIG_BYTES } else { MAX_WEIGHTS_BYTES };
            let fetched = match &unreached {
                None => self.fetch(repository, file, max_bytes, progress),
                // Without a connection the cache may have the weights under another name.
                Some((_, fault)) => match from_cache(&cache, repository, file, fault) {
                    Some(Ok(found)) => Ok(found),
                    Some(Err(_)) | None => continue,
                },
            };
            match fetched {
                Ok(found) => {
                    if file.ends_with(INDEX_ENDING) {
                        self.shards(repository, file, &found, progress)?;
                    }
                    return Ok(found);
                }
                Err(Fault::NoFile { .. }) => {}
                Err(fault @ (Fault::Offline { .. } | Fault::Unavailable { .. })) => unreached = Some((file, fault)),
                Err(fault) => return Err(about(repository, file, fault)),
            }
        }
        let [first, _, other, _] = WEIGHTS;
        let (file, fault) = unreached.unwrap_or((first, Fault::NoWeights { other }));
        Err(about(repository, file, fault))
    }

    /// Fetches the files that the index called `name` lists, as they were at its commit.
    fn shards(
        &self,
        repository: &Repository,
        name: &str,
        index: &HubFile,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        let wrong = |fault| HubError::Shards { repository: repository.clone(), fault: Box::new(fault) };
        let too_large = || wrong(ShardsError::TooLarge { path: index.path.clone() });
        let joined = ShardIndex::read(&index.path).map_err(wrong)?;
        if joined.total_size().is_some_and(|total| total > MAX_WEIGHTS_BYTES) {
            return Err(too_large());
        }
        let at_commit = repository.at(index);
        let mut left = MAX_WEIGHTS_BYTES;
        for shard in joined.files() {
            let found = self.fetch(&at_commit, shard, left, progress).map_err(|fault| match fault {
                Fault::TooLarge { .. } => too_large(),
                Fault::NoFile { .. } => about(repository, shard, Fault::NoShard { index: name.to_owned() }),
                fault => about(repository, shard, fault),
            })?;
            let length = found.path.metadata().map_err(|error| about(repository, shard, error.into()))?.len();
            left = left.saturating_sub(length);
        }
        Ok(())
    }

    /// Fetches and reads timm's description of the model, which a repository may lack.
    ///
    /// # Errors
    ///
    /// [`HubError::File`] if it is there and cannot be had, [`HubError::Config`] if it is not a JSON object. An invalid value in it is
    /// `None` and is listed in [`PretrainedConfig::unread`].
    pub fn config(&self, repository: &Repository) -> Result<Option<PretrainedConfig>, HubError> {
        let file = match self.fetch(repository, CONFIG, MAX_CONFIG_BYTES, &mut |_| {}) {
            // Nor is it known without a connection, if the cache has none.
            Err(Fault::NoFile { .. } | Fault::Offline { .. } | Fault::Unavailable { .. }) => return Ok(None),
            result => result.map_err(|fault| about(repository, CONFIG, fault))?,
        };
        let json = fs_err::read(&file.path).map_err(|error| about(repository, CONFIG, error.into()))?;
        match PretrainedConfig::parse(&json) {
            Ok(config) => Ok(Some(config)),
            Err(fault) => Err(HubError::Config { repository: repository.clone(), path: file.path, fault }),
        }
    }

    fn fetch(
        &self,
        repository: &Repository,
        file: &str,
        max_bytes: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<HubFile, Fault> {
        if let Some(reason) = path_fault(file) {
            return Err(Fault::Name { reason });
        }
        let revision = repository.revision();
        let cache = Cache::new(&self.settings.cache, repository);
        let cached = cache.commit(revision).and_then(|commit| Some((cache.find(&commit, file)?, commit)));
        let is_cached = cached.is_some();
        // A commit never changes.
        if let Some((path, commit)) = cached
            && is_commit(revision)
        {
            return Ok(HubFile { path, commit, note: None });
        }
        if self.settings.offline {
            let fault = Fault::Offline { cache: self.settings.cache.clone() };
            return from_cache(&cache, repository, file, &fault).unwrap_or(Err(fault));
        }
        let metadata = match self.client.metadata(repository, file, !is_cached) {
            Err(fault @ Fault::Unavailable { .. }) => {
                return from_cache(&cache, repository, file, &fault).unwrap_or(Err(fault));
            }
            Err(Fault::NoFile { commit }) => {
                // For a time without a connection; a cache that may only be read does without.
                if let Some(commit) = &commit {
                    drop(cache.note_absence(commit, file).and_then(|()| cache.refer(revision, commit)));
                }
                return Err(Fault::NoFile { commit });
            }
            metadata => metadata?,
        };
        if metadata.size > max_bytes {
            return Err(Fault::TooLarge { bytes: metadata.size, max_bytes });
        }
        if cache.is_current(&metadata, file) {
            // A cache that may only be read serves all the same.
            drop(cache.refer(revision, &metadata.commit));
        } else {
            self.update(&cache, repository, file, &metadata, progress)?;
            cache.refer(revision, &metadata.commit)?;
        }
        Ok(HubFile { path: cache.snapshot(&metadata.commit, file), commit: metadata.commit, note: None })
    }

    /// Brings a file into the cache, while other processes that want the same one wait.
    fn update(
        &self,
        cache: &Cache,
        repository: &Repository,
        file: &str,
        metadata: &Metadata,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Fault> {
        let (etag, total) = (metadata.etag.as_str(), metadata.size);
        let _held = cache.lock(etag, |cache| progress(Progress { bytes: cache.partial_bytes(etag), total }))?;
        if !cache.has_blob(metadata) {
            // By its commit, so that the branch may move on meanwhile.
            let url = self.client.url(repository.id(), &metadata.commit, file);
            let mut partial = cache.open_partial(etag)?;
            // What a crash has left is gone on with only where the checksum tells whether it is good.
            if !is_sha256(etag) {
                partial.set_len(0)?;
            }
            let downloaded = self.client.download(&url, &mut partial, total, progress);
            match downloaded.and_then(|()| check(&mut partial, etag)) {
                Err(fault @ Fault::Damaged { .. }) => {
                    drop(partial);
                    cache.remove_partial(etag)?;
                    return Err(fault);
                }
                result => result?,
            }
            cache.keep_partial(etag, partial)?;
        }
        Ok(cache.link(metadata, file)?)
    }
}

/// The cache's answer where the hub gives none because of a fault: its copy, or that there is no such file. `None` if the cache knows neither.
fn from_cache(cache: &Cache, repository: &Repository, file: &str, fault: &Fault) -> Option<Result<HubFile, Fault>> {
    let commit = cache.commit(repository.revision())?;
    if let Some(path) = cache.find(&commit, file) {
        let why = match fault {
            Fault::Unavailable { reason, .. } => reason,
            _ => "`HF_HUB_OFFLINE` is set",
        };
        let note = format!("`{file}` of `{repository}` is from the cache, commit {commit:.7}: {why}");
        return Some(Ok(HubFile { path, commit, note: Some(note) }));
    }
    cache.is_absent(&commit, file).then_some(Err(Fault::NoFile { commit: Some(commit) }))
}

fn about(repository: &Repository, file: &str, fault: Fault) -> HubError {
    HubError::File { repository: repository.clone(), file: file.escape_debug().to_string(), fault: Box::new(fault) }
}

fn is_sha256(etag: &str) -> bool {
    etag.len() == SHA256_DIGITS
}

/// Compares what is on the disk with an ETag that is a SHA-256. A small file's ETag is the SHA-1 of its git blob; of such a file
/// the length alone is checked.
fn check(file: &mut fs_err::File, etag: &str) -> Result<(), Fault> {
    if !is_sha256(etag) {
        return Ok(());
    }
    file.rewind()?;
    let mut hash = hmac_sha256::Hash::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == etag {
        return Ok(());
    }
    Err(Fault::Damaged { reason: format!("its SHA-256 is `{etag}`, but what was downloaded has `{found}`") })
}
