//! `analyzed.toml`: what is known of the previous image and of the base before anything runs.
//!
//! Source: platform spec, "analyzed.toml".

use rb_oci::ImageConfig;
use serde::Deserialize;

use crate::BaseTarget;
use crate::decode::{self, DecodeError};
use crate::labels::{LIFECYCLE_METADATA, LifecycleMetadata};

/// What is known before anything runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Analyzed {
    /// The previous image; nothing or an empty reference if there is none.
    pub image: Option<ImageIdentifier>,
    /// The build image, where extensions extend it.
    pub build_image: Option<ImageIdentifier>,
    /// The base that the app will run on.
    pub run_image: Option<AnalyzedRunImage>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageIdentifier {
    /// By digest or id.
    pub reference: String,
}

/// The base that the app will run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AnalyzedRunImage {
    /// By digest or id.
    pub reference: String,
    /// By name.
    pub image: String,
    /// Whether extensions extend it.
    pub extend: bool,
    /// What it is.
    pub target: Option<BaseTarget>,
}

impl Analyzed {
    /// Reads `analyzed.toml`. The metadata of the previous image is not taken from it, but from the image's own label.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("analyzed.toml", text)
    }

    /// Returns what the base is, as far as it says.
    pub fn base(&self) -> BaseTarget {
        self.run_image.as_ref().and_then(|image| image.target.clone()).unwrap_or_default()
    }
}

/// Reads what a previous image says of its layers. One that says nothing, or nothing that reads, is as good as none: the build
/// is whole without it.
pub fn previous_metadata(config: &ImageConfig) -> Option<LifecycleMetadata> {
    LifecycleMetadata::parse(config.config.labels.get(LIFECYCLE_METADATA)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_lifecycle_writes() {
        let text = "[image]\nreference='p'\n[metadata]\n[metadata.config]\nsha='x'\n[run-image]\nreference='r'\nimage='i'\nextend=true\n\
                    [run-image.target]\nos='linux'\narch='arm'\narch-variant='v7'\n\
                    [run-image.target.distro]\nname='debian'\nversion='12'\n";
        let analyzed = Analyzed::parse(text.as_bytes()).expect("reads");
        assert_eq!((analyzed.base().arch_variant.as_str(), analyzed.base().distro.is_some()), ("v7", true));
        assert!(analyzed.run_image.is_some_and(|image| image.extend));
        assert_eq!(Analyzed::default().base(), BaseTarget::default());
    }

    #[test]
    fn a_label_that_does_not_read_is_none() {
        let mut config = ImageConfig::default();
        assert_eq!(previous_metadata(&config), None);
        config.config.labels.insert(LIFECYCLE_METADATA.into(), "{".into());
        assert_eq!(previous_metadata(&config), None);
        config.config.labels.insert(LIFECYCLE_METADATA.into(), "{}".into());
        assert_eq!(previous_metadata(&config), Some(LifecycleMetadata::default()));
    }
}
