//! Shell texts whose result is known without running them: conditions, items and outputs.
//!
//! In: the text a step would hand to `sh -c`, and the variables the step would export. Out: what the shell would
//! make of it, or `None`: run it. First [`parse`] reads the text, then [`expand`] makes fields of words and
//! [`condition`] decides commands; only what is reached has to be known.
//! **Invariant:** an answer is one that dash, bash as `sh` and busybox all give, so it does not matter which of them
//! an image has. Whatever they disagree on, whatever touches files, and whatever a shell sets itself is `None`.
//! Source: POSIX.1-2024, Shell Command Language and `test`.

mod condition;
mod expand;
mod parse;
#[cfg(test)]
mod tests;

use expand::Variables;
use parse::{Command, Word};

/// Returns whether `sh -c text` would end with success. `lookup` gives the variables the step would export.
pub(crate) fn condition(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<bool> {
    let variables = Variables::new(lookup)?;
    condition::list(&parse::script(text)?, &variables)
}

/// Returns whether a program called without a shell would end with success: `["test", "a", "=", "b"]`.
pub(crate) fn exec_condition(args: &[String]) -> Option<bool> {
    let (name, args) = args.split_first()?;
    match name.as_str() {
        "true" if args.is_empty() => Some(true),
        "false" if args.is_empty() => Some(false),
        // GNU's own answer to a single `--help` or `--version` is not a truth.
        "[" | "test" if args.first().is_some_and(|first| first.starts_with("--")) => None,
        "[" => condition::bracket(args),
        "test" => condition::test(args),
        _ => None,
    }
}

/// Returns the items of `FOR x IN text`: what `echo text` prints, divided at any of `separators`, without empty ones.
pub(crate) fn items(
    text: &str,
    separators: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let variables = Variables::new(lookup)?;
    let printed = echo(&variables.fields(&parse::words(text)?)?)?;
    let items = without_newline(&printed).split(|next| separators.contains(next));
    Some(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// Returns what `$(command)` prints, without one trailing newline, for an `echo` or `printf` of words that are known.
pub(crate) fn output(command: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let variables = Variables::new(lookup)?;
    let script = parse::script(command)?;
    let Command::Simple(words) = script.single()? else { return None };
    let (name, words) = words.split_first()?;
    let args = |words: &[Word]| variables.fields(words);
    let printed = match name.bare()? {
        "echo" => echo(&args(words)?)?,
        "printf" => printf(&args(words)?)?,
        _ => return None,
    };
    Some(without_newline(&printed).to_owned())
}

/// Returns what `echo` prints. Shells disagree on backslashes, and on all options but one `-n`.
fn echo(args: &[String]) -> Option<String> {
    let option = |arg: &String| {
        arg.strip_prefix('-')
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|next| "neE".contains(next)))
    };
    let (end, args) = match args.split_first() {
        Some((first, rest)) if first == "-n" => ("", rest),
        _ => ("\n", args),
    };
    if args.first().is_some_and(option) || args.iter().any(|arg| arg.contains('\\')) {
        return None;
    }
    Some(args.join(" ") + end)
}

/// Returns what `printf` prints, for the formats `%s`, `%s\n` and texts without conversions.
fn printf(args: &[String]) -> Option<String> {
    let (format, args) = args.split_first()?;
    let (body, end) = match format.strip_suffix(r"\n") {
        Some(body) => (body, "\n"),
        None => (format.as_str(), ""),
    };
    match body {
        // Without arguments a conversion is used once, on the empty text.
        "%s" if args.is_empty() => Some(end.to_owned()),
        "%s" => Some(args.iter().flat_map(|arg| [arg.as_str(), end]).collect()),
        _ if body.starts_with('-') || body.contains(['%', '\\']) => None,
        _ => Some(format!("{body}{end}")),
    }
}

fn without_newline(printed: &str) -> &str {
    printed.strip_suffix('\n').unwrap_or(printed)
}
