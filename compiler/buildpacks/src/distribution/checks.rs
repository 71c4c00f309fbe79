//! What must hold of a builder or a package before it is made.
//!
//! In: its file and modules. Out: orders with their versions filled in, stacks that all support; or why it is refused.
//! Source: pack's checks of builders and packages.

use std::collections::{BTreeMap, BTreeSet};

use rb_oci::ImageConfig;

use super::descriptor::Descriptor;
use super::lifecycle::LifecycleFile;
use crate::{
    ApiVersion, BaseTarget, ModuleInfo, ModuleKey, ModuleKind, Order, OrderElement, OrderGroup, PlatformApi,
    Stack, System, SystemBuildpacks,
};

/// Label of an old base: which stack it is.
const STACK_ID: &str = "io.buildpacks.stack.id";
/// Label of an old base: what it has.
const MIXINS: &str = "io.buildpacks.stack.mixins";

/// Something speaks against a builder or a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A group names what is not there.
    #[error("the order names the {kind} `{name}`, which the builder does not have")]
    Absent {
        /// Its kind.
        kind: ModuleKind,
        /// Its id, with the version if it is named.
        name: String,
    },
    /// A group names no version, and there are several.
    #[error("the order names `{id}` without a version, and there are {}", .versions.join(", "))]
    Ambiguous {
        /// The id.
        id: String,
        /// Those that there are.
        versions: Vec<String>,
    },
    /// A module speaks what the lifecycle does not.
    #[error("{kind} {key} speaks Buildpack API {api}, and lifecycle {lifecycle} does not")]
    Api {
        /// Its kind.
        kind: ModuleKind,
        /// Which.
        key: ModuleKey,
        /// What it speaks.
        api: String,
        /// The lifecycle's version.
        lifecycle: String,
    },
    /// A composite names what is not there.
    #[error("buildpack {by} names {name}, which is not there")]
    Dependency {
        /// The composite.
        by: ModuleKey,
        /// What it names.
        name: String,
    },
    /// A dependency is no part of any order.
    #[error("buildpack {0} is in no order of the package")]
    Unused(ModuleKey),
    /// A buildpack is not for the image that builds run in.
    #[error("buildpack {key} is not for the build image, which is {base}")]
    Target {
        /// Which.
        key: ModuleKey,
        /// What that image is.
        base: String,
    },
    /// A buildpack is for other stacks, or needs more of this one.
    #[error("buildpack {key} {reason}")]
    Stack {
        /// Which.
        key: ModuleKey,
        /// What is missing.
        reason: String,
    },
    /// Buildpacks of a package have no stack in common.
    #[error("the buildpacks of the package have no stack in common")]
    NoStack,
    /// The image that builds run in is of another stack than the file says.
    #[error("the build image is of stack `{have}`, and the file says `{wanted}`")]
    StackId {
        /// That of the image.
        have: String,
        /// That of the file.
        wanted: String,
    },
    /// It is a builder itself.
    #[error("the build image is a builder itself")]
    IsBuilder,
    /// It does not say whom builds run as.
    #[error("the build image's variable `{0}` has to be the number of a user or group that is not root's")]
    User(&'static str),
    /// A lifecycle that is too old for extensions.
    #[error("lifecycle {0} knows no Platform API from 0.13 on, which extensions need")]
    Extensions(String),
}

/// Returns whom builds run as in an image, which is no builder yet.
pub fn build_image(config: &ImageConfig, stack: &str) -> Result<(u32, u32), CheckError> {
    if config.config.labels.contains_key(crate::builder::BUILDER_METADATA) {
        return Err(CheckError::IsBuilder);
    }
    let have = config.config.labels.get(STACK_ID).map_or("", String::as_str);
    if !stack.is_empty() && have != stack {
        return Err(CheckError::StackId { have: have.to_owned(), wanted: stack.to_owned() });
    }
    let id = |name: &'static str| {
        let value = config.config.env(name).and_then(|value| value.parse().ok());
        value.filter(|id: &u32| *id != 0).ok_or(CheckError::User(name))
    };
    Ok((id("CNB_USER_ID")?, id("CNB_GROUP_ID")?))
}

/// Fills versions into an order.
pub fn resolve_order(order: &Order, kind: ModuleKind, have: &[Descriptor]) -> Result<Order, CheckError> {
    let group = |group: &OrderGroup| {
        let group = group.group.iter().map(|one| resolve(one, kind, have));
        Ok(OrderGroup { group: group.collect::<Result<_, _>>()? })
    };
    order.iter().map(group).collect()
}

/// Fills versions into what a builder adds to each group.
pub fn resolve_system(system: &System, have: &[Descriptor]) -> Result<System, CheckError> {
    let side = |side: &SystemBuildpacks| {
        let buildpacks = side.buildpacks.iter().map(|one| resolve(one, ModuleKind::Buildpack, have));
        Ok(SystemBuildpacks { buildpacks: buildpacks.collect::<Result<_, _>>()? })
    };
    Ok(System { pre: side(&system.pre)?, post: side(&system.post)? })
}

fn resolve(one: &OrderElement, kind: ModuleKind, have: &[Descriptor]) -> Result<OrderElement, CheckError> {
    let versions: BTreeSet<&str> = have
        .iter()
        .filter(|module| module.info.id == one.id)
        .map(|module| module.info.version.as_str())
        .collect();
    let absent = || CheckError::Absent { kind, name: name_of(&one.id, &one.version) };
    let version = match (one.version.as_str(), versions.len()) {
        (_, 0) => return Err(absent()),
        ("", 1) => versions.first().copied().unwrap_or_default(),
        ("", _) => {
            let versions = versions.iter().map(|version| (*version).to_owned()).collect();
            return Err(CheckError::Ambiguous { id: one.id.clone(), versions });
        }
        (version, _) if versions.contains(version) => version,
        _ => return Err(absent()),
    };
    Ok(OrderElement { version: version.to_owned(), ..one.clone() })
}

fn name_of(id: &str, version: &str) -> String {
    if version.is_empty() { id.to_owned() } else { format!("{id}@{version}") }
}

/// Checks the modules of a builder against its lifecycle and the image that builds run in.
pub fn builder(
    buildpacks: &[Descriptor],
    extensions: &[Descriptor],
    lifecycle: &LifecycleFile,
    image: &ImageConfig,
) -> Result<(), CheckError> {
    let speaks = |api: ApiVersion| lifecycle.buildpack.all().any(|known| known == api);
    for module in buildpacks.iter().chain(extensions) {
        if !speaks(module.api.version()) {
            return Err(CheckError::Api {
                kind: module.kind,
                key: module.key(),
                api: module.api.to_string(),
                lifecycle: lifecycle.version.clone(),
            });
        }
    }
    let platforms: Vec<ApiVersion> = lifecycle.platform.all().collect();
    let stable =
        |api: &ApiVersion| PlatformApi::common(&[*api]).is_ok_and(PlatformApi::extensions_are_stable);
    if !extensions.is_empty() && !platforms.is_empty() && !platforms.iter().any(stable) {
        return Err(CheckError::Extensions(lifecycle.version.clone()));
    }
    let base = BaseTarget::of_image(image);
    for module in buildpacks {
        if !module.order.is_empty() {
            present(module, buildpacks)?;
            continue;
        }
        stack(module, image)?;
        if !module.supports(&base) {
            let distro = base.distro.as_ref().map(|distro| format!(" ({} {})", distro.name, distro.version));
            let base = format!("{}/{}{}", base.os, base.arch, distro.unwrap_or_default());
            return Err(CheckError::Target { key: module.key(), base });
        }
    }
    Ok(())
}

/// All that a composite names is there, by version.
fn present(module: &Descriptor, have: &[Descriptor]) -> Result<(), CheckError> {
    let named = module.order.iter().flat_map(|group| &group.group);
    for one in named {
        let is_one = |have: &Descriptor| have.info.id == one.id && have.info.version == one.version;
        if !have.iter().any(is_one) {
            let name = name_of(&one.id, &one.version);
            return Err(CheckError::Dependency { by: module.key(), name });
        }
    }
    Ok(())
}

/// Old buildpacks name the stacks that they are for, and what those must have.
fn stack(module: &Descriptor, image: &ImageConfig) -> Result<(), CheckError> {
    if module.stacks.is_empty() || !module.targets.is_empty() {
        return Ok(());
    }
    let labels = &image.config.labels;
    let id = labels.get(STACK_ID).map_or("", String::as_str);
    let refused = |reason: String| CheckError::Stack { key: module.key(), reason };
    let fits = module.stacks.iter().find(|stack| stack.id == id || stack.id == "*");
    let stack = fits.ok_or_else(|| refused(format!("is not for stack `{id}`")))?;
    let have = labels.get(MIXINS).and_then(|text| serde_json::from_str::<Option<Vec<String>>>(text).ok());
    let have = have.flatten().unwrap_or_default();
    let needed = stack.mixins.iter().filter(|mixin| !mixin.starts_with("run:"));
    let missing: Vec<&str> = needed.filter(|mixin| !have.contains(mixin)).map(String::as_str).collect();
    if missing.is_empty() { Ok(()) } else { Err(refused(format!("needs {}", missing.join(", ")))) }
}

/// Checks a package: all that its orders name is there, and nothing else. Returns the stacks that all support.
pub fn package(main: &Descriptor, dependencies: &[Descriptor]) -> Result<Vec<Stack>, CheckError> {
    for module in std::iter::once(main).chain(dependencies) {
        present(module, dependencies)?;
    }
    let named: BTreeSet<(&str, &str)> = std::iter::once(main)
        .chain(dependencies)
        .flat_map(|module| module.order.iter().flat_map(|group| &group.group))
        .map(|one| (one.id.as_str(), one.version.as_str()))
        .collect();
    let unused = dependencies
        .iter()
        .find(|module| !named.contains(&(module.info.id.as_str(), module.info.version.as_str())));
    if let Some(unused) = unused {
        return Err(CheckError::Unused(unused.key()));
    }
    let mut stacks = own_stacks(main);
    for module in dependencies {
        let theirs = own_stacks(module);
        stacks = match (stacks.is_empty(), theirs.is_empty()) {
            (true, _) => theirs,
            // Composites say nothing.
            (false, true) => stacks,
            (false, false) => common(&stacks, &theirs),
        };
    }
    if stacks.is_empty() { Err(CheckError::NoStack) } else { Ok(stacks) }
}

fn own_stacks(module: &Descriptor) -> Vec<Stack> {
    if module.stacks.is_empty() && module.order.is_empty() {
        return vec![Stack { id: "*".to_owned(), mixins: Vec::new() }];
    }
    module.stacks.clone()
}

fn common(ours: &[Stack], theirs: &[Stack]) -> Vec<Stack> {
    let any = |stacks: &[Stack]| stacks.iter().any(|stack| stack.id == "*");
    match (any(ours), any(theirs)) {
        (true, true) => return vec![Stack { id: "*".to_owned(), mixins: Vec::new() }],
        (true, false) => return theirs.to_vec(),
        (false, true) => return ours.to_vec(),
        (false, false) => {}
    }
    let ours: BTreeMap<&str, &Stack> = ours.iter().map(|stack| (stack.id.as_str(), stack)).collect();
    let both = theirs.iter().filter_map(|stack| {
        let mixins: BTreeSet<String> =
            ours.get(stack.id.as_str())?.mixins.iter().chain(&stack.mixins).cloned().collect();
        Some(Stack { id: stack.id.clone(), mixins: mixins.into_iter().collect() })
    });
    both.collect()
}

/// Says whether a module is the one that a file wants at its place.
pub fn is_wanted(id: &str, version: &str, info: &ModuleInfo) -> bool {
    (id.is_empty() || id == info.id) && (version.is_empty() || version == info.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(id: &str, more: &str) -> Descriptor {
        let text = format!("api='0.10'\n[buildpack]\nid='{id}'\nversion='1'\n{more}");
        let programs = ["build", "detect"].map(str::to_owned).into();
        Descriptor::read(ModuleKind::Buildpack, text.as_bytes(), &programs).expect("reads")
    }

    fn order(id: &str, version: &str) -> String {
        format!("[[order]]\n[[order.group]]\nid='{id}'\nversion='{version}'\n")
    }

    #[test]
    fn versions_are_filled_in() {
        let one = |version: &str| OrderElement {
            id: "a".into(),
            version: version.into(),
            ..OrderElement::default()
        };
        let order = |version: &str| vec![OrderGroup { group: vec![one(version)] }];
        let mut second = module("a", "");
        second.info.version = "2".into();
        let have = [module("a", ""), second];
        let kind = ModuleKind::Buildpack;
        assert_eq!(resolve_order(&order(""), kind, &have[..1]), Ok(order("1")));
        assert!(matches!(resolve_order(&order(""), kind, &have), Err(CheckError::Ambiguous { .. })));
        assert!(matches!(resolve_order(&order("3"), kind, &have), Err(CheckError::Absent { .. })));
        assert!(matches!(resolve_order(&order("1"), kind, &[]), Err(CheckError::Absent { .. })));
    }

    #[test]
    fn packages() {
        let main = module("m", &order("a", "1"));
        assert_eq!(package(&main, &[module("a", "")]).expect("fits")[0].id, "*");
        assert!(matches!(package(&main, &[]), Err(CheckError::Dependency { .. })));
        assert!(matches!(package(&main, &[module("a", ""), module("b", "")]), Err(CheckError::Unused(_))));
        let stacks = |id: &str, mixin: &str| format!("[[stacks]]\nid='{id}'\nmixins=['{mixin}']\n");
        let both = module("m", &(order("a", "1") + &order("b", "1")));
        let found = package(&both, &[module("a", &stacks("s", "x")), module("b", &stacks("s", "y"))]);
        assert_eq!(found.expect("fits")[0].mixins, ["x", "y"]);
        let none = package(&both, &[module("a", &stacks("s", "x")), module("b", &stacks("t", "y"))]);
        assert_eq!(none, Err(CheckError::NoStack));
    }

    #[test]
    fn builders() {
        let lifecycle = LifecycleFile::parse(
            b"[apis.buildpack]\nsupported=['0.10']\n[apis.platform]\nsupported=['0.12']\n",
        );
        let lifecycle = lifecycle.expect("reads");
        let mut image =
            ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        image.config.env = vec!["CNB_USER_ID=1000".into(), "CNB_GROUP_ID=1001".into()];
        assert_eq!(build_image(&image, ""), Ok((1000, 1001)));
        assert!(matches!(build_image(&image, "s"), Err(CheckError::StackId { .. })));
        let check = |more: &str| builder(&[module("a", more)], &[], &lifecycle, &image);
        assert_eq!(check(""), Ok(()));
        assert!(matches!(check("[[targets]]\nos='linux'\narch='arm64'\n"), Err(CheckError::Target { .. })));
        assert!(matches!(check(&order("b", "1")), Err(CheckError::Dependency { .. })));
        assert!(matches!(check("[[stacks]]\nid='s'\n"), Err(CheckError::Stack { .. })));
        let mut new = module("a", "");
        new.api = "0.11".parse().expect("an API");
        assert!(matches!(builder(&[new], &[], &lifecycle, &image), Err(CheckError::Api { .. })));
        let extension = Descriptor { kind: ModuleKind::Extension, ..module("e", "") };
        assert!(matches!(builder(&[], &[extension], &lifecycle, &image), Err(CheckError::Extensions(_))));
        image.config.env.clear();
        assert_eq!(build_image(&image, ""), Err(CheckError::User("CNB_USER_ID")));
    }
}
