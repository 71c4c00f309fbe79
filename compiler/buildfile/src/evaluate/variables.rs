//! Variables of one recipe, and what a name means in it.
//!
//! Looked up in this order: ARGs of the recipe, ENV (that of the image included), global ARGs of the file's base
//! recipe. So an ARG beats an ENV of the same name, and an ENV beats a global ARG.
//! Source: earthly-language 3.2, 3.6.

use std::collections::BTreeMap;

use rb_frontend::TargetKey;
use rb_oci::{ContainerConfig, ImageConfig};
use rb_syntax::{CommandLine, Edition};

use crate::lower::DEFAULT_PATH;
use crate::word;

/// ARGs that a recipe sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    /// Declared in this recipe.
    pub(super) local: BTreeMap<String, String>,
    /// Those of them that targets of the file see too; only the base recipe has some of its own.
    pub(super) global: BTreeMap<String, String>,
}

impl Variables {
    /// Returns what a name means.
    pub(super) fn get(&self, name: &str, config: &ContainerConfig) -> Option<String> {
        let local = self.local.get(name).map(String::as_str);
        let value = local.or_else(|| config.env(name)).or_else(|| self.global.get(name).map(String::as_str));
        // A step always has a PATH, so a word may add to it.
        value.or((name == "PATH").then_some(DEFAULT_PATH)).map(str::to_owned)
    }

    /// Returns every name that means something.
    pub(super) fn names<'a>(&'a self, config: &'a ContainerConfig) -> impl Iterator<Item = &'a str> {
        let env = config.env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name);
        self.local.keys().chain(self.global.keys()).map(String::as_str).chain(env)
    }

    /// Returns the environment of a step: ENV always; of the ARGs all in an Earthfile, and in `VERSION 1` those
    /// that the command names, so that the others cannot change its key.
    pub(super) fn environment(
        &self,
        edition: Edition,
        command: &CommandLine,
        config: &ImageConfig,
    ) -> Vec<String> {
        let mut container = ContainerConfig { env: config.config.env.clone(), ..ContainerConfig::default() };
        if container.env("PATH").is_none() {
            container.env.insert(0, format!("PATH={DEFAULT_PATH}"));
        }
        let passed = |name: &str| edition < Edition::One || mentions(command, name);
        for (name, value) in &self.global {
            if passed(name) && !self.local.contains_key(name) && container.env(name).is_none() {
                container.set_env(name, value);
            }
        }
        for (name, value) in self.local.iter().filter(|(name, _)| passed(name)) {
            container.set_env(name, value);
        }
        container.env
    }
}

/// Returns whether a command's text names a variable: `$NAME`, `${NAME`, `${#NAME`, or in `$((…))` just `NAME`.
pub(super) fn mentions(command: &CommandLine, name: &str) -> bool {
    match command {
        CommandLine::Shell(text) => text_mentions(&text.raw, name),
        CommandLine::Exec(args) => args.iter().any(|arg| text_mentions(&arg.value, name)),
    }
}

fn text_mentions(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(word::is_name_character);
    let starts = |before: &str| !before.ends_with(word::is_name_character);
    let arithmetic = text.find("$((");
    text.match_indices(name).any(|(at, _)| {
        let (before, rest) = (&text[..at], &text[at + name.len()..]);
        let named = before.ends_with('$') || ["${", "${#", "${!"].iter().any(|open| before.ends_with(open));
        ends(rest) && (named || (starts(before) && arithmetic.is_some_and(|open| open < at)))
    })
}

/// A name that `rb` itself gives a value. Each `EARTHLY_…` has a twin `RB_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    TargetPlatform,
    TargetOs,
    TargetArchitecture,
    TargetVariant,
    Target,
    TargetName,
    /// One that this version does not have.
    Later,
}

impl Builtin {
    /// Looks a name up.
    pub(super) fn of(name: &str) -> Option<Self> {
        let of_a_machine = ["USER", "NATIVE"].iter().find_map(|prefix| name.strip_prefix(prefix));
        if of_a_machine.is_some_and(|rest| ["PLATFORM", "OS", "ARCH", "VARIANT"].contains(&rest)) {
            return Some(Self::Later);
        }
        match name {
            "TARGETPLATFORM" => return Some(Self::TargetPlatform),
            "TARGETOS" => return Some(Self::TargetOs),
            "TARGETARCH" => return Some(Self::TargetArchitecture),
            "TARGETVARIANT" => return Some(Self::TargetVariant),
            _ => {}
        }
        match name.strip_prefix("EARTHLY_").or_else(|| name.strip_prefix("RB_"))? {
            "TARGET" => Some(Self::Target),
            "TARGET_NAME" => Some(Self::TargetName),
            short if LATER.contains(&short) || short.starts_with("GIT_") => Some(Self::Later),
            _ => None,
        }
    }

    /// Returns its value in one evaluation; `None` where it comes later.
    pub(super) fn value(self, key: &TargetKey) -> Option<String> {
        let platform = &key.platform;
        match self {
            Self::TargetPlatform => Some(platform.to_string()),
            Self::TargetOs => Some(platform.os.clone()),
            Self::TargetArchitecture => Some(platform.architecture.clone()),
            Self::TargetVariant => Some(platform.variant.clone().unwrap_or_default()),
            Self::Target => Some(key.target.to_string()),
            Self::TargetName => Some(key.target.name.clone()),
            Self::Later => None,
        }
    }
}

const LATER: &[&str] = &[
    "BUILD_SHA",
    "CI",
    "CI_RUNNER",
    "LOCALLY",
    "PUSH",
    "SOURCE_DATE_EPOCH",
    "TARGET_PROJECT",
    "TARGET_PROJECT_NO_TAG",
    "TARGET_TAG",
    "TARGET_TAG_DOCKER",
    "VERSION",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_a_variable_as_a_shell_reads_it() {
        for (text, expected) in [
            ("echo $A", true),
            ("echo ${A}", true),
            ("echo ${A:-x} b", true),
            ("echo ${#A}", true),
            ("echo $((A + 1))", true),
            ("echo $(($A + 1))", true),
            ("echo A", false),
            ("echo $AB", false),
            ("echo ${AB}", false),
            ("echo $BA", false),
            ("echo $((BA + 1))", false),
        ] {
            assert_eq!(text_mentions(text, "A"), expected, "{text}");
        }
    }

    #[test]
    fn the_environment_follows_the_order_of_look_up() {
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let variables = Variables {
            local: [("A", "arg"), ("E", "arg")].map(text).into(),
            global: [("A", "global"), ("F", "global"), ("G", "global")].map(text).into(),
        };
        let mut config = ImageConfig::default();
        config.config.env = vec!["E=env".to_owned(), "F=env".to_owned()];
        let command = CommandLine::Exec(vec![]);
        let path = format!("PATH={DEFAULT_PATH}");
        let environment = variables.environment(Edition::Earthly08, &command, &config);
        assert_eq!(environment, [path.as_str(), "E=arg", "F=env", "G=global", "A=arg"]);
        assert_eq!(variables.environment(Edition::One, &command, &config), [path.as_str(), "E=env", "F=env"]);
        let get = |name: &str| variables.get(name, &config.config);
        assert_eq!(get("E").as_deref(), Some("arg"));
        assert_eq!(get("F").as_deref(), Some("env"));
        assert_eq!(get("G").as_deref(), Some("global"));
        assert_eq!(get("H"), None);
    }
}
