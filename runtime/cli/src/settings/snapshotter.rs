//! How roots of steps are made of layers, where somebody says so.
//!
//! In: the user's [`Config`], the [`Environment`]. Out: a [`Snapshotter`]. The names are those of containerd and BuildKit.

use clap::ValueEnum;
use rb_engine::Snapshotter;
use serde::Deserialize;

use super::SettingsError;
use super::config::Config;
use crate::environment::Environment;

/// The variable that says so.
const VARIABLE: &str = "RB_SNAPSHOTTER";

/// Ways to lay layers over one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SnapshotterChoice {
    /// By overlayfs where it works, else by copies
    Auto,
    /// By overlayfs, or not at all
    Overlayfs,
    /// Each step works in a copy of its root
    Native,
}

impl SnapshotterChoice {
    /// Returns how it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlayfs => "overlayfs",
            Self::Native => "native",
        }
    }
}

impl From<SnapshotterChoice> for Snapshotter {
    fn from(choice: SnapshotterChoice) -> Self {
        match choice {
            SnapshotterChoice::Auto => Self::Auto,
            SnapshotterChoice::Overlayfs => Self::Overlayfs,
            SnapshotterChoice::Native => Self::Native,
        }
    }
}

/// Returns the way that is asked for, and the variable that asks for it, if it was not the file.
pub(crate) fn settle(
    config: &Config,
    environment: &Environment,
) -> Result<(SnapshotterChoice, Option<&'static str>), SettingsError> {
    let said = environment.parsed(VARIABLE, |text| SnapshotterChoice::from_str(text, false).ok())?;
    Ok(match said {
        Some(said) => (said, Some(VARIABLE)),
        None => (config.snapshotter.unwrap_or(SnapshotterChoice::Auto), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn a_variable_counts_before_the_file_and_both_before_what_is_found_out() {
        let settled = |file: Option<SnapshotterChoice>, variable: &'static str| {
            let config = Config { snapshotter: file, ..Config::default() };
            let said = [("HOME", "/h"), (VARIABLE, variable)];
            let said = if variable.is_empty() { &said[..1] } else { &said[..] };
            settle(&config, &environment(said)).map(|(choice, _)| choice.name())
        };
        assert_eq!(settled(None, "").expect("nobody says"), "auto");
        assert_eq!(settled(Some(SnapshotterChoice::Native), "").expect("the file says"), "native");
        assert_eq!(settled(Some(SnapshotterChoice::Native), "overlayfs").expect("both say"), "overlayfs");
        let error = settled(None, "zfs").expect_err("there is none of that name");
        assert!(error.help().is_some_and(|help| help.contains("native")), "{error}");
    }
}
