//! Profiles of `~/.aws/credentials` and `~/.aws/config`, in the place of variables of the environment.
//!
//! In: the environment and these files, where they are; the profile is AWS_PROFILE, or `default`. Out: keys and a region. Variables
//! come first, and a key of theirs is not mixed with what is beside another in a file. Files are read only once a value is asked for that
//! no variable has. Roles, single sign-on and programs that give keys are not asked: a profile that has nothing else says so.
//! The format is a few lines here: sections, `key = value`, and nested values in deeper lines, which readers of INI files in general
//! would take for keys of the section.
//! **Invariant:** what is read is bounded; no key is in an error.
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Variables;
use crate::world::read_regular;

/// Largest file.
const MOST_BYTES: u64 = 1 << 20;

const ID: &str = "AWS_ACCESS_KEY_ID";
const KEY: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const REGION: &str = "AWS_REGION";

/// What a profile has that is not asked for keys here.
const ELSEWHERE: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// The environment with a profile behind it.
pub(crate) struct Profile<'a> {
    variables: Variables<'a>,
    home: Option<&'a Path>,
    read: OnceCell<Found>,
}

/// What was found in files.
#[derive(Default)]
struct Found {
    values: BTreeMap<String, String>,
    /// Why there are no keys, where something is there.
    why_not: Option<String>,
}

impl<'a> Profile<'a> {
    pub(crate) fn new(variables: Variables<'a>, home: Option<&'a Path>) -> Self {
        Self { variables, home, read: OnceCell::new() }
    }

    /// Returns a variable, or what the profile has in its place.
    pub(crate) fn variable(&self, name: &'static str) -> Option<String> {
        let own = (self.variables)(name);
        if own.is_some() {
            return own;
        }
        let in_profile = match name {
            ID | KEY | TOKEN if [ID, KEY].iter().any(|name| (self.variables)(name).is_some()) => return None,
            ID => "aws_access_key_id",
            KEY => "aws_secret_access_key",
            TOKEN => "aws_session_token",
            REGION => "region",
            _ => return None,
        };
        self.found().values.get(in_profile).cloned()
    }

    /// Says why the profile gives no keys, where there is one or one is named.
    pub(crate) fn unusable(&self) -> Option<String> {
        self.found().why_not.clone()
    }

    fn found(&self) -> &Found {
        self.read.get_or_init(|| self.read_files())
    }

    fn path(&self, variable: &'static str, name: &str) -> Option<PathBuf> {
        let named = (self.variables)(variable).map(PathBuf::from);
        named.or_else(|| Some(self.home?.join(".aws").join(name)))
    }

    fn read_files(&self) -> Found {
        let named = (self.variables)("AWS_PROFILE");
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        let mut found = Found::default();
        // What credentials say comes before what the configuration says.
        let files = [
            (self.path("AWS_CONFIG_FILE", "config"), true),
            (self.path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false),
        ];
        let mut is_there = false;
        for (path, is_config) in files {
            let Some(path) = path.filter(|path| path.exists()) else { continue };
            let text = match read_regular(&path, MOST_BYTES) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => {
                    found.why_not = Some(format!("`{}` {}", path.display(), rb_diag::chain(&error)));
                    continue;
                }
            };
            if let Some(mut values) = section(&text, &name, is_config) {
                is_there = true;
                // A key and what is beside it come from one file.
                if values.contains_key("aws_access_key_id") {
                    found.values.retain(|key, _| !key.starts_with("aws_"));
                }
                found.values.append(&mut values);
            }
        }
        let has_keys =
            ["aws_access_key_id", "aws_secret_access_key"].iter().all(|key| found.values.contains_key(*key));
        if found.why_not.is_none() && !has_keys {
            let elsewhere = ELSEWHERE.iter().find(|key| found.values.contains_key(**key));
            found.why_not = match (is_there, elsewhere) {
                (true, Some(key)) => Some(format!(
                    "the profile `{name}` has {key}, which is not asked here; `aws configure export-credentials --format env` gives keys"
                )),
                (false, _) if named.is_some() => Some(format!("there is no profile `{name}` (AWS_PROFILE)")),
                _ => None,
            };
        }
        found
    }
}

/// Returns the keys of a profile; nothing where it is not there. In the configuration all but `default` are called `profile NAME`.
fn section(text: &str, name: &str, is_config: bool) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut is_inside = false;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let title = title.trim();
            let own = match title.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])) {
                Some(rest) if is_config => rest.trim(),
                Some(_) => "",
                None if is_config && title != "default" => "",
                None => title,
            };
            is_inside = own == name;
            if is_inside {
                found.get_or_insert_default();
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_inside && !is_nested) else { continue };
        let value =
            value.split(" #").next().unwrap_or_default().split(" ;").next().unwrap_or_default().trim();
        if !value.is_empty() {
            found.get_or_insert_default().insert(key.trim().to_lowercase(), value.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = a # mine\n\n\
        [ci]\naws_access_key_id=C\naws_secret_access_key=c\naws_session_token=t\n";
    const CONFIG: &str = "[default]\nregion = eu-1\ns3 =\n  region = no\n\
        [profile ci]\nregion=us-1\naws_access_key_id=X\naws_session_token=x\n\
        [profile role]\nrole_arn = arn:aws:iam::1:role/x\nregion=us-2\n[ci]\nregion=no\n";

    /// Returns id, key, token and region, and why there are none.
    fn read(given: &[(&'static str, &str)]) -> ([Option<String>; 4], Option<String>) {
        let home = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(home.path().join(".aws")).expect("makes");
        std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).expect("writes");
        std::fs::write(home.path().join(".aws/config"), CONFIG).expect("writes");
        let variables = |name: &'static str| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let profile = Profile::new(&variables, Some(home.path()));
        ([ID, KEY, TOKEN, REGION].map(|name| profile.variable(name)), profile.unusable())
    }

    fn some(texts: [&str; 4]) -> [Option<String>; 4] {
        texts.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    #[test]
    fn a_profile_stands_for_variables() {
        assert_eq!(read(&[]), (some(["A", "a", "", "eu-1"]), None));
        assert_eq!(read(&[("AWS_PROFILE", "ci")]), (some(["C", "c", "t", "us-1"]), None));
        assert_eq!(read(&[(REGION, "r")]).0, some(["A", "a", "", "r"]));
        // Keys of the environment are not mixed with others.
        assert_eq!(read(&[(ID, "E"), (KEY, "e"), ("AWS_PROFILE", "ci")]).0, some(["E", "e", "", "us-1"]));
        assert_eq!(read(&[(ID, "E")]).0, some(["E", "", "", "eu-1"]));
    }

    #[test]
    fn what_gives_no_keys_says_why() {
        let (values, why) = read(&[("AWS_PROFILE", "role")]);
        assert_eq!(values, some(["", "", "", "us-2"]));
        assert!(why.is_some_and(|why| why.contains("`role` has role_arn")));
        let (_, why) = read(&[("AWS_PROFILE", "nobody")]);
        assert_eq!(why.as_deref(), Some("there is no profile `nobody` (AWS_PROFILE)"));
        let nothing = Profile::new(&|_| None, None);
        assert_eq!((nothing.variable(ID), nothing.unusable()), (None, None));
    }
}
