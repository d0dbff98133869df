//! An HTTP/1.1 server in this process that answers as a test tells it to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// First byte of the range that is asked for.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")
            .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection is closed.
    cut: usize,
    /// Bytes of the body after which nothing more comes, though the connection stays.
    stall: usize,
    has_length: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: usize::MAX, stall: usize::MAX, has_length: true }
    }

    pub(crate) fn body(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }
    }

    /// The part of the contents that is asked for.
    pub(crate) fn range(asked: &Asked, contents: &[u8]) -> Self {
        match asked.from() {
            None => Self::body(contents),
            Some(from) => Self { body: contents[from..].to_vec(), ..Self::status(206) }
                .header("Content-Range", format!("bytes {from}-{}/{}", contents.len() - 1, contents.len())),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn redirect(location: impl Into<String>) -> Self {
        Self::status(302).header("Location", location)
    }

    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { cut: bytes, ..self }
    }

    pub(crate) fn stall_after(self, bytes: usize) -> Self {
        Self { stall: bytes, ..self }
    }

    pub(crate) fn without_length(self) -> Self {
        Self { has_length: false, ..self }
    }
}

pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `reply` gets the request and how many of the same method and path came before it.
    pub(crate) fn start(reply: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&asked), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                // A client that goes away in the middle is what some tests are about.
                thread::spawn(move || drop(serve(stream.unwrap(), &log, reply.as_ref())));
            }
        });
        Self { address, asked }
    }

    /// An address where nobody listens.
    pub(crate) fn nowhere() -> String {
        format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// `METHOD PATH` of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    reply: &(dyn Fn(&Asked, usize) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let Some((method, rest)) = first.split_once(' ') else { return Ok(()) };
    let path = rest.split(' ').next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        match line?.split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let asked = Asked { method: method.to_owned(), path, headers };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.iter().filter(|other| other.method == asked.method && other.path == asked.path).count() - 1
    };
    let reply = reply(&asked, before);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    if reply.has_length && !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.stall == 0 {
        thread::sleep(Duration::from_secs(5));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method != "HEAD" {
        let sent = reply.body.len().min(reply.cut).min(reply.stall);
        stream.write_all(&reply.body[..sent])?;
        if reply.stall < reply.body.len() {
            thread::sleep(Duration::from_secs(5));
        }
    }
    stream.flush()
}
