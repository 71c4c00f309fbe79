//! Names of images as package URLs. Source: package-url/purl-spec; what BuildKit makes of an image's name.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rb_oci::{Platform, Reference};

use crate::error::EngineError;

/// What stands as it is in a part of a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// The same in the value of a qualifier.
const VALUE: &AsciiSet = &PATH.remove(b'@');

/// Returns the URL of an image by its name.
pub(super) fn image(name: &str, platform: Option<&Platform>) -> Result<String, EngineError> {
    Ok(reference(&name.parse()?, platform, false))
}

/// Returns the URL of an image, of a registry or of a layout.
pub(super) fn reference(name: &Reference, platform: Option<&Platform>, is_local: bool) -> String {
    let qualifiers = [
        name.digest().map(|digest| ("digest", digest.to_string())),
        platform.map(|platform| ("platform", platform.to_string())),
    ];
    of(name, is_local, qualifiers.into_iter().flatten())
}

/// Returns the URL of one blob of a repository.
pub(super) fn blob(name: &Reference, is_local: bool) -> String {
    let digest = name.digest().map(|digest| ("digest", digest.to_string()));
    of(name, is_local, digest.into_iter().chain([("ref_type", "blob".to_owned())]))
}

/// Returns the URL of the bundle that a repository was read from.
pub(super) fn bundle(name: &Reference, is_local: bool, repository: &str) -> String {
    let digest = name.digest().map(|digest| ("digest", digest.to_string()));
    let about = [("ref_type", "bundle".to_owned()), ("vcs_url", repository.to_owned())];
    of(name, is_local, digest.into_iter().chain(about))
}

fn of(name: &Reference, is_local: bool, qualifiers: impl Iterator<Item = (&'static str, String)>) -> String {
    let kind = if is_local { "oci" } else { "docker" };
    let familiar = name.repository().familiar();
    let parts = familiar.split('/').map(|part| utf8_percent_encode(part, PATH).to_string());
    let mut url = format!("pkg:{kind}/{}", parts.collect::<Vec<_>>().join("/"));
    let tag = match (name.tag(), name.digest()) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    if let Some(tag) = tag {
        url.push('@');
        url.extend(utf8_percent_encode(tag, PATH));
    }
    for (at, (key, value)) in qualifiers.enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(key);
        url.push('=');
        url.extend(utf8_percent_encode(&value, VALUE));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_buildkit_makes_of_them() {
        let digest = rb_oci::Digest::of("test");
        for (name, expected) in [
            ("alpine", "pkg:docker/alpine@latest".to_owned()),
            ("library/alpine:3.15", "pkg:docker/alpine@3.15".to_owned()),
            ("user/test:v2", "pkg:docker/user/test@v2".to_owned()),
            ("ghcr.io/foo/bar", "pkg:docker/ghcr.io/foo/bar@latest".to_owned()),
            ("localhost:5000/a", "pkg:docker/localhost:5000/a@latest".to_owned()),
            (&format!("alpine@{digest}"), format!("pkg:docker/alpine?digest={digest}")),
            (&format!("alpine:1@{digest}"), format!("pkg:docker/alpine@1?digest={digest}")),
        ] {
            assert_eq!(image(name, None).expect(name), expected);
        }
        let platform = "linux/arm64".parse().expect("a platform");
        let told = image("busybox", Some(&platform)).expect("a name");
        assert_eq!(told, "pkg:docker/busybox@latest?platform=linux%2Farm64");
        assert!(image("A b", None).is_err());
        let bundle =
            bundle(&format!("a/b@{digest}").parse().expect("a name"), true, "https://example.com/a#main");
        let expected = "ref_type=bundle&vcs_url=https:%2F%2Fexample.com%2Fa%23main";
        assert_eq!(bundle, format!("pkg:oci/a/b?digest={digest}&{expected}"));
    }
}
