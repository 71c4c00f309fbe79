//! Commands and their options, of clap's table.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};

use super::escaped;
use crate::args::Args;

/// Writes a section for each command.
pub(super) fn write(out: &mut String) {
    let mut table = Args::command();
    table.build();
    section(out, &table, &table);
}

fn section(out: &mut String, root: &Command, command: &Command) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let _infallible = write!(out, "\n### `{name}`\n\n");
    if let Some(about) = command.get_about() {
        let _infallible = write!(out, "{}.\n\n", escaped(&about.to_string()));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let _infallible = write!(out, "```\n{usage}\n```\n");
    let is_root = command.get_name() == root.get_name();
    let shared = |arg: &&Arg| !is_root && root.get_arguments().any(|known| same(known, arg));
    let shown = |arg: &&Arg| !arg.is_hide_set() && !is_of_every_command(arg);
    let own: Vec<&Arg> = command.get_arguments().filter(shown).filter(|arg| !shared(arg)).collect();
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = own.into_iter().partition(|arg| arg.is_positional());
    list(out, "Arguments", &positional);
    let mut done: Vec<&str> = Vec::new();
    for title in options.iter().copied().map(heading) {
        if !done.contains(&title) {
            done.push(title);
            list(
                out,
                title,
                &options.iter().filter(|arg| heading(arg) == title).copied().collect::<Vec<_>>(),
            );
        }
    }
    if command.get_arguments().filter(shown).any(|arg| shared(&arg)) {
        out.push_str("\nAnd the options of a build: see [`rb`](#rb).\n");
    }
    if !is_root && let Some(end) = command.get_after_help() {
        remarks(out, end);
    }
    // What clap makes for `rb image help` repeats all the others.
    let shown = |known: &&Command| !known.is_hide_set() && (is_root || known.get_name() != "help");
    command.get_subcommands().filter(shown).for_each(|known| section(out, root, known));
}

/// Tells whether an option of a command is one of `rb` itself, in the same words.
fn same(known: &Arg, arg: &Arg) -> bool {
    let text = |text: Option<&StyledStr>| text.map(ToString::to_string);
    known.get_id() == arg.get_id() && !arg.is_positional() && text(known.get_help()) == text(arg.get_help())
}

fn is_of_every_command(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

fn heading(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or("Options")
}

fn list(out: &mut String, title: &str, args: &[&Arg]) {
    if args.is_empty() {
        return;
    }
    let _infallible = write!(out, "\n**{title}**\n\n");
    for arg in args {
        let help = sentences(arg.get_long_help().or(arg.get_help()));
        let _infallible = writeln!(out, "- {}: {}{}", names(arg), escaped(&help), choices(arg));
    }
}

/// Returns the paragraphs of a text as sentences of one.
fn sentences(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let parts = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let ended = |part: String| if part.ends_with(['.', ':']) { part } else { part + "." };
    parts.map(ended).collect::<Vec<_>>().join(" ")
}

/// Returns `-j`, `--jobs N`.
fn names(arg: &Arg) -> String {
    if arg.is_positional() {
        return format!("`{arg}`");
    }
    let short = arg.get_short().map(|letter| format!("`-{letter}`"));
    // clap writes the value behind the long name as it is to be typed.
    let long = arg.get_long().map(|_| format!("`{arg}`"));
    let aliases = arg.get_visible_aliases().unwrap_or_default().into_iter().map(|name| format!("`--{name}`"));
    short.into_iter().chain(long).chain(aliases).collect::<Vec<_>>().join(", ")
}

fn choices(arg: &Arg) -> String {
    let mut out = String::new();
    if arg.get_num_args().is_some_and(|count| count.takes_values()) {
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() {
            let _infallible = write!(out, " [default: {}]", defaults.join(" "));
        }
        let values = arg.get_possible_values();
        let shown: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
        if shown.iter().all(|value| value.get_help().is_none()) {
            let names: Vec<String> = shown.iter().map(|value| format!("`{}`", value.get_name())).collect();
            out.push_str(&if names.is_empty() {
                String::new()
            } else {
                format!(" One of {}.", names.join(", "))
            });
            return out;
        }
        for value in shown {
            let help =
                value.get_help().map(|help| format!(": {}", escaped(&help.to_string()))).unwrap_or_default();
            let _infallible = write!(out, "\n  - `{}`{help}", value.get_name());
        }
    }
    out
}

/// Writes what stands behind the options: text as text, examples as they are.
fn remarks(out: &mut String, text: &StyledStr) {
    let text = text.to_string();
    let mut code = false;
    out.push('\n');
    for line in text.lines() {
        let is_code = line.starts_with("  ");
        if is_code != code {
            out.push_str(if is_code { "\n```\n" } else { "```\n" });
            code = is_code;
        }
        out.push_str(&if is_code { line.trim_start().to_owned() } else { escaped(line) });
        out.push('\n');
    }
    if code {
        out.push_str("```\n");
    }
}
