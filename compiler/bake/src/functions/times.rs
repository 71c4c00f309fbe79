//! Times, in the form of RFC 3339.

use std::collections::BTreeMap;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{Call, Function, function, numbers};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    function("formatdate", 2, 2, |call| shaped(&call.text(0)?, parse(&call.text(1)?)?)),
    function("formattimestamp", 2, 2, |call| {
        let time = match call.get(1)? {
            Value::Text(text) => parse(text)?,
            other => from_seconds(other)?,
        };
        let format = call.text(0)?;
        if format == "X" { Ok(Value::text(time.unix_timestamp().to_string())) } else { shaped(&format, time) }
    }),
    function("timeadd", 2, 2, |call| {
        let time = parse(&call.text(0)?)?.checked_add(duration(&call.text(1)?)?);
        Ok(Value::text(told(time.ok_or("no calendar goes that far")?)))
    }),
    function("timestamp", 0, 0, |call| {
        let time =
            OffsetDateTime::from_unix_timestamp(call.outside.seconds()).map_err(|error| error.to_string())?;
        Ok(Value::text(told(time)))
    }),
    function("unixtimestampparse", 1, 1, unixtimestampparse),
];

fn parse(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| format!("`{text}` is no time: write 2006-01-02T15:04:05Z"))
}

fn from_seconds(value: &Value) -> Result<OffsetDateTime, String> {
    let seconds = numbers::seconds(value).ok_or("a time is a text or a whole number of seconds")?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| "no calendar goes that far".to_owned())
}

/// Writes a time to the second.
fn told(time: OffsetDateTime) -> String {
    let date = format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day());
    format!("{date}T{:02}:{:02}:{:02}{}", time.hour(), time.minute(), time.second(), zone(time, "Z", ":"))
}

fn zone(time: OffsetDateTime, utc: &str, colon: &str) -> String {
    let (hours, minutes, _) = time.offset().as_hms();
    if hours == 0 && minutes == 0 && !utc.is_empty() {
        return utc.to_owned();
    }
    let sign = if hours < 0 || minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}{colon}{:02}", hours.abs(), minutes.abs())
}

/// Reads a duration such as `-1h30m` or `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 1h30m");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    let duration = Duration::checked_seconds_f64(if negative { -seconds } else { seconds });
    duration.ok_or_else(wrong)
}

/// Writes a time by a pattern such as `YYYY-MM-DD'T'hh:mm`.
fn shaped(format: &str, time: OffsetDateTime) -> Result<Value, String> {
    let mut made = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\'' {
            if letters.next_if_eq(&'\'').is_some() {
                made.push('\'');
                continue;
            }
            loop {
                match letters.next().ok_or("a quoted part of the pattern is not closed")? {
                    '\'' if letters.next_if_eq(&'\'').is_some() => made.push('\''),
                    '\'' => break,
                    letter => made.push(letter),
                }
            }
        } else if letter.is_ascii_alphabetic() {
            let mut length = 1;
            while letters.next_if_eq(&letter).is_some() {
                length += 1;
            }
            made.push_str(&verb(letter, length, time)?);
        } else {
            made.push(letter);
        }
    }
    Ok(Value::Text(made))
}

fn verb(letter: char, length: usize, time: OffsetDateTime) -> Result<String, String> {
    let number =
        |value: u8, length: usize| if length == 2 { format!("{value:02}") } else { value.to_string() };
    let twelve = (time.hour() + 11) % 12 + 1;
    let half = if time.hour() < 12 { "am" } else { "pm" };
    Ok(match (letter, length) {
        ('Y', 2) => format!("{:02}", time.year().rem_euclid(100)),
        ('Y', 4) => format!("{:04}", time.year()),
        ('M', 1 | 2) => number(u8::from(time.month()), length),
        ('M', 3) => time.month().to_string()[..3].to_owned(),
        ('M', 4) => time.month().to_string(),
        ('D', 1 | 2) => number(time.day(), length),
        ('E', 3) => time.weekday().to_string()[..3].to_owned(),
        ('E', 4) => time.weekday().to_string(),
        ('h', 1 | 2) => number(time.hour(), length),
        ('H', 1 | 2) => number(twelve, length),
        ('A', 2) => half.to_uppercase(),
        ('a', 2) => half.to_owned(),
        ('m', 1 | 2) => number(time.minute(), length),
        ('s', 1 | 2) => number(time.second(), length),
        ('Z', 1) => zone(time, "Z", ":"),
        ('Z', 3) => zone(time, "UTC", ""),
        ('Z', 4) => zone(time, "", ""),
        ('Z', 5) => zone(time, "", ":"),
        (letter, length) => {
            let verb: String = std::iter::repeat_n(letter, length).collect();
            return Err(format!(
                "a pattern of times has no `{verb}`; what is not of the pattern stands in '…'"
            ));
        }
    })
}

fn unixtimestampparse(call: &Call<'_>) -> Result<Value, String> {
    let time = from_seconds(call.get(0)?)?;
    let (iso_year, iso_week, _) = time.to_iso_week_date();
    let number = |value: i64| Value::number(value);
    let entries = [
        ("year", number(time.year().into())),
        ("year_day", number(time.ordinal().into())),
        ("day", number(time.day().into())),
        ("month", number(u8::from(time.month()).into())),
        ("month_name", Value::text(time.month().to_string())),
        ("weekday", number(time.weekday().number_days_from_sunday().into())),
        ("weekday_name", Value::text(time.weekday().to_string())),
        ("hour", number(time.hour().into())),
        ("minute", number(time.minute().into())),
        ("second", number(time.second().into())),
        ("rfc3339", Value::text(told(time))),
        ("iso_year", number(iso_year.into())),
        ("iso_week", number(iso_week.into())),
    ];
    Ok(Value::Object(
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    ))
}
