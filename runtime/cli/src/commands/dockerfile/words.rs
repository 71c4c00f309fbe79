//! The words of a build of a Dockerfile: what it is called by, and what of them is kept.
//!
//! **Invariant:** no value is kept that is, or whose name says that it is, a secret.

use crate::args::DockerfileArgs;
use crate::commands::past::DOCKERFILE;
use crate::output_spec::cache;

/// Returns the names by which builds of a Dockerfile are found again: one for the stage that is built, "" for the last, and one for
/// the file.
pub(super) fn names(file: &str, stage: &str) -> Vec<String> {
    let file = without_password(file);
    vec![format!("{DOCKERFILE}{file}+{stage}"), format!("{DOCKERFILE}{file}")]
}

/// Returns what a build is called: `build -f prod.Dockerfile --target test app`.
pub(super) fn title(args: &DockerfileArgs, context: &str) -> String {
    let file = args.file.as_ref().map(|file| format!(" -f {file}")).unwrap_or_default();
    let target = args.target.as_ref().map(|target| format!(" --target {target}")).unwrap_or_default();
    format!("build{file}{target} {}", without_password(context))
}

/// Returns words without secrets: of an argument whose name says that it holds one the name is left, which passes the shell's
/// value on.
pub(super) fn without_secrets(words: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (option, value) = word
            .split_once('=')
            .map_or((word.as_str(), None), |(option, value)| (option, Some(value.to_owned())));
        match (option, value) {
            ("--secret", Some(_)) => {}
            ("--secret", None) => drop(words.next()),
            ("--build-arg", Some(value)) => kept.push(format!("--build-arg={}", shown(&value))),
            ("--build-arg", None) => {
                kept.push(word.clone());
                kept.extend(words.next().map(|value| shown(value)));
            }
            ("--cache-from" | "--cache-to", Some(value)) => {
                kept.push(format!("{option}={}", cache::without_secrets(&value)));
            }
            ("--cache-from" | "--cache-to", None) => {
                kept.push(word.clone());
                kept.extend(words.next().map(|value| cache::without_secrets(value)));
            }
            _ => kept.push(without_password(word)),
        }
    }
    kept
}

/// Returns a word without the password of an address in it.
pub(crate) fn without_password(word: &str) -> String {
    let whole = || word.to_owned();
    let Some((before, rest)) = word.split_once("://") else { return whole() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else { return whole() };
    match user.split_once(':') {
        Some((name, _)) => format!("{before}://{name}@{host}{}", &rest[end..]),
        None => whole(),
    }
}

fn shown(argument: &str) -> String {
    let Some((name, _)) = argument.split_once('=') else { return argument.to_owned() };
    // A proxy may be named with one.
    if rb_llb::is_secret(name) { name.to_owned() } else { without_password(argument) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_kept() {
        let kept = |line: &str| {
            let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
            without_secrets(&words).join(" ")
        };
        for (line, expected) in [
            ("-t a --build-arg A=1 .", "-t a --build-arg A=1 ."),
            ("--build-arg=A=1 --build-arg NPM_TOKEN=x .", "--build-arg=A=1 --build-arg NPM_TOKEN ."),
            ("--build-arg=API_KEY=x --build-arg B .", "--build-arg=API_KEY --build-arg B ."),
            ("--build-arg HTTP_PROXY=http://me:pw@h:80 .", "--build-arg HTTP_PROXY=http://me@h:80 ."),
            ("--secret id=a,src=b --secret=id=c .", "."),
            ("--cache-to=type=gha,token=x,mode=max .", "--cache-to=type=gha,mode=max ."),
            ("--cache-from type=s3,secret_access_key=x,bucket=b .", "--cache-from type=s3,bucket=b ."),
            ("https://me:pw@h.io/a@b.git#x:y@z", "https://me@h.io/a@b.git#x:y@z"),
            (
                "--build-context=a=https://me:p@w@h.io https://h.io/a:b@c",
                "--build-context=a=https://me@h.io https://h.io/a:b@c",
            ),
        ] {
            assert_eq!(kept(line), expected);
        }
    }

    #[test]
    fn a_build_is_called_by_what_it_builds() {
        let args = DockerfileArgs { file: Some("x".to_owned()), ..DockerfileArgs::default() };
        assert_eq!(title(&args, "app"), "build -f x app");
        let args = DockerfileArgs { target: Some("t".to_owned()), ..DockerfileArgs::default() };
        assert_eq!(title(&args, "."), "build --target t .");
        assert_eq!(names("Dockerfile", ""), ["dockerfile:Dockerfile+", "dockerfile:Dockerfile"]);
    }
}
