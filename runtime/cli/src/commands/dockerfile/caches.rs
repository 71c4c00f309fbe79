//! Where a build of a Dockerfile finds caches, writes them, and has a context in a bucket.
//!
//! In: words, the environment, the profiles of `~/.aws`. Out: places with the keys to them. **Invariant:** no message shows a key.

use rb_api::{CacheExport, CachePlace};
use rb_session::Bucket;

use super::context::Object;
use crate::args::DockerfileArgs;
use crate::environment::Environment;
use crate::output_spec::cache::{self, aws};
use crate::report::Failure;
use crate::settings::Settings;

/// Where caches are looked for and written, and what is to be told of them.
pub(super) type Caches = (Vec<CachePlace>, Vec<CacheExport>, Vec<String>);

/// Returns a variable, if it says something.
fn variable(environment: &Environment, name: &'static str) -> Option<String> {
    let value = environment.get(name)?.1.to_str()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Finds the keys to the bucket that a context lies in, as those to a cache are found, and what kaniko has for another S3 than Amazon's.
pub(super) fn bucket(object: &Object, environment: &Environment) -> Result<Bucket, Failure> {
    let variables = |name| variable(environment, name);
    let profile = aws::Profile::new(&variables, environment.home());
    let of_kaniko = |name| Environment::pass_on(name).and_then(|value| value.into_string().ok());
    let variables = |name| match name {
        "AWS_ENDPOINT_URL_S3" => {
            of_kaniko("S3_ENDPOINT").filter(|url| !url.is_empty()).or_else(|| profile.variable(name))
        }
        _ => profile.variable(name),
    };
    let is_path = of_kaniko("S3_FORCE_PATH_STYLE").and_then(|text| rb_bake::truth(&text)) == Some(true);
    let spec = format!("type=s3,bucket={},use_path_style={is_path}", object.bucket);
    let wrong = |what: String| Failure::input(format!("the context {}: {what}", object.word), None);
    match cache::read_from(&spec, &environment.cwd, &variables) {
        Ok(CachePlace::Bucket(bucket)) => Ok((*bucket).clone()),
        Ok(_) => Err(wrong("it is no bucket".to_owned())),
        Err(cache::CacheSpecError::Unsaid { variable, .. }) => Err(wrong(match profile.unusable() {
            Some(why) => why,
            None => format!("{variable} is not set, and no profile of ~/.aws says it"),
        })),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Settles what `--cache-from` and `--cache-to` say.
pub(super) fn caches(
    args: &DockerfileArgs,
    settings: &Settings,
    environment: &Environment,
) -> Result<Caches, Failure> {
    let wrong = |flag: &str, text: &str, error: &cache::CacheSpecError| {
        let text = cache::without_secrets(text);
        let said = if text.trim().is_empty() { flag.to_owned() } else { format!("{flag} {text}") };
        Failure::input(format!("{said}: {error}"), None)
    };
    let variables = |name| variable(environment, name);
    let profile = aws::Profile::new(&variables, environment.home());
    let variables = |name| profile.variable(name);
    let (mut from, mut to, mut told) = (Vec::new(), Vec::new(), Vec::new());
    // As buildx has it: where no job of GitHub's runs, such a cache is left out. Only that is told here.
    let left_out = |flag: &str, error: &cache::CacheSpecError| {
        error.is_outside_of_actions().then(|| format!("{flag} type=gha is left out: {error}"))
    };
    let unread = |error| match profile.unusable() {
        Some(profile) if matches!(error, cache::CacheSpecError::Unsaid { kind: "s3", .. }) => {
            cache::CacheSpecError::Profile { profile }
        }
        _ => error,
    };
    if settings.engine.is_some()
        && args.cache_from.iter().chain(&args.cache_to).any(|text| cache::is_insecure(text))
    {
        let help =
            "its buildkitd.toml says it: `[registry.\"HOST\"]` with `http = true` or `insecure = true`"
                .to_owned();
        let message = "registry.insecure: how a registry is spoken to is said where an engine elsewhere runs";
        return Err(Failure::input(message, Some(help)));
    }
    for text in &args.cache_from {
        match cache::read_from(text, &settings.cwd, &variables).map_err(unread) {
            Ok(place) => from.push(place),
            Err(error) => match left_out("--cache-from", &error) {
                Some(words) => told.push(words),
                None => return Err(wrong("--cache-from", text, &error)),
            },
        }
    }
    for text in &args.cache_to {
        match cache::read_to(text, &settings.cwd, &variables).map_err(unread) {
            Ok((export, notes)) => {
                to.push(export);
                told.extend(notes);
            }
            Err(error) => match left_out("--cache-to", &error) {
                Some(words) => told.push(words),
                None => return Err(wrong("--cache-to", text, &error)),
            },
        }
    }
    Ok((from, to, told))
}
