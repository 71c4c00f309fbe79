//! A host of repositories, as the test has it: `git http-backend` behind a small server, with faults. Other test binaries
//! include the module by path; it uses nothing of this crate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What the host does beside giving repositories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// `Authorization` that it wants to be shown.
    pub(crate) wanted: Option<String>,
    /// So many requests are answered with 503 first.
    pub(crate) busy: usize,
    /// So many answers with objects are cut first.
    pub(crate) cuts: usize,
    /// Whether it knows nothing of git, and gives the files of repositories as they are.
    pub(crate) files: bool,
    /// Whether `/moved/…` leads to `/…` and `/elsewhere/…` to the same at this host.
    pub(crate) elsewhere: Option<String>,
}

/// The host; it ends with the process, its repositories with this.
pub(crate) struct GitHost {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    manners: Manners,
    asked: Vec<Asked>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) authorization: Option<String>,
}

/// What requests come on and answers go on.
pub(crate) trait Line: std::io::Read + std::io::Write {}

impl<T: std::io::Read + std::io::Write> Line for T {}

/// Makes a line of a connection; none of one that is no good.
pub(crate) type Wrap = dyn Fn(TcpStream) -> Option<Box<dyn Line>> + Send + Sync;

impl GitHost {
    pub(crate) fn start() -> Self {
        Self::start_on(Arc::new(|stream| Some(Box::new(stream))))
    }

    /// Starts a host that is spoken to through `wrap`.
    pub(crate) fn start_on(wrap: Arc<Wrap>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let host = listener.local_addr().expect("has an address").to_string();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state: Arc<Mutex<State>> = Arc::default();
        let (root, seen) = (folder.path().to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (root, seen, wrap) = (root.clone(), Arc::clone(&seen), Arc::clone(&wrap));
                // A client that goes away is no fault of the host's.
                std::thread::spawn(move || drop(wrap(stream).map(|line| answer(line, &root, &seen))));
            }
        });
        Self { host, folder, state }
    }

    pub(crate) fn set(&self, manners: Manners) {
        self.state.lock().expect("no panics").manners = manners;
    }

    /// Returns what was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().expect("no panics").asked)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.host)
    }

    /// Makes an empty repository.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("makes a folder");
        let repository = Repository { path };
        repository.git(&["init", "--quiet", "--initial-branch=main", "--template="]);
        repository
    }
}

/// A repository on the host, with its files.
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
}

impl Repository {
    /// Runs git in it and returns what it prints.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        let who = [("NAME", "A U Thor"), ("EMAIL", "author@example.org"), ("DATE", "1600000000 +0000")];
        let mut command = Command::new("git");
        command
            .args(["-c", "protocol.file.allow=always"])
            .args(words)
            .current_dir(&self.path)
            .env("HOME", "/nonexistent");
        for (name, value) in who {
            command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        let done = command.env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git runs");
        assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("makes folders");
        std::fs::write(path, content).expect("writes");
    }

    /// Commits all files and returns the commit.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all", "."]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Adds another commit as a submodule, as `.gitmodules` says.
    pub(crate) fn link(&self, path: &str, commit: &str) {
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        self.git(&["commit", "--quiet", "--message=link"]);
    }
}

/// Finds the file of a repository that a path names.
fn file_of(root: &Path, path: &str) -> Option<PathBuf> {
    let slashes = path.match_indices('/').map(|(at, _)| path.split_at(at));
    let mut found = slashes.map(|(name, rest)| (root.join(name).join(".git"), rest.trim_start_matches('/')));
    found.find(|(repository, _)| repository.is_dir()).map(|(repository, rest)| repository.join(rest))
}

fn answer(stream: Box<dyn Line>, root: &Path, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
    if header("expect").is_some() {
        write!(reader.get_mut(), "HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    match header("content-length") {
        Some(length) => {
            body.resize(length.parse().expect("a number"), 0);
            reader.read_exact(&mut body)?;
        }
        None if header("transfer-encoding").is_some() => loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).expect("a number");
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece)?;
            body.extend_from_slice(&piece[..size]);
            if size == 0 {
                break;
            }
        },
        None => {}
    }
    let stream = reader.get_mut();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let authorization = header("authorization");
    let (manners, cut) = {
        let mut state = state.lock().expect("no panics");
        state.asked.push(Asked { authorization: authorization.clone() });
        let manners = state.manners.clone();
        state.manners.busy = manners.busy.saturating_sub(1);
        let is_fetch = body.windows(13).any(|window| window == b"command=fetch");
        let cut = is_fetch && manners.cuts > 0;
        state.manners.cuts -= usize::from(cut);
        (manners, cut)
    };
    let plain = |stream: &mut dyn Line, status: u16, more: &str| {
        write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\n{more}Content-Length: 0\r\n\r\n")
    };
    if manners.busy > 0 {
        return plain(stream, 503, "");
    }
    let query_text = if query.is_empty() { String::new() } else { format!("?{query}") };
    if let Some(rest) = path.strip_prefix("/moved") {
        return plain(stream, 301, &format!("Location: {rest}{query_text}\r\n"));
    }
    if let Some((rest, host)) = path.strip_prefix("/elsewhere").zip(manners.elsewhere.as_ref()) {
        return plain(stream, 301, &format!("Location: http://{host}{rest}{query_text}\r\n"));
    }
    if manners.wanted.is_some() && manners.wanted != authorization {
        return plain(stream, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    }
    if manners.files {
        let found = file_of(root, path.trim_start_matches('/')).and_then(|path| std::fs::read(path).ok());
        let Some(content) = found else { return plain(stream, 404, "") };
        write!(stream, "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", content.len())?;
        stream.write_all(&content)?;
        return stream.flush();
    }
    let mut backend = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &method)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = backend.stdin.take().expect("is piped");
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let mut said = Vec::new();
    backend.stdout.take().expect("is piped").read_to_end(&mut said)?;
    writer.join().expect("ends");
    backend.wait()?;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let (head, content) =
        (String::from_utf8_lossy(&said[..end]).into_owned(), &said[(end + 4).min(said.len())..]);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", content.len())?;
    for line in head.lines().filter(|line| !line.starts_with("Status: ")) {
        write!(stream, "{line}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.write_all(if cut { &content[..content.len() / 2] } else { content })?;
    stream.flush()
}
