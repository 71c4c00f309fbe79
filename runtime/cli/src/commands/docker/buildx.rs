//! Words of `docker buildx` in those of `rb`: there is one builder, which is rb.
//!
//! `docker build` and `docker builder` come here, too: docker hands them to buildx. Source: docker buildx reference.

use std::ffi::OsString;

use rb_oci::Platform;

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
  docker buildx create, use, stop, rm      do nothing, and say so

`docker rb …` has all commands of rb.
";

/// Turns them.
pub(super) fn turn(words: Vec<OsString>) -> Turned {
    let mut words = without_builder(words);
    let done = |text: &str| Turned::Done(report::print(text.as_bytes()).map(|()| 0));
    let Some(first) = words.first().map(|word| word.to_string_lossy().into_owned()) else {
        return done(HELP);
    };
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
        "version" => return done(&format!("rb {}\n", env!("CARGO_PKG_VERSION"))),
        "ls" => return done(&listed()),
        "inspect" => return done(&inspected()),
        "create" | "use" | "stop" | "rm" => {
            report::tell("rb itself builds: there is one builder, and nothing to do\n");
            return done(if first == "create" { "rb\n" } else { "" });
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
    Turned::Words(loading(words))
}

/// Leaves out which builder is meant: there is one. What stands behind `--` is no option.
fn without_builder(words: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--builder") => drop(words.next()),
            Some(text) if text.starts_with("--builder=") => {}
            Some("-D" | "--debug") if kept.is_empty() => {}
            Some("--") => {
                kept.push(word);
                kept.extend(words.by_ref());
            }
            _ => kept.push(word),
        }
    }
    kept
}

fn listed() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let platform = Platform::host();
    format!(
        "NAME/NODE    DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS\n\
         rb*          rb\n \\_ rb        \\_ this machine   running   rb {version}   {platform}\n"
    )
}

fn inspected() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let platform = Platform::host();
    format!(
        "Name:          rb\nDriver:        rb\n\nNodes:\nName:             rb\nEndpoint:         this machine\n\
         Status:           running\nBuildKit version: rb {version}\nPlatforms:        {platform}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(line: &str) -> Result<String, String> {
        match turn(line.split_whitespace().map(OsString::from).collect()) {
            Turned::Words(words) => {
                Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
            }
            Turned::Done(Err(failure)) => Err(failure.message()),
            Turned::Done(Ok(code)) => Ok(code.to_string()),
        }
    }

    #[test]
    fn words_of_buildx_have_their_meaning() {
        for (line, wanted) in [
            ("build -t x .", "build --default-load -t x ."),
            ("--builder mine build .", "build --default-load ."),
            ("-D b --builder=mine . ", "build --default-load ."),
            ("bake app --print", "bake --default-load app --print"),
            ("f --builder x", "bake --default-load"),
            ("prune -af", "cache prune -af"),
            ("history inspect 1", "history show 1"),
        ] {
            assert_eq!(turned(line).as_deref(), Ok(wanted), "{line}");
        }
        let told = turned("imagetools create x").expect_err("is not there");
        assert!(told.contains("docker buildx imagetools"), "{told}");
    }
}
