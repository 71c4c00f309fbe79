//! How much the state directory may hold: `[cache]` in `config.toml`, and `RB_CACHE_MAX_SIZE`.

use std::time::Duration;

use rb_store::{Amount, Bounds, Kind, Policy};
use serde::Deserialize;

use super::SettingsError;
use crate::environment::Environment;
use crate::sizes::{self, SizeError};

/// What a file says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct CacheSpace {
    max_size: Option<Size>,
    min_free: Option<Size>,
    reserved: Option<Size>,
    max_age: Option<Age>,
    layers: Narrower,
    blobs: Narrower,
    mounts: Narrower,
    git: Narrower,
    logs: Narrower,
}

/// What it says of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Narrower {
    max_size: Option<Size>,
    max_age: Option<Age>,
}

/// `20GB`, `30%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Size(Amount);

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        sizes::disk(&text).map(Self)
    }
}

/// `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Age(Duration);

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let age = humantime::parse_duration(&text);
        age.map(Self).map_err(|_| format!("`{text}` is no time, such as `30d` or `12h`"))
    }
}

impl CacheSpace {
    /// Fills what is not said here with what is said below.
    pub(super) fn or(self, below: Self) -> Self {
        Self {
            max_size: self.max_size.or(below.max_size),
            min_free: self.min_free.or(below.min_free),
            reserved: self.reserved.or(below.reserved),
            max_age: self.max_age.or(below.max_age),
            layers: self.layers.or(below.layers),
            blobs: self.blobs.or(below.blobs),
            mounts: self.mounts.or(below.mounts),
            git: self.git.or(below.git),
            logs: self.logs.or(below.logs),
        }
    }

    fn kinds(&self) -> [(Kind, Narrower); 5] {
        [
            (Kind::Layers, self.layers),
            (Kind::Blobs, self.blobs),
            (Kind::Mounts, self.mounts),
            (Kind::Git, self.git),
            (Kind::Logs, self.logs),
        ]
    }
}

impl Narrower {
    fn or(self, below: Self) -> Self {
        Self { max_size: self.max_size.or(below.max_size), max_age: self.max_age.or(below.max_age) }
    }

    fn is_said(self) -> bool {
        self != Self::default()
    }
}

/// Settles it.
pub(super) fn settle(said: &CacheSpace, environment: &Environment) -> Result<Policy, SettingsError> {
    let usual = Policy::default();
    let size = |said: Option<Size>| said.map(|Size(amount)| amount);
    let age = |said: Option<Age>| said.map(|Age(age)| age);
    let named = environment.parsed("RB_CACHE_MAX_SIZE", |text| sizes::disk(text).ok())?;
    let kinds = said.kinds().into_iter().filter(|(_, narrower)| narrower.is_said());
    let bounds = |one: Narrower| Bounds { max_size: size(one.max_size), max_age: age(one.max_age) };
    Ok(Policy {
        max_size: named.or(size(said.max_size)).unwrap_or(usual.max_size),
        min_free: size(said.min_free).unwrap_or(usual.min_free),
        reserved: size(said.reserved).unwrap_or(usual.reserved),
        max_age: age(said.max_age),
        kinds: kinds.map(|(kind, narrower)| (kind, bounds(narrower))).collect(),
    })
}

/// A key, its value, and the variable that says it.
type InForce = (&'static str, String, Option<&'static str>);

/// Returns what is in force: the three sizes, and what else a file says.
pub(super) fn in_force(said: &CacheSpace, environment: &Environment) -> Result<Vec<InForce>, SettingsError> {
    let policy = settle(said, environment)?;
    let variable = environment.get("RB_CACHE_MAX_SIZE").map(|(name, _)| name);
    let mut all = vec![("max_size", policy.max_size.to_string(), variable)];
    all.extend(said.min_free.map(|Size(size)| ("min_free", size.to_string(), None)));
    all.extend(said.reserved.map(|Size(size)| ("reserved", size.to_string(), None)));
    all.extend(said.max_age.map(|Age(age)| ("max_age", humantime::format_duration(age).to_string(), None)));
    for (kind, Narrower { max_size, max_age }) in said.kinds() {
        let size = max_size.map(|Size(size)| format!("max_size {size}"));
        let age = max_age.map(|Age(age)| format!("max_age {}", humantime::format_duration(age)));
        let text: Vec<String> = size.into_iter().chain(age).collect();
        if !text.is_empty() {
            all.push((kind.name(), text.join(", "), None));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn files_say_what_is_kept_and_the_variable_wins() {
        let text = "max_size = \"20GB\"\nmounts = { max_age = \"7d\" }\n";
        let own: CacheSpace = toml::from_str(text).expect("is read");
        let machine: CacheSpace =
            toml::from_str("max_size = \"5GB\"\nmin_free = \"1%\"\nmounts = { max_size = \"1GB\" }")
                .expect("is read");
        let said = own.or(machine);
        let policy = settle(&said, &environment(&[])).expect("settles");
        let week = Duration::from_secs(7 * 24 * 3600);
        let mounts = Bounds { max_size: Some(Amount::Bytes(1_000_000_000)), max_age: Some(week) };
        let expected = Policy {
            max_size: Amount::Bytes(20_000_000_000),
            min_free: Amount::Percent(1),
            kinds: [(Kind::Mounts, mounts)].into(),
            ..Policy::default()
        };
        assert_eq!(policy, expected);
        let around = environment(&[("RB_CACHE_MAX_SIZE", "30%")]);
        assert_eq!(settle(&said, &around).expect("settles").max_size, Amount::Percent(30));
        let shown = in_force(&said, &around).expect("settles");
        assert_eq!(shown.first(), Some(&("max_size", "30%".to_owned(), Some("RB_CACHE_MAX_SIZE"))));
        assert!(settle(&said, &environment(&[("RB_CACHE_MAX_SIZE", "much")])).is_err());
        let part = settle(&said, &environment(&[("RB_CACHE_MAX_SIZE", "1.5")])).expect_err("is no byte");
        assert!(part.help().is_some_and(|help| help.contains("write `1.5GB`")), "{:?}", part.help());
        let error = toml::from_str::<CacheSpace>("max_size = \"1.5\"").expect_err("is no byte");
        assert!(error.to_string().contains("it lacks a unit, such as in `1.5GB`"), "{error}");
        for text in
            ["max_size = \"big\"", "mounts = { max_size = \"0.5\" }", "max_age = \"old\"", "max_size = 7"]
        {
            assert!(toml::from_str::<CacheSpace>(text).is_err(), "{text}");
        }
    }
}
