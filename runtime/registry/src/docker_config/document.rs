//! The text of a configuration file, read and changed without losing what others wrote in it.
//!
//! In: JSON. Out: who keeps a host's credential, the credential itself, and the text with one entry of `auths` set or
//! removed. An object is kept as names and the texts of their values, in order, so everything that is not changed stays
//! as it was written: numbers of any length, unknown names, the order of all.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::entry;
use super::error::DockerConfigError;
use super::helper;
use super::host::{self, Habit};
use crate::Credential;

/// A file's content.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    members: Vec<Member<'a>>,
}

/// A name and the text of its value.
struct Member<'a> {
    name: String,
    value: Text<'a>,
}

enum Text<'a> {
    Kept(&'a str),
    New(Zeroizing<String>),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::New(text) => text,
        }
    }
}

/// What was removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// Something was there.
    pub(super) changed: bool,
    /// It was more than a word that a helper keeps it.
    pub(super) had_secret: bool,
}

const AUTHS: &str = "auths";

impl<'a> Document<'a> {
    /// Reads the text of a file. One without a word is as good as `{}`.
    pub(super) fn parse(file: &'a Path, text: &'a str) -> Result<Self, DockerConfigError> {
        let mut document = Self { file, text, members: Vec::new() };
        if !text.trim().is_empty() {
            document.members = document.object(text)?;
        }
        Ok(document)
    }

    /// Reads the members of an object that stands in the text.
    fn object(&self, json: &'a str) -> Result<Vec<Member<'a>>, DockerConfigError> {
        match serde_json::from_str::<Option<Object<'a>>>(json) {
            Ok(object) => Ok(object.map(|object| object.0).unwrap_or_default()),
            Err(error) if error.is_data() => {
                Err(self.malformed(json, "expected an object: { \"name\": value, … }"))
            }
            Err(error) => {
                // Said of the whole text: what stands in it was taken out of well-formed JSON.
                let text = error.to_string();
                let trouble = text.split(" at line ").next().unwrap_or_default().to_owned();
                Err(DockerConfigError::Malformed {
                    file: self.file.to_owned(),
                    line: error.line(),
                    column: error.column(),
                    trouble: format!("it is not JSON: {trouble}"),
                })
            }
        }
    }

    /// Says what is wrong with a part of the text, and where that begins. The part's own words may be secret.
    fn malformed(&self, part: &str, trouble: &str) -> DockerConfigError {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        DockerConfigError::Malformed {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: start - line_start + 1,
            trouble: trouble.to_owned(),
        }
    }

    /// Returns the text of a member's value, if it is there and stands in the file.
    fn member(&self, name: &str) -> Option<&'a str> {
        // Of two the last counts, as for most who read JSON.
        self.members.iter().rev().find(|member| member.name == name).and_then(|member| match &member.value {
            Text::Kept(text) => Some(*text),
            Text::New(_) => None,
        })
    }

    /// Returns the members of an object of the file; none if it is not there.
    fn members_of(&self, name: &str) -> Result<Vec<Member<'a>>, DockerConfigError> {
        self.member(name).map_or_else(|| Ok(Vec::new()), |text| self.object(text))
    }

    /// Returns the program that keeps a host's credential, if one does.
    pub(super) fn helper(&self, host: &str) -> Result<Option<String>, DockerConfigError> {
        let helpers = self.members_of("credHelpers")?;
        let named = helpers
            .iter()
            .filter_map(|member| Some((host::matches(&member.name, host, Habit::Podman)?, member)))
            .min_by_key(|(rank, _)| *rank);
        let text = match named {
            Some((_, member)) => member.value.as_str(),
            None => match self.member("credsStore") {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        let name: Option<String> = serde_json::from_str(text)
            .map_err(|_| self.malformed(text, "expected the name of a credential helper: a text"))?;
        match name {
            // An empty name is docker's way to say: in the file.
            Some(name) if !name.is_empty() => helper::program(&name)
                .map(Some)
                .ok_or_else(|| self.malformed(text, "this cannot be the name of a credential helper")),
            Some(_) | None => Ok(None),
        }
    }

    /// Returns the credential that the file itself holds for a host.
    pub(super) fn credential(
        &self,
        host: &str,
        habit: Habit,
    ) -> Result<Option<Credential>, DockerConfigError> {
        let entries = self.members_of(AUTHS)?;
        let mut found: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((host::matches(&entry.name, host, habit)?, entry)))
            .collect();
        found.sort_by_key(|(rank, _)| *rank);
        for (_, entry) in found {
            let text = entry.value.as_str();
            let decoded = entry::decode(text).map_err(|trouble| {
                self.malformed(text, &format!("the entry of `{}`: {trouble}", entry.name))
            })?;
            if decoded.is_some() {
                return Ok(decoded);
            }
        }
        Ok(None)
    }

    /// Sets the entry of a server.
    pub(super) fn set(&mut self, server: &str, json: Zeroizing<String>) -> Result<(), DockerConfigError> {
        let mut entries = self.members_of(AUTHS)?;
        let new = Member { name: server.to_owned(), value: Text::New(json) };
        match entries.iter_mut().rev().find(|entry| entry.name == server) {
            Some(entry) => *entry = new,
            None => entries.push(new),
        }
        self.replace(&entries);
        Ok(())
    }

    /// Removes all entries of a host.
    pub(super) fn remove(&mut self, host: &str) -> Result<Removed, DockerConfigError> {
        let mut entries = self.members_of(AUTHS)?;
        let mut removed = Removed { changed: false, had_secret: false };
        entries.retain(|entry| {
            let ours = host::matches(&entry.name, host, Habit::Docker).is_some();
            removed.changed |= ours;
            // What cannot be read is gone as well, and was something.
            removed.had_secret |= ours && !matches!(entry::decode(entry.value.as_str()), Ok(None));
            !ours
        });
        if removed.changed {
            self.replace(&entries);
        }
        Ok(removed)
    }

    fn replace(&mut self, entries: &[Member<'_>]) {
        let value = Text::New(render(entries, 1));
        match self.members.iter_mut().rev().find(|member| member.name == AUTHS) {
            Some(member) => member.value = value,
            None => self.members.push(Member { name: AUTHS.to_owned(), value }),
        }
    }

    /// Returns the text as it is now.
    pub(super) fn render(&self) -> Zeroizing<String> {
        let mut text = render(&self.members, 0);
        text.push('\n');
        text
    }
}

/// Writes an object at a depth, with tabs, as docker does.
fn render(members: &[Member<'_>], depth: usize) -> Zeroizing<String> {
    if members.is_empty() {
        return Zeroizing::new("{}".to_owned());
    }
    // Grown at once, so that no half of it is left behind in memory.
    let size: usize =
        members.iter().map(|member| 6 * member.name.len() + member.value.as_str().len() + 16).sum();
    let mut text = Zeroizing::new(String::with_capacity(size + 16));
    let tabs = "\t".repeat(depth);
    text.push('{');
    for (at, Member { name, value }) in members.iter().enumerate() {
        let name = serde_json::Value::from(name.as_str());
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        text.push_str(&format!("{tabs}\t{name}: "));
        text.push_str(value.as_str());
    }
    text.push('\n');
    text.push_str(&tabs);
    text.push('}');
    text
}

/// An object whose values are not looked into.
struct Object<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(Member { name, value: Text::Kept(value.get()) });
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
