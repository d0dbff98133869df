//! The hub's protocol over HTTP: what a file is, and its contents, resumed where a connection broke.
//!
//! `HEAD {endpoint}/{repository}/resolve/{revision}/{file}` answers with the commit, the ETag and the length. For a large file
//! the ETag is the SHA-256 of the contents, for a small one the SHA-1 of its git blob. A large file's contents lie on another
//! host, which a redirect names. Source: huggingface_hub 2.4.0, `get_hf_file_metadata` and `http_get` in `file_download.py`,
//! `hf_raise_for_status` in `utils/_http.py`.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use fs_err::File;
use ureq::http::{HeaderValue, Method, Request, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::error::{Fault, HubError};
use super::repository::{SHA1_DIGITS, SHA256_DIGITS, is_commit, is_hex};
use super::settings::HubSettings;
use super::{Progress, Repository};

const MAX_REDIRECTS: usize = 10;
const MAX_SHOWN_CHARACTERS: usize = 300;
const READ_BYTES: usize = 1 << 16;
const USER_AGENT: &str = concat!("ghostnet/", env!("CARGO_PKG_VERSION"));

const LINKED_ETAG: &str = "X-Linked-Etag";

/// What the hub says of a file; names are checked, so that they may become paths.
#[derive(Debug)]
pub(super) struct Metadata {
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    /// 40 or 64 hexadecimal digits.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<HeaderValue>,
    tries: u32,
    first_wait: Duration,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.trim_end_matches('/');
        if !endpoint.parse::<Uri>().is_ok_and(|uri| is_web(&uri) && uri.query().is_none()) {
            let what = format!("`HF_ENDPOINT={}`", endpoint.escape_debug());
            return Err(HubError::Environment { what, reason: "is no http or https address".to_owned() });
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, since the token may not go along.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Lengths and ranges are those of the file itself.
            .accept_encoding("identity")
            .user_agent(USER_AGENT)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_send_request(Some(settings.read_timeout))
            .timeout_recv_response(Some(settings.read_timeout))
            .timeout_per_read(Some(settings.read_timeout));
        let config = if settings.use_proxy { config } else { config.proxy(None) };
        let config = match &settings.certificates {
            None => config,
            Some(path) => config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build()),
        };
        Ok(Self {
            agent: config.build().into(),
            endpoint: endpoint.to_owned(),
            token: settings.token.as_ref().map(|token| token.0.clone()),
            tries: settings.tries,
            first_wait: settings.first_wait,
        })
    }

    /// Asks what a file is. Without `patiently`, one try must do.
    pub(super) fn metadata(&self, repository: &Repository, file: &str, patiently: bool) -> Result<Metadata, Fault> {
        let mut patience = Patience::new(if patiently { self.tries } else { 1 }, self.first_wait);
        loop {
            match self.metadata_once(repository, file) {
                Err(Fault::Unavailable { .. }) if patience.waits() => {}
                result => return result,
            }
        }
    }

    /// Appends what is missing of a file's contents. An error leaves what has come, for the next time.
    pub(super) fn download(
        &self,
        url: &str,
        partial: &mut File,
        size: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Fault> {
        let mut have = partial.metadata()?.len();
        if have > size {
            partial.set_len(0)?;
            have = 0;
        }
        let mut farthest = have;
        let mut patience = Patience::new(self.tries, self.first_wait);
        progress(Progress { bytes: have, total: size });
        while have < size {
            match self.append(url, partial, &mut have, size, progress) {
                Err(Fault::Unavailable { reason, .. }) => {
                    // A server that begins anew each time gets no further, and must not keep us forever.
                    if have > farthest {
                        farthest = have;
                        patience = Patience::new(self.tries, self.first_wait);
                    }
                    if !patience.waits() {
                        return Err(Fault::Interrupted { reason, bytes: have, total: size });
                    }
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// The address of a file.
    pub(super) fn url(&self, id: &str, revision: &str, file: &str) -> String {
        format!("{}/{id}/resolve/{}/{}", self.endpoint, escaped(revision, ""), escaped(file, "/"))
    }

    fn metadata_once(&self, repository: &Repository, file: &str) -> Result<Metadata, Fault> {
        let revision = repository.revision();
        let (host, response) = self.request(&Method::HEAD, &self.url(repository.id(), revision, file), 0)?;
        let answer = |reason| bad_answer(&host, reason);
        if !response.status().is_redirection() {
            check_status(&host, &response)?;
        }
        let commit = text(&response, "X-Repo-Commit").ok_or_else(|| answer("no `X-Repo-Commit`".to_owned()))?;
        if !is_commit(commit) {
            return Err(answer(format!("`X-Repo-Commit` is `{commit}`, not a commit")));
        }
        if is_commit(revision) && commit != revision {
            return Err(answer(format!("`X-Repo-Commit` is `{commit}`, not the commit that was asked for")));
        }
        let etag = text(&response, LINKED_ETAG).or_else(|| text(&response, "ETag"));
        let etag = etag.ok_or_else(|| answer("no `ETag`".to_owned()))?;
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        if !is_hex(etag, SHA1_DIGITS) && !is_hex(etag, SHA256_DIGITS) {
            return Err(answer(format!("`ETag` is `{etag}`, neither a SHA-1 nor a SHA-256")));
        }
        // The length of a redirect is its own, not the file's.
        let own = || text(&response, "Content-Length").filter(|_| !response.status().is_redirection());
        let size = text(&response, "X-Linked-Size").or_else(own).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| answer("the file's length is missing".to_owned()))?;
        Ok(Metadata { commit: commit.to_owned(), etag: etag.to_owned(), size })
    }

    /// One connection's worth of [`download`](Self::download).
    fn append(
        &self,
        url: &str,
        partial: &mut File,
        have: &mut u64,
        size: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Fault> {
        let (host, response) = self.request(&Method::GET, url, *have)?;
        let broken = |reason: &str| no_answer(format!("the connection to `{host}` broke: {reason}"));
        let wrong_length =
            |found| Fault::Damaged { reason: format!("it has {size} bytes, but `{host}` sends {found}") };
        match response.status().as_u16() {
            206 if text(&response, "Content-Range") == Some(&format!("bytes {have}-{}/{size}", size - 1)) => {}
            // A server that knows no ranges, or that does not agree to this one: from the beginning.
            status @ (200 | 206 | 416) => {
                partial.set_len(0)?;
                *have = 0;
                if status != 200 {
                    return Err(no_answer(format!("`{host}` has no such range of the file as was asked for")));
                }
                if let Some(found) = response.body().content_length().filter(|&found| found != size) {
                    return Err(wrong_length(found));
                }
            }
            status => {
                check_status(&host, &response)?;
                return Err(bad_answer(&host, format!("status {status}")));
            }
        }
        partial.seek(SeekFrom::Start(*have))?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match reader.read(&mut buffer).map_err(|error| broken(&error.to_string()))? {
                0 if *have < size => return Err(broken("it was closed")),
                0 => return Ok(()),
                count if *have + count as u64 > size => return Err(wrong_length(*have + count as u64)),
                count => {
                    partial.write_all(&buffer[..count])?;
                    *have += count as u64;
                    progress(Progress { bytes: *have, total: size });
                }
            }
        }
    }

    /// Sends a request, and follows redirects until a response is none or has a file's metadata. Gives the host that answered.
    ///
    /// The token goes to the endpoint's own scheme, host and port; whoever is redirected away from there has lost it for good.
    fn request(&self, method: &Method, url: &str, from: u64) -> Result<(String, Response<Body>), Fault> {
        let mut token = self.token.as_ref();
        let mut host = self.endpoint.clone();
        let mut url: Uri = url.parse().map_err(|_| bad_answer(&host, format!("`{url}` is no address")))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(method).uri(&url);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, token);
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let request = request.body(()).map_err(|error| bad_answer(&host, error.to_string()))?;
            host = origin(&url);
            let response = self.agent.run(request).map_err(|error| {
                let reason = error.to_string();
                no_answer(format!("`{host}` cannot be reached: {}", reason.strip_prefix("io: ").unwrap_or(&reason)))
            })?;
            let is_answer = method == Method::HEAD && response.headers().contains_key(LINKED_ETAG);
            if !response.status().is_redirection() || is_answer {
                return Ok((host, response));
            }
            url = redirected(&url, text(&response, "Location").unwrap_or_default())
                .map_err(|reason| bad_answer(&host, reason))?;
            token = token.filter(|_| origin(&url) == host);
        }
        Err(bad_answer(&host, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

fn certificates(path: &Path) -> Result<RootCerts, HubError> {
    let fault = |reason| HubError::Environment { what: format!("`SSL_CERT_FILE={}`", path.display()), reason };
    let pem = std::fs::read(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let found = |item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None };
    let certificates: Vec<_> = parse_pem(&pem).filter_map(found).collect();
    if certificates.is_empty() {
        return Err(fault("holds no certificate".to_owned()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

fn bad_answer(host: &str, reason: String) -> Fault {
    Fault::Answer { host: host.to_owned(), reason: shown(&reason) }
}

/// As much of what a server says as a message has room for.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARACTERS).collect()
}

/// No answer, which may pass.
fn no_answer(reason: String) -> Fault {
    Fault::Unavailable {
        reason,
        hint: "check the connection; `HTTPS_PROXY` names a proxy, `SSL_CERT_FILE` its certificates, `HF_ENDPOINT` a mirror",
    }
}

/// Whether a response has what was asked for; `X-Error-Code` says more than the status.
fn check_status(host: &str, response: &Response<Body>) -> Result<(), Fault> {
    let status = response.status().as_u16();
    let message = text(response, "X-Error-Message").unwrap_or_default();
    let host = host.to_owned();
    let busy = |hint| Fault::Unavailable { reason: format!("`{host}` answers with status {status}"), hint };
    match (status, text(response, "X-Error-Code").unwrap_or_default()) {
        (200..=299, _) => Ok(()),
        (_, "EntryNotFound") => {
            let commit = text(response, "X-Repo-Commit").filter(|commit| is_commit(commit));
            Err(Fault::NoFile { commit: commit.map(str::to_owned) })
        }
        (_, "RevisionNotFound") => Err(Fault::NoRevision),
        (_, "GatedRepo") => Err(Fault::Gated),
        // Without a token, a repository that does not exist and a private one look the same.
        (401, _) if message != "Invalid credentials in Authorization header" => Err(Fault::NoRepository { host }),
        (_, "RepoNotFound") => Err(Fault::NoRepository { host }),
        (401 | 403, _) => Err(Fault::Refused { host, status, message: shown(message) }),
        (429, _) => Err(busy("wait some minutes; more requests are allowed with a token in `HF_TOKEN`")),
        (408 | 500..=599, _) => Err(busy("try again later, or set `HF_ENDPOINT` to a mirror")),
        _ => Err(bad_answer(&host, format!("status {status}"))),
    }
}

/// Where a redirect leads, or why it is not followed.
fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let scheme = from.scheme_str().unwrap_or_default();
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{}{location}", origin(from))
    } else {
        location.to_owned()
    };
    // The query of such an address may be a signature, which is nobody's business.
    let place = location.split('?').next().unwrap_or_default();
    match absolute.parse::<Uri>() {
        Ok(target) if scheme == "https" && target.scheme_str() == Some("http") => {
            Err(format!("a redirect from https to http, `{place}`"))
        }
        Ok(target) if is_web(&target) => Ok(target),
        _ => Err(format!("a redirect to `{place}`, which is no http or https address")),
    }
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

/// Scheme, host and port, without a user's name.
fn origin(uri: &Uri) -> String {
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default().to_ascii_lowercase());
    match (scheme, uri.port_u16()) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    }
}

/// A header, if it is there and is visible ASCII: nothing else is shown or used.
fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Percent-encoded but for letters, digits, `-._~` and what else is to be kept.
fn escaped(text: &str, keep: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Tries that are left, and how long to wait before the next.
struct Patience {
    tries: u32,
    wait: Duration,
}

impl Patience {
    fn new(tries: u32, wait: Duration) -> Self {
        Self { tries, wait }
    }

    /// Waits if another try is due after one that failed.
    fn waits(&mut self) -> bool {
        self.tries = self.tries.saturating_sub(1);
        if self.tries > 0 {
            thread::sleep(self.wait);
            self.wait *= 2;
        }
        self.tries > 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics says what is wrong")]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_may_stay_or_go_to_another_host_but_never_from_https_to_http_or_out_of_the_web() {
        let follow =
            |from: &str, location: &str| redirected(&from.parse().unwrap(), location).map(|uri| uri.to_string());
        let from = "https://hub.example/a/b/resolve/main/c?d";
        assert_eq!(follow(from, "/x?y=z"), Ok("https://hub.example/x?y=z".to_owned()));
        assert_eq!(follow(from, "//cdn.example/x"), Ok("https://cdn.example/x".to_owned()));
        assert_eq!(follow(from, "https://cdn.example:8443/x"), Ok("https://cdn.example:8443/x".to_owned()));
        assert_eq!(follow("http://hub.example/", "https://cdn.example/x"), Ok("https://cdn.example/x".to_owned()));
        let refused = |location: &str| follow(from, location).unwrap_err();
        assert_eq!(refused("http://hub.example/x?signature"), "a redirect from https to http, `http://hub.example/x`");
        for location in ["ftp://hub.example/x", "file:///etc/passwd", "x", "", "https://"] {
            assert_eq!(refused(location), format!("a redirect to `{location}`, which is no http or https address"),);
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_else() {
        let origin = |url: &str| origin(&url.parse().unwrap());
        assert_eq!(origin("https://user:secret@Hub.Example:443/x?y"), "https://hub.example");
        assert_eq!(origin("http://hub.example:443/x"), "http://hub.example:443");
        assert_eq!(origin("http://[::1]:80/"), "http://[::1]");
    }

    #[test]
    fn names_are_escaped_in_addresses() {
        assert_eq!(escaped("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(escaped("onnx/ä b?#%.bin", "/"), "onnx/%C3%A4%20b%3F%23%25.bin");
    }
}
