//! Words of `docker buildx` in those of `rb`: there is one builder, which is rb.
//!
//! `docker build` and `docker builder` come here, too: docker hands them to buildx. Source: docker buildx reference.

use std::ffi::OsString;

use rb_oci::Platform;

use super::builders::{self, Builders};
use super::plugin::{Turned, loading};
use crate::report::{self, Failure};

const HELP: &str = "\
rb in buildx's place: there is one builder, rb itself.

  docker buildx build   docker build       builds a Dockerfile; the image goes to Docker unless an output is named
  docker buildx bake                       builds the targets of bake files
  docker buildx du                         as `rb cache du`
  docker buildx prune   docker builder prune   as `rb cache prune`
  docker buildx history ls|inspect|logs|rm as `rb history`
  docker buildx ls, inspect, version       tell of rb
  docker buildx create, rm                 make a name known that --builder may have, and forget it
  docker buildx use, stop                  do nothing, and say so

`docker rb …` has all commands of rb.
";

/// The version of buildx whose command line this is: programs that call it ask for one.
pub(super) const STANDS_FOR: &str = "v0.30.0";

/// Turns them.
pub(super) fn turn(words: Vec<OsString>) -> Turned {
    turn_for(&Builders::here(), words)
}

fn turn_for(builders: &Builders, words: Vec<OsString>) -> Turned {
    let done = |text: &str| Turned::Done(report::print(text.as_bytes()).map(|()| 0));
    let (mut words, builder) = builders::named(words);
    let Some(first) = words.first().map(|word| word.to_string_lossy().into_owned()) else {
        return done(HELP);
    };
    let builds = matches!(first.as_str(), "build" | "b" | "bake" | "f");
    // Who builds may be an engine of rb's own, and is rb here for a name that docker knows, whatever engine is in use: settings say, which
    // are read later.
    let named = builder.clone().or_else(|| builders::of_environment().filter(|_| !names_engine(&words)));
    let engine = named.filter(|_| builds);
    let needs_builder = matches!(first.as_str(), "du" | "prune" | "history" | "inspect");
    if needs_builder && let Err(failure) = builders.check(builder.as_deref()) {
        return Turned::Done(Err(failure));
    }
    let mut instead = |new: &[&str]| {
        words.splice(..1, new.iter().map(OsString::from));
    };
    match first.as_str() {
        "build" | "b" => instead(&["build"]),
        "bake" | "f" => instead(&["bake"]),
        "du" => instead(&["cache", "du"]),
        "prune" => instead(&["cache", "prune"]),
        "history" => {
            for word in words.iter_mut().skip(1).take(1).filter(|word| *word == "inspect") {
                *word = "show".into();
            }
        }
        "version" => return done(&format!("buildx {STANDS_FOR}, by rb {}\n", env!("CARGO_PKG_VERSION"))),
        "ls" => return done(&listed(&builders.made())),
        "create" | "inspect" | "use" | "stop" | "rm" => {
            return Turned::Done(of_builder(builders, &first, &words[1..], builder));
        }
        "--help" | "-h" | "help" => return done(HELP),
        _ => {
            let message = format!("`docker buildx {first}` is not part of this version of rb");
            let help = "`docker buildx --help` lists what is; `rb help` what rb has beside it".to_owned();
            return Turned::Done(Err(Failure::input(message, Some(help))));
        }
    }
    if first == "du" {
        for word in words.iter_mut().filter(|word| *word == "--verbose") {
            *word = "--all".into();
        }
    }
    let mut words = loading(words);
    if let Some(name) = engine {
        words.splice(1..1, [OsString::from("--builder"), name.into()]);
    }
    Turned::Words(words)
}

/// Tells whether words say by rb's own options who builds.
fn names_engine(words: &[OsString]) -> bool {
    let texts = words.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy());
    texts
        .into_iter()
        .any(|text| text == "--engine" || text.starts_with("--engine=") || text.starts_with("-B"))
}

/// Does what is about builders themselves.
fn of_builder(
    builders: &Builders,
    word: &str,
    words: &[OsString],
    typed: Option<String>,
) -> Result<u8, Failure> {
    if word == "create" {
        let name = builders.create(words)?;
        report::tell("rb itself builds, by whatever name\n");
        return report::print(format!("{name}\n").as_bytes()).map(|()| 0);
    }
    // The others' options take no values but `--timeout`.
    let is_value = |at: usize| at > 0 && words[at - 1] == "--timeout";
    let texts =
        words.iter().enumerate().filter(|(at, _)| !is_value(*at)).map(|(_, word)| word.to_string_lossy());
    let mut names: Vec<String> =
        texts.filter(|text| !text.starts_with('-')).map(|text| text.into_owned()).collect();
    names.extend(typed.filter(|_| names.is_empty()));
    for name in &names {
        builders.check(Some(name))?;
    }
    match word {
        "inspect" => {
            let name = names.first().map_or("rb", String::as_str);
            return report::print(inspected(name).as_bytes()).map(|()| 0);
        }
        "rm" => names.iter().try_for_each(|name| builders.remove(name))?,
        _ => {}
    }
    report::tell("rb itself builds: there is nothing to do\n");
    Ok(0)
}

fn listed(made: &[String]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let platform = Platform::host();
    let mut out = "NAME/NODE    DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS\n".to_owned();
    for (mark, name) in std::iter::once(("*", "rb")).chain(made.iter().map(|name| ("", name.as_str()))) {
        out += &format!(
            "{:<12} rb\n \\_ rb        \\_ this machine   running   rb {version}   {platform}\n",
            format!("{name}{mark}")
        );
    }
    out
}

fn inspected(name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let platform = Platform::host();
    format!(
        "Name:          {name}\nDriver:        rb\n\nNodes:\nName:             rb\nEndpoint:         this machine\n\
         Status:           running\nBuildKit version: rb {version}\nPlatforms:        {platform}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(line: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("rb/builders")).expect("makes");
        std::fs::write(dir.path().join("rb/builders/mine"), "").expect("writes");
        let builders = Builders::of(dir.path());
        let words = line.split_whitespace().map(OsString::from).collect();
        match turn_for(&builders, words) {
            Turned::Words(words) => {
                Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
            }
            Turned::Done(Err(failure)) => Err(failure.message()),
            Turned::Done(Ok(code)) => Ok(code.to_string()),
        }
    }

    #[test]
    fn builders_have_to_be_there() {
        for line in ["use other", "rm other", "inspect other"] {
            assert_eq!(turned(line), Err("no builder `other` found".to_owned()), "{line}");
        }
        // Whether an engine is called so, settings say.
        assert_eq!(
            turned("--builder other build .").as_deref(),
            Ok("build --builder other --default-load .")
        );
        assert_eq!(turned("bake --builder=other").as_deref(), Ok("bake --builder other --default-load"));
        assert_eq!(turned("use mine").as_deref(), Ok("0"));
        assert_eq!(turned("rm --force mine").as_deref(), Ok("0"));
    }

    #[test]
    fn rbs_own_words_for_who_builds_are_seen() {
        for (line, is_named) in [
            ("build --engine far .", true),
            ("build --engine=far .", true),
            ("build -B far .", true),
            ("build --engines .", false),
            ("build -t x . -- -B", false),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(names_engine(&words), is_named, "{line}");
        }
    }

    #[test]
    fn words_of_buildx_have_their_meaning() {
        for (line, wanted) in [
            ("build -t x .", "build --default-load -t x ."),
            ("--builder mine build .", "build --builder mine --default-load ."),
            ("-D b --builder=mine . ", "build --builder mine --default-load ."),
            ("bake app --print", "bake --default-load app --print"),
            ("f --builder default", "bake --builder default --default-load"),
            ("prune -af", "cache prune -af"),
            ("history inspect 1", "history show 1"),
        ] {
            assert_eq!(turned(line).as_deref(), Ok(wanted), "{line}");
        }
        let told = turned("imagetools create x").expect_err("is not there");
        assert!(told.contains("docker buildx imagetools"), "{told}");
    }
}
