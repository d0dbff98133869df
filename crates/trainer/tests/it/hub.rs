//! Downloads from a hub that runs in this process.

#![expect(clippy::unwrap_used, reason = "a test that panics says what is wrong")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::TensorData;
use trainer::hub::{Hub, HubError, HubFile, HubSettings, Repository, Token};

use self::server::{Asked, Reply, Server};
use crate::scene::{self, Scene};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";
/// The SHA-1 of a git blob, of no particular one.
const SMALL_ETAG: &str = "aaaabbbbccccddddeeeeffff0000111122223333";
const WEIGHTS: &str = "/timm/ghostnet_100.in1k/resolve/main/model.safetensors";
const PINNED: &str = "/timm/ghostnet_100.in1k/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors";

fn sha256(contents: &[u8]) -> String {
    hmac_sha256::Hash::hash(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Contents of some length, no two bytes in a row alike.
fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 % 251) as u8).collect()
}

fn repository() -> Repository {
    "timm/ghostnet_100.in1k".parse().unwrap()
}

/// The hub's answer to a `HEAD` for a large file.
fn described(commit: &str, contents: &[u8]) -> Reply {
    Reply::redirect("/cdn/contents")
        .header("X-Repo-Commit", commit)
        .header("X-Linked-Etag", format!("\"{}\"", sha256(contents)))
        .header("X-Linked-Size", contents.len().to_string())
}

/// A hub with one large file, whose contents are sent by `send`.
fn hub_with(contents: &[u8], send: impl Fn(&Asked, &[u8], usize) -> Reply + Send + Sync + 'static) -> Server {
    let contents = contents.to_vec();
    Server::start(move |asked, before| match (asked.method.as_str(), asked.path.as_str()) {
        ("HEAD", WEIGHTS) => described(COMMIT, &contents),
        ("GET", PINNED) => Reply::redirect("/cdn/contents?signature"),
        ("GET", "/cdn/contents?signature") => send(asked, &contents, before),
        other => panic!("{other:?}"),
    })
}

/// A cache in a directory of its own.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn settings(&self, endpoint: &str) -> HubSettings {
        HubSettings {
            connect_timeout: Duration::from_secs(5),
            // Long enough for a server that shares its cores with other tests.
            read_timeout: Duration::from_secs(5),
            tries: 3,
            first_wait: Duration::from_millis(1),
            ..HubSettings::new(endpoint, self.dir.path())
        }
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub::new(self.settings(&server.address)).unwrap()
    }

    /// A hub with a short read timeout, for servers that fall silent.
    fn impatient_hub(&self, server: &Server) -> Hub {
        Hub::new(HubSettings { read_timeout: Duration::from_millis(300), ..self.settings(&server.address) }).unwrap()
    }

    fn fetch(&self, server: &Server) -> Result<HubFile, HubError> {
        self.hub(server).file(&repository(), "model.safetensors", &mut |_| {})
    }

    /// The error of a fetch, with stand-ins for the address and for the directory.
    fn fault(&self, server: &Server) -> String {
        self.shown(&server.address, &self.fetch(server).unwrap_err())
    }

    fn shown(&self, address: &str, error: &HubError) -> String {
        let text = error.to_string();
        let text = if address.is_empty() { text } else { text.replace(address, "HUB") };
        text.replace(&self.dir.path().display().to_string(), "CACHE")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("models--timm--ghostnet_100.in1k").join(path)
    }

    fn write(&self, path: &str, contents: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn partial(&self, contents: &[u8]) -> PathBuf {
        self.path(&format!("blobs/{}.incomplete", sha256(contents)))
    }
}

const CANNOT: &str = "cannot fetch `model.safetensors` of `hf:timm/ghostnet_100.in1k`: ";

fn said(reason: &str, hint: &str) -> String {
    format!("{CANNOT}{reason}\n\nhint: {hint}")
}

#[test]
fn a_large_file_is_fetched_into_the_layout_of_huggingface_hub() {
    let whole = contents(300_000);
    let server = hub_with(&whole, |asked, contents, _| Reply::range(asked, contents));
    let lab = Lab::new();
    let mut seen = Vec::new();
    let fetched =
        lab.hub(&server).file(&repository(), "model.safetensors", &mut |progress| seen.push(progress)).unwrap();
    let path = lab.path(&format!("snapshots/{COMMIT}/model.safetensors"));
    assert_eq!(fetched, HubFile { path: path.clone(), commit: COMMIT.to_owned(), note: None });
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(fs::read_to_string(lab.path("refs/main")).unwrap(), COMMIT);
    assert!(lab.dir.path().join(format!(".locks/models--timm--ghostnet_100.in1k/{}.lock", sha256(&whole))).is_file());
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new(&format!("../../blobs/{}", sha256(&whole))));
    let names: Vec<_> = fs::read_dir(lab.path("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [sha256(&whole)]);
    assert_eq!((seen.first().unwrap().bytes, seen.last().unwrap().bytes), (0, 300_000));
    assert!(seen.is_sorted_by_key(|progress| progress.bytes) && seen.iter().all(|progress| progress.total == 300_000));
    assert_eq!(
        server.lines(),
        [format!("HEAD {WEIGHTS}"), format!("GET {PINNED}"), "GET /cdn/contents?signature".to_owned()]
    );
    assert!(server.asked().iter().all(|asked| asked.header("accept-encoding") == Some("identity")));
}

#[test]
fn a_small_file_in_a_folder_is_fetched_and_its_length_is_checked() {
    let server = Server::start(|asked, _| {
        assert!(asked.path.ends_with("/a%20folder/config.json"), "{}", asked.path);
        let reply = Reply::body(b"{}").header("X-Repo-Commit", COMMIT);
        // A weak ETag is one all the same.
        reply.header("ETag", format!("W/\"{SMALL_ETAG}\""))
    });
    let lab = Lab::new();
    let fetched = lab.hub(&server).file(&repository(), "a folder/config.json", &mut |_| {}).unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), b"{}");
    #[cfg(unix)]
    assert_eq!(fs::read_link(&fetched.path).unwrap(), Path::new(&format!("../../../blobs/{SMALL_ETAG}")));
    assert_eq!(fs::read(lab.path(&format!("blobs/{SMALL_ETAG}"))).unwrap(), b"{}");
}

#[test]
fn what_is_left_of_a_small_file_is_not_gone_on_with() {
    let server = Server::start(|asked, _| {
        assert_eq!(asked.from(), None);
        Reply::body(b"{}").header("X-Repo-Commit", COMMIT).header("ETag", SMALL_ETAG)
    });
    let lab = Lab::new();
    lab.write(&format!("blobs/{SMALL_ETAG}.incomplete"), &[0, 0]);
    assert_eq!(fs::read(lab.fetch(&server).unwrap().path).unwrap(), b"{}");
}

#[test]
fn an_empty_file_is_a_file() {
    let server = Server::start(|asked, _| {
        assert_eq!(asked.method, "HEAD");
        described(COMMIT, b"")
    });
    assert_eq!(fs::read(Lab::new().fetch(&server).unwrap().path).unwrap(), b"");
}

#[test]
fn the_token_goes_to_the_endpoint_alone_and_does_not_come_back_from_elsewhere() {
    let whole = contents(1000);
    let elsewhere = Server::start(|asked, _| {
        let back = asked.path.strip_prefix("/back-to/").unwrap();
        Reply::redirect(format!("http://{back}/cdn/contents"))
    });
    let elsewhere_address = elsewhere.address.clone();
    let server = Server::start(move |asked, _| {
        let host = asked.header("host").unwrap();
        match asked.method.as_str() {
            "HEAD" => described(COMMIT, &whole),
            _ if asked.path == PINNED => Reply::redirect(format!("{elsewhere_address}/back-to/{host}")),
            _ => Reply::body(&whole),
        }
    });
    let lab = Lab::new();
    let token = Token::new("hf_secret");
    let hub = Hub::new(HubSettings { token, ..lab.settings(&server.address) }).unwrap();
    assert!(!format!("{hub:?}").contains("hf_secret"));
    hub.weights(&repository(), &mut |_| {}).unwrap();
    let tokens = |server: &Server| -> Vec<_> {
        server.asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect()
    };
    let sent = Some("Bearer hf_secret".to_owned());
    assert_eq!(tokens(&server), [sent.clone(), sent, None]);
    assert_eq!(tokens(&elsewhere), [None]);
}

#[test]
fn a_renamed_repository_is_followed_with_the_token() {
    let whole = contents(1000);
    let server = Server::start(move |asked, _| match (asked.method.as_str(), &asked.path) {
        (_, path) if path.starts_with("/timm/") => {
            Reply::status(307).header("Location", path.replace("/timm/", "/new-timm/"))
        }
        ("HEAD", _) => described(COMMIT, &whole),
        _ => Reply::range(asked, &whole),
    });
    let lab = Lab::new();
    let hub = Hub::new(HubSettings { token: Token::new("hf_secret"), ..lab.settings(&server.address) }).unwrap();
    hub.weights(&repository(), &mut |_| {}).unwrap();
    assert_eq!(server.asked().len(), 4);
    assert!(server.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
}

#[test]
fn what_is_missing_and_what_is_forbidden_are_told_apart() {
    let no_repository = said(
        "`HUB` has no such repository, or it is private",
        "check the spelling; for a private repository set `HF_TOKEN` to a token that may read it",
    );
    let refused = |what: &str| {
        said(
            &format!("`HUB` refuses access with status {what}"),
            "set `HF_TOKEN` to a token that may read the repository; one that is set may have expired",
        )
    };
    let gated = said(
        "the repository is gated",
        "accept its conditions on its page, then set `HF_TOKEN` to a token of the account that did",
    );
    let no_revision = said(
        "there is no such revision",
        "after `@` stands a branch, a tag or a full commit; without it, `main` is taken",
    );
    let no_file = said("there is no such file at this revision", "the repository's page lists its files");
    let no_hub = said(
        "`HUB` gives an answer that is not understood: status 404",
        "check `HF_ENDPOINT`, and whether a proxy or a login page answers instead",
    );
    let invalid = "Invalid credentials in Authorization header";
    for (status, code, message, expected) in [
        (401, "RepoNotFound", "Repository not found", no_repository.clone()),
        (404, "RepoNotFound", "", no_repository.clone()),
        (401, "", "", no_repository),
        (401, "", invalid, refused(&format!("401 ({invalid})"))),
        (403, "", "", refused("403")),
        (401, "GatedRepo", "", gated.clone()),
        (403, "GatedRepo", "", gated),
        (404, "RevisionNotFound", "", no_revision),
        (404, "EntryNotFound", "", no_file),
        (404, "", "", no_hub),
    ] {
        let server = Server::start(move |_, _| {
            Reply::status(status).header("X-Error-Code", code).header("X-Error-Message", message)
        });
        assert_eq!(Lab::new().fault(&server), expected, "{status} {code} {message}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_hub_that_is_busy_is_asked_again_and_then_given_up() {
    let whole = contents(10);
    let server = Server::start(move |asked, before| match (asked.method.as_str(), before) {
        ("HEAD", 0) => Reply::status(503),
        ("HEAD", 1) => Reply::status(429),
        ("HEAD", _) => described(COMMIT, &whole),
        (_, 0) => Reply::status(500),
        _ => Reply::body(&whole),
    });
    Lab::new().fetch(&server).unwrap();
    for (status, hint) in [
        (503, "try again later, or set `HF_ENDPOINT` to a mirror"),
        (429, "wait some minutes; more requests are allowed with a token in `HF_TOKEN`"),
    ] {
        let server = Server::start(move |_, _| Reply::status(status));
        let reason = format!("`HUB` answers with status {status}, and the cache has no copy");
        assert_eq!(Lab::new().fault(&server), said(&reason, hint));
        assert_eq!(server.asked().len(), 3);
    }
}

#[test]
fn a_cut_connection_is_taken_up_where_it_ended() {
    let whole = contents(300_000);
    let server = hub_with(&whole, |asked, contents, before| match before {
        0 => Reply::range(asked, contents).cut_after(100_000),
        1 => Reply::range(asked, contents).cut_after(50_000),
        _ => Reply::range(asked, contents),
    });
    assert_eq!(fs::read(Lab::new().fetch(&server).unwrap().path).unwrap(), whole);
    let ranges: Vec<_> =
        server.asked().iter().filter(|asked| asked.path.starts_with("/cdn")).map(Asked::from).collect();
    assert_eq!(ranges, [None, Some(100_000), Some(150_000)]);
}

#[test]
fn a_connection_that_is_always_cut_leaves_what_came_for_the_next_time() {
    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, _| {
        Reply::range(asked, contents).cut_after(if asked.from().is_none() { 400 } else { 0 })
    });
    let lab = Lab::new();
    let reason = "the connection to `HUB` broke: Peer disconnected, after 400 of 1000 bytes";
    assert_eq!(lab.fault(&server), said(reason, "run the command again: it goes on from there"));
    // One try that gets further, and two that do not.
    assert_eq!(server.lines().iter().filter(|line| line.contains("/cdn")).count(), 3);
    assert_eq!(fs::read(lab.partial(&whole)).unwrap(), whole[..400]);

    let server = hub_with(&whole, |asked, contents, _| {
        assert_eq!(asked.from(), Some(400));
        Reply::range(asked, contents)
    });
    let mut first = None;
    let fetched =
        lab.hub(&server).weights(&repository(), &mut |progress| _ = first.get_or_insert(progress.bytes)).unwrap();
    assert_eq!((fs::read(fetched.path).unwrap(), first), (whole, Some(400)));
}

#[test]
fn a_server_without_ranges_sends_everything_again_but_not_forever() {
    let whole = contents(1000);
    let server = hub_with(&whole, |_, contents, before| {
        Reply::body(contents).cut_after(if before == 0 { 700 } else { usize::MAX })
    });
    assert_eq!(fs::read(Lab::new().fetch(&server).unwrap().path).unwrap(), whole);

    let server =
        hub_with(&whole, |_, contents, before| Reply::body(contents).cut_after(if before == 0 { 700 } else { 300 }));
    let lab = Lab::new();
    let reason = "the connection to `HUB` broke: Peer disconnected, after 300 of 1000 bytes";
    assert_eq!(lab.fault(&server), said(reason, "run the command again: it goes on from there"));
    assert_eq!(fs::read(lab.partial(&whole)).unwrap(), whole[..300]);
    assert_eq!(server.lines().iter().filter(|line| line.contains("/cdn")).count(), 3);
}

#[test]
fn what_a_crash_has_left_is_in_nobodys_way() {
    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, _| {
        assert_eq!(asked.from(), None);
        Reply::body(contents)
    });
    let lab = Lab::new();
    // Longer than the whole, a link that was not put in its place, and a copy that was cut.
    lab.write(&format!("blobs/{}.incomplete", sha256(&whole)), &contents(1001));
    lab.write(&format!("blobs/{}.link", sha256(&whole)), b"");
    lab.write(&format!("snapshots/{COMMIT}/model.safetensors"), &whole[..999]);
    let path = lab.fetch(&server).unwrap().path;
    assert_eq!((fs::read(&path).unwrap(), path.is_symlink()), (whole, cfg!(unix)));
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let whole = contents(1000);
    for status in [206, 416] {
        let server = hub_with(&whole, move |asked, contents, before| match before {
            0 => Reply::body(contents).cut_after(700),
            1 if status == 206 => Reply::status(206).header("Content-Range", "bytes 600-999/1000"),
            1 => Reply::status(416),
            _ => {
                assert_eq!(asked.from(), None);
                Reply::body(contents)
            }
        });
        assert_eq!(fs::read(Lab::new().fetch(&server).unwrap().path).unwrap(), whole);
    }
}

#[test]
fn contents_with_another_checksum_are_refused_and_removed() {
    let whole = contents(1000);
    let mut other = whole.clone();
    other[500] ^= 1;
    let found = sha256(&other);
    let server = hub_with(&whole, move |_, _, _| Reply::body(&other));
    let lab = Lab::new();
    let reason = format!(
        "its SHA-256 is `{}`, but what was downloaded has `{found}`; the partial file is removed",
        sha256(&whole)
    );
    assert_eq!(
        lab.fault(&server),
        said(&reason, "run the command again; if it stays so, a proxy alters the file or the repository is damaged")
    );
    assert_eq!(fs::read_dir(lab.path("blobs")).unwrap().count(), 0);
    assert!(!lab.path("snapshots").exists() && !lab.path("refs").exists());
}

#[test]
fn contents_of_another_length_are_refused_and_removed() {
    let whole = contents(1000);
    for (len, has_length) in [(999, true), (1001, true), (1001, false)] {
        let server = hub_with(&whole, move |_, _, _| {
            let reply = Reply::body(&contents(len));
            if has_length { reply } else { reply.without_length() }
        });
        let lab = Lab::new();
        let reason = format!("it has 1000 bytes, but `HUB` sends {len}; the partial file is removed");
        assert_eq!(
            lab.fault(&server),
            said(
                &reason,
                "run the command again; if it stays so, a proxy alters the file or the repository is damaged"
            )
        );
        assert_eq!(fs::read_dir(lab.path("blobs")).unwrap().count(), 0);
    }
}

#[test]
fn without_a_connection_the_cache_is_used_and_a_note_says_so() {
    let lab = Lab::new();
    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, _| Reply::range(asked, contents));
    let path = lab.fetch(&server).unwrap().path;

    let busy = Server::start(|_, _| Reply::status(503));
    let nowhere = Server::nowhere();
    let refused = std::net::TcpStream::connect(&nowhere["http://".len()..]).unwrap_err();
    let offline = HubSettings { offline: true, ..lab.settings(&nowhere) };
    for (settings, why) in [
        (offline, "`HF_HUB_OFFLINE` is set".to_owned()),
        (lab.settings(&nowhere), format!("`{nowhere}` cannot be reached: {refused}")),
        (lab.settings(&busy.address), format!("`{}` answers with status 503", busy.address)),
    ] {
        let fetched = Hub::new(settings).unwrap().weights(&repository(), &mut |_| {}).unwrap();
        let note =
            format!("`model.safetensors` of `hf:timm/ghostnet_100.in1k` is from the cache, commit 0123456: {why}");
        assert_eq!(fetched.note.unwrap(), note);
        assert_eq!((fetched.path, fetched.commit.as_str()), (path.clone(), COMMIT));
    }
    // One try is enough if there is something to fall back on.
    assert_eq!(busy.asked().len(), 1);
}

#[test]
fn without_a_connection_and_without_a_copy_the_error_says_what_to_do() {
    let lab = Lab::new();
    let nowhere = Server::nowhere();
    let refused = std::net::TcpStream::connect(&nowhere["http://".len()..]).unwrap_err();
    let fault = |settings: HubSettings| {
        let hub = Hub::new(settings).unwrap();
        lab.shown(&nowhere, &hub.weights(&repository(), &mut |_| {}).unwrap_err())
    };
    // A reference that is no commit leads nowhere.
    lab.write("refs/main", b"../elsewhere");
    lab.write("elsewhere/model.safetensors", b"");
    lab.write("snapshots/x", b"");
    assert_eq!(
        fault(HubSettings { offline: true, ..lab.settings(&nowhere) }),
        said(
            "`HF_HUB_OFFLINE` is set, and the cache `CACHE` has no copy",
            "unset it to download the file once, or set `HF_HOME` to where the file is"
        )
    );
    assert_eq!(
        fault(lab.settings(&nowhere)),
        said(
            &format!("`HUB` cannot be reached: {refused}, and the cache has no copy"),
            "check the connection; `HTTPS_PROXY` names a proxy, `SSL_CERT_FILE` its certificates, `HF_ENDPOINT` a mirror"
        )
    );
    let error = fault(lab.settings("http://no-such-host.invalid"));
    assert!(error.starts_with(&format!("{CANNOT}`http://no-such-host.invalid` cannot be reached: ")), "{error}");
}

#[test]
fn a_copy_that_is_up_to_date_is_not_downloaded_again() {
    let lab = Lab::new();
    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, _| Reply::range(asked, contents));
    let first = lab.fetch(&server).unwrap();
    assert_eq!(lab.fetch(&server).unwrap(), first);
    assert_eq!(server.lines()[3..], [format!("HEAD {WEIGHTS}")]);

    // Another commit with the same contents.
    let server = Server::start(move |_, _| described(LATER, &whole));
    let later = lab.fetch(&server).unwrap();
    assert_eq!(later.path, lab.path(&format!("snapshots/{LATER}/model.safetensors")));
    assert_eq!(fs::read(later.path).unwrap(), fs::read(first.path).unwrap());
    assert_eq!(fs::read_to_string(lab.path("refs/main")).unwrap(), LATER);
    assert_eq!(server.lines(), [format!("HEAD {WEIGHTS}")]);
}

#[test]
fn a_file_that_has_changed_is_downloaded() {
    let lab = Lab::new();
    let server = hub_with(&contents(1000), |asked, contents, _| Reply::range(asked, contents));
    let first = lab.fetch(&server).unwrap();
    // With the same commit, which no hub should do, and with another one.
    let backwards: Vec<u8> = contents(1000).into_iter().rev().collect();
    for (commit, changed) in [(COMMIT, backwards.clone()), (LATER, contents(1001))] {
        let sent = changed.clone();
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => described(commit, &sent),
            _ => Reply::range(asked, &sent),
        });
        let fetched = lab.fetch(&server).unwrap();
        assert_eq!((fetched.commit.as_str(), fs::read(fetched.path).unwrap()), (commit, changed));
    }
    assert_eq!(fs::read(first.path).unwrap(), backwards);
}

#[test]
fn what_python_has_downloaded_is_found() {
    let whole = contents(1000);
    let server = Server::start({
        let whole = whole.clone();
        move |_, _| described(COMMIT, &whole)
    });
    // With links, as on Unix.
    #[cfg(unix)]
    {
        let lab = Lab::new();
        lab.write(&format!("blobs/{}", sha256(&whole)), &whole);
        lab.write("refs/main", COMMIT.as_bytes());
        let snapshot = lab.path(&format!("snapshots/{COMMIT}"));
        fs::create_dir_all(&snapshot).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&whole)), snapshot.join("model.safetensors"))
            .unwrap();
        assert_eq!(fs::read(lab.fetch(&server).unwrap().path).unwrap(), whole);
    }
    // Without, as on Windows.
    let lab = Lab::new();
    lab.write(&format!("snapshots/{COMMIT}/model.safetensors"), &whole);
    assert_eq!(fs::read(lab.fetch(&server).unwrap().path).unwrap(), whole);
    assert!(server.asked().iter().all(|asked| asked.method == "HEAD"));
}

#[test]
fn a_full_commit_that_is_in_the_cache_needs_no_hub() {
    let lab = Lab::new();
    let server = hub_with(&contents(1000), |asked, contents, _| Reply::range(asked, contents));
    let hub = lab.hub(&server);
    let first = hub.weights(&repository(), &mut |_| {}).unwrap();
    let asked = server.asked().len();
    let pinned = repository().at(&first);
    assert_eq!(pinned.to_string(), format!("hf:timm/ghostnet_100.in1k@{COMMIT}"));
    assert_eq!(hub.weights(&pinned, &mut |_| {}).unwrap(), first);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn another_commit_than_was_asked_for_is_refused() {
    let server = Server::start(|_, _| described(LATER, b""));
    let lab = Lab::new();
    let pinned: Repository = format!("timm/ghostnet_100.in1k@{COMMIT}").parse().unwrap();
    let error = lab.hub(&server).weights(&pinned, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains(&format!("`X-Repo-Commit` is `{LATER}`, not the commit that was asked for")), "{error}");
}

#[test]
fn a_revision_with_slashes_is_escaped_in_the_address_and_a_path_in_the_cache() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => {
            assert_eq!(asked.path, "/timm/ghostnet_100.in1k/resolve/refs%2Fpr%2F1/model.safetensors");
            described(COMMIT, &contents(10))
        }
        _ => Reply::body(&contents(10)),
    });
    let lab = Lab::new();
    let repository: Repository = "timm/ghostnet_100.in1k@refs/pr/1".parse().unwrap();
    lab.hub(&server).weights(&repository, &mut |_| {}).unwrap();
    assert_eq!(fs::read_to_string(lab.path("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[test]
fn names_from_a_hostile_server_never_become_paths() {
    let sha = sha256(b"");
    for (commit, etag, size, reason) in [
        ("../../../../tmp", sha.as_str(), "10", "`X-Repo-Commit` is `../../../../tmp`, not a commit"),
        ("main", &sha, "10", "`X-Repo-Commit` is `main`, not a commit"),
        (COMMIT, "../../../x", "10", "`ETag` is `../../../x`, neither a SHA-1 nor a SHA-256"),
        (COMMIT, "", "10", "`ETag` is ``, neither a SHA-1 nor a SHA-256"),
        (COMMIT, &sha[1..], "10", &format!("`ETag` is `{}`, neither a SHA-1 nor a SHA-256", &sha[1..])),
        (
            COMMIT,
            &sha.to_uppercase(),
            "10",
            &format!("`ETag` is `{}`, neither a SHA-1 nor a SHA-256", sha.to_uppercase()),
        ),
        (COMMIT, &sha, "-1", "the file's length is missing"),
        (COMMIT, &sha, "", "the file's length is missing"),
    ] {
        let reply = Reply::redirect("/cdn")
            .header("X-Repo-Commit", commit)
            .header("X-Linked-Etag", format!("\"{etag}\""))
            .header("X-Linked-Size", size);
        let server = Server::start(move |_, _| reply.clone());
        let lab = Lab::new();
        let hint = "check `HF_ENDPOINT`, and whether a proxy or a login page answers instead";
        let expected = said(&format!("`HUB` gives an answer that is not understood: {reason}"), hint);
        assert_eq!(lab.fault(&server), expected);
        assert_eq!(fs::read_dir(lab.dir.path()).unwrap().count(), 0);
    }
    // Where a redirect says nothing of the file's length, its own is none.
    let server = Server::start(|_, _| {
        Reply::redirect("/cdn").header("X-Repo-Commit", COMMIT).header("X-Linked-Etag", sha256(b""))
    });
    assert!(Lab::new().fault(&server).contains("not understood: the file's length is missing"));
    let server = Server::start(|_, _| Reply::body(b"<html>log in</html>"));
    assert!(Lab::new().fault(&server).contains("`HUB` gives an answer that is not understood: no `X-Repo-Commit`"));
    let server = Server::start(|_, _| Reply::body(b"").header("X-Repo-Commit", COMMIT));
    assert!(Lab::new().fault(&server).contains("not understood: no `ETag`"));
}

#[test]
fn a_file_that_is_too_large_is_not_begun() {
    let server = Server::start(|_, _| {
        Reply::redirect("/cdn")
            .header("X-Repo-Commit", COMMIT)
            .header("X-Linked-Etag", sha256(b""))
            .header("X-Linked-Size", "4294967297")
    });
    let reason = "it has 4294967297 bytes, more than the 4294967296 that are accepted";
    assert_eq!(Lab::new().fault(&server), said(reason, "name a repository of a smaller model"));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_file_name_that_leaves_its_directory_is_refused() {
    let server = Server::start(|_, _| panic!("nothing may be asked"));
    let lab = Lab::new();
    for (file, reason) in [
        ("", "its name is empty"),
        ("../model.safetensors", "its name has a part that is empty, `.` or `..`"),
        ("/etc/passwd", "its name has a part that is empty, `.` or `..`"),
        ("a//b", "its name has a part that is empty, `.` or `..`"),
        ("a\\b", "its name has a `\\` or a `:`"),
        ("C:b", "its name has a `\\` or a `:`"),
        ("a\nb", "its name has a control character"),
    ] {
        let error = lab.hub(&server).file(&repository(), file, &mut |_| {}).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot fetch `{}` of `hf:timm/ghostnet_100.in1k`: {reason}\n\n\
                 hint: name a file as the repository's page lists it, such as `model.safetensors`",
                file.escape_debug()
            )
        );
    }
    assert_eq!(fs::read_dir(lab.dir.path()).unwrap().count(), 0);
}

#[test]
fn redirects_end_and_stay_in_the_web() {
    let hint = "check `HF_ENDPOINT`, and whether a proxy or a login page answers instead";
    let answer = |reason: &str| said(&format!("`HUB` gives an answer that is not understood: {reason}"), hint);
    let endless = Server::start(|asked, _| Reply::redirect(format!("{}x", asked.path)));
    assert_eq!(Lab::new().fault(&endless), answer("more than 10 redirects"));
    assert_eq!(endless.asked().len(), 11);
    let away = Server::start(|_, _| Reply::redirect("ftp://127.0.0.1/x"));
    let reason = "a redirect to `ftp://127.0.0.1/x`, which is no http or https address";
    assert_eq!(Lab::new().fault(&away), answer(reason));
    let nowhere = Server::start(|_, _| Reply::status(302));
    assert_eq!(Lab::new().fault(&nowhere), answer("a redirect to ``, which is no http or https address"));
}

#[test]
fn a_server_that_falls_silent_is_given_up_after_the_timeout() {
    let begun = Instant::now();
    let server = Server::start(|_, _| Reply::status(200).stall_after(0));
    let lab = Lab::new();
    let fetch = |lab: &Lab, server| lab.impatient_hub(server).file(&repository(), "model.safetensors", &mut |_| {});
    let error = lab.shown(&server.address, &fetch(&lab, &server).unwrap_err());
    assert!(error.starts_with(&format!("{CANNOT}`HUB` cannot be reached: timeout: ")), "{error}");

    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, before| match before {
        0 => Reply::range(asked, contents).stall_after(600),
        _ => Reply::range(asked, contents),
    });
    let lab = Lab::new();
    assert_eq!(fs::read(fetch(&lab, &server).unwrap().path).unwrap(), whole);
    assert_eq!(server.asked().last().unwrap().from(), Some(600));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn of_two_downloads_of_the_same_file_one_waits_for_the_other() {
    let whole = contents(1000);
    let server = hub_with(&whole, |asked, contents, _| {
        std::thread::sleep(Duration::from_millis(250));
        Reply::range(asked, contents)
    });
    let lab = Lab::new();
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| lab.fetch(&server).unwrap());
        (lab.fetch(&server).unwrap(), other.join().unwrap())
    });
    assert_eq!(first, second);
    assert_eq!(fs::read(first.path).unwrap(), whole);
    assert_eq!(server.lines().iter().filter(|line| line.contains("/cdn")).count(), 1);
}

/// A hub with small files.
fn hub_of(files: &'static [(&'static str, &'static str)]) -> Server {
    Server::start(move |asked, _| {
        let name = asked.path.rsplit('/').next().unwrap();
        match files.iter().find(|(file, _)| *file == name) {
            Some((name, contents)) => {
                let etag = sha256(format!("{name}{contents}").as_bytes())[..40].to_owned();
                Reply::body(contents.as_bytes()).header("X-Repo-Commit", COMMIT).header("ETag", etag)
            }
            None => Reply::status(404).header("X-Error-Code", "EntryNotFound").header("X-Repo-Commit", COMMIT),
        }
    })
}

#[test]
fn weights_are_found_under_either_name_and_safetensors_come_first() {
    for (files, expected) in [
        (&[("model.safetensors", "s"), ("pytorch_model.bin", "p")][..], Ok("s")),
        (&[("pytorch_model.bin", "p")], Ok("p")),
        (
            &[],
            Err(said(
                "there is neither that nor `pytorch_model.bin`, nor an index of weights in several files",
                "name a repository that holds weights, such as `hf:timm/ghostnet_100.in1k`",
            )),
        ),
    ] {
        let server = hub_of(files);
        let lab = Lab::new();
        let read = |hub: &Hub| {
            let fetched = hub.weights(&repository(), &mut |_| {});
            fetched.map(|file| fs::read_to_string(file.path).unwrap()).map_err(|error| error.to_string())
        };
        let expected = expected.map(str::to_owned);
        assert_eq!(read(&lab.hub(&server)), expected);
        // Offline, it is known which of them there are.
        let offline = HubSettings { offline: true, ..lab.settings(&server.address) };
        assert_eq!(read(&Hub::new(offline).unwrap()), expected);
        assert_eq!(lab.path(&format!(".no_exist/{COMMIT}/model.safetensors")).exists(), expected != Ok("s".to_owned()));
    }
}

const INDEX: &str = r#"{"metadata": {"total_size": 8}, "weight_map":
    {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}}"#;

#[test]
fn weights_in_several_files_are_fetched_once_with_their_index() {
    let server = hub_of(&[
        ("model.safetensors.index.json", INDEX),
        ("model-00001-of-00002.safetensors", "one"),
        ("model-00002-of-00002.safetensors", "two"),
        // The same weights once more, in another format.
        ("pytorch_model.bin", "p"),
    ]);
    let lab = Lab::new();
    let fetched = lab.hub(&server).weights(&repository(), &mut |_| {}).unwrap();
    let snapshot = lab.path(&format!("snapshots/{COMMIT}"));
    assert_eq!(fetched.path, snapshot.join("model.safetensors.index.json"));
    assert_eq!((fetched.commit.as_str(), &fetched.note), (COMMIT, &None));
    let read = |name: &str| fs::read_to_string(snapshot.join(name)).unwrap();
    assert_eq!(
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].map(read),
        ["one".to_owned(), "two".to_owned()]
    );
    let downloads = |server: &Server| server.lines().iter().filter(|line| line.starts_with("GET")).count();
    assert_eq!(downloads(&server), 3);
    // Again, and without a connection.
    assert_eq!(lab.hub(&server).weights(&repository(), &mut |_| {}).unwrap(), fetched);
    assert_eq!(downloads(&server), 3);
    for settings in [HubSettings { offline: true, ..lab.settings(&server.address) }, lab.settings(&Server::nowhere())] {
        let cached = Hub::new(settings).unwrap().weights(&repository(), &mut |_| {}).unwrap();
        assert_eq!(cached.path, fetched.path);
        assert!(cached.note.unwrap().contains("`model.safetensors.index.json` of `hf:timm/ghostnet_100.in1k` is from"));
    }
    assert_eq!(downloads(&server), 3);
}

#[test]
fn weights_in_several_files_that_cannot_be_had_are_refused_by_name() {
    let refusal = |files: &'static [(&'static str, &'static str)]| {
        let (server, lab) = (hub_of(files), Lab::new());
        let error = lab.hub(&server).weights(&repository(), &mut |_| {}).unwrap_err();
        let (lines, error) = (server.lines(), lab.shown(&server.address, &error));
        (error, lines.iter().filter(|line| line.starts_with("GET")).count())
    };
    let missing = refusal(&[("model.safetensors.index.json", INDEX), ("model-00001-of-00002.safetensors", "one")]);
    let expected = "cannot fetch `model-00002-of-00002.safetensors` of `hf:timm/ghostnet_100.in1k`: \
                    `model.safetensors.index.json` names it, but there is no such file at this revision\n\n\
                    hint: name another revision, or tell the repository's owner";
    assert_eq!(missing, (expected.to_owned(), 2));
    // Before any of the parts is downloaded.
    for (file, index, says) in [
        (
            "pytorch_model.bin.index.json",
            r#"{"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}"#,
            "names `pytorch_model-00001-of-00001.bin`, but only safetensors files can be joined",
        ),
        (
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "../../../refs/main.safetensors"}}"#,
            "names `../../../refs/main.safetensors`, which is not a file in the same folder",
        ),
        ("model.safetensors.index.json", r#"{"weight_map": {}}"#, "its `weight_map` is empty"),
        ("model.safetensors.index.json", "<html>", "is not an index of weight files: expected value"),
        (
            "model.safetensors.index.json",
            r#"{"metadata": {"total_size": 4294967297}, "weight_map": {"a": "a.safetensors"}}"#,
            "have more than 4294967296 bytes in total",
        ),
    ] {
        let files: &'static [_] = Box::leak(Box::new([(file, index)]));
        let (error, downloads) = refusal(files);
        assert!(error.contains(says), "{error}");
        assert!(error.contains("`hf:timm/ghostnet_100.in1k`"), "{error}");
        assert_eq!(downloads, 1, "{error}");
    }
}

#[test]
fn a_description_may_be_absent_and_its_invalid_values_are_ignored() {
    let lab = Lab::new();
    let server = hub_of(&[("config.json", r#"{"architecture": "ghostnet_100", "num_classes": 1000}"#)]);
    let config = lab.hub(&server).config(&repository()).unwrap().unwrap();
    assert_eq!((config.architecture.as_deref(), config.num_classes), (Some("ghostnet_100"), Some(1000)));

    let lab = Lab::new();
    let server = hub_of(&[]);
    assert_eq!(lab.hub(&server).config(&repository()).unwrap(), None);
    let offline = HubSettings { offline: true, ..lab.settings(&server.address) };
    assert_eq!(Hub::new(offline).unwrap().config(&repository()).unwrap(), None);

    let lab = Lab::new();
    let server = hub_of(&[("config.json", r#"{"architecture": "x", "num_classes": 0, "crop_pct": 7}"#)]);
    let config = lab.hub(&server).config(&repository()).unwrap().unwrap();
    assert_eq!((config.architecture.as_deref(), config.num_classes, config.crop_pct), (Some("x"), None, None));
    assert_eq!(config.unread[0].to_string(), "has `crop_pct`: 7 is not above 0 and at most 1");

    let lab = Lab::new();
    let server = hub_of(&[("config.json", r#"["num_classes"]"#)]);
    let error = lab.hub(&server).config(&repository()).unwrap_err();
    assert_eq!(
        lab.shown(&server.address, &error),
        format!(
            "`config.json` of `hf:timm/ghostnet_100.in1k`, kept as \
             `CACHE/models--timm--ghostnet_100.in1k/snapshots/{COMMIT}/config.json`, cannot be read: it is not an object\n\n\
             hint: name another revision, or tell the repository's owner"
        )
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let lab = Lab::new();
    fs::write(lab.dir.path().join(".locks"), "in the way").unwrap();
    let server = hub_with(&contents(10), |asked, contents, _| Reply::range(asked, contents));
    let error = lab.fault(&server);
    assert!(error.starts_with(&format!("{CANNOT}failed to create directory `CACHE/.locks/")), "{error}");
    assert!(
        error.ends_with("\n\nhint: set `HF_HOME` to a directory that you may write to and that has room"),
        "{error}"
    );
}

#[test]
fn a_cache_that_takes_no_notes_serves_what_it_has() {
    let lab = Lab::new();
    let server = hub_of(&[("model.safetensors", "s")]);
    let first = lab.hub(&server).weights(&repository(), &mut |_| {}).unwrap();
    // In the way, as permissions would be for anyone but the superuser.
    fs::remove_dir_all(lab.path("refs")).unwrap();
    lab.write("refs", b"");
    lab.write(".no_exist", b"");
    assert_eq!(lab.hub(&server).weights(&repository(), &mut |_| {}).unwrap(), first);
    assert_eq!(lab.hub(&server).config(&repository()).unwrap(), None);
}

#[test]
fn an_endpoint_that_is_no_address_is_refused() {
    for endpoint in ["huggingface.co", "ftp://huggingface.co", "https://", "https://h/?x=", ""] {
        let error = Hub::new(HubSettings::new(endpoint, "cache")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "`HF_ENDPOINT={}` is no http or https address\n\nhint: correct it or unset it",
                endpoint.trim_end_matches('/')
            )
        );
    }
}

#[test]
fn a_file_of_certificates_that_is_none_is_refused() {
    let lab = Lab::new();
    let path = lab.dir.path().join("certificates.pem");
    let fault = |path: &Path| {
        let settings = HubSettings { certificates: Some(path.to_owned()), ..lab.settings(HubSettings::ENDPOINT) };
        lab.shown("", &Hub::new(settings).unwrap_err())
    };
    let missing = fault(&path);
    assert!(missing.starts_with("`SSL_CERT_FILE=CACHE/certificates.pem` cannot be read: "), "{missing}");
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nno\n").unwrap();
    let expected = "`SSL_CERT_FILE=CACHE/certificates.pem` holds no certificate\n\nhint: correct it or unset it";
    assert_eq!(fault(&path), expected);
}

/// The files of a repository with these weights in two files.
fn in_two_files(state: &[(String, TensorData)], description: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (first, second) = state.split_at(state.len() / 2);
    let parts = [(names[0], first), (names[1], second)];
    let map: serde_json::Map<String, serde_json::Value> = parts
        .iter()
        .flat_map(|(name, part)| part.iter().map(move |(tensor, _)| (tensor.clone(), serde_json::json!(name))))
        .collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string().into_bytes();
    let part =
        |(name, part): (&'static str, &[(String, TensorData)])| (name, trainer::weights::encode(part, None).unwrap());
    let parts = parts.map(part);
    [("model.safetensors.index.json", index), ("config.json", description)].into_iter().chain(parts).collect()
}

/// Through the program: the weights and the description of a repository, downloaded once.
#[test]
fn a_network_of_a_repository_is_used_with_its_own_preprocessing_and_names() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let checkpoint = scene.checkpoints("run").pop().unwrap().join("model.safetensors");
    let state: Vec<_> = scene::tensors(&checkpoint).into_iter().collect();
    let weights = trainer::weights::encode(&state, None).unwrap();
    let description = br#"{"architecture": "ghostnet_025", "num_classes": 3, "label_names": ["cat", "dog", "bird"],
        "pretrained_cfg": {"input_size": [3, 48, 48], "interpolation": "bilinear", "crop_pct": 0.9,
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}"#
        .to_vec();
    let repositories =
        [vec![("model.safetensors", weights), ("config.json", description.clone())], in_two_files(&state, description)];
    let [server, in_files] = repositories.map(|files| {
        Server::start(move |asked, _| {
            let name = asked.path.rsplit('/').next().unwrap();
            let Some((_, contents)) = files.iter().find(|(file, _)| *file == name) else {
                return Reply::status(404).header("X-Error-Code", "EntryNotFound").header("X-Repo-Commit", COMMIT);
            };
            let etag = if name == "config.json" { SMALL_ETAG.to_owned() } else { sha256(contents) };
            let reply = if asked.method == "HEAD" { Reply::status(200) } else { Reply::range(asked, contents) };
            let reply = reply.header("X-Repo-Commit", COMMIT).header("ETag", format!("\"{etag}\""));
            if asked.method == "HEAD" { reply.header("Content-Length", contents.len().to_string()) } else { reply }
        })
    });
    let run = |args: &[&str], endpoint: &str, offline: bool| {
        let mut command = scene.command(args);
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", scene.path("hub")).env_remove("HF_TOKEN");
        command.env_remove("HF_HUB_CACHE").env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
        command.output().unwrap()
    };
    let photo = "photos/val/cat/000.png";
    let predict = ["predict", "hf:timm/ghostnet_025", photo, "--device", "cpu", "--format", "json"];
    let first = run(&predict, &server.address, false);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let inspected = run(&["inspect", "hf:timm/ghostnet_025", "--format", "json"], &server.address, false);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["image_size"], 48);
    assert_eq!(inspected["card"]["classes"], serde_json::json!(["cat", "dog", "bird"]));
    assert_eq!(
        inspected["card"]["transforms"],
        serde_json::json!([{"resize_center_crop": {"crop_pct": 0.9, "interpolation": "bilinear"}}])
    );
    assert_eq!(inspected["card"]["normalization"]["std"], serde_json::json!([0.25, 0.25, 0.25]));
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("GET") && line.contains("safetensors")).count(), 1);
    // The same weights in several files.
    let joined: Vec<String> =
        predict.iter().map(|word| word.replace("hf:timm/ghostnet_025", "hf:timm/in_files")).collect();
    let joined = run(&joined.iter().map(String::as_str).collect::<Vec<_>>(), &in_files.address, false);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    assert_eq!(joined.stdout, first.stdout);
    assert!(String::from_utf8_lossy(&joined.stderr).contains("note: it is in 2 files, which were joined"));
    // Without a connection the cache serves, and what it lacks is named.
    let offline = run(&predict, &Server::nowhere(), true);
    assert_eq!(offline.stdout, first.stdout);
    let missing = run(&["predict", "hf:timm/other", photo], &Server::nowhere(), true);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("hf:timm/other"));
    let misspelt = run(&["predict", "hf:../../etc/passwd", photo], &Server::nowhere(), true);
    assert_eq!(misspelt.status.code(), Some(2));
    // Fine-tuning begins with it.
    let train =
        ["train", "--config", "recipe.toml", "--out", "tuned", "--weights", "hf:timm/ghostnet_025", "--device", "cpu"];
    let tuned = run(&train, &server.address, false);
    assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
}
