//! A server that says what a test tells it to, right or wrong, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What `Content-Length` says; else the truth.
    pub(crate) length: Option<usize>,
    /// Without a length, in chunks.
    pub(crate) chunked: bool,
    /// The connection is cut after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// After so many bytes of the body nothing comes for so long.
    pub(crate) stall: Option<(usize, Duration)>,
    /// After so many bytes of the body nothing comes before the gate is opened.
    pub(crate) gate: Option<(usize, Gate)>,
}

/// What is shut until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits; for ever, if it must: the test ends it.
    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let (headers, body) = (Vec::new(), body.into());
        Self { status, headers, body, length: None, chunked: false, cut: None, stall: None, gate: None }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The server; it ends with the process.
pub(crate) struct Scripted {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Starts to answer; the script gets the request and how many were before it.
    pub(crate) fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (Arc::clone(&asked), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                // A client that goes away is no fault of the server's.
                std::thread::spawn(move || drop(answer(stream.unwrap(), &seen, &*script)));
            }
        });
        Self { host, asked }
    }

    /// Returns what was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns `GET /path` for each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn answer(
    stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    script: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    // A TLS handshake is not HTTP: such a server hangs up.
    if !line.ends_with("HTTP/1.1\r\n") {
        return Ok(());
    }
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = script(&request, number);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if reply.chunked {
        write!(stream, "Transfer-Encoding: chunked\r\n\r\n")?;
    } else {
        write!(stream, "Content-Length: {}\r\n\r\n", reply.length.unwrap_or(reply.body.len()))?;
    }
    if request.method != "HEAD" {
        let mut body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
        if let Some((after, gate)) = &reply.gate {
            stream.write_all(&body[..*after])?;
            gate.pass();
            body = &body[*after..];
        }
        if let Some((after, how_long)) = reply.stall {
            stream.write_all(&body[..after])?;
            std::thread::sleep(how_long);
            body = &body[after..];
        }
        if reply.chunked {
            write!(stream, "{:x}\r\n", body.len())?;
            stream.write_all(body)?;
            write!(stream, "\r\n")?;
            if reply.cut.is_none() {
                write!(stream, "0\r\n\r\n")?;
            }
        } else {
            stream.write_all(body)?;
        }
    }
    stream.shutdown(Shutdown::Both)
}
