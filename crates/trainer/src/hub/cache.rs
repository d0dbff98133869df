//! The cache of the Python package huggingface_hub: what it has downloaded is found here, and the other way round.
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG              contents
//! models--OWNER--NAME/blobs/ETAG.incomplete   the beginning of contents
//! models--OWNER--NAME/refs/REVISION           the commit that a branch or a tag stood for
//! models--OWNER--NAME/snapshots/COMMIT/FILE   a link to its contents; a copy where links cannot be made
//! models--OWNER--NAME/.no_exist/COMMIT/FILE   empty: this commit has no such file
//! .locks/models--OWNER--NAME/ETAG.lock        held by whoever writes that file
//! ```
//!
//! Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>, and `_hf_hub_download_to_cache_dir` in
//! `file_download.py` of version 2.4.0.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fs_err::{self as fs, File};

use super::Repository;
use super::client::Metadata;
use super::repository::is_commit;
use crate::run_directory::{replace, sync_directory};

/// Between two looks at a lock that another process holds.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, repository: &Repository) -> Self {
        let folder = format!("models--{}", repository.id().replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(&folder) }
    }

    /// The commit that a revision was when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// A file at a commit, if it is there.
    pub(super) fn find(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit, file)).filter(|path| path.is_file())
    }

    /// Whether the hub has said that a commit has no such file.
    pub(super) fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).is_file()
    }

    /// Whether a file at its commit is in the cache as the hub now describes it.
    pub(super) fn is_current(&self, metadata: &Metadata, file: &str) -> bool {
        let path = self.snapshot(&metadata.commit, file);
        // What is not a link is a copy, of which only commit and length are known.
        let is_same = fs::read_link(&path).map_or(true, |blob| blob.ends_with(&metadata.etag));
        is_same && has_len(&path, metadata.size)
    }

    /// Whether the contents are there, perhaps from another commit.
    pub(super) fn has_blob(&self, metadata: &Metadata) -> bool {
        has_len(&self.blob(&metadata.etag), metadata.size)
    }

    /// Where a file lies once it is there.
    pub(super) fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join("snapshots").join(commit).join(file)
    }

    /// Keeps other processes away from an ETag for as long as the result lives; calls `waiting` while one is at work.
    pub(super) fn lock(&self, name: &str, mut waiting: impl FnMut(&Self)) -> io::Result<File> {
        let lock = create(&self.locks.join(format!("{name}.lock")))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    waiting(self);
                    thread::sleep(LOCK_WAIT);
                }
                Err(TryLockError::Error(error)) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot lock `{}`: {error}", lock.path().display()),
                    ));
                }
            }
        }
    }

    /// Bytes of contents that are not yet whole.
    pub(super) fn partial_bytes(&self, etag: &str) -> u64 {
        fs::metadata(self.partial(etag)).map_or(0, |partial| partial.len())
    }

    /// Opens the beginning of contents, to read and to go on.
    pub(super) fn open_partial(&self, etag: &str) -> io::Result<File> {
        create(&self.partial(etag))
    }

    /// Gives up contents that are wrong.
    pub(super) fn remove_partial(&self, etag: &str) -> io::Result<()> {
        fs::remove_file(self.partial(etag))
    }

    /// Makes whole contents what they are.
    pub(super) fn keep_partial(&self, etag: &str, partial: File) -> io::Result<()> {
        partial.sync_all()?;
        drop(partial);
        fs::rename(self.partial(etag), self.blob(etag))?;
        sync_directory(&self.root.join("blobs"))
    }

    /// Makes a file of a commit a link to its contents. The lock must be held.
    pub(super) fn link(&self, metadata: &Metadata, file: &str) -> io::Result<()> {
        let path = self.snapshot(&metadata.commit, file);
        let blob = self.blob(&metadata.etag);
        let temporary = blob.with_added_extension("link");
        if temporary.symlink_metadata().is_ok() {
            fs::remove_file(&temporary)?;
        }
        // From the snapshot, not from where it is made: relative, so that the cache can be moved.
        let target = format!("{}blobs/{}", "../".repeat(2 + file.matches('/').count()), metadata.etag);
        make_link(&blob, &target, &temporary)?;
        create_parent(&path)?;
        fs::rename(&temporary, &path)
    }

    /// Notes which commit a revision is.
    pub(super) fn refer(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit(revision).as_deref() == Some(commit) || is_commit(revision) {
            return Ok(());
        }
        let reference = self.reference(revision);
        let _held = self.lock("refs", |_| {})?;
        create_parent(&reference)?;
        replace(&reference, commit.as_bytes())
    }

    /// Notes that a commit has no such file.
    pub(super) fn note_absence(&self, commit: &str, file: &str) -> io::Result<()> {
        create(&self.absence(commit, file)).map(drop)
    }

    fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    fn partial(&self, etag: &str) -> PathBuf {
        self.blob(etag).with_added_extension("incomplete")
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }
}

fn has_len(path: &Path, len: u64) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == len)
}

/// Opens a file to read and write, makes it and its directories if need be, and leaves what is in it.
fn create(path: &Path) -> io::Result<File> {
    create_parent(path)?;
    fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// On Windows links need a privilege, and some file systems have none.
fn make_link(blob: &Path, target: &str, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if fs::os::unix::fs::symlink(target, path).is_ok() {
        return Ok(());
    }
    #[cfg(not(unix))]
    let _ = target;
    fs::copy(blob, path).map(drop)
}
