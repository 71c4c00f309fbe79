//! The functions of expressions.
//!
//! [`FUNCTIONS`] is the whole set, in the order of the reference; what they do stands in one module per family.
//! **Invariant:** a function is a pure value of its arguments and of the answers about the project's files, and costs
//! no more than its arguments and its result are large, or pays for the rest (`limits::Work`).

mod data;
mod files;
mod lists;
mod paths;
mod patterns;
mod texts;
mod versions;

use std::fmt;
use std::ops::Range;

use crate::limits::Work;
use crate::{ExpressionError, ExpressionErrorKind, Scope, Stop, Value};

/// A function that expressions can call.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// What it is called by.
    pub name: &'static str,
    /// How it is called: `?` stands behind what may be left out, `…` for more of the same.
    pub signature: &'static str,
    /// What it returns, in one line.
    pub doc: &'static str,
    /// An expression and what it results in, written as an expression.
    pub example: (&'static str, &'static str),
    /// The least and the largest number of arguments.
    arguments: (usize, usize),
    pub(crate) body: Body,
}

/// How a function is run.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// Once its arguments are values.
    Plain(fn(&Arguments<'_>) -> Result<Value, Stop>),
    /// `default`, which may not need all of its arguments: the evaluator's own.
    Default,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Default => "Default",
        })
    }
}

const MANY: usize = usize::MAX;

const fn function(
    signature: &'static str,
    arguments: (usize, usize),
    doc: &'static str,
    example: (&'static str, &'static str),
    run: fn(&Arguments<'_>) -> Result<Value, Stop>,
) -> Function {
    Function { name: name_of(signature), signature, doc, example, arguments, body: Body::Plain(run) }
}

/// Returns what stands before the bracket.
const fn name_of(signature: &'static str) -> &'static str {
    let mut length = 0;
    while signature.as_bytes()[length] != b'(' {
        length += 1;
    }
    signature.split_at(length).0
}

/// All functions, in the order of the reference.
#[rustfmt::skip] // one function is two or three lines, alike
pub const FUNCTIONS: &[Function] = &[
    // Strings.
    function("upper(text)", (1, 1), "The text in capital letters.", ("upper('rb')", "'RB'"), texts::upper),
    function("lower(text)", (1, 1), "The text in small letters.", ("lower('Linux')", "'linux'"), texts::lower),
    function("trim(text)", (1, 1), "The text without white space around it.", ("trim(' a b ')", "'a b'"), texts::trim),
    function("replace(text, from, to)", (3, 3), "The text with each `from` replaced.",
        ("replace('a/b/c', '/', '-')", "'a-b-c'"), texts::replace),
    function("split(text, separator?)", (1, 2), "What stands between separators, or between white space.",
        ("split('a,b', ',')", "['a', 'b']"), texts::split),
    function("join(list, separator)", (2, 2), "The items' text forms with the separator in between.",
        ("join(['a', 1], '-')", "'a-1'"), texts::join),
    function("lines(text)", (1, 1), "The lines of the text, without their ends.", ("lines('a\\nb\\n')", "['a', 'b']"), texts::lines),
    function("contains(whole, part)", (2, 2), "Whether a string has this part, or a list this item; `part in whole` too.",
        ("contains('abc', 'b')", "true"), texts::contains),
    function("starts_with(text, prefix)", (2, 2), "Whether the text starts so.", ("starts_with('v1.2', 'v')", "true"), texts::starts_with),
    function("ends_with(text, suffix)", (2, 2), "Whether the text ends so.", ("ends_with('a.rs', '.rs')", "true"), texts::ends_with),
    function("strip_prefix(text, prefix)", (2, 2), "The text without the prefix, if it has it.",
        ("strip_prefix('v1.2', 'v')", "'1.2'"), texts::strip_prefix),
    function("strip_suffix(text, suffix)", (2, 2), "The text without the suffix, if it has it.",
        ("strip_suffix('a.rs', '.rs')", "'a'"), texts::strip_suffix),
    function("matches_regex(text, pattern)", (2, 2), "Whether the regular expression matches somewhere in the text.",
        ("matches_regex('v12', '^v[0-9]+$')", "true"), patterns::matches_regex),
    function("capture_regex(text, pattern)", (2, 2), "What the first group of the first match is, or the whole match where there are no groups.",
        ("capture_regex('go 1.24', 'go ([0-9.]+)')", "'1.24'"), patterns::capture_regex),
    function("glob_match(pattern, text)", (2, 2), "Whether the pattern matches the whole path: `*`, `?` and `[a-z]` within a part, `**` for any folders.",
        ("glob_match('src/**/*.rs', 'src/a/b.rs')", "true"), patterns::glob_match),
    function("sha256(text)", (1, 1), "The SHA-256 digest of the text, in hexadecimal.",
        ("slice(sha256('rb'), 0, 8)", "'64f23261'"), texts::sha256),
    // Strings and lists.
    function("len(value)", (1, 1), "How many characters a string has, or items a list.", ("len(['a', 'b'])", "2"), lists::len),
    function("slice(value, start, end?)", (2, 3), "The characters or items from `start` up to, but without, `end`; negative ones count from the end.",
        ("slice('abcdef', 1, -1)", "'bcde'"), lists::slice),
    function("reverse(value)", (1, 1), "The characters or items from last to first.", ("reverse([1, 2])", "[2, 1]"), lists::reverse),
    // Lists.
    function("first(list)", (1, 1), "The first item.", ("first(['a', 'b'])", "'a'"), lists::first),
    function("last(list)", (1, 1), "The last item.", ("last(['a', 'b'])", "'b'"), lists::last),
    function("sort(list)", (1, 1), "The items in order, all numbers or all strings.", ("sort(['b', 'a'])", "['a', 'b']"), lists::sort),
    function("unique(list)", (1, 1), "The items without those that stood before.", ("unique(['b', 'a', 'b'])", "['b', 'a']"), lists::unique),
    function("range(start?, end)", (1, 2), "The numbers from `start` (or 0) up to, but without, `end`.", ("range(3)", "[0, 1, 2]"), lists::range),
    function("min(value, …)", (1, MANY), "The least of numbers or strings, given one by one or as one list.", ("min(3, 1, 2)", "1"), lists::min),
    function("max(value, …)", (1, MANY), "The greatest of numbers or strings, given one by one or as one list.", ("max([3, 1, 2])", "3"), lists::max),
    // Types and what is missing.
    function("int(value)", (1, 1), "The number a string says.", ("int('42') + 1", "43"), texts::int),
    function("string(value)", (1, 1), "The text form; a list's items with a space in between.", ("string(1) + '.0'", "'1.0'"), texts::string_of),
    function("bool(value)", (1, 1), "What the string `true` or `false` says.", ("bool('true')", "true"), texts::bool_of),
    Function {
        name: "default",
        signature: "default(value, fallback)",
        doc: "The value, or the fallback where a variable, file, item, entry or match of it is missing.",
        example: ("default(undefined, 'none')", "'none'"),
        arguments: (2, 2),
        body: Body::Default,
    },
    // Paths.
    function("basename(path)", (1, 1), "The last part.", ("basename('src/main.c')", "'main.c'"), paths::basename),
    function("dirname(path)", (1, 1), "All before the last part, `.` where there is nothing.", ("dirname('src/main.c')", "'src'"), paths::dirname),
    function("stem(path)", (1, 1), "The last part without its extension.", ("stem('src/main.c')", "'main'"), paths::stem),
    function("extension(path)", (1, 1), "What follows the last dot of the last part, or nothing.", ("extension('src/main.c')", "'c'"), paths::extension),
    function("join_path(part, …)", (1, MANY), "The parts with `/` in between; an absolute one starts anew.", ("join_path('a', 'b/', 'c')", "'a/b/c'"), paths::join_path),
    function("normalize_path(path)", (1, 1), "The path without `.`, `..` and empty parts, links not followed.", ("normalize_path('./a//b/../c')", "'a/c'"), paths::normalize_path),
    // The project's files.
    function("read(path)", (1, 1), "What is in the file, without the line end that closes it.", ("read('VERSION')", "'1.4.2'"), files::read),
    function("exists(path)", (1, 1), "Whether there is a file or folder.", ("exists('missing.txt')", "false"), files::exists),
    function("glob(pattern)", (1, 1), "The files that match, as `glob_match` tells, in order.", ("glob('src/*.c')", "['src/a.c', 'src/b.c']"), files::glob),
    // Data.
    function("json(text, path)", (2, 2), "The entry of a JSON text, by names and places with dots in between.",
        ("json('{\"on\": [\"push\"]}', 'on.0')", "'push'"), data::json),
    function("toml(text, path)", (2, 2), "The entry of a TOML text, likewise.",
        ("toml(read('Cargo.toml'), 'package.version')", "'0.3.0'"), data::toml),
    // Versions.
    function("semver_compare(a, b)", (2, 2), "-1, 0 or 1: the first version is lower, equal, higher. A leading `v` is passed over.",
        ("semver_compare('1.9.0', 'v1.10.0')", "-1"), versions::compare),
    function("semver_matches(version, requirement)", (2, 2), "Whether the version meets a requirement such as `^1.2`, `~1.2.3`, `>=1, <3`.",
        ("semver_matches('1.4.2', '^1.2')", "true"), versions::matches),
    function("semver_major(version)", (1, 1), "The first number of the version.", ("semver_major('1.4.2')", "1"), versions::major),
    function("semver_minor(version)", (1, 1), "The second number of the version.", ("semver_minor('1.4.2')", "4"), versions::minor),
    function("semver_patch(version)", (1, 1), "The third number of the version.", ("semver_patch('1.4.2-rc.1')", "2"), versions::patch),
];

/// Returns the function of this name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

impl Function {
    /// Returns whether it can be called with so many arguments.
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        (self.arguments.0..=self.arguments.1).contains(&arguments)
    }

    /// Returns the name of an argument, as the signature has it.
    fn parameter(&self, at: usize) -> &'static str {
        let names = self.signature.get(self.name.len()..).unwrap_or_default();
        let names = names.trim_matches(['(', ')']).split(", ").filter(|name| *name != "…");
        let name = names.clone().nth(at).or_else(|| names.last());
        name.unwrap_or_default().trim_end_matches('?')
    }
}

/// What a function is called with. The number of arguments has been checked.
pub(crate) struct Arguments<'a> {
    pub(crate) function: &'static Function,
    pub(crate) values: Vec<Value>,
    pub(crate) ranges: Vec<Range<usize>>,
    /// The call.
    pub(crate) range: Range<usize>,
    pub(crate) scope: &'a dyn Scope,
    pub(crate) work: &'a Work,
}

impl Arguments<'_> {
    fn value(&self, at: usize) -> &Value {
        self.values.get(at).expect("the arguments were counted")
    }

    fn text(&self, at: usize) -> Result<&str, Stop> {
        match self.value(at) {
            Value::String(text) => Ok(text),
            other => Err(self.wrong_type(at, "string", other)),
        }
    }

    fn number(&self, at: usize) -> Result<i64, Stop> {
        match self.value(at) {
            Value::Int(number) => Ok(*number),
            other => Err(self.wrong_type(at, "number", other)),
        }
    }

    fn list(&self, at: usize) -> Result<&[Value], Stop> {
        match self.value(at) {
            Value::List(items) => Ok(items),
            other => Err(self.wrong_type(at, "list", other)),
        }
    }

    /// Returns all arguments, or the items of the only one if that is a list.
    fn spread(&self) -> &[Value] {
        match self.values.as_slice() {
            [Value::List(items)] => items,
            values => values,
        }
    }

    /// Pays for work beyond the size of arguments and result.
    fn charge(&self, bytes: usize) -> Result<(), Stop> {
        self.work.charge(bytes).map_err(|kind| self.error(kind))
    }

    /// An error of the whole call.
    fn error(&self, kind: ExpressionErrorKind) -> Stop {
        Stop::Error(ExpressionError { kind, range: self.range.clone() })
    }

    /// An error of one argument.
    fn error_at(&self, at: usize, kind: ExpressionErrorKind) -> Stop {
        let range = self.ranges.get(at).unwrap_or(&self.range).clone();
        Stop::Error(ExpressionError { kind, range })
    }

    fn wrong_type(&self, at: usize, expected: &'static str, found: &Value) -> Stop {
        let place = format!("`{}` of `{}`", self.function.parameter(at), self.function.name);
        self.error_at(at, ExpressionErrorKind::WrongType { place, expected, found: found.type_name() })
    }

    fn bad(&self, at: usize, reason: impl Into<String>) -> Stop {
        let (function, argument) = (self.function.name, self.function.parameter(at));
        self.error_at(at, ExpressionErrorKind::BadArgument { function, argument, reason: reason.into() })
    }
}

#[cfg(test)]
mod tests;
