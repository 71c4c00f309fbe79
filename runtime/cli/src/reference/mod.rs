//! The reference in Markdown: commands, keys of `config.toml`, variables, exit codes.
//!
//! In: clap's table, [`keys::KEYS`], [`VARIABLES`]. Out: the text that `rb help --markdown` prints and that
//! `runtime/cli/REFERENCE.md` holds; a test keeps the two equal.

mod commands;

use std::fmt::Write as _;

use crate::environment::{VARIABLES, Variable};
use crate::help::{codes, is_option};
use crate::settings::keys;

/// Returns the whole reference.
pub(crate) fn markdown() -> String {
    let mut out = String::from(
        "# Reference of `rb`\n\n\
         Commands, settings and variables, as `rb help` has them. `rb help --markdown` prints this page; it is not edited.\n\n",
    );
    out.push_str("- [Commands](#commands)\n");
    out.push_str("- [config.toml](#configtoml)\n");
    out.push_str("- [Environment variables](#environment-variables)\n");
    out.push_str("- [Exit codes](#exit-codes)\n\n## Commands\n");
    commands::write(&mut out);
    config(&mut out);
    environment(&mut out);
    out.push_str("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for (code, meaning) in codes() {
        let _infallible = writeln!(out, "| {code} | {} |", escaped(meaning));
    }
    out
}

fn config(out: &mut String) {
    out.push_str(
        "\n## config.toml\n\n\
         The user's file is `$RB_CONFIG`, else `rb/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`; what it does not say, \
         `/etc/rb/config.toml` may, key by key. Paths are relative to the file. `rb config` shows what is in force.\n\n\
         | key | value | default | meaning | also |\n| --- | --- | --- | --- | --- |\n",
    );
    for key in keys::KEYS {
        let also: Vec<String> =
            key.option.into_iter().chain(key.variable).map(|name| format!("`{name}`")).collect();
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            key.path(),
            escaped(key.kind),
            escaped(key.default),
            escaped(key.meaning),
            also.join(", "),
        );
    }
    let _infallible = write!(out, "\n```toml\n{}```\n", keys::example());
}

fn environment(out: &mut String) {
    out.push_str(
        "\n## Environment variables\n\n\
         What is typed counts before a variable, and a variable before `config.toml`, except for proxies. An empty variable is \
         as none. `.env`: a file of that name beside the user may set it too.\n",
    );
    let (options, others): (Vec<&Variable>, Vec<&Variable>) =
        VARIABLES.iter().partition(|variable| is_option(variable));
    for (title, variables) in [("Options", options), ("Others", others)] {
        let _infallible = write!(
            out,
            "\n### {title}\n\n| variable | also | meaning | `.env` |\n| --- | --- | --- | --- |\n"
        );
        for variable in variables {
            let twin = variable.twin.map(|twin| format!("`{twin}`")).unwrap_or_default();
            let file = if variable.in_file { "yes" } else { "" };
            let _infallible =
                writeln!(out, "| `{}` | {twin} | {} | {file} |", variable.name, escaped(variable.meaning));
        }
    }
}

/// Returns a text in which nothing but what stands between backticks means anything to Markdown.
fn escaped(text: &str) -> String {
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => part.replace('\\', "\\\\").replace('*', "\\*").replace('<', "\\<").replace('|', "\\|"),
        // A `|` ends a cell of a table in code as well.
        _ => part.replace('|', "\\|"),
    };
    text.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_markdown_would_read_is_escaped() {
        assert_eq!(escaped("a|b <C> `x*y|z` *d*"), "a\\|b \\<C> `x*y\\|z` \\*d\\*");
    }

    #[test]
    fn all_tables_are_there() {
        let text = markdown();
        for part in [
            "### `rb image push`",
            "### `rb help`",
            "| `network.ca` |",
            "| `RB_JOBS` |",
            "| 70 | a bug of rb |",
        ] {
            assert!(text.contains(part), "{part}");
        }
        // Options that several commands share are told once.
        assert_eq!(text.matches("`--allow-bind <DIR>`").count(), 1);
    }
}
