//! How the blobs of layers are compressed, and the names that media types have for it.
//!
//! In: what a user asks for, or a media type. Out: a [`Compression`]. Source: OCI image-spec layer.md; distribution,
//! "Image Manifest V 2, Schema 2".

use crate::MediaType;

/// The compression of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    Uncompressed,
    /// Gzip, which everything reads.
    Gzip {
        /// 0 (stored) to 9 (smallest).
        level: u32,
    },
    /// Zstandard: smaller and faster, read by containerd, podman, and Docker since 23.0.
    Zstd {
        /// 1 (fastest) to 22 (smallest).
        level: u32,
    },
}

/// Whose names the media types of an image are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// Those of the OCI.
    #[default]
    Oci,
    /// Those of Docker's schema 2.
    Docker,
}

impl Compression {
    /// zlib's default level: what `gzip` and BuildKit use.
    pub const GZIP_LEVEL: u32 = 6;

    /// zstd's own default level.
    pub const ZSTD_LEVEL: u32 = 3;

    /// Returns the media type of a layer.
    pub fn media_type(self, types: MediaTypes) -> MediaType {
        match (types, self) {
            (MediaTypes::Oci, Self::Uncompressed) => MediaType::ImageLayer,
            (MediaTypes::Oci, Self::Gzip { .. }) => MediaType::ImageLayerGzip,
            (MediaTypes::Oci, Self::Zstd { .. }) => MediaType::ImageLayerZstd,
            (MediaTypes::Docker, Self::Uncompressed) => MediaType::from(DOCKER_LAYER),
            (MediaTypes::Docker, Self::Gzip { .. }) => MediaType::from(DOCKER_LAYER_GZIP),
            (MediaTypes::Docker, Self::Zstd { .. }) => MediaType::from(DOCKER_LAYER_ZSTD),
        }
    }

    /// Reads the media type of a layer, under either name; the level, which it does not tell, is the default one. `None` for
    /// what is no layer of files that may be passed on.
    pub fn of_media_type(media_type: &MediaType) -> Option<Self> {
        match media_type {
            MediaType::ImageLayer => Some(Self::Uncompressed),
            MediaType::ImageLayerGzip => Some(Self::default()),
            MediaType::ImageLayerZstd => Some(Self::Zstd { level: Self::ZSTD_LEVEL }),
            other => match other.as_ref() {
                DOCKER_LAYER => Some(Self::Uncompressed),
                DOCKER_LAYER_GZIP => Some(Self::default()),
                DOCKER_LAYER_ZSTD => Some(Self::Zstd { level: Self::ZSTD_LEVEL }),
                _ => None,
            },
        }
    }

    /// Says whether both are read by the same program, whatever their levels.
    pub fn is_alike(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: Self::GZIP_LEVEL }
    }
}

impl MediaTypes {
    /// Returns the media type of a manifest.
    pub fn manifest(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageManifest,
            Self::Docker => MediaType::from("application/vnd.docker.distribution.manifest.v2+json"),
        }
    }

    /// Returns the media type of an index.
    pub fn index(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageIndex,
            Self::Docker => MediaType::from(crate::index::DOCKER_INDEX),
        }
    }

    /// Returns the media type of an image's config.
    pub fn config(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageConfig,
            Self::Docker => MediaType::from("application/vnd.docker.container.image.v1+json"),
        }
    }
}

const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_back() {
        let all = [Compression::Uncompressed, Compression::Gzip { level: 1 }, Compression::Zstd { level: 9 }];
        for (compression, types) in
            all.into_iter().flat_map(|one| [(one, MediaTypes::Oci), (one, MediaTypes::Docker)])
        {
            let read = Compression::of_media_type(&compression.media_type(types)).expect("is a layer");
            assert!(read.is_alike(compression), "{compression:?} {types:?}");
        }
        assert_eq!(Compression::of_media_type(&MediaType::ImageManifest), None);
        assert!(!Compression::default().is_alike(Compression::Uncompressed));
    }
}
