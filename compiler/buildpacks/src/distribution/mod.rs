//! Distribution: what builders and packages of modules are made of.
//!
//! In: `builder.toml`, `package.toml`, `lifecycle.toml`, `buildpack.toml`, labels of packages. Out: what is to be fetched
//! ([`Locator`]), what must hold of it ([`checks`]), and the labels and files of what is made, byte for byte as pack writes
//! them. Nothing is fetched or packed here.
//! Source: distribution spec; what pack 0.38 reads and writes.

mod builder_file;
pub mod checks;
mod descriptor;
mod document;
mod files;
mod labels;
mod lifecycle;
mod locator;
mod package_file;

pub use builder_file::{
    BuilderBuild, BuilderFile, BuilderRun, BuilderStack, ConfigVariable, LifecycleSource, ModuleSource,
    RunImage, VariableSuffix,
};
pub use checks::CheckError;
pub use descriptor::{Descriptor, DescriptorError};
pub use document::Fault;
pub use files::{environment_files, order_text, run_text, stack_text, system_text};
pub use labels::{BuilderLabels, ModuleLayers, buildpackage_label};
pub use lifecycle::{DEFAULT_LIFECYCLE, LifecycleFile, PROGRAMS, Versions, release};
pub use locator::{Locator, LocatorError};
pub use package_file::{PackageFile, PackagePlatform, PackageSource};
