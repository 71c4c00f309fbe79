//! What a name means in one recipe or function.
//!
//! Looked up in this order: LET and loop variables, ARGs of the scope, ENV (that of the image included), global ARGs of
//! the file's base recipe. So an ARG beats an ENV of the same name, and an ENV beats a global ARG.
//! Source: earthly-language 3.1, 3.2, 3.6.

use std::collections::BTreeMap;

use rb_expression::Value;
use rb_llb::extension;
use rb_oci::{ContainerConfig, ImageConfig};
use rb_syntax::{CommandLine, Edition};

use crate::lower::DEFAULT_PATH;
use crate::word;

/// How a name came to mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// ARG: may come from outside, and never changes.
    Arg,
    /// A built-in ARG.
    Builtin,
    /// ARG --global.
    Global,
    /// LET: may be SET.
    Let,
    /// The variable of a FOR.
    Loop,
}

/// A name's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) value: Value,
    pub(super) kind: Kind,
}

/// All names of a scope but ENV, which belongs to the image.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    /// Declared in this scope.
    pub(super) local: BTreeMap<String, Variable>,
    /// ARGs that every recipe of the file sees.
    pub(super) global: BTreeMap<String, Value>,
    /// ARGs of this scope that a LET of the same name hides; `--pass-args` still passes them.
    pub(super) hidden: BTreeMap<String, Value>,
}

impl Variables {
    /// Returns what a name means.
    pub(super) fn get(&self, name: &str, config: &ContainerConfig) -> Option<Value> {
        if let Some(variable) = self.local.get(name) {
            return Some(variable.value.clone());
        }
        let text = |text: &str| Value::String(text.to_owned());
        config.env(name).map(text).or_else(|| self.global.get(name).cloned())
    }

    /// Returns every name that means something.
    pub(super) fn names(&self, config: &ContainerConfig) -> Vec<String> {
        let env =
            config.env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name.to_owned());
        self.local.keys().chain(self.global.keys()).cloned().chain(env).collect()
    }

    /// Returns the environment of a step: ENV always; of the others all in an Earthfile, and in `VERSION 1` those that
    /// the command names or `--env` passes, so that the others cannot change its key.
    pub(super) fn environment(&self, config: &ImageConfig, passed: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut container = ContainerConfig { env: config.config.env.clone(), ..ContainerConfig::default() };
        if container.env("PATH").is_none() {
            container.env.insert(0, format!("PATH={DEFAULT_PATH}"));
        }
        for (name, value) in &self.global {
            if passed(name) && !self.local.contains_key(name) && container.env(name).is_none() {
                container.set_env(name, &value.to_string());
            }
        }
        for (name, variable) in self.local.iter().filter(|(name, _)| passed(name)) {
            container.set_env(name, &variable.value.to_string());
        }
        container.env
    }
}

impl Variables {
    /// Says in a step's description which variables of its environment are no ENV, to explain what changed.
    pub(super) fn told(&self, env: &[String]) -> Option<(String, String)> {
        let names = env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name);
        let told = names.filter_map(|name| {
            let kind = match self.local.get(name).map(|variable| variable.kind) {
                Some(Kind::Let | Kind::Loop) => "LET",
                Some(Kind::Arg | Kind::Builtin | Kind::Global) => "ARG",
                None if self.global.contains_key(name) => "ARG",
                None => return None,
            };
            Some(format!("{name}={kind}"))
        });
        let lines: Vec<String> = told.collect();
        (!lines.is_empty()).then(|| (extension::EXEC_VARIABLES.to_owned(), lines.join("\n")))
    }
}

/// Returns whether a step of an edition sees a variable: in `VERSION 1` only where its text names it.
pub(super) fn sees(edition: Edition, command: &CommandLine, name: &str) -> bool {
    edition < Edition::One || mentions(command, name)
}

/// Returns whether a command's text names a variable: `$NAME`, `${NAME`, `${#NAME`, or in `$((…))` just `NAME`.
pub(super) fn mentions(command: &CommandLine, name: &str) -> bool {
    match command {
        CommandLine::Shell(text) => text_mentions(&text.raw, name),
        CommandLine::Script(script) => text_mentions(&script.body.raw, name),
        CommandLine::Exec(args) => args.iter().any(|arg| text_mentions(&arg.value, name)),
    }
}

pub(super) fn text_mentions(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(word::is_name_character);
    let starts = |before: &str| !before.ends_with(word::is_name_character);
    let arithmetic = text.find("$((");
    text.match_indices(name).any(|(at, _)| {
        let (before, rest) = (&text[..at], &text[at + name.len()..]);
        let named = before.ends_with('$') || ["${", "${#", "${!"].iter().any(|open| before.ends_with(open));
        ends(rest) && (named || (starts(before) && arithmetic.is_some_and(|open| open < at)))
    })
}

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
        let text = |value: &str| Value::String(value.to_owned());
        let local = |name: &str| (name.to_owned(), Variable { value: text("arg"), kind: Kind::Arg });
        let global = |name: &str| (name.to_owned(), text("global"));
        let variables = Variables {
            local: ["A", "E"].map(local).into(),
            global: ["A", "F", "G"].map(global).into(),
            ..Variables::default()
        };
        let mut config = ImageConfig::default();
        config.config.env = vec!["E=env".to_owned(), "F=env".to_owned()];
        let path = format!("PATH={DEFAULT_PATH}");
        let environment = variables.environment(&config, &|_| true);
        assert_eq!(environment, [path.as_str(), "E=arg", "F=env", "G=global", "A=arg"]);
        assert_eq!(variables.environment(&config, &|_| false), [path.as_str(), "E=env", "F=env"]);
        let get = |name: &str| variables.get(name, &config.config).map(|value| value.to_string());
        assert_eq!(get("E").as_deref(), Some("arg"));
        assert_eq!(get("F").as_deref(), Some("env"));
        assert_eq!(get("G").as_deref(), Some("global"));
        assert_eq!(get("H"), None);
    }
}
