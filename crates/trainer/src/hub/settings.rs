//! Where the hub is, where the cache is, and how patient to be: what the environment says, read in one place.
//!
//! The variables and their defaults are those of huggingface_hub (`constants.py` of version 2.4.0):
//! <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>. An empty variable counts as unset.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::HeaderValue;

use super::error::HubError;

/// What a [`Hub`](super::Hub) needs to know.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// `HF_ENDPOINT`: the address that repositories are below.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the file `token` in `HF_HOME`. It is sent to the endpoint and to no other address; like huggingface_hub
    /// we send it to an endpoint over http too, since it is the user who named that endpoint.
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: only the cache is used.
    pub offline: bool,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` count.
    pub use_proxy: bool,
    /// `SSL_CERT_FILE`: certificates to trust in place of the built-in ones of Mozilla, as behind a proxy that reads along.
    pub certificates: Option<PathBuf>,
    /// For a name to be resolved, and again for a connection to stand.
    pub connect_timeout: Duration,
    /// For each read, not for the whole download.
    pub read_timeout: Duration,
    /// How often something is tried that may pass, without getting a byte further.
    pub tries: u32,
    /// Between the first two tries; it doubles each time.
    pub first_wait: Duration,
}

/// A secret that shows itself to nobody but the endpoint.
#[derive(Debug, Clone)]
pub struct Token(pub(super) HeaderValue);

impl Token {
    /// None if the text cannot stand in a header.
    pub fn new(secret: &str) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {secret}")).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }
}

impl HubSettings {
    /// Hugging Face's own hub.
    pub const ENDPOINT: &str = "https://huggingface.co";

    /// No token, no proxy, and the patience of a program that someone waits for.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into(),
            cache: cache.into(),
            token: None,
            offline: false,
            use_proxy: false,
            certificates: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            tries: 4,
            first_wait: Duration::from_secs(1),
        }
    }

    /// What the process was started with.
    ///
    /// # Errors
    ///
    /// [`HubError::Environment`], if a variable or the token's file cannot be meant.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The same, from any source of variables.
    ///
    /// # Errors
    ///
    /// As [`from_environment`](Self::from_environment).
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| match set(name).map(OsString::into_string) {
            Some(Err(_)) => Err(fault(format!("`{name}`"), "is not UTF-8")),
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
        };
        let user = set(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
        // A shell resolves `~`, but the files that set variables for services and containers do not.
        let path = |name| {
            let value = PathBuf::from(set(name)?);
            Some(match (value.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => user.join(rest),
                _ => value,
            })
        };
        let caches = path("XDG_CACHE_HOME").or_else(|| user.as_ref().map(|user| user.join(".cache")));
        let home = path("HF_HOME").or_else(|| caches.map(|caches| caches.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.ok_or_else(|| fault("`HF_HOME`".to_owned(), "is not set, and there is no home directory"))?;

        let mut token_at = "`HF_TOKEN`".to_owned();
        let mut secret = text("HF_TOKEN")?;
        if let (None, Some(file)) = (&secret, home.map(|home| home.join("token"))) {
            token_at = format!("the token in `{}`", file.display());
            secret = match std::fs::read_to_string(&file) {
                Ok(content) => Some(content),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(fault(token_at, &format!("cannot be read: {error}"))),
            };
        }
        let token = match secret.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(secret) => {
                Some(Token::new(secret).ok_or_else(|| fault(token_at, "has characters that no token has"))?)
            }
        };
        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| Self::ENDPOINT.to_owned());
        let offline = text("HF_HUB_OFFLINE")?.unwrap_or_default().to_ascii_uppercase();
        Ok(Self {
            token,
            offline: ["1", "ON", "YES", "TRUE"].contains(&offline.as_str()),
            use_proxy: true,
            certificates: path("SSL_CERT_FILE"),
            ..Self::new(endpoint, cache)
        })
    }
}

fn fault(what: String, reason: &str) -> HubError {
    HubError::Environment { what, reason: reason.to_owned() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics says what is wrong")]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_variables(|name| {
            variables.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    #[cfg(unix)]
    fn the_cache_is_where_huggingface_hub_looks_for_it() {
        for (variables, cache) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "")], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/f")], "/h/f/hub"),
            (&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")], "/c"),
        ] {
            assert_eq!(read(variables).unwrap().cache, Path::new(cache), "{variables:?}");
        }
        let error = read(&[]).unwrap_err().to_string();
        assert_eq!(error, "`HF_HOME` is not set, and there is no home directory\n\nhint: correct it or unset it");
    }

    #[test]
    fn the_token_comes_from_the_variable_or_else_from_the_file_and_is_never_shown() {
        let home = tempfile::tempdir().unwrap();
        let home_text = home.path().to_str().unwrap();
        let header = |variables: &[(&str, &str)]| {
            let settings = read(variables).unwrap();
            assert!(!format!("{settings:?}").contains("hf_"), "{settings:?}");
            settings.token.map(|token| token.0.to_str().unwrap().to_owned())
        };
        assert_eq!(header(&[("HF_HOME", home_text)]), None);
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(header(&[("HF_HOME", home_text)]), Some("Bearer hf_file".to_owned()));
        assert_eq!(
            header(&[("HF_HOME", home_text), ("HF_TOKEN", " hf_variable\n")]),
            Some("Bearer hf_variable".to_owned())
        );
        let error = read(&[("HF_HOME", home_text), ("HF_TOKEN", "hf_a\nhf_b")]).unwrap_err().to_string();
        assert_eq!(error, "`HF_TOKEN` has characters that no token has\n\nhint: correct it or unset it");
    }

    #[test]
    fn offline_is_what_huggingface_hub_takes_for_true() {
        for (value, offline) in [("1", true), ("yes", true), ("True", true), ("ON", true), ("0", false), ("", false)] {
            assert_eq!(read(&[("HF_HOME", "f"), ("HF_HUB_OFFLINE", value)]).unwrap().offline, offline, "{value}");
        }
    }
}
