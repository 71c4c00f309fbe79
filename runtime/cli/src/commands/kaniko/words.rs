//! kaniko's flags in the words of `rb build`.
//!
//! In: flags, and where kaniko stands. Out: words, and files that are written once the digest is known. Source: kaniko README,
//! "kaniko Build Contexts"; how its executor finds the Dockerfile.

use std::path::Path;

use clap::ArgMatches;
use rb_oci::Reference;

use super::DigestFile;
use crate::environment::Environment;
use crate::report::Failure;

/// Where kaniko looks for a context that nobody named.
const CONTEXT: &str = "/workspace/";

/// What results are called in a repository of kaniko's.
const CACHE_TAG: &str = "rb";
/// All steps; as with kaniko it is no failure if they cannot be written.
const CACHE_AS: &str = "mode=max,ignore-error=true";

/// What is wanted.
pub(super) struct Wanted {
    /// For `rb build`.
    pub(super) words: Vec<String>,
    /// Files that are to have the digest, as typed.
    pub(super) digests: Vec<(DigestFile, String)>,
    /// Where the image goes.
    pub(super) destinations: Vec<Reference>,
}

/// Turns flags into words.
pub(super) fn of(matches: &ArgMatches, cwd: &Path) -> Result<Wanted, Failure> {
    let one = |name: &str| matches.get_one::<String>(name).filter(|text| !text.is_empty());
    let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
    let is = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
    let destinations = destinations(all("destination"))?;
    let no_push = is("no-push");
    if destinations.is_empty() && !no_push {
        return Err(Failure::input("you must provide --destination, or use --no-push", None));
    }
    let (context, is_folder) = context(matches, cwd)?;
    let mut words = Vec::new();
    let mut say = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    if let Some(file) = dockerfile(one("dockerfile"), &context, is_folder, cwd) {
        say("file", &file);
    }
    all("build-arg").for_each(|value| say("build-arg", value));
    all("label").for_each(|value| say("label", value));
    one("target").into_iter().for_each(|value| say("target", value));
    one("custom-platform").into_iter().for_each(|value| say("platform", value));
    destinations.iter().for_each(|name| say("tag", &name.to_string()));
    if is("reproducible") {
        say("timestamp", "0");
    }
    let mut packed = String::new();
    for key in ["compression", "compression-level"] {
        if let Some(value) = one(key) {
            packed += &format!(",{key}={value}");
        }
    }
    if is("cache") {
        let (from, to) = caches(one("cache-repo"), &destinations)?;
        say("cache-from", &from);
        if !is("no-push-cache") {
            say("cache-to", &to);
        }
    }
    // As kaniko's images have them.
    say("format", "docker");
    if let Some(path) = one("tar-path") {
        say("output", &format!("type=docker,{}{packed}", field("dest", path)));
    }
    if let Some(path) = one("oci-layout-path") {
        say("output", &format!("type=oci,tar=false,{}{packed}", field("dest", path)));
    }
    let is_written = one("tar-path").or(one("oci-layout-path")).is_some();
    match (no_push, is_written) {
        // The last one decides what the digest is of.
        (false, _) => say("output", &format!("type=registry{packed}")),
        (true, false) if !packed.is_empty() => say("output", &format!("type=image{packed}")),
        (true, _) => {}
    }
    if matches!(one("verbosity").map(String::as_str), Some("error" | "fatal" | "panic")) {
        say("quiet", "true");
    }
    words.extend(["--".to_owned(), context]);
    let digests = digest_files(matches, &destinations)?;
    Ok(Wanted { words, digests, destinations })
}

/// Returns where results are read from and written to: the repository that is named, else one beside the first destination. kaniko
/// has a tag for each step there, which are left alone.
fn caches(repo: Option<&String>, destinations: &[Reference]) -> Result<(String, String), Failure> {
    let name = match (repo, destinations.first()) {
        (Some(repo), _) => repo.clone(),
        (None, Some(destination)) => format!("{}/cache", destination.repository()),
        (None, None) => {
            return Err(Failure::input("--cache needs a --destination, or a --cache-repo", None));
        }
    };
    if let Some(folder) = name.strip_prefix("oci:") {
        let place = |key: &str| format!("type=local,{}", field(key, folder));
        return Ok((place("src"), format!("{},{CACHE_AS}", place("dest"))));
    }
    let wrong = |error| Failure::input(format!("--cache-repo {name}: {error}"), None);
    let reference: Reference = name.parse().map_err(wrong)?;
    let has_tag =
        reference.digest().is_some() || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let place =
        if has_tag { reference } else { reference.repository().with_tag(CACHE_TAG).map_err(wrong)? };
    Ok((format!("type=registry,ref={place}"), format!("type=registry,ref={place},{CACHE_AS}")))
}

fn destinations<'a>(words: impl Iterator<Item = &'a String>) -> Result<Vec<Reference>, Failure> {
    let one = |word: &String| {
        word.parse().map_err(|error| Failure::input(format!("--destination {word}: {error}"), None))
    };
    words.map(one).collect()
}

fn digest_files(
    matches: &ArgMatches,
    destinations: &[Reference],
) -> Result<Vec<(DigestFile, String)>, Failure> {
    let files = [
        ("digest-file", DigestFile::Digest),
        ("image-name-with-digest-file", DigestFile::Name),
        ("image-name-tag-with-digest-file", DigestFile::NameAndTag),
    ];
    let mut found = Vec::new();
    for (name, kind) in files {
        let Some(path) = matches.get_one::<String>(name) else { continue };
        if path.contains("://") {
            let help = Some("name a file, and send that".to_owned());
            return Err(Failure::input(
                format!("--{name} {path}: rb writes files of this machine alone"),
                help,
            ));
        }
        if kind != DigestFile::Digest && destinations.is_empty() {
            return Err(Failure::input(format!("--{name} needs a --destination"), None));
        }
        found.push((kind, path.clone()));
    }
    Ok(found)
}

/// Writes a field of an output, as CSV has it.
fn field(key: &str, value: &str) -> String {
    let text = format!("{key}={value}");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Returns the context as `rb build` has it, and whether it is a folder.
fn context(matches: &ArgMatches, cwd: &Path) -> Result<(String, bool), Failure> {
    let typed = matches.get_one::<String>("context").map_or(CONTEXT, String::as_str);
    let sub =
        matches.get_one::<String>("context-sub-path").map(|sub| sub.trim_matches('/')).unwrap_or_default();
    let without_sub = |what: &str| match sub.is_empty() {
        true => Ok((what.to_owned(), false)),
        false => {
            let help = Some("unpack it, and name the folder: --context dir://DIR".to_owned());
            Err(Failure::input("--context-sub-path means folders and repositories alone", help))
        }
    };
    match typed.split_once("://") {
        None | Some(("dir", _)) => {
            let folder = typed.strip_prefix("dir://").unwrap_or(typed);
            let folder = if folder.is_empty() { "." } else { folder };
            let path = Path::new(folder).join(sub);
            let path = if sub.is_empty() { folder.to_owned() } else { path.to_string_lossy().into_owned() };
            // kaniko takes a folder; `rb build` a tar, too.
            if !cwd.join(&path).is_dir() {
                return Err(Failure::input(format!("--context {typed}: there is no folder `{path}`"), None));
            }
            Ok((path, true))
        }
        Some(("tar", "stdin")) => without_sub("-"),
        Some(("tar", file)) => without_sub(file),
        Some(("git", rest)) => Ok((repository(rest, branch(matches), sub), false)),
        Some(("https" | "http", _)) => without_sub(typed),
        Some(("s3", _)) => without_sub(typed),
        Some((scheme, _)) => {
            let help = match scheme {
                "gs" => {
                    "what everybody may read has an https:// address; else fetch it: --context tar://FILE"
                }
                _ => "fetch it, and name the file: --context tar://FILE",
            };
            let message = format!("--context {scheme}://: rb fetches nothing from there");
            Err(Failure::input(message, Some(help.to_owned())))
        }
    }
}

/// Returns the branch that `--git branch=NAME,…` names.
fn branch(matches: &ArgMatches) -> Option<String> {
    let fields = matches.get_many::<String>("git").into_iter().flatten().flat_map(|field| field.split(','));
    fields.filter_map(|field| field.trim().strip_prefix("branch=")).next_back().map(ToOwned::to_owned)
}

/// Returns the address of a repository: `HOST/PATH[#REFERENCE[#COMMIT]]`, by the way that kaniko takes.
fn repository(text: &str, branch: Option<String>, sub: &str) -> String {
    let mut parts = text.split('#');
    let place = parts.next().unwrap_or_default();
    let wanted = parts.rfind(|part| !part.is_empty()).map(ToOwned::to_owned).or(branch);
    let plain = Environment::pass_on("GIT_PULL_METHOD").is_some_and(|method| method == "http");
    let scheme = if plain { "http" } else { "https" };
    let place = place.strip_suffix('/').unwrap_or(place);
    // Without it an address is that of a file.
    let end = if place.ends_with(".git") { "" } else { ".git" };
    let sub = if sub.is_empty() { String::new() } else { format!(":{sub}") };
    match wanted {
        Some(wanted) => format!("{scheme}://{place}{end}#{wanted}{sub}"),
        None if sub.is_empty() => format!("{scheme}://{place}{end}"),
        None => format!("{scheme}://{place}{end}#{sub}"),
    }
}

/// Returns the Dockerfile as `rb build` has it: one that is here counts before one of the context.
fn dockerfile(typed: Option<&String>, context: &str, is_folder: bool, cwd: &Path) -> Option<String> {
    let Some(file) = typed else {
        let is_here = is_folder && cwd.join("Dockerfile").is_file();
        return is_here.then(|| "Dockerfile".to_owned());
    };
    if !is_folder || file.contains("://") || cwd.join(file).is_file() {
        return Some(file.clone());
    }
    Some(Path::new(context).join(file).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{DockerfileArgs, kaniko};

    fn wanted(line: &str, cwd: &Path) -> Result<Wanted, String> {
        let words: Vec<OsString> =
            std::iter::once("executor").chain(line.split(' ')).map(OsString::from).collect();
        of(&kaniko::read(&words).expect("reads"), cwd).map_err(|failure| failure.message())
    }

    #[test]
    fn contexts_are_kanikos() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("app/sub")).expect("makes");
        let at = |line: &str| {
            let words = wanted(&format!("--no-push {line}"), dir.path())?.words;
            Ok::<_, String>(words.last().cloned().unwrap_or_default())
        };
        for (line, expected) in [
            ("-c dir://app", "app"),
            ("-c app", "app"),
            ("-c app --context-sub-path sub", "app/sub"),
            ("-c tar://x.tar.gz", "x.tar.gz"),
            ("-c tar://stdin", "-"),
            ("-c git://host/me/app.git", "https://host/me/app.git"),
            (
                "-c git://host/me/app#refs/heads/b --context-sub-path s",
                "https://host/me/app.git#refs/heads/b:s",
            ),
            ("-c git://host/me/app.git#refs/heads/b#abc", "https://host/me/app.git#abc"),
            ("-c git://host/me/app.git --git branch=b,single-branch=true", "https://host/me/app.git#b"),
            ("-c https://host/x.tar.gz", "https://host/x.tar.gz"),
            ("-c s3://bucket/a/x.tar.gz", "s3://bucket/a/x.tar.gz"),
        ] {
            assert_eq!(at(line).as_deref(), Ok(expected), "{line}");
        }
        for line in [
            "-c gs://x/y",
            "-c nowhere",
            "-c tar://x --context-sub-path y",
            "-c s3://x/y --context-sub-path z",
        ] {
            at(line).expect_err(line);
        }
    }

    #[test]
    fn flags_become_words_that_are_read() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("prod"), "FROM scratch").expect("writes");
        let line = "-c dir://. -f prod -d host/a:1 -d host/b --tar-path x,y.tar --reproducible --label a=b \
                    --build-arg A=1 --custom-platform linux/arm64 --digest-file d -v error";
        let Wanted { words, digests, destinations } = wanted(line, dir.path()).expect("is right");
        let args = DockerfileArgs::parse(words.clone()).expect("reads");
        assert_eq!((args.output.len(), args.tag.len(), args.timestamp), (2, 2, Some(0)), "{words:?}");
        assert!(words.contains(&"--file=prod".to_owned()) && words.contains(&"--quiet=true".to_owned()));
        assert!(words.contains(&"--output=type=docker,\"dest=x,y.tar\"".to_owned()), "{words:?}");
        assert_eq!((digests.len(), destinations.len()), (1, 2));
        wanted("-c .", dir.path()).err().expect("needs a destination");
        wanted("-c . --no-push --image-name-with-digest-file x", dir.path()).err().expect("needs one, too");
    }
}
