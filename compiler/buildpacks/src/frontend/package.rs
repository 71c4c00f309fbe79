//! Packages whose image lies in a tree: what a `.cnb` file holds.
//!
//! In: a folder that is an OCI layout. Out: what the package says of itself, and its modules as a tree: its layers, unpacked one over
//! the other by the engine. Index, manifest and config are proved by their digests; a layer that is damaged cannot be unpacked.
//! Source: distribution spec, "Buildpackage"; image-layout.md.

use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::{Digest, ImageConfig, Platform};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::FrontendError;
use super::gate::{Folder, Gate};
use crate::builder::Buildpackage;

/// How many layers a package may have.
const LAYERS: usize = 4096;
/// How deep indexes may lie in one another.
const DEPTH: usize = 4;

/// What makes a folder a layout.
pub(super) const MARK: &str = "oci-layout";

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    platform: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    os: String,
    architecture: String,
}

/// An index, or a manifest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
}

/// Reads a package for a platform.
pub(super) async fn in_layout(
    gate: Gate<'_>,
    place: &Folder,
    platform: &Platform,
    shown: &str,
) -> Result<(Buildpackage, State), FrontendError> {
    let wrong = |why: String| FrontendError::Choice(format!("package `{shown}`: {why}"));
    let mut document: Document =
        parse(&gate.read(place, "index.json").await?, "index.json").map_err(wrong)?;
    for _ in 0..DEPTH {
        if document.config.is_some() {
            break;
        }
        let next = chosen(&document.manifests, platform);
        let next = next.ok_or_else(|| wrong(format!("it holds none for {platform}")))?;
        document = blob(gate, place, next).await?.map_err(wrong)?;
    }
    let config = document.config.ok_or_else(|| wrong("its index leads to no image".to_owned()))?;
    let config: ImageConfig = blob(gate, place, config.digest).await?.map_err(wrong)?;
    let package = Buildpackage::of_image(&config)
        .map_err(|source| FrontendError::Package { image: shown.to_owned(), source })?;
    if document.layers.len() > LAYERS {
        return Err(FrontendError::TooMany { what: shown.to_owned(), most: LAYERS, of: "layers" });
    }
    let mut files = State::scratch().files();
    for layer in &document.layers {
        let copy = CopyAction {
            src: place.below(&path_of(layer.digest)).path,
            dest: "/".to_owned(),
            attempt_unpack: true,
            create_dest_path: true,
            ..CopyAction::default()
        };
        files = files.copy(&place.state, copy);
    }
    Ok((package, files.finish(NodeMeta::named(format!("unpack the modules of {shown}")))))
}

fn path_of(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a blob and proves it. The inner error says what is wrong with it.
async fn blob<T: DeserializeOwned>(
    gate: Gate<'_>,
    place: &Folder,
    digest: Digest,
) -> Result<Result<T, String>, FrontendError> {
    let bytes = gate.read(place, &path_of(digest)).await?;
    Ok(match Digest::of(&bytes) == digest {
        true => parse(&bytes, &digest.to_string()),
        false => Err(format!("what it calls {digest} is something else")),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what}: {error}"))
}

/// Returns the one for a platform; the only one, whatever it is for.
fn chosen(all: &[Descriptor], platform: &Platform) -> Option<Digest> {
    if let [only] = all {
        return Some(only.digest);
    }
    let fits = |one: &&Descriptor| {
        let own = one.platform.as_ref();
        own.is_some_and(|own| own.os == platform.os && own.architecture == platform.architecture)
    };
    all.iter().find(fits).map(|one| one.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_image_counts() {
        let (one, two) = (Digest::of("1"), Digest::of("2"));
        let text = format!(
            r#"{{"manifests":[{{"digest":"{one}","platform":{{"os":"linux","architecture":"s390x"}}}},
                {{"digest":"{two}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        let index: Document = parse(text.as_bytes(), "index.json").expect("reads");
        let of = |platform: &str| chosen(&index.manifests, &platform.parse().expect("a platform"));
        assert_eq!((of("linux/amd64"), of("linux/s390x"), of("linux/arm64")), (Some(two), Some(one), None));
        assert_eq!(chosen(&index.manifests[..1], &"linux/arm64".parse().expect("a platform")), Some(one));
        assert!(parse::<Document>(b"{\"manifests\":[{\"digest\":\"x\"}]}", "x").is_err());
    }
}
