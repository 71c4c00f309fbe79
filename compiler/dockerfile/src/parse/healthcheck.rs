//! `HEALTHCHECK`: how a container says that it is well.
//!
//! In: its flags and words. Out: `NONE`, or a command with its times, which are checked and kept as written.
//! Source of the rules: BuildKit's frontend/dockerfile/instructions/parse.go, `parseHealthcheck`.

use rb_diag::Diagnostic;

use super::flags::Flags;
use super::instructions::{Words, command_line};
use super::report::{Report, shown};
use crate::durations::parse_duration;
use crate::lines::Part;
use crate::{CommandLine, Healthcheck, Word, codes, go};

const MILLISECOND: i128 = 1_000_000;

pub(super) fn read(line: Words<'_>, flags: &Flags, report: &mut Report) -> Option<Healthcheck> {
    let mut time = |name: &str| flags.value(name).inspect(|value| check_time(name, value, report));
    let (interval, timeout) = (time("interval"), time("timeout"));
    let (start_period, start_interval) = (time("start-period"), time("start-interval"));
    let retries = flags.value("retries").inspect(|value| check_retries(value, report));
    let (kind, rest) = line.rest.split_blank();
    let rest = rest.unwrap_or_else(|| kind.from(kind.text().len()));
    match kind.text().to_uppercase().as_str() {
        "" => {
            line.tell_missing(report);
            None
        }
        "NONE" if rest.is_empty() => Some(Healthcheck::None),
        "NONE" => {
            let error = Diagnostic::error(codes::ARGUMENTS, "HEALTHCHECK NONE takes no arguments");
            report.add(
                error.with_label(rest.span(), "").with_help("take this away, or write `HEALTHCHECK CMD`"),
            );
            None
        }
        "CMD" => read_command(kind, rest, report).map(|command| Healthcheck::Command {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }),
        other => {
            let message = format!("Unknown type {} in HEALTHCHECK (try CMD)", go::quote(&shown(other)));
            let error =
                Diagnostic::error(codes::ARGUMENTS, message).with_label(kind.span(), "neither CMD nor NONE");
            report.add(error.with_help("write `HEALTHCHECK CMD COMMAND` or `HEALTHCHECK NONE`"));
            None
        }
    }
}

fn read_command(kind: Part<'_>, rest: Part<'_>, report: &mut Report) -> Option<CommandLine> {
    let command = command_line(rest, report)?;
    let empty = match &command {
        CommandLine::Exec(words) => words.is_empty(),
        CommandLine::Shell(line) => line.value.is_empty(),
    };
    if empty {
        let error = Diagnostic::error(codes::ARGUMENTS, "Missing command after HEALTHCHECK CMD");
        report.add(
            error
                .with_label(kind.span(), "")
                .with_help("write the command that asks, such as `curl -f localhost`"),
        );
        return None;
    }
    Some(command)
}

fn check_time(name: &str, value: &Word, report: &mut Report) {
    let told = match parse_duration(&value.value) {
        _ if value.value.is_empty() => return,
        Some(0 | MILLISECOND..) => return,
        Some(_) => format!("Interval \"{name}\" cannot be less than 1ms"),
        None => format!("invalid duration \"{}\" of --{name}", shown(&value.value)),
    };
    let error = Diagnostic::error(codes::BAD_FLAG, told).with_label(value.span, "");
    report.add(error.with_help("a number with ms, s, m or h: `--interval=1m30s`"));
}

fn check_retries(value: &Word, report: &mut Report) {
    let told = match value.value.parse::<i32>() {
        _ if value.value.is_empty() => return,
        Ok(0..) => return,
        Ok(number) => format!("--retries cannot be negative ({number})"),
        Err(_) => format!("invalid number \"{}\" of --retries", shown(&value.value)),
    };
    let error = Diagnostic::error(codes::BAD_FLAG, told).with_label(value.span, "");
    report.add(error.with_help("a whole number: `--retries=3`"));
}
