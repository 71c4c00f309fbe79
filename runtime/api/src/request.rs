//! What a job is opened with, what it is asked for, and what comes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_llb::Definition;
use rb_oci::{Compression, Descriptor, Digest, ImageConfig, MediaTypes, Platform};
use rb_session::Session;

use crate::{
    Attached, Attest, CacheExport, CacheKey, CachePlace, CacheVerdict, CacheWritten, Layered, SolveError,
};

/// What holds for all of a job.
#[derive(Clone)]
pub struct JobOptions {
    /// Who answers for files.
    pub session: Arc<dyn Session>,
    /// Look nothing up; results are stored all the same.
    pub no_cache: bool,
    /// Where results are looked for that are not here, the first first. One that is not to be had is told of, and left out.
    pub cache_from: Vec<CachePlace>,
    /// When a registry is asked what a name of an image stands for.
    pub pull: PullPolicy,
    /// Steps may run without isolation (`security.insecure`); without it such a step is refused.
    pub allow_insecure: bool,
    /// Steps may ask for this machine's network (`network.host`); without it such a step is refused.
    pub allow_host_network: bool,
    /// Which devices of this machine steps may ask for; without it a step that does is refused.
    pub allowed_devices: AllowedDevices,
    /// Latest time that exported images show, in seconds since 1970 (SOURCE_DATE_EPOCH).
    pub epoch_seconds: i64,
    /// How far it goes.
    pub course: Course,
}

/// Devices of this machine that the user lets steps have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedDevices {
    /// All there are.
    pub all: bool,
    /// These: `vendor/class=name`, all of a `vendor/class`, or those of a class.
    pub names: Vec<String>,
}

/// How far the calls of a job go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Course {
    /// The first failure ends a call.
    #[default]
    Stop,
    /// A call ends when all is made that needs nothing of what failed. What failed is not tried again by a later call.
    KeepGoing,
    /// As `KeepGoing`, and no step is run: what the cache does not have is withheld ([`SolveError::Withheld`]). What it
    /// has is solved as ever, and can be read and exported.
    ///
    /// [`SolveError::Withheld`]: crate::SolveError::Withheld
    Look,
}

/// When a registry is asked what the tag of an image stands for. One that is named by its digest is asked for only where it
/// is not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Where the image store has no image of that name.
    #[default]
    Newest,
    /// Always, whatever the image store has.
    Always,
    /// Where neither the image store has it nor an answer of an earlier time is known.
    Missing,
    /// Where the last answer is older than that; one that is younger does as for `Missing`.
    Within(Duration),
    /// Never: what is not here is an error.
    Never,
}

/// One thing asked of a job.
#[derive(Clone, Debug, Default)]
pub struct SolveRequest {
    /// What must be made. Exports name roots by their index.
    pub roots: Vec<Root>,
    /// What is to be written once every root is made.
    pub exports: Vec<Export>,
    /// What is said of roots, by their indexes, wherever they are written.
    pub attests: BTreeMap<usize, Attest>,
    /// Where results are written for others, once the exports are.
    pub cache_to: Vec<CacheExport>,
    /// How images of roots are put together that are more than their tree, by the indexes of those.
    pub layered: BTreeMap<usize, Layered>,
}

/// A filesystem to make.
#[derive(Clone, Debug)]
pub struct Root {
    /// What to call it: `+app`.
    pub label: String,
    /// Its graph.
    pub definition: Definition,
}

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Export {
    /// An image into the image store.
    Image {
        /// What it consists of: one image, or those of an index.
        images: Vec<PlatformImage>,
        /// Names it gets.
        names: Vec<ImageName>,
        /// How it is written.
        format: ImageFormat,
        /// Send it to the registries that its names tell.
        push: Option<Push>,
    },
    /// Part of a tree onto the client's disk.
    Local {
        /// Index of the root.
        root: usize,
        /// Absolute path in the tree.
        path: String,
        /// Absolute path on the disk.
        destination: PathBuf,
        /// Put it into `destination` under its own name.
        into: bool,
        /// Of a folder, put each entry into `destination`, and leave what else is there.
        entries: bool,
        /// A folder at `destination` keeps what the tree does not have; otherwise it is replaced whole.
        merge: bool,
        /// Nothing at `path` is fine; then nothing is written.
        optional: bool,
        /// `destination` must lie below this folder, also through symlinks; anywhere if none.
        confine: Option<PathBuf>,
        /// A link at `destination` is followed; otherwise it is replaced.
        follow: bool,
    },
    /// The tree as a plain tar.
    Tar {
        /// Index of the root.
        root: usize,
        /// Where it goes.
        destination: Place,
        /// Latest time that it shows, where that is not the one of the job.
        epoch_seconds: Option<i64>,
    },
    /// An image as an OCI layout: a folder, or an archive that `docker load` reads as well.
    OciLayout {
        /// What it consists of: one image, or those of an index.
        images: Vec<PlatformImage>,
        /// Names in the layout's index.
        names: Vec<String>,
        /// How it is written.
        format: ImageFormat,
        /// Where it goes.
        destination: LayoutPlace,
    },
}

impl Export {
    /// Returns the images that it is to write; none for files.
    pub fn images(&self) -> &[PlatformImage] {
        match self {
            Self::Image { images, .. } | Self::OciLayout { images, .. } => images,
            Self::Local { .. } | Self::Tar { .. } => &[],
        }
    }

    /// Returns the roots that it writes something of, by their indexes.
    pub fn roots(&self) -> Vec<usize> {
        match self {
            Self::Image { images, .. } | Self::OciLayout { images, .. } => {
                images.iter().map(|image| image.root).collect()
            }
            Self::Local { root, .. } | Self::Tar { root, .. } => vec![*root],
        }
    }

    /// Returns how its images are written.
    pub fn format(&self) -> Option<&ImageFormat> {
        match self {
            Self::Image { format, .. } | Self::OciLayout { format, .. } => Some(format),
            Self::Local { .. } | Self::Tar { .. } => None,
        }
    }
}

/// The image of one platform, which its config names.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformImage {
    /// Index of the root.
    pub root: usize,
    /// Config without layers; the exporter adds `rootfs`.
    pub config: ImageConfig,
}

/// How an image gets a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// As it is; `:latest` where it has no tag.
    Plain(String),
    /// With the digest of the manifest: `NAME@sha256:…`.
    Digest(String),
}

/// Annotations of a manifest, and of the descriptor that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Those in the manifest.
    pub manifest: BTreeMap<String, String>,
    /// Those beside its digest.
    pub descriptor: BTreeMap<String, String>,
}

/// How an image is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFormat {
    /// Compression of the layers that are packed.
    pub compression: Compression,
    /// Layers that came compressed in another way are compressed anew; otherwise they stay as they came.
    pub force_compression: bool,
    /// Whose media types it has.
    pub types: MediaTypes,
    /// Latest time that it shows, where that is not the one of the job.
    pub epoch_seconds: Option<i64>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the manifest's descriptor.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// Annotations of one platform's manifest and descriptor, over those of all.
    pub of_platform: BTreeMap<Platform, Annotations>,
    /// How what is said of the image goes with it.
    pub attached: Attached,
    /// Annotations of the index; an image of one platform has none, unless something is said of it.
    pub index_annotations: BTreeMap<String, String>,
    /// Annotations of the index's descriptor.
    pub index_descriptor_annotations: BTreeMap<String, String>,
    /// An image of one platform has an index, too.
    pub index_of_one: bool,
}

/// How an image is pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Under its digest, and under no name.
    pub by_digest: bool,
    /// It gets no name in the image store.
    pub only: bool,
}

/// Where an archive goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// Absolute path of a file.
    File(PathBuf),
    /// To the client.
    Stream(Stream),
}

/// Where a layout goes.
#[derive(Clone, Debug)]
pub enum LayoutPlace {
    /// Absolute path of a folder.
    Folder(PathBuf),
    /// One archive.
    Archive(Place),
}

/// What a client reads an archive from, such as its standard output.
#[derive(Clone)]
pub struct Stream(Arc<Mutex<dyn Write + Send>>);

impl Stream {
    /// Makes a stream of a writer, which it flushes at the end.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Returns what to lock and write to.
    pub fn writer(&self) -> &Mutex<dyn Write + Send> {
        &self.0
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Stream")
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveResult {
    /// Content key of each root's tree.
    pub roots: Vec<Digest>,
    /// What was written, in the order of the request.
    pub exports: Vec<ExportResult>,
    /// What was pushed, a line for each name.
    pub pushed: Vec<PushedImage>,
    /// Caches that were written, in the order of the request.
    pub caches: Vec<CacheWritten>,
    /// Counts of the whole job so far.
    pub summary: Summary,
}

/// What a name in a registry stands for now, and what that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedImage {
    /// The name, as short as people write it; with the digest where it has no tag.
    pub name: String,
    /// What it stands for.
    pub digest: Digest,
    /// Blobs that were sent; of several names in one repository, for the first.
    pub sent: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that the registry took over from another repository of its own.
    pub mounted: usize,
    /// Blobs that were there.
    pub existed: usize,
}

/// What one export wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a build has a few of them")]
pub enum ExportResult {
    /// An image.
    Image {
        /// Its names; empty for a layout without one.
        names: Vec<String>,
        /// Digest of the manifest or index.
        digest: Digest,
        /// The manifest or index as an index would name it.
        descriptor: Descriptor,
        /// Digest of the config: what Docker calls the id of an image; an index has none.
        config: Option<Digest>,
        /// Platforms of an index, in its order.
        platforms: Vec<Platform>,
        /// Sum of configs and compressed layers.
        size_bytes: u64,
        /// Where, for a layout; `-` for a stream.
        destination: Option<PathBuf>,
    },
    /// Files.
    Local {
        /// Where.
        destination: PathBuf,
        /// How many files had to be written; the others already were as they should be.
        written: u64,
        /// How many were looked at.
        total: u64,
    },
    /// A tar file.
    Tar {
        /// Where; `-` for a stream.
        destination: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
}

/// What solving a vertex would do.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// Which.
    pub vertex: Digest,
    /// What it is called: `+app | RUN make`.
    pub name: String,
    /// It is a step that people count (exec, file), not a source or plumbing.
    pub step: bool,
    /// What would become of it.
    pub fate: Fate,
    /// Of an image that is not unpacked, the layers that would have to come from its registry, with their sizes in bytes.
    pub absent: BTreeMap<Digest, u64>,
}

/// What would become of a vertex.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Its result is there.
    Cached(CacheKey),
    /// What follows is there, so nobody needs it.
    NotNeeded,
    /// It would run.
    Runs(CacheVerdict),
    /// Something that it reads would be made anew, and whether it runs depends on what comes of that.
    Unknown {
        /// The first thing that would be made, as it is called; none where its image has to be fetched to be read.
        after: Option<String>,
    },
    /// It fails, whether it would run or not: a source that is not there.
    Fails(SolveError),
}

/// Vertices of a job by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Steps (exec and file operations) that ran.
    pub executed: usize,
    /// Steps whose result was there already.
    pub cached: usize,
    /// Steps nobody needed, because what follows was there.
    pub skipped: usize,
}
