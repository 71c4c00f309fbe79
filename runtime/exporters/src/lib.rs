//! Results out of the store: layers, images, OCI layouts and archives, local files.
//!
//! In: snapshots, configs, image descriptors. Out: blobs in the store, or files where the user wants them.
//! How, in order: a snapshot's diff becomes a tar ([`pack_layer`]), compressed on all cores and hashed on the way; the layers
//! of a chain and a config become a manifest ([`export_image`]); those of an app that buildpacks built are packed of parts of trees ([`cnb`]), those of several platforms an index ([`export_index`]); manifests and what they name become an OCI
//! layout or archive. What is said of an image goes into its index, what is said of files beside them ([`attach`], [`write_beside`]). A view of a tree becomes local files ([`write_tree`]) or a plain tar ([`write_tar`]).
//!
//! **Invariants:** the bytes of an image depend on its trees, config and epoch only, not on the number of threads,
//! the order in which files were made, or the clock. No layer or file is held whole in memory. What is written outside of the
//! store appears by rename: whole, or not at all. A link at a destination that a user named is followed; one that a build file
//! names, and any link within a folder, is replaced.

mod attestation;
mod blocks;
mod cache;
pub mod cnb;
mod compress;
mod docker;
mod error;
mod go_tar;
mod gzip;
mod image;
mod index;
mod layer;
mod layout;
mod place;
mod precious;
mod tar_stream;
#[cfg(test)]
mod testing;
mod tree;
mod zstd;

pub use attestation::{
    REFERENCE_DIGEST, REFERENCE_TYPE, Statement, Subject, attach, files_of, statement_text, write_beside,
};
pub use cache::{add_folder_to_layout, add_to_layout, export_cache, layout_has};
pub use docker::{Sent, chain_ids, write_docker_tar};
pub use error::ExportError;
pub use go_tar::{CNB_TIME, GoEntry, GoKind, GoLayer, GoTar};
pub use image::{ImageOptions, export_image, export_layers, pack_chain};
pub use index::{IndexOptions, export_index, index_document};
pub use layer::{Layer, Packing, pack_layer};
pub use layout::{
    check_oci_layout, write_oci_layout, write_oci_layout_without, write_oci_tar, write_oci_tar_file,
    write_oci_tar_without,
};
pub use place::{check_archive, write_archive};
pub use precious::Precious;
pub use tree::{TreeOptions, TreeReport, check_tree, write_tar, write_tar_file, write_tar_with, write_tree};

pub(crate) type Result<T> = std::result::Result<T, ExportError>;

/// The latest time that exported files may have, in seconds since 1970; later ones become this (SOURCE_DATE_EPOCH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub i64);
