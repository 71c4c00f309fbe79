//! Text → tree.
//!
//! The grammar reads operands and operators as flat rows; they are folded here by how tightly each operator binds.
//! Functions are looked up and their arguments counted, so an expression that was read calls nothing unknown.
//! **Invariant:** nothing of pest leaves this module.

use std::ops::Range;
use std::sync::LazyLock;

use pest::Parser as _;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::{Pair, Pairs};
use pest::pratt_parser::{Assoc, Op, PrattParser};
use pest_derive::Parser;

use crate::functions::{self, Body, FUNCTIONS};
use crate::limits::MAX_DEPTH;
use crate::tree::{Arm, Comparison, Kind, Node, Operator};
use crate::{ExpressionError, ExpressionErrorKind, Hint, Wanted, error, scan};

#[derive(Parser)]
#[grammar = "../../grammar/expression.pest"]
struct Grammar;

/// How tightly operators bind; the loosest stand first.
static OPERATORS: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    let infix = |rule| Op::infix(rule, Assoc::Left);
    PrattParser::new()
        .op(infix(Rule::or))
        .op(infix(Rule::and))
        .op(Op::prefix(Rule::not))
        .op(infix(Rule::equal)
            | infix(Rule::not_equal)
            | infix(Rule::less)
            | infix(Rule::at_most)
            | infix(Rule::greater)
            | infix(Rule::at_least)
            | infix(Rule::in_)
            | infix(Rule::not_in))
        .op(infix(Rule::join))
        .op(infix(Rule::add) | infix(Rule::subtract))
        .op(infix(Rule::multiply) | infix(Rule::divide) | infix(Rule::remainder))
        .op(Op::prefix(Rule::negate))
});

type Parsed = Result<Node, ExpressionError>;

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Parsed {
    scan::check(text)?;
    let whole = Grammar::parse(Rule::whole, text).map_err(|error| syntax_error(text, &error))?;
    let expression =
        whole.flat_map(Pair::into_inner).next().expect("a whole text starts with its expression");
    expression_node(expression)
}

fn failed(kind: ExpressionErrorKind, range: Range<usize>) -> ExpressionError {
    ExpressionError { kind, range }
}

fn range_of(pair: &Pair<'_, Rule>) -> Range<usize> {
    let span = pair.as_span();
    // Blanks before what may follow can be part of a pair.
    span.start()..span.start() + without_blanks_behind(span.as_str()).len()
}

/// Cuts off the blanks at the end; nothing else ends with a backslash.
fn without_blanks_behind(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == '\\')
}

/// Cuts off the blanks at the start, backslashes before line breaks included.
fn without_blanks_before(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some(next) = rest.strip_prefix("\\\n").or_else(|| rest.strip_prefix("\\\r\n")) {
        rest = next.trim_start();
    }
    rest
}

/// Reads `value if condition else …`.
fn expression_node(pair: Pair<'_, Rule>) -> Parsed {
    let range = range_of(&pair);
    let mut operands = Vec::new();
    let mut row = Vec::new();
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::if_word | Rule::else_word => operands.push(operation(std::mem::take(&mut row))?),
            _ => row.push(part),
        }
    }
    let otherwise = operation(row)?;
    if operands.is_empty() {
        return Ok(otherwise);
    }
    let mut operands = operands.into_iter();
    let mut arms = Vec::new();
    while let (Some(value), Some(condition)) = (operands.next(), operands.next()) {
        arms.push(Arm { value, condition });
    }
    Node::new(Kind::If { arms, otherwise: Box::new(otherwise) }, range)
}

/// Folds a row of operands and operators.
fn operation(row: Vec<Pair<'_, Rule>>) -> Parsed {
    let is_prefix = |pair: &Pair<'_, Rule>| matches!(pair.as_rule(), Rule::not | Rule::negate);
    // The folding recurses over operators before an operand, so their number is bounded beforehand.
    if let Some(run) = row.chunk_by(|a, b| is_prefix(a) && is_prefix(b)).find(|run| run.len() > MAX_DEPTH) {
        return Err(failed(ExpressionErrorKind::TooDeep, run.first().map(range_of).unwrap_or_default()));
    }
    OPERATORS.map_primary(term).map_prefix(prefix).map_infix(infix).parse(row.into_iter())
}

fn prefix(operator: Pair<'_, Rule>, operand: Parsed) -> Parsed {
    let operand = operand?;
    let range = operator.as_span().start()..operand.range.end;
    let kind = match operator.as_rule() {
        Rule::not => Kind::Not(Box::new(operand)),
        _ => Kind::Negate(Box::new(operand)),
    };
    Node::new(kind, range)
}

fn infix(left: Parsed, operator: Pair<'_, Rule>, right: Parsed) -> Parsed {
    let (left, right) = (left?, right?);
    let comparison = match operator.as_rule() {
        Rule::or => return left.or(right),
        Rule::and => return left.and(right),
        Rule::join => return left.join(Operator::Join, right),
        Rule::add => return left.join(Operator::Add, right),
        Rule::subtract => return left.join(Operator::Subtract, right),
        Rule::multiply => return left.join(Operator::Multiply, right),
        Rule::divide => return left.join(Operator::Divide, right),
        Rule::remainder => return left.join(Operator::Remainder, right),
        Rule::equal => Comparison::Equal,
        Rule::not_equal => Comparison::NotEqual,
        Rule::less => Comparison::Less,
        Rule::at_most => Comparison::AtMost,
        Rule::greater => Comparison::Greater,
        Rule::at_least => Comparison::AtLeast,
        Rule::in_ => Comparison::In,
        Rule::not_in => Comparison::NotIn,
        rule => unreachable!("{rule:?} is no operator between operands"),
    };
    // A comparison in brackets ends behind its right side: there is the bracket.
    if matches!(&left.kind, Kind::Compare(_, _, inner) if inner.range.end == left.range.end) {
        return Err(failed(ExpressionErrorKind::ChainedComparison, left.range.start..right.range.end));
    }
    let range = left.range.start..right.range.end;
    Node::new(Kind::Compare(comparison, Box::new(left), Box::new(right)), range)
}

/// Reads a value and the indexes behind it.
fn term(pair: Pair<'_, Rule>) -> Parsed {
    let mut parts = pair.into_inner();
    let mut node = value(parts.next().expect("a term starts with its value"))?;
    for index in parts {
        let range = node.range.start..range_of(&index).end;
        let index = expression_node(index.into_inner().next().expect("brackets hold an expression"))?;
        node = Node::new(Kind::Index(Box::new(node), Box::new(index)), range)?;
    }
    Ok(node)
}

fn value(pair: Pair<'_, Rule>) -> Parsed {
    let range = range_of(&pair);
    let kind = match pair.as_rule() {
        Rule::text => Kind::Text(unescape(pair.as_str(), range.start)?),
        Rule::number => {
            let overflow = |_| failed(ExpressionErrorKind::NumberTooLarge, range.clone());
            Kind::Number(pair.as_str().parse().map_err(overflow)?)
        }
        Rule::boolean => Kind::Bool(pair.as_str() == "true"),
        Rule::list => Kind::List(expressions(pair.into_inner())?),
        Rule::group => {
            let mut node = expression_node(pair.into_inner().next().expect("brackets hold an expression"))?;
            node.range = range;
            return Ok(node);
        }
        Rule::reference => reference(pair.into_inner(), &range)?,
        rule => unreachable!("{rule:?} is no value"),
    };
    Node::new(kind, range)
}

fn expressions(pairs: Pairs<'_, Rule>) -> Result<Vec<Node>, ExpressionError> {
    pairs.map(expression_node).collect()
}

/// Reads a variable or a call.
fn reference(mut parts: Pairs<'_, Rule>, range: &Range<usize>) -> Result<Kind, ExpressionError> {
    let name = parts.next().expect("a reference starts with its name");
    let Some(arguments) = parts.next() else {
        return Ok(Kind::Variable(name.as_str().to_owned(), range.clone()));
    };
    let Some(function) = functions::find(name.as_str()) else {
        let near = error::nearest(name.as_str(), FUNCTIONS.iter().map(|function| function.name));
        let name_range = range_of(&name);
        let name = name.as_str().to_owned();
        return Err(failed(ExpressionErrorKind::UnknownFunction { name, near }, name_range));
    };
    let arguments = expressions(arguments.into_inner())?;
    if !function.takes(arguments.len()) {
        let (function, signature, given) = (function.name, function.signature, arguments.len());
        let kind = ExpressionErrorKind::ArgumentCount { function, signature, given };
        return Err(failed(kind, range.clone()));
    }
    Ok(match function.body {
        Body::Default => {
            let [value, fallback] = <[Node; 2]>::try_from(arguments).expect("the arguments were counted");
            Kind::Default(Box::new(value), Box::new(fallback))
        }
        Body::Plain(_) => Kind::Call(function, arguments),
    })
}

/// Returns what a string means; `quoted` starts at `start` of the text.
fn unescape(quoted: &str, start: usize) -> Result<String, ExpressionError> {
    let inside = &quoted[1..quoted.len() - 1];
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at..];
        let from = start + quoted.len() - 1 - escape.len();
        let (character, length) = unescape_one(escape).ok_or_else(|| {
            let shown: String = escape.chars().take(2).collect();
            let range = from..from + shown.len();
            failed(ExpressionErrorKind::UnknownEscape { escape: shown }, range)
        })?;
        text.push(character);
        rest = &escape[length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// Returns the character an escape stands for, and how long the escape is.
fn unescape_one(escape: &str) -> Option<(char, usize)> {
    let character = match escape.chars().nth(1)? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        same @ ('\\' | '\'' | '"') => same,
        'u' => {
            let (digits, _) = escape.get(2..)?.strip_prefix('{')?.split_once('}')?;
            let fits = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(digits, 16).ok().filter(|_| fits)?;
            return Some((char::from_u32(number)?, digits.len() + 4));
        }
        _ => return None,
    };
    Some((character, 2))
}

/// Makes our error of pest's.
fn syntax_error(text: &str, error: &pest::error::Error<Rule>) -> ExpressionError {
    let (InputLocation::Pos(at) | InputLocation::Span((at, _))) = error.location;
    let rules: &[Rule] = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives,
        ErrorVariant::CustomError { .. } => &[],
    };
    let wanted = match rules {
        rules if rules.contains(&Rule::else_word) => Wanted::Else,
        rules if rules.iter().all(may_follow_a_value) => Wanted::Operator,
        _ => Wanted::Value,
    };
    let rest = without_blanks_before(&text[at..]);
    let at = text.len() - rest.len();
    let Some(first) = rest.chars().next() else {
        // Point at what is there last.
        let end = without_blanks_behind(text).len();
        let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
        return failed(ExpressionErrorKind::EndsEarly { wanted }, end - last..end);
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.' && first.is_ascii_digit();
    let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let length = if word > 0 { word } else { first.len_utf8() };
    let hint = hint(&rest[..length], first);
    let found = rest[..length].to_owned();
    failed(ExpressionErrorKind::Unexpected { found, wanted, hint }, at..at + length)
}

/// Returns whether the rule can go on behind a value that is complete.
fn may_follow_a_value(rule: &Rule) -> bool {
    use Rule::{EOI, arguments, if_word, index, not_word, or, remainder, subtract};
    use Rule::{
        add, and, at_least, at_most, divide, equal, greater, in_, join, less, multiply, not_equal, not_in,
    };
    matches!(rule, add | and | at_least | at_most | divide | equal | greater | in_ | join | less | multiply)
        || matches!(rule, not_equal | not_in | or | remainder | subtract)
        || matches!(rule, EOI | arguments | if_word | index | not_word)
}

/// Guesses from what stands in the wrong place what was meant.
fn hint(found: &str, first: char) -> Option<Hint> {
    Some(match first {
        _ if found == "if" => Hint::Ternary,
        '.' => Hint::Method,
        '0'..='9' if found.contains('.') => Hint::Fraction,
        '0'..='9' if found.contains(char::is_alphabetic) => Hint::Name,
        '=' => Hint::Equals,
        '|' => Hint::Filter,
        '&' => Hint::And,
        '?' => Hint::Ternary,
        '$' => Hint::Dollar,
        '{' | '}' => Hint::Braces,
        '\'' | '"' => Hint::Join,
        '+' | '*' | '/' | '%' | '~' | '^' | '<' | '>' => Hint::Operator,
        first if !first.is_ascii() => Hint::Name,
        _ => return None,
    })
}
