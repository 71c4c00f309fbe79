//! Mounts of steps: CACHE, `--mount`, `--secret`, `--ssh`.
//!
//! A cache without an id belongs to its target: its id begins with `//` and holds the target, the path and the
//! platform; which workspace it is of is the engine's to add, since two checkouts must not share it and yet their keys
//! be equal. Source: earthly-language section 4, RUN and CACHE; 8.6; language-lessons 1.8.

use rb_diag::{Diagnostic, Span, nearest};
use rb_llb::{CacheSharing, SecretEnv, SecretMount, SshMount};
use rb_syntax::{CacheStmt, Edition, StepFlags, Word};

use super::frame::Frame;
use super::run::later;
use super::{Evaluator, Fallible};
use crate::codes;
use crate::lower::{self, Agent, Secret, Step, Tmpfs, paths};
use crate::word::Escapes;

/// A directory that the later steps of a recipe share with other builds.
pub(super) type CacheMount = lower::Cache;

/// Prefix of ids in Earthly's old form of secrets.
const OLD_SECRET: &str = "+secrets/";

/// Kinds of `--mount`.
const KINDS: [&str; 5] = ["cache", "tmpfs", "secret", "ssh", "bind"];

/// Keys of `--mount`.
const KEYS: [&str; 12] =
    ["type", "target", "source", "from", "id", "sharing", "mode", "chmod", "size", "uid", "gid", "required"];

/// The agent that `--ssh` means, as BuildKit names it.
const DEFAULT_AGENT: &str = "default";

impl Evaluator<'_> {
    /// `CACHE …`
    pub(super) async fn cache(&self, frame: &mut Frame, stmt: &CacheStmt, at: Span) -> Fallible<()> {
        if frame.locally.is_some() {
            return Err(Diagnostic::error(codes::IN_LOCALLY, "CACHE has no meaning in LOCALLY")
                .with_label(at, "")
                .with_help("a directory of this machine is there without it"));
        }
        let text = self.expand(frame, &stmt.path, Escapes::Remove).await?;
        let target = paths::absolute(frame.cwd(), &text);
        let sharing = match &stmt.sharing {
            Some(word) => sharing(&self.expand(frame, word, Escapes::Remove).await?, word.span)?,
            None => CacheSharing::Locked,
        };
        let mode = match &stmt.chmod {
            Some(word) => mode(&self.expand(frame, word, Escapes::Remove).await?, word.span)?,
            None => default_mode(frame),
        };
        let id = match &stmt.id {
            Some(word) => self.expand(frame, word, Escapes::Remove).await?,
            None => default_id(frame, &target),
        };
        frame.caches.retain(|cache| cache.target != target);
        let persist = stmt.persist || frame.persists_caches();
        frame.caches.push(CacheMount { target, id, sharing, mode, owner: None, persist, from: None });
        Ok(())
    }

    /// Adds to a step the recipe's caches, and the mounts and secrets that it names.
    pub(super) async fn mounts(
        &self,
        frame: &Frame,
        flags: &StepFlags,
        step: &mut Step,
        at: Span,
    ) -> Fallible<()> {
        step.caches = frame.caches.clone();
        for word in &flags.mounts {
            self.mount(frame, word, step).await?;
        }
        let is_default = |agent: &Agent| agent.target.is_none() && agent.agent.id == DEFAULT_AGENT;
        if flags.ssh.is_some() && !step.agents.iter().any(is_default) {
            let agent = SshMount { id: DEFAULT_AGENT.to_owned(), mode: 0o600, ..SshMount::default() };
            step.agents.insert(0, Agent { target: None, agent });
        }
        for word in &flags.secrets {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            let (name, id) = text.split_once('=').unwrap_or((&text, &text));
            let id = id.strip_prefix(OLD_SECRET).unwrap_or(id);
            let name = name.strip_prefix(OLD_SECRET).unwrap_or(name);
            // An empty id means: not this time.
            if id.is_empty() {
                continue;
            }
            let (id, name) = (id.to_owned(), name.to_owned());
            // Earthly's steps find it as a file too.
            let file = SecretMount { id: id.clone(), uid: 0, gid: 0, mode: 0o444, optional: false };
            let target = paths::absolute("/run/secrets", &id);
            if paths::is_within(&target, "/run/secrets/") && !has_file(&step.secrets, &target) {
                step.secrets.push(Secret::File { target, secret: file });
            }
            step.secrets.push(Secret::Variable(SecretEnv { id, name, optional: false }));
        }
        check_targets(step, at)
    }

    /// `--mount=type=…,target=…`
    async fn mount(&self, frame: &Frame, word: &Word, step: &mut Step) -> Fallible<()> {
        let text = self.expand(frame, word, Escapes::Remove).await?;
        let options = Options::read(&text, word.span)?;
        let kind = options.get("type").unwrap_or_default();
        let target = |given: Option<&str>| match given {
            Some(path) if !path.is_empty() => Ok(paths::absolute(frame.cwd(), path)),
            _ => Err(bad_mount("the mount has no target".to_owned(), word.span)),
        };
        let chmod = options.get("mode").or_else(|| options.get("chmod"));
        if !matches!(kind, "bind" | "cache" | "bind-experimental")
            && let Some(key) = ["from", "source"].into_iter().find(|key| options.get(key).is_some())
        {
            return Err(bad_mount(format!("a mount of type `{kind}` has no `{key}`"), word.span));
        }
        match kind {
            "cache" => {
                let target = target(options.get("target"))?;
                let id = match options.get("id") {
                    Some(id) if !id.is_empty() => id.to_owned(),
                    _ => default_id(frame, &target),
                };
                let sharing = options
                    .get("sharing")
                    .map_or(Ok(CacheSharing::Locked), |text| sharing(text, word.span))?;
                let mode = chmod.map_or(Ok(default_mode(frame)), |text| mode(text, word.span))?;
                step.caches.retain(|cache| cache.target != target);
                let owner = options.owner(word.span)?;
                if options.get("source").is_some() && options.get("from").is_none() {
                    return Err(bad_mount("`source` of a cache needs `from`".to_owned(), word.span)
                        .with_help("for example `from=+target,source=/path`"));
                }
                let persist = false;
                step.caches.push(CacheMount { target, id, sharing, mode, owner, persist, from: None });
            }
            "tmpfs" => {
                let size_bytes = options.get("size").map_or(Ok(0), |text| size(text, word.span))?;
                step.tmpfs.push(Tmpfs { target: target(options.get("target"))?, size_bytes });
            }
            "secret" => {
                let id = options.get("id").unwrap_or_default();
                let id = id.strip_prefix(OLD_SECRET).unwrap_or(id).to_owned();
                if id.is_empty() {
                    return Ok(());
                }
                let path = options.get("target").map_or_else(|| format!("/run/secrets/{id}"), str::to_owned);
                let mode = chmod.map_or(Ok(0o444), |text| mode(text, word.span))?;
                let (uid, gid) = options.owner(word.span)?.unwrap_or_default();
                let optional = options.get("required") == Some("false");
                let secret = SecretMount { id, uid, gid, mode, optional };
                step.secrets.push(Secret::File { target: target(Some(&path))?, secret });
            }
            "ssh" | "ssh-experimental" => {
                let id = options.get("id").filter(|id| !id.is_empty()).unwrap_or(DEFAULT_AGENT).to_owned();
                let target = options.get("target").map(|path| target(Some(path))).transpose()?;
                let mode = chmod.map_or(Ok(0o600), |text| mode(text, word.span))?;
                let (uid, gid) = options.owner(word.span)?.unwrap_or_default();
                let optional = options.get("required") == Some("false");
                step.agents.push(Agent { target, agent: SshMount { id, uid, gid, mode, optional } });
            }
            // Taken before: it may be of a target.
            "bind" => {}
            "bind-experimental" => return Err(later("a bind of this machine", word.span)),
            other => {
                let found = bad_mount(format!("`{other}` is not a kind of mount"), word.span);
                let near = nearest(other, KINDS).map(|near| format!("type={near}"));
                return Err(found.with_nearest(near.as_deref()));
            }
        }
        Ok(())
    }
}

/// Checks where the directories of a step lie.
pub(super) fn check_targets(step: &Step, at: Span) -> Fallible<()> {
    let mut targets: Vec<&str> = step.caches.iter().map(|cache| cache.target.as_str()).collect();
    targets.extend(step.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str()));
    targets.extend(step.binds.iter().map(|bind| bind.target.as_str()));
    targets.sort_unstable();
    if let Some(system) = targets.iter().find(|target| !may_be_mounted(target)) {
        return Err(bad_mount(format!("nothing can be mounted at `{system}`"), at)
            .with_help("choose a directory of the step's own"));
    }
    let twice = targets.iter().zip(targets.iter().skip(1)).find(|(first, second)| first == second);
    match twice {
        Some((path, _)) => Err(bad_mount(format!("two mounts lie at `{path}`"), at)),
        None => Ok(()),
    }
}

/// Returns whether a file is among some secrets.
fn has_file(secrets: &[Secret], path: &str) -> bool {
    secrets.iter().any(|secret| matches!(secret, Secret::File { target, .. } if target == path))
}

/// Returns whether a step may have a directory of its own at a path: not in place of its root or of the kernel's files.
fn may_be_mounted(path: &str) -> bool {
    path != "/" && path != "/dev" && !["/proc", "/sys"].iter().any(|system| paths::is_within(path, system))
}

/// `key=value,key=value`, keys as documented.
pub(super) struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    pub(super) fn read(text: &'a str, at: Span) -> Fallible<Self> {
        let mut options = Vec::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let key = match key.trim() {
                "dst" | "destination" => "target",
                "src" => "source",
                key => key,
            };
            match key {
                // Whether a bind may be written; a cache is always writable here.
                "ro" | "readonly" | "rw" | "readwrite" => {
                    let writable = matches!(key, "rw" | "readwrite");
                    options.push(("rw", if writable != (value == "false") { "true" } else { "false" }));
                }
                key if KEYS.contains(&key) => options.push((key, value)),
                key => {
                    let near = nearest(key, KEYS).map(|near| format!("{near}=…"));
                    return Err(
                        bad_mount(format!("a mount has no `{key}`"), at).with_nearest(near.as_deref())
                    );
                }
            }
        }
        Ok(Self(options))
    }

    /// Returns `uid` and `gid`, if either is given.
    fn owner(&self, at: Span) -> Fallible<Option<(u32, u32)>> {
        let id = |key: &str| -> Fallible<Option<u32>> {
            let bad = |text: &str| {
                bad_mount(format!("`{text}` is not a {key}"), at)
                    .with_help(format!("write a number: `{key}=1000`"))
            };
            self.get(key).map(|text| text.parse().map_err(|_| bad(text))).transpose()
        };
        let (uid, gid) = (id("uid")?, id("gid")?);
        Ok((uid.is_some() || gid.is_some()).then(|| (uid.unwrap_or(0), gid.unwrap_or(0))))
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(have, _)| *have == key).map(|(_, value)| *value)
    }

    /// Returns a key that is none of these.
    pub(super) fn other_than(&self, keys: &[&str]) -> Option<&'a str> {
        self.0.iter().map(|(key, _)| *key).find(|key| !keys.contains(key))
    }
}

fn default_id(frame: &Frame, target: &str) -> String {
    let owner = owner(frame);
    match frame.edition() {
        // Earthly's caches are shared by platforms; two C libraries in one cache are a trap.
        Edition::One => format!("{owner}{target}@{}", frame.platform),
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => format!("{owner}{target}"),
    }
}

/// Returns what caches of a target are named by.
pub(super) fn owner(frame: &Frame) -> String {
    let reference = &frame.key.target;
    // Another version of a repository elsewhere has the same caches.
    let place = match reference.project.repository() {
        None => format!("//{}", reference.project.dir()),
        Some(repository) => format!("{}//{}", repository.place(), reference.project.dir()),
    };
    format!("{place}+{}", reference.name)
}

/// Permission bits of a new cache: Earthly's in an Earthfile, and in `VERSION 1` those that other users can enter.
fn default_mode(frame: &Frame) -> u32 {
    if frame.edition() < Edition::One { 0o644 } else { 0o755 }
}

fn sharing(text: &str, at: Span) -> Fallible<CacheSharing> {
    match text {
        "locked" | "" => Ok(CacheSharing::Locked),
        "shared" => Ok(CacheSharing::Shared),
        "private" => Ok(CacheSharing::Private),
        other => Err(Diagnostic::error(codes::BAD_FLAG, format!("a cache cannot be `{other}`"))
            .with_label(at, "")
            .with_help("write `locked` (one step at a time), `shared` or `private`")),
    }
}

/// Reads permission bits in octal digits.
pub(super) fn mode(text: &str, at: Span) -> Fallible<u32> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal && bits <= 0o7777 => Ok(bits),
        _ => Err(Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a file mode"))
            .with_label(at, "")
            .with_help("write octal digits, such as `644` or `0755`")),
    }
}

/// Reads a size in bytes, `k`, `m` or `g`.
fn size(text: &str, at: Span) -> Fallible<i64> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.trim_end_matches("ib").trim_end_matches('b') {
        text if text.ends_with('k') => (text.trim_end_matches('k'), 1 << 10),
        text if text.ends_with('m') => (text.trim_end_matches('m'), 1 << 20),
        text if text.ends_with('g') => (text.trim_end_matches('g'), 1 << 30),
        text => (text, 1),
    };
    let bytes = digits.parse::<i64>().ok().filter(|size| *size >= 0).and_then(|size| size.checked_mul(unit));
    bytes.ok_or_else(|| {
        bad_mount(format!("`{text}` is not a size"), at).with_help("write a number of bytes, or `64m`")
    })
}

pub(super) fn bad_mount(message: String, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_MOUNT, message)
        .with_label(at, "")
        .with_help("for example `--mount=type=cache,target=/root/.cache`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text| size(text, Span::default()).ok();
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("64m"), Some(64 << 20));
        assert_eq!(read("2GiB"), Some(2 << 30));
        assert_eq!(read("1kb"), Some(1024));
        assert_eq!((read("m"), read("-1"), read("9999999999999g")), (None, None, None));
    }

    #[test]
    fn options_of_a_mount_are_checked() {
        let read = |text| Options::read(text, Span::default());
        let options = read("type=cache,dst=/a,id=x").expect("reads");
        assert_eq!(
            (options.get("target"), options.get("id"), options.get("mode")),
            (Some("/a"), Some("x"), None)
        );
        assert_eq!(
            read("type=cache,taget=/a").err().and_then(|error| error.help).as_deref(),
            Some("did you mean `target=…`?")
        );
    }
}
