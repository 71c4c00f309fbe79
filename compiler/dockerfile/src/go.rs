//! How Go writes and reads what stands in configs, histories and options: quoted texts, durations, moments, truth values, sizes,
//! CSV.
//!
//! BuildKit prints these with Go's own formats, and images are compared by what they say. Source: Go's `strconv`, `time`.

use std::fmt::Write as _;

/// Returns a text as Go's `%q` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => push_escape(&mut quoted, 'x', 2, letter),
            // What Rust escapes, too, is not for printing; a space other than the common one is not either, in Go.
            _ if letter != ' ' && is_unprintable(letter) => match u32::from(letter) {
                0..=0xffff => push_escape(&mut quoted, 'u', 4, letter),
                _ => push_escape(&mut quoted, 'U', 8, letter),
            },
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn push_escape(text: &mut String, kind: char, digits: usize, letter: char) {
    write!(text, "\\{kind}{:0digits$x}", u32::from(letter)).expect("a string takes all that is written");
}

fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || letter.is_whitespace()
        || (!matches!(letter, '\'') && letter.escape_debug().next() == Some('\\'))
}

/// Returns texts as Go's `%q` writes a list: `["a" "b"]`.
pub(crate) fn quote_list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(" "))
}

/// Returns texts as Go's `%v` writes a list: `[a b]`.
pub(crate) fn list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// Reads what Go's `strconv.ParseBool` takes.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Returns a duration as Go writes it: `1h0m0s`, `1.5s`, `100ms`, `0s`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let small = |unit: u64, name: &str| format!("{}{name}", decimal(nanoseconds, unit));
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..1_000_000_000 => small(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let seconds = format!("{}s", decimal(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Writes `value / unit` with as many digits as it has.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

/// Reads a size in bytes: `64m`, `1.5 GB`, `512KiB`; every unit is a power of 1024.
pub(crate) fn parse_size(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    // Beyond 2^63 there is no such number.
    (size < 9.2e18).then_some(size as i64)
}

/// Splits one line of CSV. A field that contains a comma stands in quotes, which it may double.
///
/// # Errors
/// What of the quotes is wrong. Source: Go's `encoding/csv`, without `LazyQuotes`.
pub fn csv_fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let (field, after) = rest.split_once(',').map_or((rest, None), |(a, b)| (a, Some(b)));
                if field.contains('"') {
                    return Err(format!("a quote stands inside of `{field}`"));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Reads a field behind its first quote, and returns what follows its comma.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or_else(|| "a quote is not closed".to_owned())?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() => return Ok((field, None)),
            None => {
                let after = after.strip_prefix(',').ok_or_else(|| format!("`{after}` follows a quote"))?;
                return Ok((field, Some(after)));
            }
        }
    }
}

/// Returns a moment, in seconds since 1970, as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's civil_from_days: years begin in March, so that the leap day is their last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second % 3_600 / 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_in_go() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{7f}\u{a0}'"), "\"a\\\"b\\\\\\n\\x01é\\x7f\\u00a0'\"");
        assert_eq!(quote_list(&["e".to_owned(), "x y".to_owned()]), "[\"e\" \"x y\"]");
        assert_eq!(list(&["e".to_owned(), "f".to_owned()]), "[e f]");
        assert_eq!(quote_list(&[]), "[]");
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (nanoseconds, shown) in [
            (5_000_000_000, "5s"),
            (5_400_000_000_000, "1h30m0s"),
            (90_000_000_000, "1m30s"),
            (60_500_000_000, "1m0.5s"),
            (100_000_000, "100ms"),
            (1_500_000, "1.5ms"),
            (1_001, "1.001µs"),
            (7, "7ns"),
            (0, "0s"),
        ] {
            assert_eq!(duration(nanoseconds), shown);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("67108864", Some(67_108_864)),
            ("64m", Some(64 << 20)),
            ("1.5 GB", Some(3 << 29)),
            ("512KiB", Some(512 << 10)),
            ("0", Some(0)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("9999999p", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }

    #[test]
    fn csv_is_split() {
        assert_eq!(csv_fields("a=1,\"b=2,\"\"3\"\"\",c").unwrap(), ["a=1", "b=2,\"3\"", "c"]);
        assert_eq!(csv_fields("a,").unwrap(), ["a", ""]);
        for text in ["\"a", "a\"b", "\"a\"b"] {
            assert!(csv_fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
