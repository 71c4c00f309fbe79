//! What the tests share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rb_oci::{Descriptor, Digest, MediaType, Reference, Repository};
use rb_registry::{
    Anonymous, Credential, CredentialError, Credentials, HostOptions, Limits, Notice, Registry,
    RegistryOptions, Watch,
};
use rb_session::Secret;

/// Options in which nothing takes long.
pub(crate) fn options() -> RegistryOptions {
    let limits = Limits {
        tries: 3,
        stall_timeout: Duration::from_millis(300),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_secs(2),
        ..Limits::default()
    };
    RegistryOptions { limits, ..RegistryOptions::default() }
}

pub(crate) fn with_host(host: &str, host_options: HostOptions) -> RegistryOptions {
    RegistryOptions { hosts: BTreeMap::from([(host.to_owned(), host_options)]), ..options() }
}

/// Of a scripted server it is known that it speaks no TLS, so that it is not asked for that.
pub(crate) fn plain(host: &str) -> RegistryOptions {
    with_host(host, HostOptions { plain_http: true, ..HostOptions::default() })
}

pub(crate) fn anonymous(options: RegistryOptions) -> Registry {
    Registry::new(options, Arc::new(Anonymous))
}

/// Knows a password for every host it is asked for, and notes which.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) credential: Option<Credential>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Known {
    pub(crate) fn password() -> Arc<Self> {
        let credential = Credential::Password { user: "rb".to_owned(), password: Secret::new("secret") };
        Arc::new(Self { credential: Some(credential), asked: Mutex::default() })
    }
}

#[async_trait]
impl Credentials for Known {
    async fn get(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        self.asked.lock().unwrap().push(host.to_owned());
        Ok(self.credential.clone())
    }
}

/// Notes what it is told.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) notices: Mutex<Vec<Notice>>,
    pub(crate) bytes: Mutex<Vec<u64>>,
}

impl Watch for Notes {
    fn transferred(&self, _blob: &Digest, done: u64, _total: u64) {
        self.bytes.lock().unwrap().push(done);
    }

    fn notice(&self, notice: &Notice) {
        self.notices.lock().unwrap().push(notice.clone());
    }
}

pub(crate) fn repository(host: &str) -> Repository {
    format!("{host}/a/b").parse().unwrap()
}

pub(crate) fn reference(host: &str) -> Reference {
    format!("{host}/a/b:1").parse().unwrap()
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    typed("application/octet-stream", bytes)
}

pub(crate) fn typed(media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest: oci_spec::image::Digest = Digest::of(bytes).to_string().parse().unwrap();
    Descriptor::new(MediaType::from(media_type), bytes.len() as u64, digest)
}

/// Bytes that are nowhere the same.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(count as u64).fill(&mut bytes);
    bytes
}
