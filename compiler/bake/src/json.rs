//! JSON with places: the reader is serde's, the places are those of the raw slices it hands out.

use std::fmt;

use rb_diag::{Diagnostic, SourceFile, Span, Spanned};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::codes;
use crate::node::{Node, Said};

/// So deep values stand within one another at most.
const DEEPEST: usize = 100;

/// Reads a JSON text.
pub(crate) fn parse(file: &SourceFile) -> Result<Node, Diagnostic> {
    let raw: &RawValue = serde_json::from_str(&file.text).map_err(|error| refused(file, &error, 0))?;
    node(file, raw, 0)
}

fn node(file: &SourceFile, raw: &RawValue, depth: usize) -> Result<Node, Diagnostic> {
    let text = raw.get();
    let start = text.as_ptr().addr() - file.text.as_ptr().addr();
    let span = Span { source: file.id, start: start as u32, end: (start + text.len()) as u32 };
    if depth > DEEPEST {
        let message = format!("`{}` is nested too deeply", file.name);
        return Err(Diagnostic::error(codes::JSON, message).with_label(Span { end: span.start, ..span }, ""));
    }
    let refused = |error: serde_json::Error| refused(file, &error, start);
    let said = match text.as_bytes().first() {
        Some(b'{') => {
            let pairs: Pairs<'_> = serde_json::from_str(text).map_err(refused)?;
            let entry = |(name, raw): (String, &RawValue)| {
                let value = node(file, raw, depth + 1)?;
                Ok((Spanned::new(name, value.span), value))
            };
            Said::Map(pairs.0.into_iter().map(entry).collect::<Result<_, Diagnostic>>()?)
        }
        Some(b'[') => {
            let raws: Vec<&RawValue> = serde_json::from_str(text).map_err(refused)?;
            Said::List(raws.into_iter().map(|raw| node(file, raw, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Said::Text(serde_json::from_str(text).map_err(refused)?),
        Some(b't') => Said::Bool(true),
        Some(b'f') => Said::Bool(false),
        Some(b'n') => Said::Null,
        _ => Said::Number(text.to_owned()),
    };
    Ok(Node::new(span, said))
}

fn refused(file: &SourceFile, error: &serde_json::Error, start: usize) -> Diagnostic {
    let text = &file.text[start..];
    let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (start + line + error.column().saturating_sub(1)).min(file.text.len()) as u32;
    let span = Span { source: file.id, start: at, end: at };
    let told = error.to_string();
    let told = told.split(" at line ").next().unwrap_or_default();
    Diagnostic::error(codes::JSON, format!("`{}` is no JSON: {told}", file.name)).with_label(span, "")
}

/// The entries of an object in their order, also those of one name.
struct Pairs<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
