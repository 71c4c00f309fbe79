//! Platforms as texts of a Dockerfile, and the arguments that stand for them.
//!
//! `linux` and `arm64` alone are platforms, too: what is missing is taken from the machine that steps run on.
//! Source: containerd's `platforms.Parse`; BuildKit's predefined arguments.

use rb_oci::{Platform, PlatformError};

use crate::environment::Environment;

/// Operating systems that Go knows.
const SYSTEMS: [&str; 15] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "windows",
];

/// Reads a platform; one word alone is a system or an architecture, and the rest is the host's.
pub fn parse(text: &str, host: &Platform) -> Result<Platform, PlatformError> {
    match text {
        single if single.contains('/') || single.is_empty() => single.parse(),
        system if SYSTEMS.contains(&system.to_lowercase().as_str()) => {
            let variant = host.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
            format!("{system}/{}{variant}", host.architecture).parse()
        }
        architecture => format!("{}/{architecture}", host.os).parse(),
    }
}

/// Sets the arguments that every build has, unless the user gives them another value.
pub(crate) fn predefined(
    build: &Platform,
    target: &Platform,
    stage: &str,
    given: impl Fn(&str) -> Option<String>,
) -> Environment {
    let mut variables = Environment::default();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", if stage.is_empty() { "default".to_owned() } else { stage.to_owned() }),
    ] {
        variables.set(name, given(name).unwrap_or(value));
    }
    variables
}

/// Says what a step's platform is called before its name: `linux/amd64`, or `linux/amd64->arm64` where the stage builds
/// for another one, as its variables say.
pub(crate) fn shown(base: &Platform, variables: &Environment) -> String {
    match target_of(variables, base) {
        Some(target) if target.os != base.os => format!("{base}->{target}"),
        Some(target) if target.architecture != base.architecture => {
            let variant = target.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
            format!("{base}->{}{variant}", target.architecture)
        }
        Some(_) | None => base.to_string(),
    }
}

/// Returns the platform that `TARGET…` variables name: the whole of it, or parts of it over `base`.
fn target_of(variables: &Environment, base: &Platform) -> Option<Platform> {
    let whole = variables.value("TARGETPLATFORM").and_then(|text| parse(text, base).ok());
    whole.or_else(|| {
        let part = |name| variables.value(name);
        let (system, architecture) = (part("TARGETOS"), part("TARGETARCH"));
        if system.is_none() && architecture.is_none() && part("TARGETVARIANT").is_none() {
            return None;
        }
        let filled =
            |part: Option<&str>, base: &str| part.filter(|part| !part.is_empty()).unwrap_or(base).to_owned();
        let (os, architecture) = (filled(system, &base.os), filled(architecture, &base.architecture));
        let variant = part("TARGETVARIANT").filter(|variant| !variant.is_empty());
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{os}/{architecture}{variant}").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect(text)
    }

    #[test]
    fn one_word_is_completed_by_the_host() {
        let host = platform("linux/arm/v6");
        for (text, expected) in
            [("arm64", "linux/arm64"), ("linux", "linux/arm/v6"), ("Windows/amd64", "windows/amd64")]
        {
            assert_eq!(parse(text, &host).expect(text).to_string(), expected);
        }
        assert!(parse("", &host).is_err() && parse("a b", &host).is_err());
    }

    #[test]
    fn what_is_given_wins_over_what_is_predefined() {
        let (build, target) = (platform("linux/amd64"), platform("linux/arm/v7"));
        let variables = predefined(&build, &target, "", |name| (name == "BUILDOS").then(|| "x".to_owned()));
        let value = |name: &str| variables.value(name).unwrap_or("unset").to_owned();
        assert_eq!(value("TARGETPLATFORM"), "linux/arm/v7");
        assert_eq!(value("TARGETVARIANT"), "v7");
        assert_eq!(value("BUILDOS"), "x");
        assert_eq!(value("TARGETSTAGE"), "default");
    }

    #[test]
    fn cross_builds_are_shown() {
        let base = platform("linux/amd64");
        let with = |pairs: &[(&str, &str)]| {
            let mut variables = Environment::default();
            pairs.iter().for_each(|(name, value)| variables.set(name, *value));
            shown(&base, &variables)
        };
        assert_eq!(with(&[]), "linux/amd64");
        assert_eq!(with(&[("TARGETARCH", "arm64")]), "linux/amd64->arm64");
        assert_eq!(with(&[("TARGETPLATFORM", "linux/arm/v7")]), "linux/amd64->arm/v7");
        assert_eq!(with(&[("TARGETOS", "windows")]), "linux/amd64->windows/amd64");
        assert_eq!(with(&[("TARGETOS", "linux")]), "linux/amd64");
    }
}
