//! Image configs as instructions change them.
//!
//! **Invariant:** what an instruction says of itself in the history is word for word what BuildKit's frontend writes.

use rb_oci::{History, ImageConfig, Platform};

use crate::go;

/// The remark of every entry of the history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Where programs are looked for if the base image does not say.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the config of an image that starts from nothing.
pub(crate) fn of_nothing(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig::scratch(platform);
    image.config.working_dir = Some("/".to_owned());
    image.config.env.push(format!("PATH={DEFAULT_PATH}"));
    image
}

/// Returns of a config what BuildKit's frontend knows: what else its maker wrote, such as the container it was committed from
/// or a cache's metadata, is not true of what is made of it.
pub(crate) fn understood(mut image: ImageConfig) -> ImageConfig {
    image.other.retain(|name, _| ["os.version", "os.features"].contains(&name.as_str()));
    image.config.other.clear();
    image
}

/// Makes sure that programs are found.
pub(crate) fn ensure_path(image: &mut ImageConfig) {
    if image.config.env("PATH").is_none() {
        image.config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
}

/// Splits `NAME=value`; a line without `=` is a name with an empty value.
pub(crate) fn env_pair(line: &str) -> (&str, &str) {
    line.split_once('=').unwrap_or((line, ""))
}

/// What an instruction leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Only the config changed.
    None,
    /// A layer, which the text does not mention.
    Silent,
    /// A layer.
    Told,
}

/// Writes an instruction into the history, at the epoch if there is one.
pub(crate) fn record(image: &mut ImageConfig, text: String, layer: Layer, epoch: Option<i64>) {
    let text = match layer {
        Layer::Told => format!("{text} # buildkit"),
        Layer::None | Layer::Silent => text,
    };
    image.history.push(History {
        created: epoch.map(go::rfc3339),
        created_by: Some(text),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer: layer == Layer::None,
    });
}

/// Puts the image's shell before a line.
pub(crate) fn with_shell(image: &ImageConfig, line: &str) -> Vec<String> {
    let default = || match image.os.as_str() {
        "windows" => ["cmd", "/S", "/C"].map(ToOwned::to_owned).to_vec(),
        _ => ["/bin/sh", "-c"].map(ToOwned::to_owned).to_vec(),
    };
    let shell = image.config.shell.clone().filter(|shell| !shell.is_empty());
    let mut words = shell.unwrap_or_else(default);
    words.push(line.to_owned());
    words
}

/// Returns the platform that a config says it is for, if it says so.
pub(crate) fn platform_of(image: &ImageConfig) -> Option<Platform> {
    if image.os.is_empty() || image.architecture.is_empty() {
        return None;
    }
    let variant = image.variant.iter().filter(|variant| !variant.is_empty());
    let variant: String = variant.map(|variant| format!("/{variant}")).collect();
    format!("{}/{}{variant}", image.os, image.architecture).parse().ok()
}

/// Tells whether an image has no layers at all, so that it is the empty tree.
pub(crate) fn is_empty(image: &ImageConfig) -> bool {
    image.rootfs.diff_ids.is_empty() && image.history.iter().all(|entry| entry.empty_layer)
}

/// Says of an image that the user asked for what it runs on.
pub(crate) fn set_platform(image: &mut ImageConfig, platform: &Platform) {
    let is_same = image.os == platform.os && image.architecture == platform.architecture;
    image.os.clone_from(&platform.os);
    image.architecture.clone_from(&platform.architecture);
    if platform.variant.is_some() || !is_same {
        image.variant.clone_from(&platform.variant);
    }
}

/// Writes the platform of an image as it is written everywhere: `arm64`, not `aarch64` or `arm64/v8`.
pub(crate) fn normalise(image: &mut ImageConfig) {
    if let Some(platform) = platform_of(image) {
        image.os = platform.os;
        image.architecture = platform.architecture;
        image.variant = platform.variant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_maker_of_a_base_wrote_is_not_inherited() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","docker_version":"20","container":"c",
            "config":{"Hostname":"h","Image":"i","Env":["A=1"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let image = understood(serde_json::from_str(text).expect("is a config"));
        assert_eq!(image.other.keys().collect::<Vec<_>>(), ["os.version"]);
        assert!(image.config.other.is_empty());
        assert_eq!(image.config.env, ["A=1"]);
    }

    #[test]
    fn the_history_tells_of_layers() {
        let mut image = ImageConfig::default();
        record(&mut image, "RUN a".to_owned(), Layer::Told, Some(0));
        record(&mut image, "WORKDIR /a".to_owned(), Layer::Silent, None);
        record(&mut image, "USER a".to_owned(), Layer::None, None);
        let told: Vec<_> = image
            .history
            .iter()
            .map(|entry| (entry.created_by.as_deref().unwrap_or_default(), entry.empty_layer))
            .collect();
        assert_eq!(told, [("RUN a # buildkit", false), ("WORKDIR /a", false), ("USER a", true)]);
        assert_eq!(image.history[0].created.as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn an_asked_platform_replaces_that_of_the_base() {
        let mut image = ImageConfig { variant: Some("v8".to_owned()), ..ImageConfig::default() };
        (image.os, image.architecture) = ("linux".to_owned(), "aarch64".to_owned());
        assert_eq!(platform_of(&image).map(|platform| platform.to_string()).as_deref(), Some("linux/arm64"));
        normalise(&mut image);
        assert_eq!((image.architecture.as_str(), image.variant.as_deref()), ("arm64", None));
        set_platform(&mut image, &"linux/arm/v7".parse().expect("is one"));
        assert_eq!((image.architecture.as_str(), image.variant.as_deref()), ("arm", Some("v7")));
    }
}
