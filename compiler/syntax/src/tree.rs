//! The lossless tree: every byte of a file, comments and spaces included, for formatters, linters and editors.
//!
//! In: a [`SourceFile`]. Out: nodes named by the rules of `grammar/buildfile.pest`; what the grammar gives no name is a
//! token `space`, `newline` or `literal` (a keyword, a sign). Works for broken files too.
//! **Invariant:** the tokens, which are the nodes without children, cover the text without gap or overlap, so
//! [`Tree::print`] gives the text back.

use pest::iterators::Pair;
use rb_diag::{SourceFile, Span};

use crate::MAX_FILE_BYTES;
use crate::entries::Entries;
use crate::grammar::{Rule, rule_name};

/// A file as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The node `buildfile`; its children are the entries of the file.
    pub root: Node,
}

/// A part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The rule of the grammar that fits it, or what kind of token it is.
    pub rule: &'static str,
    /// Where it stands.
    pub span: Span,
    /// Its parts, in order and without gaps; none for a token.
    pub children: Vec<Self>,
}

/// Reads a file into its lossless tree. Takes time linear in the text's length.
///
/// A file over [`MAX_FILE_BYTES`] is one token.
pub fn tree(file: &SourceFile) -> Tree {
    let span = file.span();
    let children = match file.text.len() {
        0 => Vec::new(),
        1..=MAX_FILE_BYTES => Entries::nodes(file),
        _ => vec![Node::token("unread", span)],
    };
    Tree { root: Node { rule: rule_name(Rule::buildfile), span, children } }
}

impl Tree {
    /// Returns the text that the tokens make: the file's, byte for byte.
    pub fn print(&self, file: &SourceFile) -> String {
        self.tokens().iter().map(|token| file.slice(token.span)).collect()
    }

    /// Returns the tokens in the order of the text.
    pub fn tokens(&self) -> Vec<&Node> {
        let mut tokens = Vec::new();
        let mut open = vec![&self.root];
        while let Some(node) = open.pop() {
            if node.children.is_empty() {
                tokens.push(node);
            }
            open.extend(node.children.iter().rev());
        }
        tokens
    }
}

impl Node {
    pub(crate) fn token(rule: &'static str, span: Span) -> Self {
        Self { rule, span, children: Vec::new() }
    }

    /// Makes a node of the grammar's; `at` is where its window starts in the file.
    ///
    /// Recursion is as deep as quotes and parentheses are nested, which `entries` bounds.
    pub(crate) fn of(pair: Pair<'_, Rule>, file: &SourceFile, at: usize) -> Self {
        let place = pair.as_span();
        let span = Span { start: (at + place.start()) as u32, end: (at + place.end()) as u32, ..file.span() };
        let rule = rule_name(pair.as_rule());
        let mut children = Vec::new();
        let mut done = span.start;
        let mut inner = pair.into_inner().peekable();
        if inner.peek().is_none() && rule != rule_name(Rule::entry) {
            return Self::token(rule, span);
        }
        for pair in inner {
            let child = Self::of(pair, file, at);
            unnamed(file, Span { start: done, end: child.span.start, ..span }, &mut children);
            done = child.span.end;
            // `missing` and the like hold nothing.
            if child.span.start < child.span.end {
                children.push(child);
            }
        }
        unnamed(file, Span { start: done, ..span }, &mut children);
        Self { rule, span, children }
    }

    /// Adds what follows behind the node.
    pub(crate) fn append(&mut self, child: Self) {
        self.span.end = child.span.end;
        if child.span.start < child.span.end {
            self.children.push(child);
        }
    }
}

/// Adds tokens for text that no rule names.
fn unnamed(file: &SourceFile, span: Span, tokens: &mut Vec<Node>) {
    let kind = |character: char| match character {
        ' ' | '\t' => "space",
        '\n' | '\r' => "newline",
        _ => "literal",
    };
    let mut rest = span;
    while let Some(first) = file.slice(rest).chars().next().map(kind) {
        let text = file.slice(rest);
        let length = text.find(|character| kind(character) != first).unwrap_or(text.len()) as u32;
        tokens.push(Node::token(first, Span { end: rest.start + length, ..rest }));
        rest.start += length;
    }
}
