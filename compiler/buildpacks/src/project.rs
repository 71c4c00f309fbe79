//! Project descriptors: `project.toml`, schema 0.1 to 0.3.
//!
//! In: its text. Out: [`Project`], the same for all schemas, and keys of ours that its schema does not have ([`known`]). A file without
//! a schema is of 0.1. Source: the project descriptor extension of the spec, 0.2; what pack reads as 0.1 and 0.3.

mod known;

use serde::Deserialize;

use crate::decode::{self, DecodeError};

/// What a project wants of its build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Its schema.
    pub schema: Schema,
    /// It does not say which, and is taken for the first.
    pub undeclared: bool,
    /// Its name.
    pub name: String,
    /// Its licenses.
    pub licenses: Vec<crate::License>,
    /// The builder image; empty if it does not say.
    pub builder: String,
    /// Which files take part, and no others; patterns as in `.gitignore`.
    pub include: Option<Vec<String>>,
    /// Which files take no part. Never beside `include`.
    pub exclude: Option<Vec<String>>,
    /// The buildpacks, in the place of the builder's order; empty for that one.
    pub buildpacks: Vec<ProjectBuildpack>,
    /// Before each group.
    pub pre: Vec<ProjectBuildpack>,
    /// After each group.
    pub post: Vec<ProjectBuildpack>,
    /// Variables of the build.
    pub environment: Vec<ProjectVariable>,
    /// Keys that this schema does not have.
    pub unknown: Vec<String>,
}

/// The schema of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// `[project]`, `[build]`.
    #[default]
    V01,
    /// `[_]`, `[io.buildpacks]`.
    V02,
    /// With execution environments.
    V03,
}

/// A buildpack that a project names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectBuildpack {
    /// What it is.
    pub source: BuildpackSource,
    /// Execution environments that it is for; empty for all.
    pub exec_env: Vec<String>,
}

/// The version of a script that says none.
const NO_VERSION: &str = "0.0.0";

/// What a project says of a buildpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildpackSource {
    /// One of the builder or a registry.
    Id {
        /// Its id.
        id: String,
        /// Its version, unless any will do.
        version: Option<String>,
    },
    /// One that lies somewhere.
    Uri(String),
    /// A script, which is a buildpack of its own: it always passes detection.
    Inline {
        /// Its id; empty if it has none.
        id: String,
        /// Its version.
        version: String,
        /// The API that it speaks.
        api: String,
        /// Its text.
        script: String,
        /// What runs it.
        shell: String,
    },
}

/// A variable of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ProjectVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Execution environments that it is for; empty for all.
    pub exec_env: Vec<String>,
}

/// A descriptor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is of another schema.
    #[error("project.toml: schema version `{0}` is not known: 0.1, 0.2 and 0.3 are")]
    Schema(String),
    /// It says what takes part and what does not.
    #[error("project.toml: `include` and `exclude` cannot stand together")]
    IncludeExclude,
    /// A license says nothing.
    #[error("project.toml: a license needs a `type` or a `uri`")]
    License,
    /// A buildpack says nothing, or too much.
    #[error(
        "project.toml: buildpack {0} needs an `id`, a `uri` or a `script`, and `version` beside an `id` only"
    )]
    Buildpack(String),
    /// A script does not say all.
    #[error("project.toml: the script of buildpack `{0}` needs `api` and `inline`")]
    Script(String),
}

/// `[[group]]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawBuildpack {
    id: String,
    version: String,
    uri: String,
    script: Option<RawScript>,
    exec_env: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawScript {
    api: String,
    inline: String,
    shell: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAddition {
    group: Vec<RawBuildpack>,
}

/// `[project]` or `[_]`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawProject {
    schema_version: String,
    name: String,
    licenses: Vec<crate::License>,
}

/// `[build]` of 0.1, `[io.buildpacks]` of the others.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBuild {
    builder: String,
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    /// 0.1.
    buildpacks: Vec<RawBuildpack>,
    /// Since 0.2.
    group: Vec<RawBuildpack>,
    pre: RawAddition,
    post: RawAddition,
    /// Variables in 0.1; a table with `build` where 0.2 first had them.
    env: Option<RawEnvironment>,
    /// Since 0.2.
    build: RawVariables,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawEnvironment {
    List(Vec<ProjectVariable>),
    Table { build: Vec<ProjectVariable> },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVariables {
    env: Option<Vec<ProjectVariable>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawIo {
    buildpacks: RawBuild,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawFile {
    #[serde(rename = "_")]
    underscore: RawProject,
    io: RawIo,
    project: RawProject,
    build: RawBuild,
}

impl Project {
    /// Reads `project.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, ProjectError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Version {
            #[serde(rename = "_")]
            project: RawProject,
        }
        let version = decode::toml::<Version>("project.toml", text)?.project.schema_version;
        let schema = match version.as_str() {
            "" | "0.1" => Schema::V01,
            "0.2" => Schema::V02,
            "0.3" => Schema::V03,
            other => return Err(ProjectError::Schema(other.chars().take(40).collect())),
        };
        // Of the tables of another schema nothing is read, whatever stands in them.
        let mut table: toml::Table = decode::toml("project.toml", text)?;
        let unknown = known::unknown(&table, schema);
        for key in if schema == Schema::V01 { ["_", "io"] } else { ["project", "build"] } {
            table.remove(key);
        }
        let file: RawFile = table.try_into().map_err(|error: toml::de::Error| {
            // The text knows the place; what it was taken for without the others' tables, the table.
            let placed = decode::toml::<RawFile>("project.toml", text).err();
            placed.unwrap_or_else(|| decode::malformed("project.toml", 0, 0, error.message()))
        })?;
        let (project, build) = match schema {
            Schema::V01 => (file.project, file.build),
            Schema::V02 | Schema::V03 => (file.underscore, file.io.buildpacks),
        };
        let project = build.read(schema, project, unknown)?;
        Ok(Self { undeclared: version.is_empty(), ..project })
    }
}

impl RawBuild {
    fn read(
        self,
        schema: Schema,
        project: RawProject,
        unknown: Vec<String>,
    ) -> Result<Project, ProjectError> {
        if self.include.is_some() && self.exclude.is_some() {
            return Err(ProjectError::IncludeExclude);
        }
        if project.licenses.iter().any(|license| license.kind.is_empty() && license.uri.is_empty()) {
            return Err(ProjectError::License);
        }
        let (buildpacks, environment) = match (schema, self.env) {
            (Schema::V01, Some(RawEnvironment::List(list))) => (self.buildpacks, Some(list)),
            (Schema::V01, _) => (self.buildpacks, None),
            (Schema::V02, Some(RawEnvironment::Table { build })) => {
                (self.group, self.build.env.or(Some(build)))
            }
            (Schema::V02 | Schema::V03, _) => (self.group, self.build.env),
        };
        let timely =
            |environments: Vec<String>| if schema == Schema::V03 { environments } else { Vec::new() };
        let read = |raw: Vec<RawBuildpack>| {
            raw.into_iter()
                .map(|raw| {
                    let exec_env = timely(raw.exec_env.clone());
                    Ok(ProjectBuildpack { source: raw.read()?, exec_env })
                })
                .collect::<Result<Vec<_>, ProjectError>>()
        };
        let variable =
            |one: ProjectVariable| ProjectVariable { exec_env: timely(one.exec_env.clone()), ..one };
        Ok(Project {
            schema,
            undeclared: false,
            name: project.name,
            licenses: project.licenses,
            builder: self.builder,
            include: self.include,
            exclude: self.exclude,
            buildpacks: read(buildpacks)?,
            pre: read(self.pre.group)?,
            post: read(self.post.group)?,
            environment: environment.unwrap_or_default().into_iter().map(variable).collect(),
            unknown,
        })
    }
}

impl RawBuildpack {
    fn read(self) -> Result<BuildpackSource, ProjectError> {
        let name = [&self.id, &self.uri].into_iter().find(|name| !name.is_empty()).cloned();
        let error = || {
            ProjectError::Buildpack(
                name.clone().map_or_else(|| "without a name".to_owned(), |name| format!("`{name}`")),
            )
        };
        match (self.script, self.uri.is_empty(), self.version.is_empty()) {
            (Some(script), true, bare) => {
                if script.api.is_empty() || script.inline.is_empty() {
                    return Err(ProjectError::Script(self.id));
                }
                let shell = if script.shell.is_empty() { "/bin/sh".to_owned() } else { script.shell };
                let version = if bare { NO_VERSION.to_owned() } else { self.version };
                Ok(BuildpackSource::Inline {
                    id: self.id,
                    version,
                    api: script.api,
                    script: script.inline,
                    shell,
                })
            }
            (_, false, false) => Err(error()),
            // As for pack: a place goes before a script.
            (_, false, true) => Ok(BuildpackSource::Uri(self.uri)),
            (None, true, _) if self.id.is_empty() => Err(error()),
            (None, true, bare) => {
                let version = (!bare).then_some(self.version);
                Ok(BuildpackSource::Id { id: self.id, version })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project, ProjectError> {
        Project::parse(text.as_bytes())
    }

    fn id(id: &str, version: Option<&str>) -> BuildpackSource {
        BuildpackSource::Id { id: id.into(), version: version.map(ToOwned::to_owned) }
    }

    #[test]
    fn the_three_schemas_say_the_same() {
        let old = "[project]\nname='n'\n[build]\nbuilder='b'\nexclude=['x']\n[[build.buildpacks]]\nid='a'\nversion='1'\n\
                   [[build.env]]\nname='N'\nvalue='v'\n[metadata]\nx=1\n";
        let rest = "name='n'\n[io.buildpacks]\nbuilder='b'\nexclude=['x']\n[[io.buildpacks.group]]\nid='a'\nversion='1'\n\
                    [[io.buildpacks.build.env]]\nname='N'\nvalue='v'\n[io.other]\nx=1\n";
        let old = parse(old).expect("0.1");
        for (version, schema) in [("0.2", Schema::V02), ("0.3", Schema::V03)] {
            let new = parse(&format!("[_]\nschema-version='{version}'\n{rest}")).expect("reads");
            assert_eq!(new, Project { schema, undeclared: false, ..old.clone() });
            assert!(old.undeclared);
        }
        assert_eq!(
            (old.buildpacks[0].source.clone(), old.environment[0].value.as_str()),
            (id("a", Some("1")), "v")
        );
        let moved = parse("[_]\nschema-version='0.2'\n[[io.buildpacks.env.build]]\nname='N'\nvalue='v'\n")
            .expect("reads");
        assert_eq!(moved.environment, old.environment);
    }

    #[test]
    fn environments_are_of_0_3() {
        let text =
            "[[io.buildpacks.group]]\nuri='u'\nexec-env=['test']\n[[io.buildpacks.pre.group]]\nid='p'\n";
        let of = |version| parse(&format!("[_]\nschema-version='{version}'\n{text}")).expect("reads");
        assert_eq!(of("0.3").buildpacks[0].exec_env, ["test"]);
        assert!(of("0.2").buildpacks[0].exec_env.is_empty());
        assert_eq!(
            (of("0.3").buildpacks[0].source.clone(), of("0.3").pre[0].source.clone()),
            (BuildpackSource::Uri("u".into()), id("p", None))
        );
    }

    #[test]
    fn scripts() {
        let of = |text: &str| parse(&format!("[_]\nschema-version='0.2'\n[[io.buildpacks.group]]\n{text}"));
        let inline = of("id='a'\n[io.buildpacks.group.script]\napi='0.10'\ninline='echo'\n").expect("reads");
        let BuildpackSource::Inline { shell, version, .. } = &inline.buildpacks[0].source else {
            panic!("a script")
        };
        assert_eq!((shell.as_str(), version.as_str()), ("/bin/sh", NO_VERSION));
        assert!(matches!(of("id='a'\nscript={api='0.10'}\n"), Err(ProjectError::Script(_))));
        let versioned = of("id='a'\nversion='1.2'\nscript={api='0.10',inline='x'}\n").expect("reads");
        assert!(
            matches!(&versioned.buildpacks[0].source, BuildpackSource::Inline { version, .. } if version == "1.2")
        );
        // A place goes before a script.
        let placed = of("id='a'\nuri='u'\nscript={api='0.10',inline='x'}\n").expect("reads");
        assert_eq!(placed.buildpacks[0].source, BuildpackSource::Uri("u".into()));
        for text in
            ["", "uri='u'\nversion='1'", "version='1'", "uri='u'\nversion='1'\nscript={api='1',inline='x'}"]
        {
            assert!(matches!(of(text), Err(ProjectError::Buildpack(_))), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(matches!(parse("[_]\nschema-version='0.4'"), Err(ProjectError::Schema(_))));
        assert_eq!(parse("[build]\ninclude=[]\nexclude=[]"), Err(ProjectError::IncludeExclude));
        assert_eq!(parse("[[project.licenses]]\n"), Err(ProjectError::License));
        let wrong = parse("[build]\nbuilder=1").expect_err("no text");
        assert!(wrong.to_string().starts_with("project.toml:2:9: "), "{wrong}");
        let strange =
            parse("[build]\ngroup=[]\n[project]\nx=1\n[io.buildpacks]\nbuilder=1\n").expect("reads");
        assert_eq!(strange.unknown, ["build.group", "io.buildpacks.builder", "project.x"]);
    }
}
