//! `SAVE ARTIFACT` and `SAVE IMAGE`.

use rb_diag::Diagnostic;

use super::Reader;
use crate::flags::{has_late_flags, refuse_late_flags, tables, take_flags};
use crate::{SaveArtifact, SaveImage, Word, codes};

impl Reader<'_> {
    pub(crate) fn save_artifact(&mut self, mut words: Vec<Word>) -> Option<SaveArtifact> {
        let table = &tables::SAVE_ARTIFACT;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        if has_late_flags(&flags, &words) {
            refuse_late_flags(table, self.edition, &words, self.report);
            return None;
        }
        let mut words = words.into_iter().peekable();
        let Some(source) = words.next().filter(|word| word.raw != "AS") else {
            self.missing("`SAVE ARTIFACT` needs a path", "`SAVE ARTIFACT out/app AS LOCAL ./app`");
            return None;
        };
        let destination = words.next_if(|word| !word.raw.eq_ignore_ascii_case("as"));
        let local = match words.next() {
            None => None,
            Some(first) if first.raw == "AS" => Some(self.local(&first, words.next(), words.next())?),
            Some(first) if first.raw == "as" => {
                let diagnostic =
                    Diagnostic::error(codes::UNEXPECTED_WORD, "`AS LOCAL` is written in capitals");
                self.report.push(diagnostic.with_label(first.span, "").with_help("write `AS LOCAL path`"));
                return None;
            }
            Some(first) => {
                self.nothing_more(table, &[first]);
                return None;
            }
        };
        self.nothing_more(table, &words.collect::<Vec<_>>());
        Some(SaveArtifact {
            source,
            destination,
            local,
            if_exists: flags.is_on("if-exists"),
            always: flags.is_on("always"),
            force: flags.is_on("force"),
            keep_times: flags.is_on("keep-ts"),
            keep_owner: flags.is_on("keep-own"),
            symlink_no_follow: flags.is_on("symlink-no-follow"),
        })
    }

    /// Reads what stands behind `AS`.
    fn local(&mut self, first: &Word, second: Option<Word>, path: Option<Word>) -> Option<Word> {
        let (message, span) = match second {
            Some(second) if second.raw == "LOCAL" => match path {
                Some(path) => return Some(path),
                None => ("`AS LOCAL` needs a path", first.span.to(second.span)),
            },
            Some(second) => ("behind `AS` only `LOCAL` can follow", second.span),
            None => ("behind `AS` only `LOCAL` can follow", first.span),
        };
        let diagnostic = Diagnostic::error(codes::MISSING_WORDS, message).with_label(span, "");
        self.report.push(diagnostic.with_help("write `AS LOCAL path`"));
        None
    }

    pub(crate) fn save_image(&mut self, mut words: Vec<Word>) -> Option<SaveImage> {
        let table = &tables::SAVE_IMAGE;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        if has_late_flags(&flags, &words) {
            refuse_late_flags(table, self.edition, &words, self.report);
            return None;
        }
        if let Some(span) = flags.place("push").filter(|_| words.is_empty()) {
            let message = "`SAVE IMAGE --push` needs a name to push to";
            let diagnostic = Diagnostic::error(codes::MISSING_WORDS, message).with_label(span, "");
            self.report.push(diagnostic.with_help("for example `SAVE IMAGE --push registry.example/app:1`"));
            return None;
        }
        Some(SaveImage {
            names: words,
            push: flags.is_on("push"),
            insecure: flags.is_on("insecure"),
            no_manifest_list: flags.is_on("no-manifest-list"),
            cache_hint: flags.is_on("cache-hint"),
            cache_from: flags.values("cache-from"),
            without_labels: flags.is_on("without-earthly-labels"),
        })
    }
}
