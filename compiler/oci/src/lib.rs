//! The nouns of the OCI image format: digest, descriptor, platform, reference, image config.
//!
//! In: strings and JSON from anywhere. Out: checked values. No IO.
//! Manifests, indexes and descriptors are `oci-spec`'s; the image config is ours because Docker's fields
//! (Healthcheck, Shell, OnBuild, …) and unknown ones must survive a round trip. Source: OCI image-spec v1.1.

pub mod cache;
mod compression;
mod config;
mod digest;
pub mod index;
mod part;
mod platform;
mod reference;

pub use compression::{Compression, MediaTypes};
pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hasher};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use part::{Choice, LayerPart};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Repository, names_host};
