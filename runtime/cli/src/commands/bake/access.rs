//! What targets of bake files may reach: what is allowed by `--allow`.
//!
//! Networks, rights and devices have to be allowed whoever wrote the files. Paths of this machine and the ssh agent only where the
//! files come from elsewhere: then what lies below the folder of the command is free, and what they brought themselves.
//! **Invariant:** a path counts by where it leads, not by how it is written. Source: buildx, "Allow extra privileges".

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rb_bake::Target;

use super::remote::is_address;
use crate::report::Failure;
use crate::world::normalise;

/// What buildx asks for and no build here needs to be allowed.
const FREE: [&str; 3] = ["fs", "ssh", "image"];

/// Refuses what targets ask for and the command line does not allow.
pub(super) fn check_allowed(targets: &BTreeMap<String, Target>, allowed: &[String]) -> Result<(), Failure> {
    let is_free = |word: &str| FREE.contains(&word.split(['.', '=']).next().unwrap_or_default());
    let is_known = |word: &str| {
        is_free(word)
            || matches!(word, "network.host" | "security.insecure" | "device" | "buildx.local.delete")
            || word.starts_with("device=")
    };
    if let Some(word) = allowed.iter().find(|word| !is_known(word)) {
        let help = "network.host, security.insecure and device[=NAME] can be allowed".to_owned();
        return Err(Failure::input(format!("--allow {word}: there is no such thing"), Some(help)));
    }
    let is_allowed = |word: &str| {
        is_free(word)
            || allowed.iter().any(|allowed| allowed == word)
            || (word.starts_with("device=") && allowed.iter().any(|allowed| allowed == "device"))
    };
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, target) in targets {
        let of_network = (target.network.as_deref() == Some("host")).then(|| "network.host".to_owned());
        let asked: BTreeSet<String> =
            target.entitlements.iter().flatten().cloned().chain(of_network).collect();
        for word in asked.into_iter().filter(|word| !is_allowed(word)) {
            missing.entry(word).or_default().push(name);
        }
    }
    let Some((word, names)) = missing.first_key_value() else { return Ok(()) };
    let flags: Vec<String> = missing.keys().map(|word| format!("--allow {word}")).collect();
    let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let help = format!("if that is meant: `rb bake {} …`", flags.join(" "));
    Err(Failure::input(format!("{names} asks for {word}, which is not allowed"), Some(help)))
}

/// Refuses paths of this machine that files from elsewhere name and nobody allows; `own` is the folder that they brought.
pub(super) fn check_paths(
    targets: &BTreeMap<String, Target>,
    allowed: &[String],
    cwd: &Path,
    own: Option<&Path>,
) -> Result<(), Failure> {
    let listed = |keys: [&str; 2]| -> Vec<PathBuf> {
        let values = allowed.iter().filter_map(|word| word.split_once('='));
        let values = values.filter(|(key, _)| keys.contains(key)).map(|(_, value)| value);
        values.map(|value| if value == "*" { PathBuf::from("/") } else { real(cwd, value) }).collect()
    };
    let free: Vec<PathBuf> =
        std::iter::once(cwd).chain(own).map(|folder| real(cwd, &folder.display().to_string())).collect();
    let readable = [free.clone(), listed(["fs", "fs.read"])].concat();
    let writable = [vec![real(cwd, ".")], listed(["fs", "fs.write"])].concat();
    let is_in = |folders: &[PathBuf], path: &str| {
        let path = real(cwd, path);
        folders.iter().any(|folder| path.starts_with(folder))
    };
    let mut missing: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (name, target) in targets {
        let reads = reads(target);
        let written = target.output.iter().flatten().map(|output| output.destination.as_str());
        let written = written.filter(|path| !matches!(*path, "" | "-"));
        let read = reads.iter().filter(|path| !is_in(&readable, path)).map(|path| format!("fs.read={path}"));
        let written = written.filter(|path| !is_in(&writable, path)).map(|path| format!("fs.write={path}"));
        let lends = target.ssh.iter().flatten().any(|ssh| ssh.paths.iter().all(String::is_empty));
        let agent = (lends && !allowed.iter().any(|word| word == "ssh")).then(|| "ssh".to_owned());
        for word in read.chain(written).chain(agent) {
            missing.entry(word).or_default().insert(name);
        }
    }
    let Some((word, names)) = missing.first_key_value() else { return Ok(()) };
    let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let flags: Vec<String> = missing.keys().map(|word| format!("--allow {word}")).collect();
    let help = format!("the files come from elsewhere; if that is meant: `rb bake {} …`", flags.join(" "));
    Err(Failure::input(format!("{names} asks for {word}, which is not allowed"), Some(help)))
}

/// Returns the paths of this machine that a target reads.
fn reads(target: &Target) -> Vec<String> {
    let is_path =
        |place: &&String| !is_address(place) && !place.contains("://") && !place.starts_with("target:");
    let here = |place: &String| place.strip_prefix("cwd://").unwrap_or(place).to_owned();
    let contexts = target.context.iter().chain(target.contexts.values());
    let layouts = target.contexts.values().filter_map(|place| place.strip_prefix("oci-layout://"));
    let dockerfile = target.dockerfile.iter().filter_map(|file| file.strip_prefix("cwd://"));
    // One that leads out of its context by itself.
    let is_beside =
        |(context, file): &(&String, &String)| is_path(context) && !is_address(file) && !file.contains("://");
    let beside = target.context.iter().zip(&target.dockerfile).filter(is_beside);
    let beside = beside.map(|(context, file)| Path::new(context).join(file).display().to_string());
    let mut found: Vec<String> = contexts.filter(is_path).map(here).collect();
    found.extend(layouts.map(|layout| layout.split([':', '@']).next().unwrap_or(layout).to_owned()));
    found.extend(dockerfile.map(ToOwned::to_owned));
    found.extend(beside);
    found.extend(
        target.secret.iter().flatten().map(|secret| secret.src.clone()).filter(|path| !path.is_empty()),
    );
    found.extend(
        target.ssh.iter().flatten().flat_map(|ssh| ssh.paths.clone()).filter(|path| !path.is_empty()),
    );
    found
}

/// Returns where a path leads: what is there of it is followed.
fn real(cwd: &Path, path: &str) -> PathBuf {
    let path = normalise(&cwd.join(path));
    for above in path.ancestors() {
        if let Ok(there) = std::fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return normalise(&there.join(rest));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use rb_bake::{Export, Secret, Ssh};

    use super::*;

    fn targets(names: &[&str]) -> BTreeMap<String, Target> {
        names.iter().map(|name| ((*name).to_owned(), Target::default())).collect()
    }

    #[test]
    fn what_is_asked_for_has_to_be_allowed() {
        let mut targets = targets(&["a", "b"]);
        let all = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for target in targets.values_mut() {
            target.entitlements = all(&["security.insecure", "device=gpu"]);
        }
        let check = |allowed: &[&str]| {
            let allowed = all(allowed).unwrap_or_default();
            check_allowed(&targets, &allowed).map_err(|failure| failure.message())
        };
        assert_eq!(check(&["security.insecure", "device", "fs.read=/x", "ssh"]), Ok(()));
        let told = check(&["device=gpu"]).expect_err("is not allowed");
        assert_eq!(told, "`a`, `b` asks for security.insecure, which is not allowed");
        check(&["fly"]).expect_err("is unknown");
    }

    #[test]
    fn paths_of_files_from_elsewhere_have_to_be_allowed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cwd = dir.path().join("here");
        std::fs::create_dir_all(cwd.join("in")).expect("makes");
        std::os::unix::fs::symlink(dir.path(), cwd.join("link")).expect("links");
        let said = |target: Target, allowed: &[&str]| {
            let targets = BTreeMap::from([("a".to_owned(), target)]);
            let allowed: Vec<String> = allowed.iter().map(|word| (*word).to_owned()).collect();
            check_paths(&targets, &allowed, &cwd, None).map_err(|failure| failure.message())
        };
        let context = |path: &str| Target { context: Some(path.to_owned()), ..Target::default() };
        for path in [".", "in", "https://h.io/a.git", "in/../in"] {
            assert_eq!(said(context(path), &[]), Ok(()), "{path}");
        }
        for path in ["..", "link", "link/x", "/etc", "in/../.."] {
            let told = said(context(path), &[]).expect_err(path);
            assert_eq!(told, format!("`a` asks for fs.read={path}, which is not allowed"));
            assert_eq!(said(context(path), &[&format!("fs.read={path}")]), Ok(()), "{path}");
            assert_eq!(said(context(path), &["fs=*"]), Ok(()), "{path}");
            said(context(path), &["fs.write=/"]).expect_err("that is another thing");
        }
        let secret = Secret { id: "x".to_owned(), src: "/etc/passwd".to_owned(), env: String::new() };
        said(Target { secret: Some(vec![secret]), ..Target::default() }, &[]).expect_err("is read");
        let output =
            Export { kind: "local".to_owned(), destination: "../out".to_owned(), ..Export::default() };
        let target = || Target { output: Some(vec![output.clone()]), ..Target::default() };
        said(target(), &["fs.read=/"]).expect_err("is written");
        assert_eq!(said(target(), &["fs.write=.."]), Ok(()));
        let agent = || Target {
            ssh: Some(vec![Ssh { id: "default".to_owned(), paths: Vec::new() }]),
            ..Target::default()
        };
        assert_eq!(said(agent(), &[]), Err("`a` asks for ssh, which is not allowed".to_owned()));
        assert_eq!(said(agent(), &["ssh"]), Ok(()));
        let file = Target { dockerfile: Some("../../x".to_owned()), ..context("in") };
        said(file, &[]).expect_err("it leads out");
    }
}
