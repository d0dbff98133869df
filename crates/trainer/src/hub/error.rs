//! What can stand between a repository and a file on the disk, each with the next step.

use std::io;
use std::path::PathBuf;

use foreign_weights::ShardsError;

use super::Repository;
use super::config::ConfigError;

/// Why a repository could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What follows `hf:` names no repository.
    #[error(
        "`hf:{text}` does not name a repository: {reason}\n\nhint: write `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, as in \
         `hf:timm/ghostnet_100.in1k`"
    )]
    Repository {
        /// What was written, control characters escaped.
        text: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A variable of the environment, or the token's file, cannot be used.
    #[error("{what} {reason}\n\nhint: correct it or unset it")]
    Environment {
        /// The variable with its value, or the file. Never a token.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a repository could not be had.
    #[error("cannot fetch `{file}` of `{repository}`: {fault}")]
    File {
        /// Where it was looked for.
        repository: Repository,
        /// Its name there, control characters escaped.
        file: String,
        /// Why.
        fault: Box<Fault>,
    },
    /// The model's description is there and cannot be meant.
    #[error(
        "`config.json` of `{repository}`, kept as `{path}`, {fault}\n\nhint: name another revision, or tell the repository's owner"
    )]
    Config {
        /// Where it comes from.
        repository: Repository,
        /// The file in the cache.
        path: PathBuf,
        /// What is wrong with it.
        fault: ConfigError,
    },
    /// The weights are in several files, which cannot be joined by their index.
    #[error("the weights of `{repository}` are in several files that cannot be joined: {fault}")]
    Shards {
        /// Where they come from.
        repository: Repository,
        /// What is wrong with the index.
        fault: Box<ShardsError>,
    },
}

/// Why one file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The name of the file cannot be used.
    #[error("its name {reason}\n\nhint: name a file as the repository's page lists it, such as `model.safetensors`")]
    Name {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The hub does not show this repository to us.
    #[error(
        "`{host}` has no such repository, or it is private\n\nhint: check the spelling; for a private repository set `HF_TOKEN` to a \
         token that may read it"
    )]
    NoRepository {
        /// Who says so.
        host: String,
    },
    /// The repository's owner wants to know who uses it.
    #[error(
        "the repository is gated\n\nhint: accept its conditions on its page, then set `HF_TOKEN` to a token of the account that did"
    )]
    Gated,
    /// Known, but not for us.
    #[error(
        "`{host}` refuses access with status {status}{}\n\nhint: set `HF_TOKEN` to a token that may read the repository; one that is \
         set may have expired",
        in_brackets(message)
    )]
    Refused {
        /// Who says so.
        host: String,
        /// 401 or 403.
        status: u16,
        /// The server's words; may be empty.
        message: String,
    },
    /// The repository is there, the revision is not.
    #[error(
        "there is no such revision\n\nhint: after `@` stands a branch, a tag or a full commit; without it, `main` is taken"
    )]
    NoRevision,
    /// The revision is there, the file is not.
    #[error("there is no such file at this revision\n\nhint: the repository's page lists its files")]
    NoFile {
        /// The revision's commit, where the server tells.
        commit: Option<String>,
    },
    /// One of several files of weights is not there.
    #[error(
        "`{index}` names it, but there is no such file at this revision\n\nhint: name another revision, or tell the repository's owner"
    )]
    NoShard {
        /// The index that names it.
        index: String,
    },
    /// None of the names that weights have is there.
    #[error(
        "there is neither that nor `{other}`, nor an index of weights in several files\n\n\
         hint: name a repository that holds weights, such as `hf:timm/ghostnet_100.in1k`"
    )]
    NoWeights {
        /// The second name.
        other: &'static str,
    },
    /// No answer, or none now. What is in the cache is used in this case, and nothing was.
    #[error("{reason}, and the cache has no copy\n\nhint: {hint}")]
    Unavailable {
        /// Who did not answer, and what happened.
        reason: String,
        /// What may help.
        hint: &'static str,
    },
    /// Nothing may be asked, and the cache does not have it.
    #[error(
        "`HF_HUB_OFFLINE` is set, and the cache `{cache}` has no copy\n\nhint: unset it to download the file once, or set `HF_HOME` to \
         where the file is"
    )]
    Offline {
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The download stopped, again and again, at the same place.
    #[error("{reason}, after {bytes} of {total} bytes\n\nhint: run the command again: it goes on from there")]
    Interrupted {
        /// What happened the last time.
        reason: String,
        /// Bytes that are kept.
        bytes: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// An answer that a hub does not give.
    #[error(
        "`{host}` gives an answer that is not understood: {reason}\n\nhint: check `HF_ENDPOINT`, and whether a proxy or a login page answers instead"
    )]
    Answer {
        /// Who answered.
        host: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// More than is taken.
    #[error(
        "it has {bytes} bytes, more than the {max_bytes} that are accepted\n\nhint: name a repository of a smaller model"
    )]
    TooLarge {
        /// As announced.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The contents are not the ones announced.
    #[error(
        "{reason}; the partial file is removed\n\nhint: run the command again; if it stays so, a proxy alters the file or the \
         repository is damaged"
    )]
    Damaged {
        /// What was announced, and what came.
        reason: String,
    },
    /// The system refused; its message names the file.
    #[error("{0}\n\nhint: set `HF_HOME` to a directory that you may write to and that has room")]
    Cache(#[from] io::Error),
}

fn in_brackets(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}
