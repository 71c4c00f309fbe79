//! `LABEL key=value…`

use rb_diag::Diagnostic;

use super::Reader;
use super::text::{cut, settled, split_pair};
use crate::report::shown;
use crate::{Label, Word, codes};

/// Labels that only the build itself sets.
const RESERVED: &str = "dev.earthly.";

impl Reader<'_> {
    /// Reads the pairs; blanks may stand around a `=`.
    pub(crate) fn label(&mut self, mut words: Vec<Word>) -> Option<Vec<Label>> {
        self.no_flags(&mut words);
        if words.is_empty() {
            self.missing("`LABEL` needs a key and a value", "`LABEL org.example.team=core`");
            return None;
        }
        let mut labels = Vec::new();
        let mut whole = true;
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let (key, value) = split_pair(&word);
            let value = match value {
                // `key= value`; a pair behind it makes the value an empty one.
                Some(value) if value.raw.is_empty() => {
                    words.next_if(|next| split_pair(next).1.is_none()).or(Some(value))
                }
                Some(value) => Some(value),
                // `key = value`, `key =value`
                None => words.next_if(|next| next.raw.starts_with('=')).and_then(|equals| {
                    if equals.raw == "=" { words.next() } else { Some(cut(&equals, 1, equals.raw.len())) }
                }),
            };
            let Some(value) = value.filter(|_| !key.raw.is_empty()) else {
                self.no_pair(&word, labels.last());
                whole = false;
                continue;
            };
            if let Some(key) = settled(&key.raw).filter(|key| key.starts_with(RESERVED)) {
                let message = format!("the label `{}` is set by the build itself", shown(key));
                let diagnostic = Diagnostic::error(codes::BAD_NAME, message).with_label(word.span, "");
                let help = format!("choose a key that does not start with `{RESERVED}`");
                self.report.push(diagnostic.with_help(help));
                whole = false;
            }
            labels.push(Label { key, value });
        }
        whole.then_some(labels)
    }

    fn no_pair(&mut self, word: &Word, before: Option<&Label>) {
        let text = shown(&word.raw);
        let diagnostic = Diagnostic::error(codes::BAD_PAIR, format!("`{text}` is no pair `key=value`"));
        let help = match before {
            _ if text.starts_with('=') => "write the key before `=`".to_owned(),
            Some(Label { key, value }) => {
                let (key, value) = (shown(&key.raw), shown(&value.raw.replace('"', "")));
                format!("if it belongs to the value before it, quote that: `{key}=\"{value} {text}\"`")
            }
            None => format!("write `{text}=value`"),
        };
        self.report.push(diagnostic.with_label(word.span, "").with_help(help));
    }
}
