//! Variables that programs see: of `bin/detect` and `bin/build`, and of the app.
//!
//! In: the image's variables, what layers hold for the environment ([`LayerEnvironment`]), the platform's and the builder's
//! files. Out: sorted maps.
//! How, for a build: of the container only some variables stay; each `build` layer adds its `bin`, `lib`, `include` and
//! `pkgconfig`, then the files of `env` and `env.build`; then the platform's (unless the module wants none), the builder's, and
//! last `CNB_*`. For a launch: of each buildpack first the folders of all layers, then the files of `env`, `env.launch` and
//! `env.launch/<type>`.
//! **Invariant:** equal input gives equal variables, byte for byte those of the lifecycle.
//! Source: buildpack spec, "Environment"; platform spec, "Launch environment"; the lifecycle's `env`.

use std::collections::{BTreeMap, BTreeSet};

use crate::decode::{self, DecodeError};
use crate::{BaseTarget, Module, ModuleKind};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Of the container's variables, those that a build sees beside the paths.
const KEPT: [&str; 9] = [
    "CNB_STACK_ID",
    "HOME",
    "HOSTNAME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Of the container's variables, those that an app does not see.
const TAKEN: [&str; 5] =
    ["CNB_APP_DIR", "CNB_DEPRECATION_MODE", "CNB_LAYERS_DIR", "CNB_PLATFORM_API", "CNB_PROCESS_TYPE"];

/// Where the links of process types are.
pub const PROCESS_FOLDER: &str = "/cnb/process";
/// Where the launcher is.
pub const LIFECYCLE_FOLDER: &str = "/cnb/lifecycle";

/// A folder of a layer that variables are to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootFolder {
    /// Programs.
    Bin,
    /// Libraries.
    Lib,
    /// Headers.
    Include,
    /// Descriptions of libraries.
    Pkgconfig,
}

impl RootFolder {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bin, Self::Lib, Self::Include, Self::Pkgconfig];

    /// Returns its name in a layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Lib => "lib",
            Self::Include => "include",
            Self::Pkgconfig => "pkgconfig",
        }
    }

    fn at_build(self) -> &'static [&'static str] {
        match self {
            Self::Bin => &["PATH"],
            Self::Lib => &["LD_LIBRARY_PATH", "LIBRARY_PATH"],
            Self::Include => &["CPATH"],
            Self::Pkgconfig => &["PKG_CONFIG_PATH"],
        }
    }

    fn at_launch(self) -> &'static [&'static str] {
        match self {
            Self::Bin => &["PATH"],
            Self::Lib => &["LD_LIBRARY_PATH"],
            Self::Include | Self::Pkgconfig => &[],
        }
    }
}

/// The files of one folder that say how variables change: names with suffixes, and contents as they are.
///
/// Subfolders are not among them; links to files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentFiles(BTreeMap<String, String>);

impl EnvironmentFiles {
    /// Adds a file. Its content must be text without NUL, which no variable can hold.
    pub fn insert(&mut self, name: &str, content: &[u8]) -> Result<(), DecodeError> {
        let path = || format!("environment file {name}");
        let text = decode::text(&path(), content, decode::FILE_BYTES)?;
        if name.contains(['=', '\0']) || text.contains('\0') {
            return Err(decode::malformed(&path(), 0, 0, "no variable can hold this name or content"));
        }
        self.0.insert(name.to_owned(), text.to_owned());
        Ok(())
    }

    /// Returns the files by name.
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Applies the files in the order of their names. `plain` says what one without a suffix does.
    fn apply(&self, variables: &mut Variables, plain: &str) {
        for (file, content) in &self.0 {
            let (name, action) = file.split_once('.').unwrap_or((file, plain));
            let old = variables.get(name).cloned().unwrap_or_default();
            let delimiter =
                |otherwise| self.0.get(&format!("{name}.delim")).map_or(otherwise, String::as_str);
            let new = match action {
                "override" => content.clone(),
                "default" if old.is_empty() => content.clone(),
                "append" if old.is_empty() => content.clone(),
                "append" => old + delimiter("") + content,
                "prepend" if old.is_empty() => content.clone(),
                "prepend" => content.clone() + delimiter("") + &old,
                // A name that ends in a point: what the lifecycle once did for all paths.
                "" if old.is_empty() => content.clone(),
                "" => content.clone() + delimiter(":") + &old,
                _ => continue,
            };
            variables.insert(name.to_owned(), new);
        }
    }
}

/// What a layer holds for the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerEnvironment {
    /// Its name.
    pub name: String,
    /// Where it lies: `<layers>/<buildpack>/<name>`.
    pub path: String,
    /// Which of these folders it has.
    pub folders: BTreeSet<RootFolder>,
    /// `env`.
    pub both: EnvironmentFiles,
    /// `env.build`.
    pub build: EnvironmentFiles,
    /// `env.launch`.
    pub launch: EnvironmentFiles,
    /// `env.launch/<type>` by type of process.
    pub processes: BTreeMap<String, EnvironmentFiles>,
}

/// What modules see while they detect and build. It grows with each buildpack that has built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildEnvironment(Variables);

/// What is told to the program of one module.
#[derive(Clone, Debug)]
pub struct ModuleRun<'a> {
    /// The module.
    pub module: &'a Module,
    /// Where it lies.
    pub module_folder: &'a str,
    /// Where the platform's files lie, such as `/platform`.
    pub platform_folder: &'a str,
    /// The files of its `env`.
    pub platform: &'a EnvironmentFiles,
    /// The files of `/cnb/build-config/env`.
    pub builder: &'a EnvironmentFiles,
    /// The base that the app will run on.
    pub base: &'a BaseTarget,
    /// The execution environment; empty for none.
    pub execution_environment: &'a str,
    /// Where it writes or reads its plan.
    pub plan_path: &'a str,
    /// What it does.
    pub phase: ModulePhase<'a>,
}

/// What the program of a module does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModulePhase<'a> {
    /// `bin/detect`.
    Detect,
    /// `bin/generate`, which writes into this folder.
    Generate(&'a str),
    /// `bin/build`, which writes layers into this folder.
    Build(&'a str),
}

impl BuildEnvironment {
    /// Begins with what stays of the container's variables, `NAME=value` each.
    pub fn of_container(variables: &[String]) -> Self {
        let paths = || RootFolder::ALL.iter().flat_map(|folder| folder.at_build());
        let stays = |name: &str| KEPT.contains(&name) || paths().any(|path| *path == name);
        let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
        Self(
            pairs
                .filter(|(name, _)| stays(name))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Adds the layers of a buildpack that has built: those with `build = true`, in any order.
    pub fn add(&mut self, layers: &[LayerEnvironment]) {
        let mut layers: Vec<_> = layers.iter().collect();
        // The lifecycle goes by the names of their TOML files.
        layers.sort_by_key(|layer| format!("{}.toml", layer.name));
        for layer in layers {
            add_folders(&mut self.0, layer, RootFolder::at_build);
            layer.both.apply(&mut self.0, "override");
            layer.build.apply(&mut self.0, "override");
        }
    }

    /// Returns what the program of a module sees.
    pub fn of_module(&self, run: &ModuleRun<'_>) -> Variables {
        let mut all = self.0.clone();
        if !run.module.info.clear_env {
            let is_path = |name: &str| RootFolder::ALL.iter().any(|folder| folder.at_build().contains(&name));
            for (name, value) in &run.platform.0 {
                match all.get(name).filter(|old| is_path(name) && !old.is_empty()) {
                    Some(old) => all.insert(name.clone(), format!("{value}:{old}")),
                    None => all.insert(name.clone(), value.clone()),
                };
            }
        }
        run.builder.apply(&mut all, "default");
        let mut set = |name: &str, value: &str| drop(all.insert(name.to_owned(), value.to_owned()));
        set(
            match run.module.kind {
                ModuleKind::Buildpack => "CNB_BUILDPACK_DIR",
                ModuleKind::Extension => "CNB_EXTENSION_DIR",
            },
            run.module_folder,
        );
        let api = run.module.api;
        if api.tells_paths() || matches!(run.phase, ModulePhase::Generate(_)) {
            set("CNB_PLATFORM_DIR", run.platform_folder);
            match run.phase {
                ModulePhase::Detect => set("CNB_BUILD_PLAN_PATH", run.plan_path),
                ModulePhase::Generate(output) => {
                    set("CNB_BP_PLAN_PATH", run.plan_path);
                    set("CNB_OUTPUT_DIR", output);
                }
                ModulePhase::Build(layers) => {
                    set("CNB_BP_PLAN_PATH", run.plan_path);
                    set("CNB_LAYERS_DIR", layers);
                }
            }
        }
        if api.execution_environments() && !run.execution_environment.is_empty() {
            set("CNB_EXEC_ENV", run.execution_environment);
        }
        if api.tells_target() {
            all.extend(run.base.variables());
        }
        all
    }

    /// Returns what is known so far.
    pub fn variables(&self) -> &Variables {
        &self.0
    }
}

/// What the app sees. It grows with each buildpack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchEnvironment(Variables);

impl LaunchEnvironment {
    /// Begins with the container's variables, `NAME=value` each, without those that are the launcher's own.
    pub fn of_container(variables: &[String]) -> Self {
        let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
        let stays = |(name, _): &(&str, &str)| !TAKEN.contains(name);
        let mut all: Variables =
            pairs.filter(stays).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if let Some(path) = all.get_mut("PATH") {
            let own = |part: &&str| *part != PROCESS_FOLDER && *part != LIFECYCLE_FOLDER;
            *path = path.split(':').filter(own).collect::<Vec<_>>().join(":");
        }
        Self(all)
    }

    /// Adds the layers of a buildpack, in any order, for a process of this type; an empty type is none.
    pub fn add(&mut self, layers: &[LayerEnvironment], process: &str) {
        let mut layers: Vec<_> = layers.iter().collect();
        layers.sort_by(|left, right| left.name.cmp(&right.name));
        for layer in &layers {
            add_folders(&mut self.0, layer, RootFolder::at_launch);
        }
        for layer in layers {
            layer.both.apply(&mut self.0, "override");
            layer.launch.apply(&mut self.0, "override");
            if let Some(files) = layer.processes.get(process).filter(|_| !process.is_empty()) {
                files.apply(&mut self.0, "override");
            }
        }
    }

    /// Sets what an `exec.d` program wrote: TOML with text values only.
    pub fn add_program(&mut self, output: &[u8]) -> Result<(), DecodeError> {
        let set: BTreeMap<String, String> = decode::toml("output of exec.d", output)?;
        self.0.extend(set);
        Ok(())
    }

    /// Returns what the app sees.
    pub fn variables(&self) -> &Variables {
        &self.0
    }
}

fn add_folders(
    all: &mut Variables,
    layer: &LayerEnvironment,
    names: fn(RootFolder) -> &'static [&'static str],
) {
    for folder in &layer.folders {
        for name in names(*folder) {
            let old = all.get(*name).filter(|old| !old.is_empty()).map(|old| format!(":{old}"));
            let new = format!("{}/{}{}", layer.path, folder.name(), old.unwrap_or_default());
            all.insert((*name).to_owned(), new);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(all: &[(&str, &str)]) -> EnvironmentFiles {
        let mut files = EnvironmentFiles::default();
        all.iter().for_each(|(name, content)| files.insert(name, content.as_bytes()).expect("text"));
        files
    }

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    fn after(before: &str, all: &[(&str, &str)]) -> Option<String> {
        let mut variables = Variables::from([("A".to_owned(), before.to_owned())]);
        files(all).apply(&mut variables, "override");
        variables.remove("A")
    }

    #[test]
    fn suffixes() {
        assert_eq!(after("old", &[("A", "new\n")]).as_deref(), Some("new\n"));
        assert_eq!(after("old", &[("A.override", "")]).as_deref(), Some(""));
        assert_eq!(after("old", &[("A.default", "new")]).as_deref(), Some("old"));
        assert_eq!(after("", &[("A.default", "new")]).as_deref(), Some("new"));
        assert_eq!(after("old", &[("A.append", "new")]).as_deref(), Some("oldnew"));
        assert_eq!(after("old", &[("A.append", "new"), ("A.delim", ";")]).as_deref(), Some("old;new"));
        assert_eq!(after("", &[("A.append", "new"), ("A.delim", ";")]).as_deref(), Some("new"));
        assert_eq!(after("old", &[("A.prepend", "new"), ("A.delim", ";")]).as_deref(), Some("new;old"));
        assert_eq!(after("old", &[("A.", "new")]).as_deref(), Some("new:old"));
        assert_eq!(after("old", &[("A.other", "new"), ("A.prepend.x", "new")]).as_deref(), Some("old"));
        // Files go by name: `.append` before `.default` before `.prepend`.
        assert_eq!(
            after("", &[("A.prepend", "p"), ("A.default", "d"), ("A.append", "a")]).as_deref(),
            Some("pa")
        );
        assert!(EnvironmentFiles::default().insert("A", b"a\0b").is_err());
        assert!(EnvironmentFiles::default().insert("A=B", b"").is_err());
        assert!(EnvironmentFiles::default().insert("A", b"\xff").is_err());
    }

    fn layer(name: &str, folders: &[RootFolder]) -> LayerEnvironment {
        let folders = folders.iter().copied().collect();
        LayerEnvironment {
            name: name.into(),
            path: format!("/layers/a/{name}"),
            folders,
            ..Default::default()
        }
    }

    #[test]
    fn a_build_goes_layer_by_layer() {
        let mut build =
            BuildEnvironment::of_container(&strings(&["PATH=/bin", "HOME=/h", "SECRET=1", "bad"]));
        assert_eq!(build.variables().keys().collect::<Vec<_>>(), ["HOME", "PATH"]);
        let mut one = layer("a", &[RootFolder::Bin, RootFolder::Lib]);
        one.both = files(&[("PATH.append", "/x"), ("V", "env")]);
        one.build = files(&[("V.append", "+build")]);
        // `a-b.toml` comes before `a.toml`.
        build.add(&[one, layer("a-b", &[RootFolder::Bin, RootFolder::Include])]);
        let want = [
            ("CPATH", "/layers/a/a-b/include"),
            ("HOME", "/h"),
            ("LD_LIBRARY_PATH", "/layers/a/a/lib"),
            ("LIBRARY_PATH", "/layers/a/a/lib"),
            ("PATH", "/layers/a/a/bin:/layers/a/a-b/bin:/bin/x"),
            ("V", "env+build"),
        ];
        assert_eq!(
            build.variables().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(),
            want
        );
    }

    #[test]
    fn a_module_sees_the_platform_unless_it_wants_none() {
        let module = |text: &str| {
            let text = format!("api='0.12'\n[buildpack]\nid='a'\nversion='1'\n{text}");
            Module::buildpack(text.as_bytes(), &BTreeSet::new()).expect("a module")
        };
        let (open, closed) = (module(""), module("clear-env=true"));
        let build = BuildEnvironment::of_container(&strings(&["PATH=/bin"]));
        let base = BaseTarget { os: "linux".into(), arch: "amd64".into(), ..Default::default() };
        let (platform, builder) =
            (files(&[("PATH", "/p"), ("USER", "u"), ("CPATH", "/c")]), files(&[("USER", "b"), ("B", "b")]));
        let run = ModuleRun {
            module: &open,
            module_folder: "/cnb/buildpacks/a/1",
            platform_folder: "/platform",
            platform: &platform,
            builder: &builder,
            base: &base,
            execution_environment: "test",
            plan_path: "/plan",
            phase: ModulePhase::Build("/layers/a"),
        };
        let all = build.of_module(&run);
        assert_eq!(
            (all["PATH"].as_str(), all["USER"].as_str(), all["CPATH"].as_str()),
            ("/p:/bin", "u", "/c")
        );
        assert_eq!((all["CNB_LAYERS_DIR"].as_str(), all["CNB_EXEC_ENV"].as_str()), ("/layers/a", "test"));
        let all = build.of_module(&ModuleRun { module: &closed, phase: ModulePhase::Detect, ..run });
        assert_eq!((all["PATH"].as_str(), all["USER"].as_str()), ("/bin", "b"));
        assert_eq!(all["CNB_BUILD_PLAN_PATH"], "/plan");
        assert!(!all.contains_key("CNB_LAYERS_DIR"));
    }

    #[test]
    fn a_launch_goes_folders_first() {
        let container = strings(&[
            "PATH=/cnb/process:/cnb/lifecycle:/bin",
            "CNB_APP_DIR=/workspace",
            "LIBRARY_PATH=/l",
            "X=1",
        ]);
        let mut launch = LaunchEnvironment::of_container(&container);
        let mut one = layer("a", &[RootFolder::Bin, RootFolder::Lib]);
        one.both = files(&[("PATH.prepend", "/env:")]);
        one.launch = files(&[("X.append", "2")]);
        one.processes = BTreeMap::from([("web".to_owned(), files(&[("X.append", "3")]))]);
        launch.add(&[layer("b", &[RootFolder::Bin]), one], "web");
        launch.add_program(b"Y = 'exec'").expect("TOML");
        assert!(launch.add_program(b"Y = 1").is_err());
        let all = launch.variables();
        assert_eq!(all["PATH"], "/env:/layers/a/b/bin:/layers/a/a/bin:/bin");
        assert_eq!((all["X"].as_str(), all["Y"].as_str()), ("123", "exec"));
        assert_eq!(
            (all["LIBRARY_PATH"].as_str(), all["LD_LIBRARY_PATH"].as_str()),
            ("/l", "/layers/a/a/lib")
        );
        assert!(!all.contains_key("CNB_APP_DIR"));
    }

    proptest! {
        /// The order in which layers are given says nothing, and what a build sees of a container is what it may see.
        #[test]
        fn order_says_nothing(names in prop::collection::btree_set("[a-c-]{1,3}", 1..5), value in ".{0,8}") {
            let mut layers: Vec<_> = names.iter().map(|name| {
                let mut layer = layer(name, &[RootFolder::Bin]);
                layer.both.insert("V.append", name.as_bytes()).expect("text");
                layer
            }).collect();
            let container = vec![format!("PATH={value}"), format!("OTHER={value}")];
            let mut build = BuildEnvironment::of_container(&container);
            let mut launch = LaunchEnvironment::of_container(&container);
            let (mut build_again, mut launch_again) = (build.clone(), launch.clone());
            build.add(&layers);
            launch.add(&layers, "");
            layers.reverse();
            build_again.add(&layers);
            launch_again.add(&layers, "");
            prop_assert_eq!(&build, &build_again);
            prop_assert_eq!(launch, launch_again);
            prop_assert!(!build.variables().contains_key("OTHER"));
            prop_assert!(build.variables()["PATH"].ends_with(&value));
        }
    }
}
