//! Codes of findings: `rb help rb::resolve::cycle`, `rb help cycle`.
//!
//! In: the tables of the crates that find something. Out: a code with what it means.

use rb_diag::nearest;

use crate::codes::CODES;

/// Returns all codes with what they mean, in the order of a build's walk.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let languages = rb_syntax::CODES.iter().chain(rb_buildfile::CODES).chain(rb_dockerfile::CODES);
    languages.chain(rb_bake::CODES).chain(CODES).copied()
}

/// Returns what a code means, or every code of that last name.
pub(crate) fn code(word: &str) -> Option<String> {
    let is_it = |code: &str| code == word || code.rsplit("::").next() == Some(word);
    let lines =
        all().filter(|(code, _)| is_it(code)).map(|(code, meaning)| format!("{code}\n    {meaning}\n"));
    Some(lines.collect::<String>()).filter(|text| !text.is_empty())
}

/// Returns the code that is near to a word which looks like one.
pub(crate) fn near_code(word: &str) -> Option<&'static str> {
    word.contains("::").then(|| nearest(word, all().map(|(code, _)| code))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_explained() {
        let mut codes: Vec<&str> = all().map(|(code, _)| code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        for (name, meaning) in all() {
            let text = code(name).expect("is known");
            assert!(text.starts_with(name) && text.contains(meaning) && meaning.ends_with('.'), "{text}");
        }
        assert!(
            code("later").is_some_and(
                |text| text.contains("rb::resolve::later") && text.contains("rb::evaluate::later")
            )
        );
        assert_eq!((code("nothing"), code("")), (None, None));
        assert_eq!(near_code("rb::resolve::cylce"), Some("rb::resolve::cycle"));
    }
}
