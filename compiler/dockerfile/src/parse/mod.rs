//! A Dockerfile's text → its stages and instructions, and every error of the text.
//!
//! In: a file. Out: [`Parsed`]: what could be read, all errors, and what the build checks find in the text alone. The
//! walk: `directives` → `lines` (what is one instruction) → `statement`, `flags`, `heredocs` (its parts) → `instructions` (what it
//! says). There is no grammar file: `lines` says why.
//! Every file that BuildKit reads is read as it reads it, but that these are errors here: flags of `ARG` and
//! `STOPSIGNAL`, which it passes over; what is wrong in a trigger, of which it tells those who build on the image; constant
//! options of mounts in stages that are not needed; `<<NAME` among files in a line whose quotes are not closed.
//! **Invariant:** the tree is complete if there are no errors; every span lies in the file; no text makes it panic.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Diagnostics, SourceFile, Span, nearest};

use crate::checks::{Control, Finding};
use crate::lines::{Joined, Reader};
use crate::{Dockerfile, Step, codes, directives};

mod findings;
mod flags;
mod from;
mod healthcheck;
mod heredocs;
mod instructions;
mod json;
mod keyword;
mod mounts;
mod onbuild;
mod pairs;
mod report;
mod statement;

#[cfg(test)]
mod tests;

pub use heredocs::is_heredoc;
pub(crate) use instructions::is_plain;
pub(crate) use mounts::has_variable;

use keyword::Keyword;
use report::Report;
use statement::Statement;

/// A longer file is not read: it is no text that somebody wrote.
const MAX_FILE_BYTES: usize = 16 << 20;

/// What was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file, without instructions that are wrong.
    pub dockerfile: Dockerfile,
    /// Every error of the text, in its order.
    pub errors: Diagnostics,
    /// How many errors there are besides, of which the last error says so.
    pub(crate) unlisted: usize,
    /// Something is wrong of which the stages depend: what swallows lines.
    pub(crate) hides_stages: bool,
    /// A stage may have a name that cannot be told, since its FROM is wrong.
    pub(crate) hides_names: bool,
    /// A line before the first FROM is wrong that might have set arguments.
    pub(crate) tears_arguments: bool,
    /// What build checks find without values of variables, in their order. What comments turn off is left out, what
    /// options turn off is not: see [`crate::checks::Checks`].
    pub findings: Vec<Finding>,
}

/// Reads a Dockerfile.
pub fn parse(source: &SourceFile) -> Parsed {
    let head = directives::read(source);
    let dockerfile = Dockerfile { directives: head.directives, global_args: Vec::new(), stages: Vec::new() };
    let mut builder = Builder {
        dockerfile,
        report: Report::default(),
        told: false,
        hides_names: false,
        tears_arguments: false,
    };
    builder.report.swallows |= head.hides_escape;
    head.errors.into_iter().for_each(|error| builder.report.add(error));
    if source.text.len() > MAX_FILE_BYTES {
        let message = format!("the Dockerfile is longer than {} MiB", MAX_FILE_BYTES >> 20);
        let error = Diagnostic::error(codes::FILE_TOO_LARGE, message);
        let start = Span { end: 0, ..source.span() };
        builder
            .report
            .add(error.with_label(start, "").with_help("move generated text into files and `COPY` them"));
        return builder.finish();
    }
    let mut reader = Reader::new(source, head.end, builder.dockerfile.directives.escape);
    let mut any = false;
    while let Some(line) = reader.next_instruction() {
        any = true;
        builder.add(&line, &mut reader);
    }
    builder.check_stages(source, any);
    builder.finish()
}

/// Reads a Dockerfile that is to be built; one for another frontend is not read.
pub(crate) fn parse_for(source: &SourceFile, build_args: &BTreeMap<String, String>) -> Parsed {
    match directives::check_frontend(source, build_args.get("BUILDKIT_SYNTAX").map(String::as_str)) {
        Ok(()) => parse(source),
        Err(error) => {
            let directives = directives::read(source).directives;
            let dockerfile = Dockerfile { directives, global_args: Vec::new(), stages: Vec::new() };
            Parsed {
                dockerfile,
                errors: vec![error],
                unlisted: 0,
                hides_stages: true,
                hides_names: true,
                tears_arguments: true,
                findings: Vec::new(),
            }
        }
    }
}

/// Reads the one instruction of a trigger that a base image keeps.
pub fn parse_trigger(source: &SourceFile) -> Result<Step, Diagnostics> {
    let mut report = Report::default();
    let head = directives::read(source);
    let mut reader = Reader::new(source, head.end, head.directives.escape);
    let step = reader.next_instruction().and_then(|line| {
        let statement = Statement::read(&line, &mut reader, head.directives.escape, &mut report);
        read_step(Keyword::read_or_tell(statement.word, &mut report)?, statement, &mut report)
    });
    if reader.next_instruction().is_some() || step.is_none() && report.count() == 0 {
        let error = Diagnostic::error(codes::BAD_ONBUILD, "onbuild trigger should be a single expression");
        let help = "the base image was made with a trigger that is none; make it anew";
        report.add(error.with_label(source.span(), "").with_help(help));
    }
    let (errors, _) = report.finish();
    step.filter(|_| errors.is_empty()).ok_or(errors)
}

/// The file so far.
struct Builder {
    dockerfile: Dockerfile,
    report: Report,
    /// It was said that something stands before `FROM`.
    told: bool,
    /// A stage's name cannot be told.
    hides_names: bool,
    /// What arguments stand before the first FROM cannot be told.
    tears_arguments: bool,
}

impl Builder {
    fn add(&mut self, line: &Joined, reader: &mut Reader<'_>) {
        findings::empty_continuation(line, &mut self.report);
        let escape = self.dockerfile.directives.escape;
        let statement = Statement::read(line, reader, escape, &mut self.report);
        let Some(keyword) = Keyword::read_or_tell(statement.word, &mut self.report) else {
            self.add_unknown(statement);
            return;
        };
        if keyword == Keyword::From {
            self.add_stage(statement, line);
            return;
        }
        let (before, start) = (self.report.count(), statement.span.start);
        if let Some(step) = read_step(keyword, statement, &mut self.report) {
            self.add_step(keyword, step, line);
        }
        if self.report.count() > before && matches!(keyword, Keyword::Arg | Keyword::Env) {
            self.tear(start);
        }
    }

    fn add_stage(&mut self, statement: Statement<'_>, line: &Joined) {
        let from = from::read(statement, &mut self.report);
        self.hides_names |= from.hides_name;
        findings::of_stage(&from.stage, from.typed.as_deref(), line, &mut self.report);
        self.dockerfile.stages.push(from.stage);
    }

    /// Goes on behind what is no instruction, as if it were the one that it is near to.
    fn add_unknown(&mut self, statement: Statement<'_>) {
        let (word, start) = (statement.word.text(), statement.span.start);
        let names = Keyword::ALL.iter().map(|keyword| keyword.name());
        let near = if word.len() < 16 { nearest(word, names) } else { None };
        match near {
            Some(near) if near == Keyword::From.name() => {
                // What else may be wrong with it is not told: it may be no FROM after all.
                let from = from::read(statement, &mut Report::default());
                self.hides_names |= from.hides_name;
                self.dockerfile.stages.push(from.stage);
            }
            Some(near) if near != Keyword::Arg.name() && near != Keyword::Env.name() => {}
            _ => self.tear(start),
        }
    }

    /// Notes that a line that begins there might have set variables.
    fn tear(&mut self, start: u32) {
        match self.dockerfile.stages.last_mut() {
            Some(stage) => drop(stage.torn_at.get_or_insert(start)),
            None => self.tears_arguments = true,
        }
    }

    fn add_step(&mut self, keyword: Keyword, step: Step, line: &Joined) {
        findings::of_step(&step, line, &mut self.report);
        match self.dockerfile.stages.last_mut() {
            Some(stage) => stage.steps.push(step),
            None if keyword == Keyword::Arg => self.dockerfile.global_args.push(step),
            None if !self.told => {
                self.told = true;
                let error = Diagnostic::error(codes::BEFORE_FROM, "no build stage in current context");
                let error =
                    error.with_label(step.keyword.span, format!("{keyword} stands before the first FROM"));
                self.report.add(error.with_help("begin with `FROM IMAGE`; only ARG may stand above it"));
            }
            None => {}
        }
    }

    /// Checks that there is something to build.
    fn check_stages(&mut self, source: &SourceFile, any: bool) {
        if !self.dockerfile.stages.is_empty() || self.told || self.report.count() > 0 {
            return;
        }
        let message = match (source.text.is_empty(), any) {
            (true, _) => "the Dockerfile cannot be empty",
            (false, false) => "file with no instructions",
            (false, true) => "dockerfile contains no stages to build",
        };
        let end = Span { start: source.text.len() as u32, ..source.span() };
        let error = Diagnostic::error(codes::NOTHING_TO_BUILD, message).with_label(end, "no FROM up to here");
        self.report.add(error.with_help("write `FROM IMAGE`, and below it what is to be done"));
    }

    fn finish(mut self) -> Parsed {
        findings::of_file(&self.dockerfile, &mut self.report);
        let hides_stages = self.report.swallows || self.dockerfile.stages.is_empty();
        let (hides_names, tears_arguments) = (self.hides_names, self.tears_arguments || self.told);
        let unlisted = self.report.unlisted();
        let (errors, findings) = self.report.finish();
        let hides_stages = hides_stages || unlisted > 0;
        let dockerfile = self.dockerfile;
        Parsed { dockerfile, errors, unlisted, hides_stages, hides_names, tears_arguments, findings }
    }
}

/// Reads an instruction other than `FROM`.
fn read_step(keyword: Keyword, statement: Statement<'_>, report: &mut Report) -> Option<Step> {
    let (span, word) = (statement.span, statement.word.word());
    let code = statement.whole.text().to_owned();
    let check = Control::of_comments(statement.comments.iter().map(|comment| comment.text.as_str()));
    let instruction = instructions::read(keyword, statement, report)?;
    Some(Step { span, keyword: word, code, check, instruction })
}
