//! A web server for one test, on a free port of the loopback: it replies what it is told to, right or wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, or `CONNECT` where the server is taken for a proxy.
    pub method: String,
    pub path: String,
    /// Where it is to go on, in bytes.
    pub from: Option<usize>,
    /// The tag of what it would go on with.
    pub tag: Option<String>,
}

/// What is sent back.
pub enum Reply {
    /// As it stands, and then the connection is closed.
    Bytes(Vec<u8>),
    /// A head, and a body without end.
    Endless(String),
}

type Behaviour = dyn Fn(usize, &Request) -> Reply + Send + Sync;

pub struct Site {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Site {
    /// Starts one. `behaviour` gets the number of the request, from 0, and the request.
    pub fn start(behaviour: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("listen");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, behaviour): (_, Arc<Behaviour>) = (Arc::clone(&requests), Arc::new(behaviour));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, behaviour) = (Arc::clone(&seen), Arc::clone(&behaviour));
                std::thread::spawn(move || answer(&stream, &seen, &*behaviour));
            }
        });
        Self { address, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("the lock").clone()
    }
}

fn answer(stream: &TcpStream, seen: &Mutex<Vec<Request>>, behaviour: &Behaviour) {
    let Some(request) = read(stream) else { return };
    let number = {
        let mut seen = seen.lock().expect("the lock");
        seen.push(request.clone());
        seen.len() - 1
    };
    let mut stream = stream;
    // A client that has heard enough hangs up.
    match behaviour(number, &request) {
        Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
        Reply::Endless(head) => {
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 1 << 16]);
            }
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, from: None, tag: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        match line.to_ascii_lowercase().split_once(": ") {
            Some(("range", range)) => {
                request.from = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
            }
            Some(("if-range", tag)) => request.tag = Some(tag.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

/// A status, headers and a body, with the length that the body is said to have.
pub fn reply(status: u16, headers: &str, body: &[u8], length: usize) -> Reply {
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// A file as a good server has it: from where it is asked for, where its tag is still the same.
pub fn file(request: &Request, body: &[u8], tag: &str) -> Reply {
    cut(request, body, tag, usize::MAX)
}

/// The same, but the connection is closed after some bytes of the body.
pub fn cut(request: &Request, body: &[u8], tag: &str, after: usize) -> Reply {
    let from = request.from.filter(|_| request.tag.as_deref() == Some(tag));
    let rest = &body[from.unwrap_or(0).min(body.len())..];
    let sent = &rest[..after.min(rest.len())];
    match from {
        Some(from) if from >= body.len() => reply(416, &format!("content-range: bytes */{}\r\n", body.len()), b"", 0),
        Some(from) => {
            let range = format!("content-range: bytes {from}-{}/{}\r\netag: {tag}\r\n", body.len() - 1, body.len());
            reply(206, &range, sent, rest.len())
        }
        None => reply(200, &format!("etag: {tag}\r\n"), sent, rest.len()),
    }
}
