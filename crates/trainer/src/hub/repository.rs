//! Which repository: what follows `hf:`, and which names may become addresses and paths.

use std::fmt;
use std::str::FromStr;

use super::error::HubError;

/// A model repository at a revision: `OWNER/NAME`, or `OWNER/NAME@REVISION`.
///
/// Both parts are safe in an address and in a path once they are read. A few old repositories have no owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    id: String,
    revision: String,
}

impl Repository {
    /// The revision of a repository that was given without one.
    const MAIN: &str = "main";

    /// `OWNER/NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A branch, a tag or a commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same repository as it was at a file's commit, so that a second file goes with the first.
    pub fn at(&self, file: &super::HubFile) -> Self {
        Self { id: self.id.clone(), revision: file.commit.clone() }
    }
}

impl FromStr for Repository {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (id, revision) = text.split_once('@').unwrap_or((text, Self::MAIN));
        let id_fault = id_fault(id);
        let revision_fault = path_fault(revision).map(|reason| format!("the revision {reason}"));
        match id_fault.map(str::to_owned).or(revision_fault) {
            None => Ok(Self { id: id.to_owned(), revision: revision.to_owned() }),
            Some(reason) => Err(HubError::Repository { text: text.escape_debug().to_string(), reason }),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.id)?;
        if self.revision == Self::MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// The rules of huggingface_hub's `validate_repo_id` (`utils/_validators.py` of version 2.4.0).
fn id_fault(id: &str) -> Option<&'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let ends_in_words = |part: &str| {
        part.as_bytes().first().copied().is_some_and(is_word) && part.as_bytes().last().copied().is_some_and(is_word)
    };
    if id.is_empty() {
        Some("it is empty")
    } else if id.split('/').count() > 2 {
        Some("more than one `/`")
    } else if !id.bytes().all(|byte| is_word(byte) || b"-./".contains(&byte)) {
        Some("only letters, digits, `-`, `_` and `.` are allowed in the owner and in the name")
    } else if !id.split('/').all(|part| ends_in_words(part) && part.len() <= 96) {
        Some("owner and name have 1 to 96 characters and neither begin nor end with `-` or `.`")
    } else if id.contains("--") || id.contains("..") {
        Some("`--` and `..` are not allowed")
    } else if id.ends_with(".git") {
        Some("it ends with `.git`")
    } else {
        None
    }
}

/// What keeps a file's name or a revision from being used as a path below a directory, on any system.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        Some("is empty")
    } else if path.chars().any(char::is_control) {
        Some("has a control character")
    } else if path.contains(['\\', ':']) {
        Some("has a `\\` or a `:`")
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("has a part that is empty, `.` or `..`")
    } else {
        None
    }
}

/// Whether a text is a number in lower-case hexadecimal digits. Only such names come from a server into the cache.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text is a full commit, which never changes.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, SHA1_DIGITS)
}

/// Digits of a commit, and of the SHA-1 of a small file's git blob.
pub(super) const SHA1_DIGITS: usize = 40;
/// Digits of the SHA-256 of a large file.
pub(super) const SHA256_DIGITS: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics says what is wrong")]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_read_with_and_without_owner_and_revision() {
        for (text, id, revision) in [
            ("timm/ghostnet_100.in1k", "timm/ghostnet_100.in1k", "main"),
            ("timm/ghostnet_100.in1k@v1.0", "timm/ghostnet_100.in1k", "v1.0"),
            ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
            ("gpt2", "gpt2", "main"),
        ] {
            let repository: Repository = text.parse().unwrap();
            assert_eq!((repository.id(), repository.revision()), (id, revision));
            assert_eq!(repository.to_string(), format!("hf:{text}"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "it is empty"),
            ("@main", "it is empty"),
            ("datasets/a/b", "more than one `/`"),
            ("a/b c", "only letters, digits, `-`, `_` and `.` are allowed in the owner and in the name"),
            ("a/ü", "only letters, digits, `-`, `_` and `.` are allowed in the owner and in the name"),
            ("a/..", "owner and name have 1 to 96 characters and neither begin nor end with `-` or `.`"),
            ("/b", "owner and name have 1 to 96 characters and neither begin nor end with `-` or `.`"),
            ("a/b-", "owner and name have 1 to 96 characters and neither begin nor end with `-` or `.`"),
            ("a/b--c", "`--` and `..` are not allowed"),
            ("a/b..c", "`--` and `..` are not allowed"),
            ("a/b.git", "it ends with `.git`"),
            ("a/b@", "the revision is empty"),
            ("a/b@../../x", "the revision has a part that is empty, `.` or `..`"),
            ("a/b@/etc", "the revision has a part that is empty, `.` or `..`"),
            ("a/b@a\\b", "the revision has a `\\` or a `:`"),
        ] {
            let error = text.parse::<Repository>().unwrap_err().to_string();
            let shown = text.escape_debug();
            assert_eq!(
                error,
                format!(
                    "`hf:{shown}` does not name a repository: {reason}\n\n\
                     hint: write `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, as in `hf:timm/ghostnet_100.in1k`"
                )
            );
        }
        let error = "a/b@\u{1b}[2J".parse::<Repository>().unwrap_err().to_string();
        assert!(
            error.starts_with("`hf:a/b@\\u{1b}[2J` does not name a repository: the revision has a control"),
            "{error}"
        );
    }
}
