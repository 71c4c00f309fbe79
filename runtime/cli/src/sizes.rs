//! Sizes as people write them: the one reader for options, variables and files of settings.
//!
//! In: `20GB`, `1.5g`, `512 MiB`, `1073741824`; of the disk also a part of it, `30%`. Out: whole bytes, rounded down. `K`, `M`, … and
//! `KiB`, `MiB`, … are powers of 1024 everywhere; what `kB`, `MB`, … are says [`Thousands`].
//! **Invariant:** without a unit a size is a whole number of bytes, and never a part of one.
//! Source: docker's units (`RAMInBytes`, facts).

use rb_store::Amount;

/// More digits behind the point say nothing more.
const MOST_DIGITS: usize = 12;

/// What `kB`, `MB` and so on count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thousands {
    /// A thousand, as disks are sold: what is kept.
    Decimal,
    /// 1024, as docker's options for memory have it.
    Binary,
}

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// It cannot be read.
    #[error("`{text}` is no size, such as {examples}")]
    NoSize {
        /// As written.
        text: String,
        /// What could stand there.
        examples: &'static str,
    },
    /// It has a part behind the point, and no unit.
    #[error("`{text}` is no whole number of bytes: it lacks a unit, such as in `{text}GB`")]
    PartOfAByte {
        /// As written.
        text: String,
    },
    /// No step would fit in it.
    #[error("`{text}` is {bytes} bytes, and a step takes more than that: did you mean `{number}g`?")]
    TooLittle {
        /// As written.
        text: String,
        /// What that is.
        bytes: u64,
        /// What of it is the number.
        number: String,
    },
}

impl SizeError {
    /// Returns what to write instead.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::NoSize { examples, .. } => format!("a size, such as {examples}"),
            Self::PartOfAByte { text } => {
                format!("without a unit a size is a whole number of bytes; write `{text}GB` or `{text}MB`")
            }
            Self::TooLittle { number, .. } => {
                format!(
                    "without a unit a size is in bytes; write `{number}g` or `{number}m`, 4m is the least"
                )
            }
        }
    }
}

/// Less memory than this is a slip of the pen: a shell alone takes as much.
const LEAST_BUDGET: u64 = 4 << 20;

const OF_DISK: &str = "`20GB`, `512MiB` or `10%`";
const OF_STORAGE: &str = "`20GB`";
const OF_MEMORY: &str = "`64m`";
const OF_MACHINE: &str = "`4g` or `80%`";

/// Reads how much of a disk is meant, in bytes or as a part of it.
pub(crate) fn disk(text: &str) -> Result<Amount, SizeError> {
    amount(text, Thousands::Decimal, OF_DISK)
}

/// Reads how much of this machine's memory is meant, in bytes as docker counts them or as a part of it; nothing of it is no
/// amount.
pub(crate) fn memory_budget(text: &str) -> Result<Amount, SizeError> {
    match amount(text, Thousands::Binary, OF_MACHINE)? {
        Amount::Bytes(0) | Amount::Percent(0) => {
            Err(SizeError::NoSize { text: text.to_owned(), examples: OF_MACHINE })
        }
        Amount::Bytes(bytes) if bytes < LEAST_BUDGET => {
            let text = text.trim().to_owned();
            let number =
                text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end().to_owned();
            Err(SizeError::TooLittle { text, bytes, number })
        }
        amount => Ok(amount),
    }
}

fn amount(text: &str, thousands: Thousands, examples: &'static str) -> Result<Amount, SizeError> {
    let no_size = || SizeError::NoSize { text: text.to_owned(), examples };
    if let Some(percent) = text.trim().strip_suffix('%') {
        let percent = percent.trim();
        let digits = !percent.is_empty() && percent.bytes().all(|byte| byte.is_ascii_digit());
        let percent = percent.parse().ok().filter(|percent| digits && *percent <= 100);
        return percent.map(Amount::Percent).ok_or_else(no_size);
    }
    read(text, thousands, examples).map(Amount::Bytes)
}

/// Reads how many bytes of a disk are meant.
pub(crate) fn storage(text: &str) -> Result<u64, SizeError> {
    read(text, Thousands::Decimal, OF_STORAGE)
}

/// Reads a size of memory, as docker does; none is no size.
pub(crate) fn memory(text: &str) -> Result<u64, SizeError> {
    match read(text, Thousands::Binary, OF_MEMORY)? {
        0 => Err(SizeError::NoSize { text: text.to_owned(), examples: OF_MEMORY }),
        bytes => Ok(bytes),
    }
}

fn read(text: &str, thousands: Thousands, examples: &'static str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    let end = trimmed.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number = number.trim_end();
    let bytes = || {
        let unit = unit_bytes(unit, thousands)?;
        let (whole, part) = match number.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return None,
            None => (number, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > MOST_DIGITS {
            return None;
        }
        if unit == 1 && !part.is_empty() {
            return Some(Err(SizeError::PartOfAByte { text: number.to_owned() }));
        }
        // At most 20 digits times 2^40, and 12 digits times that.
        let whole: u64 = whole.parse().ok()?;
        let below = 10_u128.pow(u32::try_from(part.len()).ok()?);
        let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
        let bytes = u128::from(whole) * unit + part * unit / below;
        u64::try_from(bytes).ok().map(Ok)
    };
    bytes().unwrap_or_else(|| Err(SizeError::NoSize { text: text.to_owned(), examples }))
}

/// Returns how many bytes a unit is.
fn unit_bytes(unit: &str, thousands: Thousands) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Some(1),
        Some('b') if unit == "b" => return Some(1),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) => return None,
    };
    let base: u128 = match (letters.as_str(), thousands) {
        ("" | "ib", _) | ("b", Thousands::Binary) => 1024,
        ("b", Thousands::Decimal) => 1000,
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, of_disk, of_memory) in [
            ("1073741824", 1 << 30, 1 << 30),
            ("7b", 7, 7),
            ("20GB", 20_000_000_000, 20 << 30),
            ("1.5GB", 1_500_000_000, 3 << 29),
            ("1.5g", 3 << 29, 3 << 29),
            (" 512 MiB ", 512 << 20, 512 << 20),
            ("0.0001kB", 0, 0),
            ("1.000000000001TB", 1_000_000_000_001, (1 << 40) + 1),
            ("16777215t", 16_777_215 << 40, 16_777_215 << 40),
        ] {
            assert_eq!(storage(text), Ok(of_disk), "{text}");
            assert_eq!(disk(text), Ok(Amount::Bytes(of_disk)), "{text}");
            assert_eq!(memory(text).ok(), Some(of_memory).filter(|bytes| *bytes > 0), "{text}");
        }
        assert_eq!(disk("30 %"), Ok(Amount::Percent(30)));
    }

    #[test]
    fn what_is_no_size_is_told_with_one_that_is() {
        for text in [
            "",
            ".",
            "much",
            "GB",
            "-1",
            "+1",
            "1.",
            ".5g",
            "1.5.5g",
            "1,5g",
            "1e3",
            "1gbb",
            "1 2g",
            "1gi",
            "0x10",
            "16777216t",
            "99999999999999999999",
            "1.0000000000001g",
            "١g",
            "101%",
            "-1%",
            "+1%",
            "1.5%",
            "%",
        ] {
            let error = disk(text).expect_err(text);
            assert_eq!(error, SizeError::NoSize { text: text.to_owned(), examples: OF_DISK });
            assert!(memory(text).is_err() && storage(text).is_err(), "{text}");
        }
        assert!(storage("10%").is_err() && memory("0").is_err() && memory("0.0001kB").is_err());
        assert!(disk("big").expect_err("is none").to_string().contains("such as `20GB`"));
    }

    #[test]
    fn without_a_unit_there_are_whole_bytes() {
        for text in ["1.5", "1.0", "0.5", "1.5b", "1.5 B"] {
            for error in [disk(text).err(), storage(text).err(), memory(text).err()].into_iter().flatten() {
                assert!(matches!(error, SizeError::PartOfAByte { .. }), "{text}: {error:?}");
            }
            assert!(disk(text).is_err() && storage(text).is_err() && memory(text).is_err(), "{text}");
        }
        let error = disk("1.5").expect_err("is none");
        assert_eq!(
            error.to_string(),
            "`1.5` is no whole number of bytes: it lacks a unit, such as in `1.5GB`"
        );
        assert!(error.help().contains("`1.5GB`"), "{}", error.help());
    }

    #[test]
    fn a_budget_in_which_nothing_fits_is_a_slip() {
        for (text, meant) in [("4", "4g"), ("4096k", ""), ("512 kb", "512g"), ("4194303", "4194303g")] {
            match (memory_budget(text), meant) {
                (Ok(amount), "") => assert_eq!(amount, Amount::Bytes(4 << 20)),
                (Err(error), meant) => assert!(error.to_string().contains(&format!("`{meant}`?")), "{error}"),
                (Ok(amount), _) => panic!("{text}: {amount:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "[0-9.kKmMgGtTiIbB% +-]{0,12}|.{0,8}") {
            let (of_disk, of_memory) = (storage(&text), memory(&text));
            // What both read is never less as memory.
            if let (Ok(of_disk), Ok(of_memory)) = (&of_disk, &of_memory) {
                prop_assert!(of_disk <= of_memory);
            }
            if let Ok(bytes) = of_disk {
                prop_assert_eq!(disk(&text), Ok(Amount::Bytes(bytes)));
            }
        }

        #[test]
        fn a_whole_number_of_units_is_that(number in 0_u64..1_000_000, unit in 0_u32..5) {
            let letter = ["", "k", "m", "g", "t"][unit as usize];
            prop_assert_eq!(storage(&format!("{number}{letter}")), Ok(number * 1024_u64.pow(unit)));
            prop_assert_eq!(storage(&format!("{number}.000{letter}")).is_ok(), unit > 0);
        }
    }
}
