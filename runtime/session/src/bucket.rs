//! Places of objects under names, with the keys to them: where caches of builds lie that are neither in a registry nor in a folder.
//!
//! In: what a client said of one. Out: plain data; who speaks to them is `rb-registry`. **Invariant:** what is secret is a [`Secret`],
//! and is neither displayed nor part of a name.

use std::fmt;
use std::time::Duration;

use crate::Secret;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// A bucket that is spoken to as Amazon's S3 is.
    S3(S3Bucket),
    /// A container of Azure's blob storage.
    Azure(AzureContainer),
    /// The cache of GitHub Actions, version 2.
    Actions(ActionsCache),
}

/// What objects are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectNames {
    /// What indexes are called: all are written, and looked for in this order.
    pub names: Vec<String>,
    /// What everything begins with.
    pub prefix: String,
    /// What blobs begin with, behind the prefix.
    pub blobs_prefix: String,
    /// What indexes begin with, behind the prefix.
    pub manifests_prefix: String,
}

/// A bucket of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Bucket {
    /// Its name.
    pub bucket: String,
    /// Where it is.
    pub region: String,
    /// `http://…` or `https://…`; Amazon's own, if nothing is said.
    pub endpoint_url: Option<String>,
    /// The bucket is the first part of the path rather than of the host.
    pub path_style: bool,
    /// What objects are called.
    pub objects: ObjectNames,
    /// Who we are.
    pub access_key_id: String,
    /// What proves it.
    pub secret_access_key: Secret,
    /// What comes with keys that end soon.
    pub session_token: Option<Secret>,
    /// Objects that are sent at once.
    pub parallelism: usize,
    /// A blob that is older is touched when a build has use for it, so that rules of the bucket do not take it away.
    pub touch_refresh: Duration,
}

/// A container of Azure's blob storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureContainer {
    /// `https://ACCOUNT.blob.core.windows.net`, without a query.
    pub account_url: String,
    /// The account.
    pub account: String,
    /// The container; it is made where there is none.
    pub container: String,
    /// What objects are called.
    pub objects: ObjectNames,
    /// What we prove by that we may.
    pub key: AzureKey,
}

/// What is shown to Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureKey {
    /// A key of the account, in base64.
    Shared(Secret),
    /// A signature that was made elsewhere: the query of a URL.
    Signature(Secret),
}

/// The cache of GitHub Actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionsCache {
    /// `https://results-receiver.…/`
    pub url: String,
    /// The token of the job.
    pub token: Secret,
    /// Caches of one repository that are apart from each other.
    pub scope: String,
    /// How long one question or one object may take.
    pub timeout: Duration,
}

impl Bucket {
    /// Returns how many objects are sent at once.
    pub fn parallelism(&self) -> usize {
        match self {
            Self::S3(bucket) => bucket.parallelism.max(1),
            Self::Azure(_) | Self::Actions(_) => 4,
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(S3Bucket { bucket, objects, .. }) => write!(out, "s3 {bucket}/{objects}"),
            Self::Azure(AzureContainer { account, container, objects, .. }) => {
                write!(out, "azblob {account}/{container}/{objects}")
            }
            Self::Actions(ActionsCache { scope, .. }) => write!(out, "gha {scope}"),
        }
    }
}

impl fmt::Display for ObjectNames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, prefix, manifests_prefix, .. } = self;
        write!(out, "{prefix}{}{manifests_prefix}{}", slash(prefix), slash(manifests_prefix))?;
        out.write_str(&names.join(";"))
    }
}

/// Returns what stands behind a prefix that is a folder: nothing, if it says so itself.
fn slash(prefix: &str) -> &'static str {
    if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" }
}
