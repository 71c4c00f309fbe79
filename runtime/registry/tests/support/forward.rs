//! A server before another one, which answers what the other does, or something else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::scripted::{Reply, Request, Scripted};

impl Scripted {
    /// Starts a server that hands everything on to `target` (`127.0.0.1:PORT`); `instead` answers first.
    pub(crate) fn before(
        target: &str,
        instead: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let target = target.to_owned();
        Self::start(move |request, count| {
            instead(request, count).unwrap_or_else(|| forward(&target, request))
        })
    }
}

/// Asks another server the same.
fn forward(target: &str, request: &Request) -> Reply {
    let Ok(mut stream) = TcpStream::connect(target) else { return Reply::new(502, "nobody listens") };
    let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if name != "connection" && name != "content-length" {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!("content-length: {}\r\n\r\n", request.body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let mut reply = Reply::new(status.parse().unwrap(), &answer[end + 4..]);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_lowercase().as_str() {
            "content-length" => reply.length = value.parse().ok(),
            "connection" | "date" => {}
            _ => reply = reply.with(name, value),
        }
    }
    if request.method != "HEAD" {
        reply.length = None;
    }
    reply
}
