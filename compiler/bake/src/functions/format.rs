//! `format`: texts by verbs such as `%s` and `%05.1f`.

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::{RoundingMode, ToPrimitive};
use unicode_segmentation::UnicodeSegmentation as _;

use super::{Call, Function, MANY, function};
use crate::value::{Kind, Number, Value, convert, encode, whole, written};

pub(super) const FUNCTIONS: &[Function] = &[
    function("format", 1, MANY, |call| formatted(&call.text(0)?, &call.values[1..]).map(Value::Text)),
    function("formatlist", 1, MANY, formatlist),
];

fn formatlist(call: &Call<'_>) -> Result<Value, String> {
    let format = call.text(0)?;
    let values = &call.values[1..];
    let mut lengths = values.iter().filter_map(|value| value.elements().map(<[Value]>::len));
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return Err("all lists must be of one length".to_owned());
    }
    let row = |at: usize| -> Vec<Value> {
        values.iter().map(|value| value.elements().map_or(value, |elements| &elements[at]).clone()).collect()
    };
    (0..length.unwrap_or(1))
        .map(|at| formatted(&format, &row(at)))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::texts)
}

/// One verb: `%[2]-08.3f`.
#[derive(Default)]
struct Verb {
    zero: bool,
    sharp: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// A width or a precision is not larger than this.
const WIDEST: usize = 10_000;

fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let mut made = String::new();
    let mut letters = format.chars().peekable();
    let mut next = 0;
    let mut most = 0;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            made.push(letter);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            made.push('%');
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = letters.next_if(|letter| matches!(letter, '0' | '#' | '+' | '-' | ' ')) {
            match flag {
                '0' => verb.zero = true,
                '#' => verb.sharp = true,
                '+' => verb.plus = true,
                '-' => verb.minus = true,
                _ => verb.space = true,
            }
        }
        let digits = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut text = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            let number = text.parse::<usize>().unwrap_or(if text.is_empty() { 0 } else { usize::MAX });
            if number > WIDEST {
                Err("a width is too large".to_owned())
            } else {
                Ok((!text.is_empty()).then_some(number))
            }
        };
        verb.width = digits(&mut letters)?;
        if letters.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut letters)?.unwrap_or(0));
        }
        if letters.next_if_eq(&'[').is_some() {
            let at = digits(&mut letters)?
                .filter(|at| *at > 0)
                .ok_or("`[` needs the number of an argument, from 1")?;
            letters.next_if_eq(&']').ok_or("`[` is not closed")?;
            next = at - 1;
        }
        let mode = letters.next().ok_or("the text ends within a verb")?;
        let value =
            values.get(next).ok_or_else(|| format!("there is no argument {} for `%{mode}`", next + 1))?;
        next += 1;
        most = most.max(next);
        made.push_str(&verb.apply(mode, value)?);
    }
    if most < values.len() {
        return Err(format!("{} arguments are given, and {most} are used", values.len()));
    }
    Ok(made)
}

impl Verb {
    fn apply(&self, mode: char, value: &Value) -> Result<String, String> {
        if value.is_null() && mode != 'v' {
            return Err(format!("null cannot be written by `%{mode}`"));
        }
        let converted = |kind: &Kind| convert(value.clone(), kind).map_err(|why| format!("`%{mode}`: {why}"));
        match mode {
            'v' => Ok(self.padded(match value {
                Value::Text(text) if !self.sharp => text.clone(),
                Value::Number(number) if !self.sharp => general(number),
                other => encode(other),
            })),
            't' => converted(&Kind::Bool).map(|value| encode(&value)),
            's' | 'q' => {
                let Value::Text(mut text) = converted(&Kind::Text)? else { return Ok(String::new()) };
                if let Some(precision) = self.precision.filter(|precision| *precision > 0) {
                    text = text.graphemes(true).take(precision).collect();
                }
                Ok(self.padded(if mode == 'q' { encode(&Value::Text(text)) } else { text }))
            }
            'b' | 'd' | 'o' | 'x' | 'X' => match converted(&Kind::Number)? {
                Value::Number(number) => {
                    let number = whole(&number).ok_or_else(|| format!("`%{mode}` writes whole numbers"))?;
                    Ok(self.integer(&number, mode))
                }
                _ => Ok(String::new()),
            },
            'e' | 'E' | 'f' | 'g' | 'G' => match converted(&Kind::Number)? {
                Value::Number(number) => self.float(&number, mode),
                _ => Ok(String::new()),
            },
            other => Err(format!("there is no verb `%{other}`")),
        }
    }

    /// Fills up a text to the width.
    fn padded(&self, text: String) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.graphemes(true).count());
        let fill = if self.zero { "0" } else { " " }.repeat(missing);
        if self.minus { text + &fill } else { fill + &text }
    }

    /// Puts sign and digits together and fills them up: zeros stand after the sign.
    fn signed(&self, negative: bool, prefix: &str, digits: &str, zeros: bool) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        let missing = self.width.unwrap_or(0).saturating_sub(sign.len() + prefix.len() + digits.len());
        match (self.minus, self.zero && zeros) {
            (true, _) => format!("{sign}{prefix}{digits}{}", " ".repeat(missing)),
            (false, true) => format!("{sign}{prefix}{}{digits}", "0".repeat(missing)),
            (false, false) => format!("{}{sign}{prefix}{digits}", " ".repeat(missing)),
        }
    }

    fn integer(&self, number: &BigInt, mode: char) -> String {
        let (base, prefix) = match mode {
            'b' => (2, "0b"),
            'o' => (8, "0"),
            'x' => (16, "0x"),
            'X' => (16, "0X"),
            _ => (10, ""),
        };
        let mut digits = number.magnitude().to_str_radix(base);
        if mode == 'X' {
            digits = digits.to_uppercase();
        }
        if let Some(precision) = self.precision {
            digits = format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len())));
        }
        let prefix = if self.sharp { prefix } else { "" };
        self.signed(number.sign() == Sign::Minus, prefix, &digits, self.precision.is_none())
    }

    fn float(&self, number: &Number, mode: char) -> Result<String, String> {
        let negative = number.sign() == Sign::Minus;
        let number = number.abs();
        let digits = match mode {
            'f' => number
                .with_scale_round(self.precision.unwrap_or(6) as i64, RoundingMode::HalfEven)
                .to_plain_string(),
            'e' | 'E' => exponential(&number, self.precision.unwrap_or(6))?,
            _ => match self.precision {
                None => general(&number),
                Some(precision) => {
                    let rounded = number.with_precision_round(
                        std::num::NonZeroU64::new(precision.max(1) as u64).expect("this is at least one"),
                        RoundingMode::HalfEven,
                    );
                    general_within(&rounded, i64::try_from(precision.max(1)).unwrap_or(i64::MAX))
                }
            },
        };
        let digits = if mode.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
        Ok(self.signed(negative, "", &digits, true))
    }
}

/// Writes a number as `1.5e+00`.
fn exponential(number: &Number, precision: usize) -> Result<String, String> {
    let float =
        number.to_f64().filter(|float| float.is_finite()).ok_or("the number is too large for this verb")?;
    let text = format!("{float:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    Ok(format!("{digits}e{}", exponent_of(exponent.parse().unwrap_or(0))))
}

fn exponent_of(exponent: i64) -> String {
    format!("{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Writes a number as short as it can be: with an exponent from 21 digits on.
fn general(number: &Number) -> String {
    general_within(number, 21)
}

fn general_within(number: &Number, limit: i64) -> String {
    let (digits, scale) = number.normalized().into_bigint_and_exponent();
    let negative = digits.sign() == Sign::Minus;
    let digits = digits.magnitude().to_string();
    let exponent = i64::try_from(digits.len()).unwrap_or(i64::MAX) - 1 - scale;
    if digits == "0" || (-4..limit).contains(&exponent) {
        return written(number);
    }
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    format!("{}{first}{point}{rest}e{}", if negative { "-" } else { "" }, exponent_of(exponent))
}
