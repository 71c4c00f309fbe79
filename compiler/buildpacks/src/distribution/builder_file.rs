//! `builder.toml`.
//!
//! In: its text. Out: [`BuilderFile`], with what old files say by `[stack]` taken in; or all that is wrong in it, with places.
//! Source: pack's builder configuration.

use serde::Deserialize;

use super::document::{Fault, INFO, Keys, TARGETS, read};
use crate::{Order, OrderElement, System, Target};

/// What a builder is to be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BuilderFile {
    /// One sentence.
    pub description: String,
    /// Its buildpacks.
    pub buildpacks: Vec<ModuleSource>,
    /// Its extensions.
    pub extensions: Vec<ModuleSource>,
    /// What it tries.
    pub order: Order,
    /// What it tries of extensions.
    pub order_extensions: Order,
    /// What it adds to each group.
    pub system: System,
    /// Its bases, in the words of old files.
    pub stack: BuilderStack,
    /// The image that builds run in.
    pub build: BuilderBuild,
    /// Bases of apps.
    pub run: BuilderRun,
    /// Where the lifecycle is from.
    pub lifecycle: LifecycleSource,
    /// Systems to make it for.
    pub targets: Vec<Target>,
}

/// A module, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ModuleSource {
    /// Its id, if it is to have a certain one.
    pub id: String,
    /// Its version, likewise.
    pub version: String,
    /// Where it is.
    pub uri: String,
    /// Or in which image.
    pub image: String,
}

/// `[stack]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BuilderStack {
    /// Its id.
    pub id: String,
    /// The image that builds run in.
    pub build_image: String,
    /// The base of apps.
    pub run_image: String,
    /// Where else that is.
    pub run_image_mirrors: Option<Vec<String>>,
}

/// `[build]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BuilderBuild {
    /// The image that builds run in.
    pub image: String,
    /// Variables of all builds.
    pub env: Vec<ConfigVariable>,
}

/// A variable of all builds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfigVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What becomes of a value that is there.
    pub suffix: VariableSuffix,
    /// What stands between both.
    pub delim: String,
}

/// What becomes of a value that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableSuffix {
    /// What the platform says.
    #[default]
    #[serde(rename = "")]
    None,
    /// It stays.
    Default,
    /// It goes.
    Override,
    /// This comes behind it.
    Append,
    /// This comes before it.
    Prepend,
}

/// `[run]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BuilderRun {
    /// The first is the default.
    pub images: Vec<RunImage>,
}

/// A base of apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RunImage {
    /// Its name.
    pub image: String,
    /// Where else it is.
    pub mirrors: Option<Vec<String>>,
}

/// `[lifecycle]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LifecycleSource {
    /// Where it is.
    pub uri: String,
    /// Or which release.
    pub version: String,
}

const MODULES: Keys = Keys(&[
    INFO[0],
    INFO[1],
    INFO[2],
    INFO[3],
    INFO[4],
    INFO[5],
    INFO[6],
    INFO[7],
    INFO[8],
    ("uri", None),
    ("image", None),
]);
const REFERENCE: Keys = Keys(&[
    INFO[0],
    INFO[1],
    INFO[2],
    INFO[3],
    INFO[4],
    INFO[5],
    INFO[6],
    INFO[7],
    INFO[8],
    ("optional", None),
]);
const ORDER: Keys = Keys(&[("group", Some(&REFERENCE))]);
const SYSTEM_SIDE: Keys = Keys(&[("buildpacks", Some(&REFERENCE))]);
const KEYS: Keys = Keys(&[
    ("description", None),
    ("buildpacks", Some(&MODULES)),
    ("extensions", Some(&MODULES)),
    ("order", Some(&ORDER)),
    ("order-extensions", Some(&ORDER)),
    ("system", Some(&Keys(&[("pre", Some(&SYSTEM_SIDE)), ("post", Some(&SYSTEM_SIDE))]))),
    (
        "stack",
        Some(&Keys(&[("id", None), ("build-image", None), ("run-image", None), ("run-image-mirrors", None)])),
    ),
    (
        "build",
        Some(&Keys(&[
            ("image", None),
            (
                "env",
                Some(&Keys(&[
                    ("name", None),
                    ("value", None),
                    ("suffix", None),
                    ("delim", None),
                    ("exec-env", None),
                ])),
            ),
        ])),
    ),
    ("run", Some(&Keys(&[("images", Some(&Keys(&[("image", None), ("mirrors", None)])))]))),
    ("lifecycle", Some(&Keys(&[("uri", None), ("version", None)]))),
    ("targets", Some(&TARGETS)),
]);

impl BuilderFile {
    /// Reads `builder.toml`.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut file: Self = read("builder.toml", text, &KEYS)?;
        file.take_stack().map_err(|message| vec![whole(message)])?;
        file.check().map_err(|message| vec![whole(&message)])?;
        Ok(file)
    }

    /// Old files name their images in `[stack]`; both forms may stand side by side if they say the same.
    fn take_stack(&mut self) -> Result<(), &'static str> {
        let Self { stack, build, run, .. } = self;
        match (build.image.as_str(), stack.build_image.as_str()) {
            ("", "") => return Err("`image` is missing in [build]: the image that builds run in"),
            ("", old) => build.image = old.to_owned(),
            (new, old) if !old.is_empty() && new != old => {
                return Err("[build] and [stack] name different images to build in");
            }
            (new, _) => stack.build_image = new.to_owned(),
        }
        match run.images.first() {
            None if stack.run_image.is_empty() || stack.id.is_empty() => {
                return Err("`[[run.images]]` is missing: the base of apps");
            }
            None => {
                let (image, mirrors) = (stack.run_image.clone(), stack.run_image_mirrors.clone());
                run.images.push(RunImage { image, mirrors });
            }
            Some(_) if run.images.iter().any(|one| one.image.is_empty()) => {
                return Err("`image` is missing in [[run.images]]");
            }
            // What [stack] says of the base counts for nothing beside [run].
            Some(first) => {
                stack.run_image.clone_from(&first.image);
                stack.run_image_mirrors.clone_from(&first.mirrors);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        for source in self.buildpacks.iter().chain(&self.extensions) {
            match (source.uri.is_empty(), source.image.is_empty()) {
                (true, true) => {
                    let id = if source.id.is_empty() { "without an id" } else { source.id.as_str() };
                    return Err(format!("module `{id}` has neither `uri` nor `image`"));
                }
                (false, false) => return Err(format!("module `{}` has both `uri` and `image`", source.uri)),
                _ => {}
            }
        }
        if !self.lifecycle.uri.is_empty() && !self.lifecycle.version.is_empty() {
            return Err("[lifecycle] has both `uri` and `version`".to_owned());
        }
        for variable in &self.build.env {
            let ConfigVariable { name, suffix, delim, .. } = variable;
            if name.is_empty() || name.contains(['/', '=', '\0', '.']) {
                return Err(format!("`{name}` cannot be the name of a variable in [[build.env]]"));
            }
            if matches!(suffix, VariableSuffix::Append | VariableSuffix::Prepend) && delim.is_empty() {
                return Err(format!(
                    "`{name}` in [[build.env]] is put beside what is there, and needs a `delim`"
                ));
            }
        }
        // Extensions are optional anyway.
        let groups = self.order_extensions.iter_mut().flat_map(|group| &mut group.group);
        groups.for_each(|one: &mut OrderElement| one.optional = false);
        Ok(())
    }
}

/// A fault of no place.
pub(super) fn whole(message: &str) -> Fault {
    Fault { range: 0..0, message: message.to_owned(), help: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[build]\nimage='b'\n[[run.images]]\nimage='r'\n";

    fn messages(text: &str) -> Vec<(usize, String, Option<String>)> {
        let faults = BuilderFile::parse(text).expect_err("is wrong");
        faults.into_iter().map(|fault| (fault.range.start, fault.message, fault.help)).collect()
    }

    #[test]
    fn old_and_new_names() {
        let file = BuilderFile::parse(LEAST).expect("reads");
        assert_eq!((file.build.image.as_str(), file.stack.run_image.as_str()), ("b", "r"));
        let old = "[stack]\nid='s'\nbuild-image='b'\nrun-image='r'\nrun-image-mirrors=['m']\n";
        let file = BuilderFile::parse(old).expect("reads");
        assert_eq!(
            (file.build.image.as_str(), file.run.images[0].mirrors.as_deref()),
            ("b", Some(&["m".to_owned()][..]))
        );
    }

    #[test]
    fn unknown_keys_have_their_places() {
        let text = format!("{LEAST}[[order]]\n[[order.group]]\nid='a'\nverison='1'\n[lifecycl]\nuri='x'\n");
        let found = messages(&text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, text.find("verison").expect("there"));
        assert_eq!(found[0].1, "there is no key `verison` in [order.group]");
        assert_eq!(found[0].2.as_deref(), Some("did you mean `version`?"));
        assert_eq!(found[1].2.as_deref(), Some("did you mean `lifecycle`?"));
        assert_eq!(messages("a = = 1")[0].0, 4);
        assert!(messages("description=1\n[build]\nimage='b'")[0].1.contains("string"));
    }

    #[test]
    fn what_is_missing_or_said_twice() {
        for (text, word) in [
            ("", "[build]"),
            ("[build]\nimage='b'", "run.images"),
            ("[build]\nimage='b'\n[stack]\nbuild-image='c'", "different"),
            ("[build]\nimage='b'\n[[run.images]]\nmirrors=['m']", "`image`"),
        ] {
            assert!(messages(text)[0].1.contains(word), "{text}: {:?}", messages(text));
        }
        for (more, word) in [
            ("[[buildpacks]]\nid='a'", "neither"),
            ("[[buildpacks]]\nuri='a'\nimage='b'", "both"),
            ("[lifecycle]\nuri='a'\nversion='1'", "both"),
            ("[[build.env]]\nname='A'\nsuffix='append'", "delim"),
            ("[[build.env]]\nname='../A'", "cannot be"),
            ("[[build.env]]\nname='A'\nsuffix='x'", "x"),
        ] {
            let text = LEAST.to_owned() + more;
            assert!(messages(&text)[0].1.contains(word), "{text}: {:?}", messages(&text));
        }
    }
}
