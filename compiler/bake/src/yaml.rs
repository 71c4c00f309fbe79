//! YAML with places.
//!
//! In: a text. Out: a tree of [`Node`]s of its first document. Anchors and `<<` are resolved; `!reset` and `!override` are
//! kept as marks. The reader is `granit-parser`, which gives events with places.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use rb_diag::{Diagnostic, SourceFile, Span, Spanned};

use crate::codes;
use crate::node::{Entries, Mark, Node, Said};
use crate::of_file;

/// So many values one text may stand for, with all its aliases.
const MOST: usize = 200_000;

/// Reads a text.
pub(crate) fn parse(file: &SourceFile) -> Result<Node, Diagnostic> {
    let mut reader =
        Reader { file, events: Parser::new_from_str(&file.text), anchors: BTreeMap::new(), made: 0 };
    loop {
        match reader.next()? {
            Some((Event::DocumentStart(..), _)) => {
                let (event, span) = reader.next()?.ok_or_else(|| of_file(file, CODE, "it ends too early"))?;
                return reader.node(event, span);
            }
            Some(_) => {}
            None => return Ok(Node::new(file.span(), Said::Null)),
        }
    }
}

const CODE: &str = codes::YAML;

struct Reader<'t> {
    file: &'t SourceFile,
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    made: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Diagnostic> {
        match self.events.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => Ok(None),
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or_default();
                Ok(Some((
                    event,
                    Span { source: self.file.id, start: range.start as u32, end: range.end as u32 },
                )))
            }
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(self.file.text.len()) as u32;
                let span = Span { source: self.file.id, start: at, end: at };
                Err(Diagnostic::error(CODE, format!("`{}` is no YAML: {}", self.file.name, error.info()))
                    .with_label(span, ""))
            }
        }
    }

    /// Makes the node that an event begins.
    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, Diagnostic> {
        self.made += 1;
        self.bounded(span)?;
        let (anchor, tag, node) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.refused("an alias stands within what it names", span))?;
                self.made += size(&node);
                self.bounded(span)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = !matches!(style, ScalarStyle::Plain);
                let text_wanted = tag.as_ref().is_some_and(|tag| tag.core_suffix() == Some("str"));
                let said = if quoted || text_wanted { Said::Text(text.into_owned()) } else { plain(&text) };
                (anchor, tag, Node::new(span, said))
            }
            Event::SequenceStart(_, anchor, tag) => {
                let mut nodes = Vec::new();
                let end = loop {
                    match self.following(span)? {
                        (Event::SequenceEnd, end) => break end,
                        (event, span) => nodes.push(self.node(event, span)?),
                    }
                };
                (anchor, tag, Node::new(span.to(end), Said::List(nodes)))
            }
            Event::MappingStart(_, anchor, tag) => {
                let (entries, end) = self.entries(span)?;
                (anchor, tag, Node::new(span.to(end), Said::Map(entries)))
            }
            _ => return Err(self.refused("a value is wanted here", span)),
        };
        let mark = mark(tag.as_deref());
        let node = Node { mark, ..node };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn following(&mut self, span: Span) -> Result<(Event<'t>, Span), Diagnostic> {
        self.next()?.ok_or_else(|| self.refused("this is not closed", span))
    }

    fn entries(&mut self, start: Span) -> Result<(Entries, Span), Diagnostic> {
        let mut entries = Entries::new();
        let mut merged: Vec<Node> = Vec::new();
        let end = loop {
            let (event, span) = self.following(start)?;
            if matches!(event, Event::MappingEnd) {
                break span;
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span)?;
            let (event, span) = self.following(start)?;
            let value = self.node(event, span)?;
            if merges {
                merged.push(value);
                continue;
            }
            let name = match &key.said {
                Said::Null => "null".to_owned(),
                _ => key.scalar().ok_or_else(|| self.refused("a key has to be a text", key.span))?,
            };
            if entries.iter().any(|(known, _)| known.value == name) {
                return Err(self.refused(&format!("`{name}` is here twice"), key.span));
            }
            entries.push((Spanned::new(name, key.span), value));
        };
        for node in merged {
            let span = node.span;
            let maps = if let Said::List(nodes) = node.said { nodes } else { vec![node] };
            for map in maps {
                let Said::Map(more) = map.said else {
                    return Err(self.refused("`<<` takes a mapping, or a list of them", span));
                };
                for (name, value) in more {
                    if !entries.iter().any(|(known, _)| known.value == name.value) {
                        entries.push((name, value));
                    }
                }
            }
        }
        Ok((entries, end))
    }

    fn bounded(&self, span: Span) -> Result<(), Diagnostic> {
        if self.made > MOST {
            Err(self.refused("the aliases of this file stand for too much", span))
        } else {
            Ok(())
        }
    }

    fn refused(&self, message: &str, span: Span) -> Diagnostic {
        of_file(self.file, CODE, message).with_label(span, "")
    }
}

/// Returns how many values a node holds.
fn size(node: &Node) -> usize {
    let children = node.elements().iter().chain(node.entries().iter().map(|(_, node)| node));
    1 + children.map(size).sum::<usize>()
}

fn mark(tag: Option<&Tag>) -> Mark {
    match tag.map(Tag::original).as_deref() {
        Some("!reset") => Mark::Reset,
        Some("!override") => Mark::Override,
        _ => Mark::Merge,
    }
}

/// Reads a scalar without quotes.
fn plain(text: &str) -> Said {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Said::Null,
        "true" | "True" | "TRUE" => return Said::Bool(true),
        "false" | "False" | "FALSE" => return Said::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Said::Text(text.to_owned()), Said::Number)
}

/// Returns how a number is written in short, if the text is one.
fn number(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let radix = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .and_then(|digits| i128::from_str_radix(&digits.replace('_', ""), radix).ok())
    };
    let octal = (digits.len() > 1).then(|| radix("0", 8)).flatten();
    if let Some(whole) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or(octal) {
        return Some(format!("{sign}{whole}"));
    }
    let fits = |letter: char| letter.is_ascii_digit() || matches!(letter, '.' | 'e' | 'E' | '+' | '-' | '_');
    if !digits.chars().all(fits) || digits == "." {
        return None;
    }
    let digits = digits.replace('_', "");
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("{sign}{digits}"));
    }
    digits.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| format!("{sign}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rb_diag::SourceId;

    fn told(text: &str) -> String {
        fn tell(node: &Node) -> String {
            match &node.said {
                Said::Null => "null".to_owned(),
                Said::Bool(value) => value.to_string(),
                Said::Number(text) => text.clone(),
                Said::Text(text) => format!("{text:?}"),
                Said::List(nodes) => format!("[{}]", nodes.iter().map(tell).collect::<Vec<_>>().join(",")),
                Said::Map(entries) => {
                    let entries: Vec<_> =
                        entries.iter().map(|(name, node)| format!("{}:{}", name.value, tell(node))).collect();
                    format!("{{{}}}", entries.join(","))
                }
            }
        }
        match parse(&SourceFile::new(SourceId(0), "compose.yaml", text)) {
            Ok(node) => tell(&node),
            Err(why) => why.message,
        }
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        assert_eq!(
            told("[1, 1.10, 0x10, 010, '1', yes, true, ~, 1.2.3, 1_000, -2, 2024-01-01]"),
            r#"[1,1.1,16,8,"1","yes",true,null,"1.2.3",1000,-2,"2024-01-01"]"#
        );
    }

    #[test]
    fn anchors_and_merges_are_resolved() {
        assert_eq!(
            told("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: *x\n"),
            "{a:{k:1,l:2},b:{l:3,k:1},c:{k:1,l:2}}"
        );
    }

    #[test]
    fn what_is_broken_is_told() {
        assert_eq!(told("a: 1\na: 2\n"), "compose.yaml: `a` is here twice");
        assert!(told("a: [1").contains("is no YAML"), "{}", told("a: [1"));
        let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, at| {
            let before = at - 1;
            format!("{text}a{at}: &a{at} [*a{before}, *a{before}]\n")
        });
        assert!(told(&bomb).contains("stand for too much"));
    }
}
