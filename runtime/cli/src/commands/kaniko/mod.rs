//! rb by the name of kaniko: its flags in, an image pushed or written, digests in files out.
//!
//! In: argv of who was called `kaniko` or `executor`. What its flags mean stands in [`crate::args::kaniko`]; [`words`] makes flags of
//! `rb build` of them, [`registries`] what is special about registries.

mod registries;
mod words;

use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;
use rb_oci::Reference;
use serde_json::Value;

use self::words::Wanted;
use super::scratch::Scratch;
use super::{FALLBACK, dockerfile, end, start_logs};
use crate::args::kaniko::{self, FLAGS, Meaning};
use crate::args::{BuildOptions, DockerfileArgs};
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{self, ProgressMode};

/// Names by which rb takes kaniko's flags.
const NAMES: [&str; 2] = ["executor", "kaniko"];

/// Does what kaniko's flags say, if rb was called by its name.
pub(super) fn serve(argv: &[OsString]) -> Option<u8> {
    if !is_called(argv) {
        return None;
    }
    Some(match Environment::read() {
        Ok(environment) => {
            start_logs(&environment, false);
            let display = settings::display(&BuildOptions::default(), &environment);
            end(execute(&environment, argv), display.unwrap_or(FALLBACK))
        }
        Err(error) => end(Err(error.into()), FALLBACK),
    })
}

fn is_called(argv: &[OsString]) -> bool {
    let called = argv.first().map(Path::new).and_then(Path::file_name);
    called.is_some_and(|called| NAMES.iter().any(|name| called == *name))
}

/// Builds as kaniko was asked to.
fn execute(environment: &Environment, argv: &[OsString]) -> Result<u8, Failure> {
    let matches = match kaniko::read(argv) {
        Ok(matches) => matches,
        Err(error) => {
            // Help goes to stdout, errors to stderr; a reader that went away is no failure.
            let _ignored = error.print();
            return Ok(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches.subcommand_name() == Some("version") {
        return report::print(format!("Kaniko version :  rb {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
            .map(|()| 0);
    }
    refuse(&matches)?;
    let Wanted { words, digests, destinations } = words::of(&matches, &environment.cwd)?;
    let hosts = registries::of(&matches, &destinations)?;
    let folder = Scratch::new()?;
    let told = folder.path().join("metadata.json");
    let args = DockerfileArgs::parse(words).map_err(|what| Failure::input(what, None))?;
    let args = DockerfileArgs { metadata_file: Some(told.clone()), ..args };
    tell_nothings(&matches, environment, &args)?;
    let code = dockerfile::execute_with(environment, BuildOptions::default(), args, |settings| {
        registries::add(&mut settings.registry.hosts, hosts);
    })?;
    if !digests.is_empty() {
        let digest = digest_in(&told)?;
        for (kind, path) in &digests {
            let text = kind.text(&digest, &destinations);
            std::fs::write(environment.cwd.join(path), text)
                .map_err(|error| Failure::environment(&format!("cannot write {path}"), &error))?;
        }
    }
    Ok(code)
}

/// Refuses what would come out otherwise.
fn refuse(matches: &ArgMatches) -> Result<(), Failure> {
    for flag in FLAGS.iter().filter(|flag| flag.is_given(matches)) {
        if let Meaning::Refused(help) = flag.meaning {
            let message = format!("`--{}` of kaniko is not part of this version of rb", flag.name);
            return Err(Failure::input(message, Some(help.to_owned())));
        }
    }
    Ok(())
}

/// Tells in one line what changes nothing.
fn tell_nothings(
    matches: &ArgMatches,
    environment: &Environment,
    args: &DockerfileArgs,
) -> Result<(), Failure> {
    let display = settings::display(&args.display(), environment)?;
    let is_nothing = |meaning: &Meaning| matches!(meaning, Meaning::Nothing(_));
    let given = FLAGS.iter().filter(|flag| is_nothing(&flag.meaning) && flag.is_given(matches));
    let names: Vec<String> = given.map(|flag| format!("--{}", flag.name)).collect();
    if !names.is_empty() && display.mode != ProgressMode::Quiet {
        let line =
            format!("of kaniko's flags these change nothing here (`rb help kaniko`): {}", names.join(", "));
        report::tell(&report::warning(&line, display, terminal_columns()));
    }
    Ok(())
}

/// A file that kaniko writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DigestFile {
    Digest,
    Name,
    NameAndTag,
}

impl DigestFile {
    fn text(self, digest: &str, destinations: &[Reference]) -> String {
        let line = |name: String| format!("{name}@{digest}\n");
        let repository = |name: &Reference| {
            // What kaniko's library calls Docker's own registry.
            let host = match name.repository().host() {
                "docker.io" => "index.docker.io",
                host => host,
            };
            format!("{host}/{}", name.repository().path())
        };
        let tagged = |name: &Reference| format!("{}:{}", repository(name), name.tag().unwrap_or("latest"));
        match self {
            Self::Digest => digest.to_owned(),
            Self::Name => destinations.iter().map(|name| line(repository(name))).collect(),
            Self::NameAndTag => destinations.iter().map(|name| line(tagged(name))).collect(),
        }
    }
}

/// Returns the digest of the image that was made last.
fn digest_in(path: &Path) -> Result<String, Failure> {
    let read =
        std::fs::read(path).map_err(|error| Failure::environment("the digest cannot be read", &error))?;
    let told: Value = serde_json::from_slice(&read).unwrap_or_default();
    let digest = told["containerimage.digest"].as_str().map(ToOwned::to_owned);
    digest.ok_or_else(|| Failure::input("the build makes no image, whose digest could be written", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_stand_behind_names() {
        let names: Vec<Reference> =
            ["host:5000/a:1", "b"].iter().map(|name| name.parse().expect("a name")).collect();
        assert_eq!(DigestFile::Digest.text("sha256:x", &names), "sha256:x");
        let text = DigestFile::NameAndTag.text("sha256:x", &names);
        assert!(text == "host:5000/a:1@sha256:x\nindex.docker.io/library/b:latest@sha256:x\n", "{text}");
        assert!(DigestFile::Name.text("sha256:x", &names).starts_with("host:5000/a@sha256:x\n"));
    }

    #[test]
    fn names_are_kanikos() {
        let called = |name: &str| is_called(&[OsString::from(name)]);
        assert!(
            called("/kaniko/executor") && called("kaniko") && !called("rb") && !called("/kaniko/executor/rb")
        );
    }
}
