//! `CACHE [flags] directory`

use rb_diag::Diagnostic;

use super::Reader;
use super::text::settled;
use crate::flags::{tables, take_flags};
use crate::report::{nearest, shown};
use crate::{CacheStmt, Word, codes};

const SHARING: [&str; 3] = ["locked", "shared", "private"];

impl Reader<'_> {
    pub(crate) fn cache(&mut self, mut words: Vec<Word>) -> Option<CacheStmt> {
        let table = &tables::CACHE;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        let sharing = flags.value("sharing");
        if let Some(word) = &sharing
            && let Some(value) =
                settled(&word.raw).filter(|value| !value.is_empty() && !SHARING.contains(value))
        {
            let message = format!("a cache cannot be shared as `{}`", shown(value));
            let diagnostic = Diagnostic::error(codes::BAD_FLAG_VALUE, message).with_label(word.span, "");
            self.report.push(match nearest(value, SHARING) {
                Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
                None => diagnostic.with_help("it is `locked`, `shared` or `private`"),
            });
        }
        let chmod = flags.value("chmod");
        if let Some(word) = &chmod {
            self.check_mode(word);
        }
        let mut words = words.into_iter();
        let Some(path) = words.next() else {
            self.missing("`CACHE` needs a directory", "`CACHE /root/.cache`");
            return None;
        };
        self.nothing_more(table, &words.collect::<Vec<_>>());
        Some(CacheStmt { path, id: flags.value("id"), sharing, chmod, persist: flags.is_on("persist") })
    }

    /// Reports a mode that is not written in octal digits.
    fn check_mode(&mut self, word: &Word) {
        if let Some(value) = settled(&word.raw)
            && !value.bytes().all(|byte| matches!(byte, b'0'..=b'7'))
        {
            let message = format!("`--chmod` cannot be `{}`", shown(value));
            let diagnostic = Diagnostic::error(codes::BAD_FLAG_VALUE, message).with_label(word.span, "");
            self.report.push(diagnostic.with_help("write the mode in octal digits: `--chmod=0755`"));
        }
    }
}
