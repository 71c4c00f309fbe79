//! What is not kept with a failed step of the words of its build: values of arguments whose names say that they are secret, and keys
//! to caches elsewhere.
//!
//! In: arguments of targets, and what stood behind `rb build` or `rb bake`. Out: the same with [`STRUCK`] in the place of such
//! values, and later the same with values of the environment there ([`Environment::pass_on`]).

use std::collections::{BTreeMap, BTreeSet};

use rb_llb::{STRUCK, is_secret};

use crate::environment::Environment;
use crate::output_spec::cache;
use crate::report::Failure;

/// Options whose value is an argument: `NAME=value`, or `TARGET.args.NAME=value`.
const OPTIONS: [&str; 3] = ["--build-arg", "--set", "--var"];

/// Strikes values out of the arguments of a target.
pub(super) fn struck_args(args: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown =
        |name: &String, value: &String| if is_secret(name) { STRUCK.to_owned() } else { value.clone() };
    args.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

/// Strikes values out of words.
pub(super) fn struck_words(words: &[String]) -> Vec<String> {
    let strike = |_: &str, _: &str| Ok::<_, std::convert::Infallible>(Some(STRUCK.to_owned()));
    changed(&without_keys(words), strike).unwrap_or_else(|never| match never {})
}

/// Leaves keys to caches out; they are looked for in the environment again.
fn without_keys(words: &[String]) -> Vec<String> {
    let mut before = "";
    let mut kept = Vec::with_capacity(words.len());
    for word in words {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some((option, value))),
            _ => (word.as_str(), Some((before, word.as_str()))),
        };
        let typed = value.is_some_and(|(option, _)| option == before);
        let shown = value.and_then(|(option, value)| match option {
            "--cache-from" | "--cache-to" => Some(cache::without_secrets(value)),
            "--set" => {
                let (key, value) = value.split_once('=')?;
                let is_cache = key.trim_end_matches('+').ends_with(".cache-to")
                    || key.trim_end_matches('+').ends_with(".cache-from");
                is_cache.then(|| format!("{key}={}", cache::without_secrets(value)))
            }
            _ => None,
        });
        kept.push(match shown {
            Some(shown) if typed => shown,
            Some(shown) => format!("{option}={shown}"),
            None => word.clone(),
        });
        before = word;
    }
    kept
}

/// Puts values of the environment back into the arguments of a target.
pub(super) fn whole_args(args: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let whole = |(name, value): (String, String)| {
        let is_struck = is_secret(&name) && value == STRUCK;
        let value = if is_struck { given(&name)? } else { value };
        Ok((name, value))
    };
    args.into_iter().map(whole).collect()
}

/// Puts values of the environment back into words.
pub(super) fn whole_words(words: &[String]) -> Result<Vec<String>, Failure> {
    let mut known = BTreeMap::new();
    changed(words, |name, value| {
        if value != STRUCK {
            return Ok(None);
        }
        if !known.contains_key(name) {
            known.insert(name.to_owned(), given(name)?);
        }
        Ok(known.get(name).cloned())
    })
}

fn given(name: &str) -> Result<String, Failure> {
    let value = Environment::pass_on(name).and_then(|value| value.into_string().ok());
    value.ok_or_else(|| {
        let message = format!(
            "the value of `{name}` is not kept with a step that fails, as its name says that it is secret"
        );
        Failure::input(message, Some(format!("set it in the environment: `{name}=… rb resume`")))
    })
}

/// Changes the values of arguments that are secret; what `change` gives nothing for stays.
fn changed<E>(
    words: &[String],
    mut change: impl FnMut(&str, &str) -> Result<Option<String>, E>,
) -> Result<Vec<String>, E> {
    let options: BTreeSet<&str> = OPTIONS.into();
    let mut changed = Vec::with_capacity(words.len());
    let mut is_value = false;
    for word in words {
        let (before, argument) = match word.split_once('=') {
            _ if is_value => ("", word.as_str()),
            Some((option, argument)) if options.contains(option) => (&word[..=option.len()], argument),
            _ => ("", ""),
        };
        is_value = !is_value && options.contains(word.as_str());
        let found = argument.split_once('=').and_then(|(key, value)| {
            let name = key.rsplit_once(".args.").map_or(key, |(_, name)| name);
            is_secret(name).then_some((key, name, value))
        });
        let value = match found {
            Some((key, name, value)) => change(name, value)?.map(|value| format!("{before}{key}={value}")),
            None => None,
        };
        changed.push(value.unwrap_or_else(|| word.clone()));
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_arguments_are_not_kept() {
        let line = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            struck_words(&words).join(" ")
        };
        assert_eq!(
            line(&[
                "--build-arg",
                "API_TOKEN=a=b",
                "--build-arg=KEY=x",
                "--build-arg",
                "V=1",
                "-t",
                "TOKEN=x"
            ]),
            "--build-arg API_TOKEN=*** --build-arg=KEY=*** --build-arg V=1 -t TOKEN=x"
        );
        assert_eq!(
            line(&["--set", "app.args.DB_PASSWORD=x", "--set=*.args.V=1", "--var", "TOKEN=x", "app"]),
            "--set app.args.DB_PASSWORD=*** --set=*.args.V=1 --var TOKEN=*** app"
        );
        assert_eq!(
            line(&[
                "--cache-to",
                "type=gha,token=x",
                "--cache-from=type=s3,bucket=b,secret_access_key=x",
                "."
            ]),
            "--cache-to type=gha --cache-from=type=s3,bucket=b ."
        );
        assert_eq!(
            line(&["--set=*.cache-to=type=gha,token=x", "--set", "a.cache-from+=type=gha,token=x", "a"]),
            "--set=*.cache-to=type=gha --set a.cache-from+=type=gha a"
        );
        let args = BTreeMap::from([("TOKEN".to_owned(), "x".to_owned()), ("V".to_owned(), "1".to_owned())]);
        let kept = struck_args(&args);
        assert_eq!((kept["TOKEN"].as_str(), kept["V"].as_str()), (STRUCK, "1"));
    }

    #[test]
    fn who_goes_on_gives_them_again() {
        let words = ["--build-arg".to_owned(), "RB_NOBODY_SETS_THIS_TOKEN=***".to_owned()];
        let failure = whole_words(&words).expect_err("there is no value");
        assert!(failure.message().contains("RB_NOBODY_SETS_THIS_TOKEN"), "{failure:?}");
        let plain = ["--build-arg".to_owned(), "V=***".to_owned(), ".".to_owned()];
        assert_eq!(whole_words(&plain).expect("nothing is missing"), plain);
    }
}
