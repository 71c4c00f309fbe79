//! kaniko's command line: each flag of its executor, and what becomes of it here.
//!
//! One table makes the parser, its help and the topic `rb help kaniko`. Flags are read as kaniko reads them: a switch takes its
//! value behind `=` alone. Source: kaniko README, "Additional Flags"; its executor's table of flags.

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use Meaning::{Done, Nothing, Refused};
use Takes::{List, Switch, Value};

/// A flag.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    short: Option<char>,
    /// Its name in earlier versions.
    alias: Option<&'static str>,
    takes: Takes,
    pub(crate) meaning: Meaning,
}

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Switch,
    Value,
    /// A value each time.
    List,
}

/// What becomes of a flag.
pub(crate) enum Meaning {
    /// It does what it does in kaniko, by these words of ours.
    Done(&'static str),
    /// It changes nothing here; why.
    Nothing(&'static str),
    /// What it asks for would come out otherwise; what to do.
    Refused(&'static str),
}

const fn flag(name: &'static str, takes: Takes, meaning: Meaning) -> Flag {
    Flag { name, short: None, alias: None, takes, meaning }
}

const fn short(name: &'static str, letter: char, takes: Takes, meaning: Meaning) -> Flag {
    Flag { name, short: Some(letter), alias: None, takes, meaning }
}

const fn renamed(name: &'static str, alias: &'static str, takes: Takes, meaning: Meaning) -> Flag {
    Flag { name, short: None, alias: Some(alias), takes, meaning }
}

const OWN_CACHE: &str = "rb keeps its own cache, by what files hold, in its state directory";
const ONE_STEP: &str = "files are not looked through after a step: what it wrote is known";
const RETRIES: &str = "what can be tried again is, some times";

/// Every flag, in the order of the alphabet.
pub(crate) const FLAGS: &[Flag] = &[
    flag("azure-container-registry-config", Value, Nothing("logins are those of docker's config.json")),
    short("bucket", 'b', Value, Refused("fetch it, and name the file: --context tar://FILE")),
    flag("build-arg", List, Done("--build-arg")),
    flag("cache", Switch, Done("--cache-from and --cache-to, with --cache-repo")),
    flag("cache-copy-layers", Switch, Nothing(OWN_CACHE)),
    flag("cache-dir", Value, Nothing(OWN_CACHE)),
    flag("cache-repo", Value, Done("where: NAME, `oci:DIR`; else the destination's, and /cache")),
    flag("cache-run-layers", Switch, Nothing(OWN_CACHE)),
    flag("cache-ttl", Value, Nothing(OWN_CACHE)),
    flag("cleanup", Switch, Nothing("nothing of a build is left in the root of this container")),
    flag("compressed-caching", Switch, Nothing(OWN_CACHE)),
    flag("compression", Value, Done("compression= of the output")),
    flag("compression-level", Value, Done("compression-level= of the output")),
    short("context", 'c', Value, Done("the context: a folder, dir://, tar://, git://, https://, s3://")),
    flag("context-sub-path", Value, Done("a folder of the context")),
    flag("credential-helpers", List, Nothing("helpers are those that docker's config.json names")),
    renamed("custom-platform", "customPlatform", Value, Done("--platform")),
    short("destination", 'd', List, Done("--tag, and --push")),
    flag("digest-file", Value, Done("a file with the digest of the image")),
    short("dockerfile", 'f', Value, Done("--file; looked for here, then in the context")),
    flag("force", Switch, Nothing("rb does not write to the root that it runs in")),
    flag("force-build-metadata", Switch, Nothing("what only changes the config is in the config")),
    flag("git", List, Done("branch= is what is fetched; other fields change nothing")),
    flag("ignore-path", List, Nothing("nothing of this container gets into the image")),
    renamed(
        "ignore-var-run",
        "whitelist-var-run",
        Switch,
        Nothing("nothing of this container gets into the image"),
    ),
    flag("image-download-retry", Value, Nothing(RETRIES)),
    flag("image-fs-extract-retry", Value, Nothing(RETRIES)),
    flag("image-name-tag-with-digest-file", Value, Done("a file with NAME:TAG@DIGEST of each destination")),
    flag("image-name-with-digest-file", Value, Done("a file with NAME@DIGEST of each destination")),
    flag("insecure", Switch, Done("`http = true` for the registries of the destinations")),
    flag("insecure-pull", Switch, Refused("name the registry: --insecure-registry HOST")),
    flag("insecure-registry", List, Done("`http = true` for that registry")),
    flag("kaniko-dir", Value, Nothing("the state directory is that of RB_ROOT")),
    flag("label", List, Done("--label")),
    flag("log-format", Value, Nothing("`rb build --progress=json` is for programs")),
    flag("log-timestamp", Switch, Nothing("`rb history` has times")),
    flag("no-push", Switch, Done("the image is not pushed; without another output rb keeps it")),
    flag("no-push-cache", Switch, Done("the cache is read, and not written")),
    flag("oci-layout-path", Value, Done("-o type=oci,tar=false")),
    flag("push-ignore-immutable-tag-errors", Switch, Refused("leave it out: what is not pushed is an error")),
    flag("push-retry", Value, Nothing(RETRIES)),
    flag("registry-certificate", List, Done("`ca` of that registry")),
    flag("registry-client-cert", List, Done("`keypair` of that registry")),
    flag("registry-map", List, Done("`mirrors` of that registry")),
    flag("registry-mirror", List, Done("`mirrors` of docker.io")),
    flag("reproducible", Switch, Done("--timestamp 0")),
    flag("single-snapshot", Switch, Nothing("each step stays a layer; the files are the same")),
    flag(
        "skip-default-registry-fallback",
        Switch,
        Refused("leave it out: the registry itself is asked behind its mirrors"),
    ),
    flag(
        "skip-push-permission-check",
        Switch,
        Nothing("nothing is pushed to find out whether that is allowed"),
    ),
    flag("skip-tls-verify", Switch, Done("`insecure = true` for the registries of the destinations")),
    flag("skip-tls-verify-pull", Switch, Refused("name the registry: --skip-tls-verify-registry HOST")),
    flag("skip-tls-verify-registry", List, Done("`insecure = true` for that registry")),
    flag("skip-unused-stages", Switch, Nothing("stages that nothing needs are never built")),
    renamed("snapshot-mode", "snapshotMode", Value, Nothing(ONE_STEP)),
    renamed("tar-path", "tarPath", Value, Done("-o type=docker")),
    flag("target", Value, Done("--target")),
    flag("use-new-run", Switch, Nothing(ONE_STEP)),
    short("verbosity", 'v', Value, Done("error, fatal and panic: --quiet")),
];

/// Reads words as kaniko's executor does.
pub(crate) fn read(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let start = Command::new("executor")
        .about("kaniko's flags, for rb: builds a Dockerfile and pushes the image")
        .override_usage("executor --context DIR --destination NAME [FLAGS]")
        .after_help("`rb help kaniko` tells what each flag becomes.")
        .max_term_width(100)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .args_conflicts_with_subcommands(true)
        .subcommand(Command::new("version").about("Print the version"));
    FLAGS.iter().fold(start, |command, flag| command.arg(flag.arg())).try_get_matches_from(words)
}

/// Tells for `rb help kaniko` what becomes of each flag.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "Called by the name `kaniko` or `executor`, rb takes the flags of kaniko:\n\n\
         \x20 ln -s /usr/bin/rb /kaniko/executor\n\
         \x20 /kaniko/executor --context dir://. --destination HOST/me/app:1\n\n\
         It needs no container of its own around it, and writes nothing to the root that\nit runs in. Images have Docker's media types, as kaniko's have.\n\n",
    );
    let width = FLAGS.iter().map(|flag| flag.name.len()).max().unwrap_or(0) + 4;
    let mut part = |title: &str, pick: &dyn Fn(&Meaning) -> Option<String>| {
        out.push_str(title);
        for flag in FLAGS {
            if let Some(text) = pick(&flag.meaning) {
                let name = format!("--{}", flag.name);
                out.push_str(&wrapped(&format!("  {name:width$}"), &text));
            }
        }
    };
    part("Done, as:\n\n", &|meaning| match meaning {
        Done(text) => Some((*text).to_owned()),
        Nothing(_) | Refused(_) => None,
    });
    part("\nTaken, and told once that it changes nothing:\n\n", &|meaning| match meaning {
        Nothing(text) => Some((*text).to_owned()),
        Done(_) | Refused(_) => None,
    });
    part("\nRefused:\n\n", &|meaning| match meaning {
        Refused(text) => Some((*text).to_owned()),
        Done(_) | Nothing(_) => None,
    });
    out
}

/// Returns a row of at most 80 columns; what does not fit stands below.
fn wrapped(start: &str, text: &str) -> String {
    let indent = start.chars().count();
    if indent + text.len() <= 80 {
        return format!("{start}{text}\n");
    }
    let mut out = format!("{}\n", start.trim_end());
    let mut line = String::from("     ");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > 80 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("     ");
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}

impl Flag {
    fn arg(&self) -> Arg {
        let help = match self.meaning {
            Done(text) => text.to_owned(),
            Nothing(text) => format!("Changes nothing: {text}"),
            Refused(text) => format!("Refused: {text}"),
        };
        let mut arg = Arg::new(self.name).long(self.name).help(help).help_heading(match self.meaning {
            Done(_) => "Flags",
            Nothing(_) => "Flags that change nothing",
            Refused(_) => "Flags that are refused",
        });
        if let Some(letter) = self.short {
            arg = arg.short(letter);
        }
        if let Some(alias) = self.alias {
            arg = arg.alias(alias);
        }
        match self.takes {
            Switch => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .hide_possible_values(true)
                .value_parser(BoolishValueParser::new()),
            Value => arg.action(ArgAction::Set).value_name("VALUE"),
            List => arg.action(ArgAction::Append).value_name("VALUE"),
        }
    }

    /// Tells whether it was typed, and not to say no.
    pub(crate) fn is_given(&self, matches: &ArgMatches) -> bool {
        match self.takes {
            Switch => matches.get_one::<bool>(self.name).copied().unwrap_or(false),
            Value | List => matches.contains_id(self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("executor").chain(line.split(' ')).map(OsString::from).collect()
    }

    #[test]
    fn flags_are_read_as_kaniko_reads_them() {
        let matches = read(&words(
            "-c dir://x -d a -d=b --destination c --no-push --cache=false --tarPath x.tar --context y",
        ))
        .expect("reads");
        let all =
            |name: &str| matches.get_many::<String>(name).map(|values| values.cloned().collect::<Vec<_>>());
        assert_eq!(all("destination"), Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        assert_eq!(
            (all("context"), all("tar-path")),
            (Some(vec!["y".to_owned()]), Some(vec!["x.tar".to_owned()]))
        );
        let is_given = |name: &str| {
            FLAGS.iter().find(|flag| flag.name == name).is_some_and(|flag| flag.is_given(&matches))
        };
        assert!(is_given("no-push") && !is_given("cache") && !is_given("target"));
        read(&words("--nope")).expect_err("is unknown");
    }

    #[test]
    fn each_flag_is_told_of_in_few_columns() {
        let text = help();
        for Flag { name, .. } in FLAGS {
            assert!(text.contains(&format!("--{name}")), "{name}");
        }
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(FLAGS.is_sorted_by_key(|flag| flag.name), "in order");
    }
}
