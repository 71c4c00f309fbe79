//! Registries: images and blobs pulled and pushed over the distribution protocol.
//!
//! In: references, descriptors, sinks and sources, and the options and credentials of the user. Out: documents and blobs
//! that their digests prove. Async, on tokio; dropping a future ends what it does.
//!
//! | module | idea |
//! | --- | --- |
//! | `registry` | the client; mirrors before the registry itself |
//! | `manifests`, `pull`, `push`, `lists` | what is asked: images, blobs, uploads, tags and referrers |
//! | `web` | files that are no registry's: one URL, with its validators |
//! | `bucket` | blobs and documents under names in S3, Azure, the cache of GitHub Actions |
//! | `tries` | what is asked again, and when |
//! | `transport`, `auth`, `challenge` | one request: redirects, errors, tokens |
//! | `endpoint`, `tls` | one host: its scheme, its clients, whom we trust |
//! | `credentials`, `docker_config`, `login` | who we are |
//!
//! **Invariant:** a registry is a stranger. Nothing it says is believed that a digest does not prove, all it sends is
//! bounded, and credentials reach the host they are for and the token service it names, and no other.

mod auth;
mod bucket;
mod challenge;
mod credentials;
mod docker_config;
mod endpoint;
mod error;
mod lists;
mod login;
mod manifests;
mod options;
mod pull;
mod push;
mod registry;
mod tls;
mod transport;
mod tries;
mod upload;
mod watch;
mod web;

pub use bucket::BucketClient;
pub use credentials::{Anonymous, Credential, CredentialError, Credentials};
pub use docker_config::{
    CredentialPlace, DockerConfig, DockerConfigError, Erased, HelperFailure, HelperOutput, HelperRunner,
};
pub use error::RegistryError;
pub use manifests::{ImageManifests, Resolved};
pub use options::{HostOptions, Limits, Proxies, RegistryOptions};
pub use pull::BlobSink;
pub use push::Pushed;
pub use registry::Registry;
pub use upload::BlobSource;
pub use watch::{NoWatch, Notice, Watch};
pub use web::{Validators, WebAnswer, WebFile, WebHead, WebRequest};
