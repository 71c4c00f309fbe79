//! What steps that run at once may take of memory together: `--memory-budget` and who else says it.
//!
//! In: a size, a part of this machine's memory, or `none`. Out: an [`Amount`], or nothing. Unless somebody says so there is
//! none: how much of a machine is free for builds its owner knows, and without one no step is looked at.

use std::fmt;
use std::str::FromStr;

use rb_store::Amount;
use serde::Deserialize;

use super::SettingsError;
use super::config::Config;
use crate::args::LimitOptions;
use crate::environment::Environment;
use crate::sizes::{self, SizeError};

const VARIABLE: &str = "RB_MEMORY_BUDGET";
const NONE: &str = "none";

/// `1GB`, `80%`, `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MemoryBudget(Option<Amount>);

impl FromStr for MemoryBudget {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        match text.trim() {
            NONE => Ok(Self(None)),
            text => sizes::memory_budget(text).map(Some).map(Self),
        }
    }
}

impl TryFrom<String> for MemoryBudget {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => out.write_str(NONE),
            Some(amount) => amount.fmt(out),
        }
    }
}

/// A budget, and who says it where that is not a file.
pub(super) struct Settled {
    pub(super) budget: MemoryBudget,
    pub(super) from: Option<&'static str>,
}

impl Settled {
    /// Returns how much it is; nothing is no limit.
    pub(super) fn amount(&self) -> Option<Amount> {
        self.budget.0
    }
}

/// Settles it.
pub(super) fn settle(
    options: &LimitOptions,
    config: &Config,
    environment: &Environment,
) -> Result<Settled, SettingsError> {
    let said: Option<MemoryBudget> = environment.parsed(VARIABLE, |text| text.parse().ok())?;
    let from = match (options.memory_budget, said) {
        (Some(_), _) => Some("--memory-budget"),
        (None, Some(_)) => Some(VARIABLE),
        (None, None) => None,
    };
    let budget = options.memory_budget.or(said).or(config.memory_budget).unwrap_or_default();
    Ok(Settled { budget, from })
}

/// Returns what to write in a variable instead of this.
pub(super) fn help(text: &str) -> String {
    match text.parse::<MemoryBudget>() {
        Err(error @ (SizeError::PartOfAByte { .. } | SizeError::TooLittle { .. })) => error.help(),
        _ => "a size, such as `4g`, a part of this machine's memory: `80%`, or `none`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    #[test]
    fn who_says_it_first_counts_and_none_is_said_too() {
        let settled = |typed: Option<&str>, variable: Option<&str>, file: Option<&str>| {
            let variables: Vec<(&'static str, &str)> =
                variable.into_iter().map(|value| (VARIABLE, value)).collect();
            let read = |text: &str| text.parse().expect("is read");
            let options = LimitOptions { memory_budget: typed.map(read), ..LimitOptions::default() };
            let config = Config { memory_budget: file.map(read), ..Config::default() };
            let settled = settle(&options, &config, &environment(&variables)).expect("settles");
            (settled.amount(), settled.from)
        };
        let bytes = |bytes| Some(Amount::Bytes(bytes));
        assert_eq!(settled(None, None, None), (None, None));
        assert_eq!(settled(None, None, Some("80%")), (Some(Amount::Percent(80)), None));
        assert_eq!(settled(None, Some("2g"), Some("80%")), (bytes(2 << 30), Some(VARIABLE)));
        assert_eq!(settled(Some("none"), Some("2g"), None), (None, Some("--memory-budget")));
        assert_eq!(settled(Some("1.5GB"), Some("2g"), None), (bytes(3 << 29), Some("--memory-budget")));
    }

    #[test]
    fn what_is_no_budget_is_told() {
        for text in ["", "0", "0%", "101%", "much", "None", "-1"] {
            assert!(text.parse::<MemoryBudget>().is_err(), "{text}");
        }
        for (text, word) in [("lots", "80%"), ("1.5", "whole number")] {
            let error =
                settle(&LimitOptions::default(), &Config::default(), &environment(&[(VARIABLE, text)]));
            let error = error.err().expect("is none");
            assert!(error.help().is_some_and(|help| help.contains(word)), "{:?}", error.help());
        }
        assert_eq!("80 %".parse::<MemoryBudget>().expect("is read").to_string(), "80%");
        assert_eq!(MemoryBudget::default().to_string(), "none");
    }
}
