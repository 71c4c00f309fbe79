//! `rb bake` as it was typed: the flags of `docker buildx bake`, with their names and grammar.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, Parser, ValueHint};

use super::build::count;
use super::{BuildOptions, ProgressChoice};
use crate::settings::engine::EngineName;

/// `rb bake`
#[derive(Debug, ClapArgs)]
#[command(
    args_override_self = true,
    after_help = "\
Files are those of `docker buildx bake`: HCL, JSON and compose files. Without -f: compose.yaml, compose.yml, \
docker-compose.yml, docker-compose.yaml, docker-bake.json, docker-bake.hcl, docker-bake.override.json and \
docker-bake.override.hcl, as far as they are there.

All targets are one build: what they share is made once, and a target that another has as a context is part of it. \
Unless a target says where its result goes, its image goes into the image store of rb, under its tags.

Examples:
  rb bake                              `default`
  rb bake -f bake.hcl app 'lib-*'
  rb bake --print                      what `default` is, as JSON
  rb bake --set '*.platform=linux/arm64' --var TAG=v2 --push
  rb bake --list variables             what can be set by --var
  rb bake https://HOST/me/app.git#v1 app   bake files of a repository"
)]
pub(crate) struct BakeArgs {
    /// File to read, or `-` for stdin; later ones are laid over earlier ones
    ///
    /// Or the address of one. Behind ADDRESS it is a file there; `cwd://FILE` is one here. Without it, those of BUILDX_BAKE_FILE count,
    /// if it is set, a colon between them.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Vec<String>,
    /// Print what would be built, as JSON
    #[arg(long, conflicts_with = "list")]
    pub(crate) print: bool,
    /// List what the files hold: `targets`, `variables`, or either with `,format=json`
    #[arg(long, value_name = "WHAT")]
    pub(crate) list: Option<BakeList>,
    /// Change targets: TARGET.KEY=VALUE, or `+=` to add
    ///
    /// TARGET may be a pattern: `*.args.MODE=debug`.
    #[arg(long, value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Value for a variable
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) var: Vec<String>,
    /// As --set '*.push=true': images of targets go to their registries
    #[arg(long)]
    pub(crate) push: bool,
    /// As --set '*.load=true': images of targets go to docker
    #[arg(long)]
    pub(crate) load: bool,
    /// Hand images to Docker where a target names no output: what `docker rb bake` adds
    #[arg(long, hide = true)]
    pub(crate) default_load: bool,
    /// As --set '*.pull=true'
    #[arg(long)]
    pub(crate) pull: bool,
    /// As --set '*.no-cache=true'
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// As --set '*.attest=type=sbom'
    #[arg(long, value_name = "SETTINGS")]
    pub(crate) sbom: Option<String>,
    /// As --set '*.attest=type=provenance'
    #[arg(long, value_name = "SETTINGS")]
    pub(crate) provenance: Option<String>,
    /// As --set '*.call=METHOD'
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    /// As --call=check
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Allow what targets ask for: network.host, security.insecure, device[=NAME]
    ///
    /// And what bake files from elsewhere ask for outside of this folder: fs=PATH, fs.read=PATH, fs.write=PATH, ssh. Files of this
    /// machine may read and write what you may.
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Write digests and names of images by target, as JSON
    #[arg(long, value_name = "PATH")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Build on a BuildKit daemon, by name or address
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub(crate) engine: Option<EngineName>,
    /// As --engine NAME, if one is called so
    #[arg(long, short = 'B', value_name = "NAME", conflicts_with = "engine")]
    pub(crate) builder: Option<String>,
    /// Steps at once [default: processors, at least 8]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// How to show progress, on stderr
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Display")]
    pub(crate) progress: Option<ProgressChoice>,
    /// Show errors only, and digests of images
    #[arg(long, short, help_heading = "Display")]
    pub(crate) quiet: bool,
    /// Targets and groups, or patterns of them [default: default]
    ///
    /// Before them may stand the ADDRESS of bake files, of a repository, an archive or a file; and behind that another one, which
    /// is BAKE_CMD_CONTEXT.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// What stood behind `rb bake`, where that is known.
    #[arg(skip)]
    pub(crate) words: Vec<String>,
}

/// What `--list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BakeList {
    /// Whether variables are listed, not targets.
    pub(crate) variables: bool,
    /// Whether as JSON.
    pub(crate) json: bool,
}

/// What is no list.
#[derive(Debug)]
pub(crate) struct NoList;

impl fmt::Display for NoList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "expected `targets` or `variables`, and `format=table` or `format=json` behind a comma",
        )
    }
}

impl std::error::Error for NoList {}

impl FromStr for BakeList {
    type Err = NoList;

    fn from_str(text: &str) -> Result<Self, NoList> {
        let mut list = None;
        let mut json = false;
        for (at, field) in text.split(',').enumerate() {
            match field.split_once('=').unwrap_or((if at == 0 { "type" } else { "" }, field)) {
                ("type", "targets") => list = Some(false),
                ("type", "variables") => list = Some(true),
                ("format", "json") => json = true,
                ("format", "table") => json = false,
                _ => return Err(NoList),
            }
        }
        list.map(|variables| Self { variables, json }).ok_or(NoList)
    }
}

/// `rb bake` alone, as other commands take its words.
#[derive(Debug, Parser)]
#[command(name = "rb bake", no_binary_name = true, disable_help_flag = true)]
struct Alone {
    #[command(flatten)]
    args: BakeArgs,
}

impl BakeArgs {
    /// Reads the words that stood behind `rb bake`; what is wrong is told in one line.
    pub(crate) fn read(words: &[String]) -> Result<Self, String> {
        let alone = Alone::try_parse_from(words);
        let args = alone.map(|alone| alone.args).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        })?;
        Ok(Self { words: words.to_vec(), ..args })
    }

    /// Returns the options of the build as a whole.
    pub(crate) fn options(&self) -> BuildOptions {
        BuildOptions {
            engine: self.engine.clone(),
            jobs: self.jobs,
            progress: self.progress,
            quiet: self.quiet,
            ..BuildOptions::default()
        }
    }

    /// Returns all changes, those of flags behind those of `--set`, as buildx has them.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut changes = self.set.clone();
        let flags =
            [("push", self.push), ("load", self.load), ("no-cache", self.no_cache), ("pull", self.pull)];
        changes.extend(flags.iter().filter(|(_, on)| *on).map(|(key, _)| format!("*.{key}=true")));
        let check = self.check.then_some("check");
        if let Some(call) = check.or(self.call.as_deref()).filter(|call| *call != "build") {
            changes.push(format!("*.call={call}"));
        }
        for (kind, settings) in [("sbom", &self.sbom), ("provenance", &self.provenance)] {
            if let Some(settings) = settings {
                changes.push(format!("*.attest={}", rb_bake::attestation(kind, settings)));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_named_as_in_buildx() {
        let list = |variables, json| Some(BakeList { variables, json });
        for (text, wanted) in [
            ("targets", list(false, false)),
            ("type=variables,format=json", list(true, true)),
            ("variables,format=json", list(true, true)),
            ("format=json", None),
            ("all", None),
        ] {
            assert_eq!(text.parse::<BakeList>().ok(), wanted, "{text}");
        }
    }
}
