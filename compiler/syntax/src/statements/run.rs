//! `RUN`.

use rb_diag::{Diagnostic, Span, Spanned};

use super::Reader;
use crate::entries::Part;
use crate::flags::{Flags, tables, take_flags};
use crate::{CommandLine, Interactive, Run, Word, codes};

/// Flags of later versions: read, and refused where the RUN is reached.
const LATER: [&str; 3] = ["aws", "oidc", "raw-output"];

impl Reader<'_> {
    pub(crate) fn run(&mut self, parts: Vec<Part>) -> Option<Run> {
        let (mut words, rest) = divide(parts);
        let flags = take_flags(&tables::RUN, self.edition, &mut words, self.report);
        let entrypoint = flags.is_on("entrypoint");
        let command = if entrypoint && rest.is_empty() {
            let end = Span { start: self.keyword.end, ..self.keyword };
            CommandLine::Shell(Word { raw: String::new(), span: end })
        } else {
            self.command_line(rest)?
        };
        if entrypoint && let CommandLine::Script(script) = &command {
            let message = "`RUN --entrypoint` takes words for the image's program, not a script";
            let diagnostic = Diagnostic::error(codes::WRONG_FORM, message).with_label(script.name.span, "");
            self.report.push(diagnostic.with_help("for example `RUN --entrypoint --verbose`"));
            return None;
        }
        let later = flags.given(&LATER).into_iter();
        Some(Run {
            flags: self.step_flags(&flags),
            push: flags.is_on("push"),
            entrypoint,
            network: flags.value("network"),
            devices: flags.values("device"),
            timeout: flags.value("timeout"),
            retry: flags.value("retry"),
            interactive: self.interactive(&flags),
            later: later.map(|(name, span)| Spanned::new(name.to_owned(), span)).collect(),
            command,
        })
    }

    fn interactive(&mut self, flags: &Flags) -> Option<Interactive> {
        let forget = flags.place("interactive");
        let keep = flags.place("interactive-keep");
        if let (Some(forget), Some(keep)) = (forget, keep) {
            let message = "`--interactive` forgets what `--interactive-keep` would keep";
            let diagnostic = Diagnostic::error(codes::CONTRADICTION, message)
                .with_label(forget, "forgets what was changed")
                .with_label(keep, "keeps what was changed");
            self.report.push(diagnostic.with_help("take one of them away"));
        }
        keep.map(Interactive::Keep).or(forget.map(Interactive::Forget))
    }
}

/// Divides flags from what follows them.
pub(crate) fn divide(parts: Vec<Part>) -> (Vec<Word>, Vec<Part>) {
    let mut words = Vec::new();
    let mut rest = Vec::new();
    for part in parts {
        match part {
            Part::Word(word) => words.push(word),
            Part::FlagsEnd => {}
            part => rest.push(part),
        }
    }
    (words, rest)
}
