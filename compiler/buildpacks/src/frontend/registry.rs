//! Registries of buildpacks: which package an id stands for.
//!
//! In: the files of a registry, a repository of them, and an id. Out: the name of an image, by its digest. A file holds a line of
//! JSON for each version; of versions that are not named the highest counts, as semantic versions go.
//! Source: registry-index and pack's client of it.

use rb_frontend::Gateway;
use rb_llb::State;
use rb_oci::Reference;
use serde::Deserialize;

use super::error::FrontendError;
use super::gate::{Folder, Gate};

/// The longest name that is looked for.
const NAME_BYTES: usize = 253;

/// A line of a registry.
#[derive(Debug, Deserialize)]
struct Entry {
    version: String,
    #[serde(default)]
    yanked: bool,
    #[serde(default)]
    addr: String,
}

/// What a registry says of a buildpack.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its image, by its digest.
    pub image: String,
    /// What its user should know.
    pub warning: Option<String>,
}

/// Asks a registry, whose files are `index`, for the image of a buildpack; of the newest version if none is said.
pub async fn in_registry(
    gateway: &dyn Gateway,
    index: &State,
    id: &str,
    version: Option<&str>,
) -> Result<Registered, FrontendError> {
    registered(Gate(gateway), index, id, version).await
}

/// Returns the image of a buildpack.
pub(super) async fn registered(
    gate: Gate<'_>,
    index: &State,
    id: &str,
    version: Option<&str>,
) -> Result<Registered, FrontendError> {
    let path = place(id).ok_or_else(|| {
        FrontendError::Choice(format!("`{id}` is no id of a registry: write `NAMESPACE/NAME@VERSION`"))
    })?;
    let folder = Folder::new(index.clone(), "/");
    if !gate.exists(&folder, &path).await? {
        return Err(FrontendError::Choice(format!("the registry has no buildpack `{id}`")));
    }
    let text = gate.read(&folder, &path).await?;
    chosen(&String::from_utf8_lossy(&text), id, version).map_err(FrontendError::Choice)
}

/// Returns the path of the file that tells of an id.
fn place(id: &str) -> Option<String> {
    let (namespace, name) = id.split_once('/')?;
    let is_plain = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !part.is_empty() && part.len() <= NAME_BYTES && part.bytes().all(fits)
    };
    if !is_plain(namespace) || !is_plain(name) {
        return None;
    }
    let folder = match name.len() {
        length @ 1..=2 => length.to_string(),
        3 => format!("3/{}", &name[..2]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    };
    // `..` is made of letters that a name may have.
    let is_safe = folder.split('/').all(|part| ![".", ".."].contains(&part));
    is_safe.then(|| format!("{folder}/{namespace}_{name}"))
}

/// Returns the image of a version.
fn chosen(text: &str, id: &str, version: Option<&str>) -> Result<Registered, String> {
    let mut entries = Vec::new();
    // A line that cannot be read says nothing of the others; it counts where none of them serves.
    let mut unread = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match serde_json::from_str::<Entry>(line) {
            Ok(entry) => entries.push(entry),
            Err(error) => unread = Some(error),
        }
    }
    let found = match version {
        Some(version) => entries.iter().rev().find(|entry| entry.version == version),
        None => {
            let usable = entries.iter().filter(|entry| !entry.yanked);
            usable.max_by(|left, right| order(&left.version).cmp(&order(&right.version)))
        }
    };
    let Some(entry) = found else {
        let yanked: Vec<&str> = entries.iter().map(|entry| entry.version.as_str()).collect();
        if version.is_none() && !yanked.is_empty() {
            let yanked = yanked.join(", ");
            return Err(format!(
                "all versions of buildpack `{id}` in the registry are yanked ({yanked}); one that is named is taken all the same"
            ));
        }
        let version = version.map(|version| format!("version {version} of ")).unwrap_or_default();
        let unread =
            unread.map(|error| format!("; a line of it cannot be read: {error}")).unwrap_or_default();
        return Err(format!("the registry has no {version}buildpack `{id}`{unread}"));
    };
    let pinned = entry.addr.parse::<Reference>().ok().filter(|address| address.digest().is_some());
    match pinned {
        Some(_) => {
            let warning =
                entry.yanked.then(|| format!("buildpack `{id}@{}` is yanked in its registry", entry.version));
            Ok(Registered { image: entry.addr.clone(), warning })
        }
        None => Err(format!("the registry names no image by its digest for `{id}@{}`", entry.version)),
    }
}

/// Returns what versions are ordered by: numbers as such; one without a suffix stands above those with one.
fn order(version: &str) -> (Vec<u64>, bool, Vec<(u64, String)>) {
    let version = version.split('+').next().unwrap_or_default();
    let (numbers, suffix) = version.split_once('-').map_or((version, None), |(one, two)| (one, Some(two)));
    let parts = suffix.unwrap_or_default().split('.').map(|part| match part.parse() {
        Ok(number) => (number, String::new()),
        Err(_) => (u64::MAX, part.to_owned()),
    });
    let numbers = numbers.split('.').map(|part| part.parse().unwrap_or_default());
    (numbers.collect(), suffix.is_none(), parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_id_stands() {
        for (id, path) in [
            ("me/a", "1/me_a"),
            ("me/ab", "2/me_ab"),
            ("me/abc", "3/ab/me_abc"),
            ("me/..", "2/me_.."),
            ("me/node-js", "no/de/me_node-js"),
        ] {
            assert_eq!(place(id).as_deref(), Some(path));
        }
        for id in ["a", "a/b/c", "A/b", "a/", "/b", "a/b c", "a/../x", "a/....", "a/..x."] {
            assert!(place(id).is_none(), "{id}");
        }
    }

    #[test]
    fn which_version_counts() {
        let digest = rb_oci::Digest::of("x");
        let line = |version: &str, yanked: bool| {
            format!(
                r#"{{"ns":"a","name":"b","version":"{version}","yanked":{yanked},"addr":"example.com/b-{version}@{digest}"}}"#
            )
        };
        let lines = [
            line("0.9.0", false),
            line("0.10.0", false),
            line("0.10.0-rc.2", false),
            line("0.10.0-rc.10", false),
            line("1.0.0", true),
            r#"{"version":"0.1.0","addr":"example.com/b:latest"}"#.to_owned(),
        ];
        let text = lines.join("\n");
        let image = |version: &str, warning: Option<&str>| {
            let image = format!("example.com/b-{version}@{digest}");
            Ok(Registered { image, warning: warning.map(ToOwned::to_owned) })
        };
        assert_eq!(chosen(&text, "a/b", None), image("0.10.0", None));
        let warning = "buildpack `a/b@1.0.0` is yanked in its registry";
        assert_eq!(chosen(&text, "a/b", Some("1.0.0")), image("1.0.0", Some(warning)));
        let error = chosen(&lines[4], "a/b", None).expect_err("all are yanked");
        assert!(
            error.starts_with("all versions of buildpack `a/b` in the registry are yanked (1.0.0);"),
            "{error}"
        );
        // One bad line hides no other.
        let bad = format!("{{\n{text}\nnothing\n");
        assert_eq!(chosen(&bad, "a/b", None), image("0.10.0", None));
        let error = chosen(&bad, "a/b", Some("3")).expect_err("it is not there");
        assert!(error.contains("no version 3 of buildpack `a/b`; a line of it cannot be read"), "{error}");
        for version in ["0.1.0", "3"] {
            chosen(&text, "a/b", Some(version)).expect_err(version);
        }
        chosen("{", "a/b", None).expect_err("no JSON");
        chosen("", "a/b", None).expect_err("nothing there");
        assert!(order("1.0.0-rc.2") < order("1.0.0-rc.10") && order("1.0.0-rc.10") < order("1.0.0"));
    }
}
