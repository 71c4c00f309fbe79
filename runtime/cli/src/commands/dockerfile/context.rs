//! The context of a Dockerfile and the Dockerfile itself: where they are, and what of it is lent to the engine.
//!
//! In: the words `PATH | URL | -` and `-f`, as typed. Out: [`Lent`]: folders and layouts under the names that BuildKit's client
//! gives them (`context`, `dockerfile`), and the options by which the frontend finds them. What comes by stdin lies in a folder
//! that is gone when the build is; a tar is unpacked by a step of the build. **Invariant:** the frontend is told no path of this
//! machine.
//! Source: docker buildx build reference, "Build context"; buildx, how it loads inputs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rb_dockerfile::LentContext;
use rb_oci::Digest;
use rb_session::{LocalDir, LocalSession};

use super::archive;
use crate::args::TargetCall;
use crate::commands::anew;
use crate::commands::scratch::Scratch;
use crate::report::Failure;
use crate::world::{BUILDFILE_NAMES, read_regular};

/// Largest Dockerfile that is read.
const DOCKERFILE_LIMIT_BYTES: u64 = 16 << 20;

/// Names of a Dockerfile that nobody named, in order.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Names by which the frontend asks.
pub(super) const CONTEXT: &str = "context";
pub(super) const DOCKERFILE: &str = "dockerfile";
/// Name of the folder that a tar lies in, and of the tar in it.
pub(super) const ARCHIVE: &str = "archive";

/// How the address of a tar in a bucket begins.
const S3: &str = "s3://";
/// What the tar in a bucket is called where only the bucket is named, as kaniko has it.
const OBJECT: &str = "context.tar.gz";

/// A tar in a bucket, which is to be fetched before anything else.
pub(super) struct Object {
    /// As it was typed.
    pub(super) word: String,
    pub(super) bucket: String,
    pub(super) key: String,
    /// The file that it becomes.
    pub(super) path: PathBuf,
}

/// What is lent to the engine, and what the frontend is told of it.
#[derive(Default)]
pub(super) struct Lent {
    pub(super) session: LocalSession,
    /// Options of the frontend.
    pub(super) options: BTreeMap<String, String>,
    /// The folder that is built, if there is one.
    pub(super) folder: Option<PathBuf>,
    /// The context is this tar file of the folder lent as [`ARCHIVE`].
    pub(super) archive: bool,
    /// A Dockerfile that is to be fetched before anything else, and the folder that it belongs in.
    pub(super) fetched: Option<(String, PathBuf)>,
    /// The context is a tar in a bucket, which lies nowhere yet.
    pub(super) object: Option<Object>,
    /// Other names that folders are lent by, where several builds share a session.
    pub(super) renamed: BTreeMap<String, String>,
    /// What the Dockerfile is called where people see it: its path as seen from here.
    pub(super) file: String,
    /// What it is known by from build to build, in what is built here: its path from the context, or its address.
    pub(super) known_as: String,
    /// What goes with the build.
    folders: Vec<Scratch>,
}

/// Finds context and Dockerfile.
pub(super) fn lend(cwd: &Path, context: &[OsString], file: Option<&str>) -> Result<Lent, Failure> {
    let word = only(cwd, context)?;
    let named = file.filter(|file| *file != "-").unwrap_or(NAMES[0]).to_owned();
    // What is not a folder is known by how it is named; the one that is settles it below.
    let known_as = format!("{word} {named}");
    let mut lent = Lent { file: named, known_as, ..Lent::default() };
    let path = cwd.join(&word);
    match word.as_str() {
        "-" if file == Some("-") => {
            let help = "one of them has to be a file: `rb build -f - .`, or `rb build - < context.tar`";
            return Err(Failure::input("stdin is context and Dockerfile at once", Some(help.to_owned())));
        }
        "-" => lent.stdin(file)?,
        _ if path.is_dir() => lent.folder(&word, real(&path)?, cwd, file)?,
        _ if word.starts_with(S3) => lent.object(&word, file)?,
        _ if is_address(&word) => lent.address(&word, cwd, file)?,
        _ if path.is_file() => lent.archive_file(&word, &path, file)?,
        _ => return Err(nowhere(&word)),
    }
    let scope = lent
        .folder
        .as_ref()
        .map_or_else(|| Digest::of(&word), |folder| Digest::of(folder.as_os_str().as_bytes()));
    lent.session = std::mem::take(&mut lent.session).with_cache_scope(scope.hex());
    Ok(lent)
}

/// Returns the one word that says what is built.
fn only(cwd: &Path, context: &[OsString]) -> Result<String, Failure> {
    let help = || {
        let has_targets = BUILDFILE_NAMES.iter().any(|name| cwd.join(name).exists());
        let targets = if has_targets { "; targets of the Buildfile have a `+`: `rb +TARGET`" } else { "" };
        Some(format!("`rb build .` builds the Dockerfile of this folder{targets}"))
    };
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    match context {
        [] => Err(Failure::input("`rb build` needs a context: a folder, an address or `-`", help())),
        [word] => match word.to_str() {
            Some("") => Err(Failure::input("the context is empty", help())),
            Some(word) => Ok(word.to_owned()),
            None => Err(Failure::input(format!("`{}` is not valid UTF-8", text(word)), None)),
        },
        words => {
            let listed: Vec<String> = words.iter().map(text).collect();
            let message =
                format!("`rb build` takes one context, and there are {}: {}", words.len(), listed.join(", "));
            Err(Failure::input(message, Some("options stand before it: `rb build -t NAME .`".to_owned())))
        }
    }
}

fn nowhere(word: &str) -> Failure {
    if TargetCall::is_target(&OsString::from(word)) {
        let help =
            format!("targets need no command: `rb {word}`; `rb build` takes the folder of a Dockerfile");
        return Failure::input(format!("`{word}` is a target"), Some(help));
    }
    let help = "a context is a folder, a tar file, an address, or `-` for stdin".to_owned();
    Failure::input(format!("the context `{word}` does not exist"), Some(help))
}

/// Tells whether a word names something that has to be fetched.
pub(super) fn is_address(word: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    schemes.iter().any(|scheme| word.starts_with(scheme))
}

/// Tells whether a word names a repository that is reached by ssh.
pub(super) fn is_by_ssh(word: &str) -> bool {
    word.starts_with("ssh://") || word.starts_with("git@")
}

fn is_web(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}

fn real(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::environment(&format!("`{}` cannot be read", path.display()), &error))
}

/// Lends a folder as it is: with its modes.
pub(super) fn whole(path: PathBuf) -> LocalDir {
    LocalDir { path, normalise_modes: false, hidden: Vec::new() }
}

impl Lent {
    /// Returns the name that a folder is lent by.
    pub(super) fn name_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.renamed.get(name).map_or(name, String::as_str)
    }

    /// Returns what the frontend has to know of the context's folder, where another name stands for it.
    pub(super) fn context(&self) -> Option<LentContext> {
        let name = self.renamed.get(CONTEXT)?;
        (name != CONTEXT).then(|| LentContext { name: name.clone(), unique: None })
    }

    /// Lends a folder under a name.
    pub(super) fn lend(&mut self, name: &str, folder: PathBuf) {
        self.session = std::mem::take(&mut self.session).with_local(name, whole(folder));
    }

    /// Lends a layout as a store.
    pub(super) fn lend_layout(&mut self, store: &str, folder: PathBuf) {
        self.session = std::mem::take(&mut self.session).with_oci_layout(store, folder);
    }

    /// Tells the frontend.
    pub(super) fn tell(&mut self, option: &str, value: impl Into<String>) {
        self.options.insert(option.to_owned(), value.into());
    }

    fn temporary(&mut self) -> Result<PathBuf, Failure> {
        let folder = Scratch::new()?;
        let path = folder.path().to_owned();
        self.folders.push(folder);
        Ok(path)
    }

    /// A folder, and a Dockerfile in it or elsewhere.
    fn folder(&mut self, word: &str, folder: PathBuf, cwd: &Path, file: Option<&str>) -> Result<(), Failure> {
        self.lend(CONTEXT, folder.clone());
        self.known_as.clone_from(&self.file);
        match file {
            None => {
                let found = NAMES.iter().find(|name| folder.join(name).exists());
                let name = found.ok_or_else(|| no_dockerfile(word, &folder))?;
                self.lend(DOCKERFILE, folder.clone());
                self.file = seen(&Path::new(word).join(name));
                (*name).clone_into(&mut self.known_as);
                // The frontend finds the second for itself.
                self.tell("filename", if *name == NAMES[1] { NAMES[0] } else { *name });
            }
            Some("-") => self.dockerfile(&read_stdin(DOCKERFILE_LIMIT_BYTES)?)?,
            Some(address) if is_web(address) => self.dockerfile_from(address)?,
            Some(file) => {
                self.dockerfile_at(&cwd.join(file), file, Some((word, &folder)))?;
                let path = cwd.join(file);
                let path = std::fs::canonicalize(&path).unwrap_or(path);
                self.known_as = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
                self.file = seen(Path::new(file));
            }
        }
        self.folder = Some(folder);
        Ok(())
    }

    /// A repository, a tar or a Dockerfile elsewhere.
    fn address(&mut self, word: &str, cwd: &Path, file: Option<&str>) -> Result<(), Failure> {
        self.tell(CONTEXT, word);
        match file {
            None => Ok(()),
            Some("-") => {
                let text = read_stdin(DOCKERFILE_LIMIT_BYTES)?;
                self.dockerfile(&text)
            }
            Some(address) if is_web(address) => self.dockerfile_from(address),
            Some(path) if Path::new(path).is_absolute() => self.dockerfile_at(&cwd.join(path), path, None),
            // In what is fetched.
            Some(path) => {
                self.tell("filename", path);
                Ok(())
            }
        }
    }

    /// A tar in a bucket, with a Dockerfile in it.
    fn object(&mut self, word: &str, file: Option<&str>) -> Result<(), Failure> {
        let (bucket, key) = word.trim_start_matches(S3).split_once('/').unwrap_or((&word[S3.len()..], ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(is_name) {
            let help = Some("write `s3://BUCKET/KEY.tar.gz`".to_owned());
            return Err(Failure::input(format!("the context `{word}` names no bucket"), help));
        }
        let key = if key.is_empty() { OBJECT } else { key };
        let folder = self.temporary()?;
        let (bucket, key, path) = (bucket.to_owned(), key.to_owned(), folder.join(ARCHIVE));
        self.object = Some(Object { word: word.to_owned(), bucket, key, path });
        self.packed(folder, file);
        Ok(())
    }

    /// A tar, or a Dockerfile alone, on stdin.
    fn stdin(&mut self, file: Option<&str>) -> Result<(), Failure> {
        anew::forbid();
        let mut stdin = io::stdin().lock();
        let start = archive::peek(&mut stdin)
            .map_err(|error| Failure::environment("stdin cannot be read", &error))?;
        let whole = io::Cursor::new(start.clone()).chain(stdin);
        if archive::is_archive(&start) {
            return self.archive("stdin", whole, file);
        }
        if start.is_empty() {
            let help = "`rb build - < Dockerfile`, or `tar c . | rb build -`".to_owned();
            return Err(Failure::input("there is nothing on stdin", Some(help)));
        }
        if let Some(file) = file {
            let help = "give the folder as context: `rb build -f FILE .`".to_owned();
            return Err(Failure::input(
                format!("the Dockerfile is on stdin, and `-f {file}` names another"),
                Some(help),
            ));
        }
        let text = bounded(whole, DOCKERFILE_LIMIT_BYTES, "stdin")?;
        let empty = self.temporary()?;
        self.lend(CONTEXT, empty);
        self.dockerfile(&text)
    }

    fn archive_file(&mut self, word: &str, path: &Path, file: Option<&str>) -> Result<(), Failure> {
        let failed = |error: &io::Error| Failure::environment(&format!("`{word}` cannot be read"), error);
        let mut opened = std::fs::File::open(path).map_err(|error| failed(&error))?;
        let start = archive::peek(&mut opened).map_err(|error| failed(&error))?;
        if !archive::is_archive(&start) {
            let help = format!("name the folder, and the Dockerfile by -f: `rb build -f {word} .`");
            return Err(Failure::input(format!("`{word}` is neither a folder nor a tar"), Some(help)));
        }
        self.archive(word, io::Cursor::new(start).chain(opened), file)
    }

    /// A tar, with a Dockerfile in it.
    fn archive(&mut self, what: &str, bytes: impl Read, file: Option<&str>) -> Result<(), Failure> {
        let folder = self.temporary()?;
        archive::keep(bytes, &folder.join(ARCHIVE))
            .map_err(|error| Failure::environment(&format!("`{what}` cannot be kept"), &error))?;
        self.packed(folder, file);
        Ok(())
    }

    /// Takes the tar in a folder for the context.
    fn packed(&mut self, folder: PathBuf, file: Option<&str>) {
        self.lend(ARCHIVE, folder);
        self.archive = true;
        if let Some(file) = file {
            self.tell("filename", file);
        }
    }

    /// A Dockerfile as text.
    fn dockerfile(&mut self, text: &[u8]) -> Result<(), Failure> {
        let folder = self.temporary()?;
        std::fs::write(folder.join(NAMES[0]), text)
            .map_err(|error| Failure::environment("the Dockerfile cannot be kept", &error))?;
        self.apart(folder, NAMES[0]);
        Ok(())
    }

    /// A Dockerfile of the web.
    fn dockerfile_from(&mut self, address: &str) -> Result<(), Failure> {
        let folder = self.temporary()?;
        self.fetched = Some((address.to_owned(), folder.join(NAMES[0])));
        self.apart(folder, NAMES[0]);
        Ok(())
    }

    /// A Dockerfile of this machine; `beside` is the context, should it have been meant to lie there.
    fn dockerfile_at(
        &mut self,
        path: &Path,
        typed: &str,
        beside: Option<(&str, &Path)>,
    ) -> Result<(), Failure> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            return Err(Failure::input(format!("`-f {typed}` names no file"), None));
        };
        if !path.exists() {
            let there = beside.filter(|(_, folder)| folder.join(typed).is_file());
            let help = match there {
                Some((word, _)) => {
                    format!("it is seen from here: `-f {}`", Path::new(word).join(typed).display())
                }
                None => format!("it was looked for at `{}`", path.display()),
            };
            return Err(Failure::input(format!("the Dockerfile `{typed}` does not exist"), Some(help)));
        }
        // A pipe, as a shell makes of `<(…)`, is read once.
        if !path.is_file() && !path.is_dir() {
            let opened = std::fs::File::open(path)
                .map_err(|error| Failure::environment(&format!("`{typed}` cannot be read"), &error))?;
            return self.dockerfile(&bounded(opened, DOCKERFILE_LIMIT_BYTES, typed)?);
        }
        if path.is_dir() {
            let help = "name the file in it".to_owned();
            return Err(Failure::input(format!("`-f {typed}` is a folder"), Some(help)));
        }
        read_regular(path, DOCKERFILE_LIMIT_BYTES).map_err(|error| {
            Failure::input(format!("the Dockerfile `{typed}` {}", rb_diag::chain(&error)), None)
        })?;
        self.apart(real(folder)?, name);
        Ok(())
    }

    /// Lends a folder that the Dockerfile lies in, and the context does not say so.
    fn apart(&mut self, folder: PathBuf, name: &str) {
        self.lend(DOCKERFILE, folder);
        self.tell("dockerfilekey", DOCKERFILE);
        self.tell("filename", name);
    }
}

/// Returns a path as people write it: without what says nothing.
fn seen(path: &Path) -> String {
    path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>().display().to_string()
}

/// Tells that a folder has no Dockerfile, and what it has.
fn no_dockerfile(word: &str, folder: &Path) -> Failure {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = listed.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let alike = names.iter().find(|name| {
        let name = name.to_lowercase();
        name.contains("dockerfile") || name.contains("containerfile")
    });
    let buildfile = names.iter().any(|name| BUILDFILE_NAMES.contains(&name.as_str()));
    let at = |name: &str| Path::new(word).join(name).components().as_path().display().to_string();
    let help = match alike {
        Some(name) => format!("name the one that is meant: `-f {}`", at(name)),
        None if buildfile => {
            "it has a Buildfile: `rb +TARGET` builds that, `rb ls` lists its targets".to_owned()
        }
        None => "`-f FILE` names one elsewhere".to_owned(),
    };
    Failure::input(format!("there is no Dockerfile in `{word}`"), Some(help))
}

fn read_stdin(limit: u64) -> Result<Vec<u8>, Failure> {
    anew::forbid();
    bounded(io::stdin().lock(), limit, "stdin")
}

fn bounded(from: impl Read, limit: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| Failure::environment(&format!("`{what}` cannot be read"), &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::input(
            format!("the Dockerfile of {what} is larger than {} MiB", limit >> 20),
            None,
        ));
    }
    Ok(bytes)
}
