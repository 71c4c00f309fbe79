//! The JSON form of an instruction: `["program", "argument"]`.
//!
//! In: the words of an instruction. Out: the strings, each with its place. What begins with `[` and is no JSON is the
//! other form, as with BuildKit; a list of something else than strings is an error.

use serde_json::value::RawValue;

use crate::Word;
use crate::lines::Part;

/// What the words of an instruction are.
pub(crate) enum Form<'a> {
    /// A list of strings.
    List(Vec<Word>),
    /// A list with something else in it: these.
    NotStrings(Vec<Part<'a>>),
    /// No list.
    Plain,
}

/// Reads a list of strings.
pub(crate) fn form(part: Part<'_>) -> Form<'_> {
    let text = part.text();
    if !text.trim_start().starts_with('[') {
        return Form::Plain;
    }
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Form::Plain };
    let (mut words, mut others) = (Vec::new(), Vec::new());
    for item in items {
        // A raw value is a piece of the text it was read from.
        let start = item.get().as_ptr() as usize - text.as_ptr() as usize;
        let place = part.slice(start..start + item.get().len());
        match serde_json::from_str::<String>(item.get()) {
            Ok(word) => words.push(Word::new(word, place.span())),
            // Half of a character of two halves: a string, but no text.
            Err(_) if item.get().starts_with('"') => return Form::Plain,
            Err(_) => others.push(place),
        }
    }
    if others.is_empty() { Form::List(words) } else { Form::NotStrings(others) }
}
