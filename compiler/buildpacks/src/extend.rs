//! Image extensions: what one generates, and what becomes of the images that it extends.
//!
//! In: the files that `bin/generate` left, or the folder `generate` of an extension without one. Out: [`ExtendConfig`], the arguments
//! of its Dockerfiles; [`check`], whether a Dockerfile is one that may extend an image; [`base_switch`], which base the last of
//! them chooses and which ones count; [`Rebasable`] and [`is_root`], what an extended image is held against.
//! Source: image extension spec; the lifecycle's generator and extender.

use rb_diag::SourceFile;
use rb_dockerfile::{Dockerfile, Instruction};
use serde::Deserialize;

use crate::decode::{self, DecodeError};
use crate::labels::REBASABLE;

/// The argument that stands for the image that is extended.
pub const BASE_IMAGE: &str = "base_image";
/// Arguments that the lifecycle gives.
pub const GIVEN: [&str; 3] = ["build_id", "user_id", "group_id"];

/// Which image is extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageKind {
    /// The one that buildpacks build in.
    Build,
    /// The one that the app runs on.
    Run,
}

impl ImageKind {
    /// Returns the name of the Dockerfile that extends it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Build => "build.Dockerfile",
            Self::Run => "run.Dockerfile",
        }
    }

    /// Returns the name of the folder that the Dockerfile alone copies from.
    pub fn context(self) -> &'static str {
        match self {
            Self::Build => "context.build",
            Self::Run => "context.run",
        }
    }

    /// Returns what people call the image.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Build => "build image",
            Self::Run => "run image",
        }
    }
}

/// `extend-config.toml`: arguments of both Dockerfiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExtendConfig {
    build: Arguments,
    run: Arguments,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Arguments {
    args: Vec<Argument>,
}

/// An argument of a Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl ExtendConfig {
    /// Reads the file.
    pub fn parse(text: &[u8]) -> Result<Self, ExtendError> {
        let file: Self = decode::toml("extend-config.toml", text)?;
        let mut all = file.build.args.iter().chain(&file.run.args);
        match all.find(|one| GIVEN.contains(&one.name.as_str())) {
            Some(given) => Err(ExtendError::Argument(given.name.clone())),
            None => Ok(file),
        }
    }

    /// Returns the arguments of a Dockerfile, in order.
    pub fn arguments(&self, kind: ImageKind) -> &[Argument] {
        match kind {
            ImageKind::Build => &self.build.args,
            ImageKind::Run => &self.run.args,
        }
    }
}

/// What a Dockerfile of an extension does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extends {
    /// The image that it takes in the place of the one it is given.
    pub base: Option<String>,
    /// Whether it changes anything in it.
    pub steps: bool,
    /// Instructions that are not meant for this, each with its line.
    pub unusual: Vec<(String, u32)>,
}

/// Looks at a Dockerfile of an extension, whose text was read without errors.
pub fn check(file: &Dockerfile, source: &SourceFile, kind: ImageKind) -> Result<Extends, ExtendError> {
    let [stage] = file.stages.as_slice() else {
        return Err(match file.stages.is_empty() {
            true => ExtendError::NoStage(kind.file()),
            false => ExtendError::Stages(kind.file()),
        });
    };
    let is_given = matches!(stage.base.value.as_str(), "${base_image}" | "$base_image");
    if kind == ImageKind::Build {
        let names: Vec<&str> = file
            .global_args
            .iter()
            .filter_map(|step| match &step.instruction {
                Instruction::Arg(all) => Some(all.iter().map(|one| one.name.value.as_str())),
                _ => None,
            })
            .flatten()
            .collect();
        if names != [BASE_IMAGE] {
            return Err(ExtendError::NoArgument);
        }
        if !is_given {
            return Err(ExtendError::NoBase);
        }
    }
    let is_usual = |instruction: &Instruction| {
        matches!(
            instruction,
            Instruction::Add(_)
                | Instruction::Arg(_)
                | Instruction::Copy(_)
                | Instruction::Env(_)
                | Instruction::Label(_)
                | Instruction::Run(_)
                | Instruction::Shell(_)
                | Instruction::User(_)
                | Instruction::Workdir(_)
        )
    };
    let unusual = stage.steps.iter().filter(|step| !is_usual(&step.instruction));
    let unusual =
        unusual.map(|step| (step.keyword.value.to_ascii_uppercase(), source.position(step.span.start).line));
    if stage.base.value.eq_ignore_ascii_case("scratch") {
        return Err(ExtendError::Scratch);
    }
    Ok(Extends {
        base: (!is_given).then(|| stage.base.value.clone()),
        steps: !stage.steps.is_empty(),
        unusual: unusual.collect(),
    })
}

/// Returns from which of these Dockerfiles of the run image on they count, which is the last that chooses a base; and that base.
pub fn base_switch(of_run: &[&Extends]) -> (usize, Option<String>) {
    let last = of_run.iter().rposition(|one| one.base.is_some());
    (last.unwrap_or(0), last.and_then(|last| of_run[last].base.clone()))
}

/// Whether an app's image may be put upon another base: only as long as each Dockerfile that extends its base says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebasable(bool);

impl Default for Rebasable {
    fn default() -> Self {
        Self(true)
    }
}

impl Rebasable {
    /// Looks at the labels of an image that was just extended, and sets what is true of it now.
    pub fn look(&mut self, labels: &mut std::collections::BTreeMap<String, String>) {
        // What Go takes for true.
        let says = |text: &String| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
        self.0 &= labels.get(REBASABLE).is_some_and(says);
        labels.insert(REBASABLE.to_owned(), self.0.to_string());
    }
}

/// Splits the user of a config: the user, and the group, empty where none is said.
pub fn user_of(user: Option<&str>) -> (String, String) {
    let user = user.unwrap_or_default();
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    (user.to_owned(), group.to_owned())
}

/// Whether a user is root by name or number.
pub fn is_root(user: &str) -> bool {
    user == "0" || user == "root"
}

/// What an extension generated cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// A file cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It sets an argument that is given to it.
    #[error("extend-config.toml sets the argument `{0}`, which is given to every Dockerfile")]
    Argument(String),
    /// There is no FROM.
    #[error("{0} has no FROM")]
    NoStage(&'static str),
    /// There are several stages.
    #[error("{0} has several stages: it extends one image")]
    Stages(&'static str),
    /// It does not begin with the argument.
    #[error("build.Dockerfile does not begin with `ARG base_image`, and nothing else before FROM")]
    NoArgument,
    /// It stands on something else.
    #[error("build.Dockerfile does not say `FROM ${{base_image}}`: builds stay in the builder's image")]
    NoBase,
    /// An app cannot run on nothing.
    #[error("run.Dockerfile says `FROM scratch`: an app does not run on an empty image")]
    Scratch,
    /// What is copied from is no folder.
    #[error("`{0}` is no folder")]
    NoFolder(&'static str),
    /// There is a folder for both Dockerfiles, and one for one of them.
    #[error("there is a folder `context` for both Dockerfiles, and `{0}` for one of them")]
    Contexts(&'static str),
    /// The app would run as root.
    #[error(
        "the user of the extended run image is root: the last Dockerfile that changes it has to set another, `USER ${{user_id}}`"
    )]
    Root,
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;

    use super::*;

    fn look(text: &str, kind: ImageKind) -> Result<Extends, ExtendError> {
        let source = SourceMap::default().add(kind.file(), text.to_owned());
        check(&rb_dockerfile::parse(&source).dockerfile, &source, kind)
    }

    #[test]
    fn what_may_extend_a_build_image() {
        let good = "ARG base_image\nFROM ${base_image}\nUSER root\nRUN x\nCMD y\n";
        let found = look(good, ImageKind::Build).expect("may");
        assert_eq!((found.base, found.steps), (None, true));
        assert_eq!(found.unusual, [("CMD".to_owned(), 5)]);
        for (text, error) in [
            ("ARG base_image\nFROM ${base_image} AS a\nFROM a\n", ExtendError::Stages("build.Dockerfile")),
            ("FROM ${base_image}\n", ExtendError::NoArgument),
            ("ARG other\nFROM ${base_image}\n", ExtendError::NoArgument),
            ("ARG base_image\nARG other\nFROM ${base_image}\n", ExtendError::NoArgument),
            ("ARG base_image\nFROM debian\n", ExtendError::NoBase),
            ("# nothing\n", ExtendError::NoStage("build.Dockerfile")),
        ] {
            assert_eq!(look(text, ImageKind::Build), Err(error), "{text}");
        }
    }

    #[test]
    fn the_last_base_counts_and_what_stands_before_does_not() {
        let of = |text: &str| look(text, ImageKind::Run).expect("may");
        let (steps, switch, both) =
            (of("ARG base_image\nFROM $base_image\nRUN x\n"), of("FROM a/run\n"), of("FROM b/run\nRUN x\n"));
        assert_eq!(look("FROM scratch\n", ImageKind::Run), Err(ExtendError::Scratch));
        assert_eq!(switch, Extends { base: Some("a/run".into()), ..Extends::default() });
        assert_eq!(base_switch(&[&steps, &steps]), (0, None));
        assert_eq!(base_switch(&[&steps, &switch, &steps]), (1, Some("a/run".into())));
        assert_eq!(base_switch(&[&switch, &both]), (1, Some("b/run".into())));
        assert_eq!(base_switch(&[]), (0, None));
    }

    #[test]
    fn arguments_of_both_kinds() {
        let file = ExtendConfig::parse(b"[[build.args]]\nname='a'\nvalue='1'\n[[run.args]]\nname='b'\n")
            .expect("reads");
        assert_eq!(file.arguments(ImageKind::Build)[0], Argument { name: "a".into(), value: "1".into() });
        assert_eq!(file.arguments(ImageKind::Run)[0].name, "b");
        assert_eq!(
            ExtendConfig::parse(b"[[run.args]]\nname='user_id'\n"),
            Err(ExtendError::Argument("user_id".into()))
        );
    }

    #[test]
    fn an_image_stays_rebasable_while_all_say_so() {
        let labels = |says: &str| [(REBASABLE.to_owned(), says.to_owned())].into();
        let mut state = Rebasable::default();
        let mut image: std::collections::BTreeMap<String, String> = labels("1");
        state.look(&mut image);
        assert_eq!(image[REBASABLE], "true");
        for says in [labels("no"), labels("true"), [].into()] {
            let mut image: std::collections::BTreeMap<String, String> = says;
            state.look(&mut image);
            assert_eq!(image[REBASABLE], "false", "once it is not, nothing makes it so");
        }
    }

    #[test]
    fn who_is_root() {
        assert_eq!(user_of(Some("1000:1001")), ("1000".into(), "1001".into()));
        assert_eq!(user_of(Some("cnb")), ("cnb".into(), String::new()));
        assert!(is_root("0") && is_root("root") && !is_root("") && !is_root("1000"));
    }
}
