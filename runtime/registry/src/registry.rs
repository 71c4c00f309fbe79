//! The client: its parts, and which endpoints a question goes to.
//!
//! In: options and credentials. Out: a [`Registry`], whose doors stand in the modules beside this one. What is pulled is
//! asked of the mirrors first, one after the other, then of the registry itself; what is pushed or listed, of the
//! registry alone. When all fail, the registry's own failure is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rb_oci::Repository;

use crate::endpoint::{Endpoint, Roots};
use crate::transport::{Transport, told_late};
use crate::tries::Tries;
use crate::watch::{NoWatch, Notice, Watch};
use crate::{Credentials, Limits, RegistryError, RegistryOptions};

/// A client of all registries. Clones are cheap and share connections, tokens and limits.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
    pub(crate) watch: Arc<dyn Watch>,
    /// How long and how often: those of the options, or less where an answer is only a hint.
    pub(crate) limits: Limits,
}

pub(crate) struct Inner {
    pub(crate) options: RegistryOptions,
    credentials: Arc<dyn Credentials>,
    pub(crate) roots: Roots,
    endpoints: Mutex<BTreeMap<(bool, String), Arc<Endpoint>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Registry").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// Makes a client. Nothing is read or asked before it is needed; it works within a tokio runtime.
    pub fn new(options: RegistryOptions, credentials: Arc<dyn Credentials>) -> Self {
        let (roots, endpoints) = (Roots::default(), Mutex::default());
        let limits = options.limits;
        let inner = Arc::new(Inner { options, credentials, roots, endpoints });
        Self { inner, watch: Arc::new(NoWatch), limits }
    }

    /// Returns the same client, telling `watch` what goes on in calls made through it.
    #[must_use]
    pub fn watched(&self, watch: Arc<dyn Watch>) -> Self {
        Self { watch, ..self.clone() }
    }

    /// Returns the same client for what is of use and not needed: it tries twice at most, and does not wait for long.
    #[must_use]
    pub fn for_hints(&self) -> Self {
        let limits = self.limits.for_hints();
        Self { limits, ..self.clone() }
    }

    /// The registry itself.
    pub(crate) fn origin(&self, repository: &Repository) -> Arc<Endpoint> {
        let host = repository.host();
        self.endpoint((false, host.to_owned()), || Ok(Endpoint::registry(&self.inner.options, host)))
            .expect("an endpoint without a mirror's text is always made")
    }

    /// Whom to ask for what is pulled, the registry itself last.
    pub(crate) fn sources(&self, repository: &Repository) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let settings = self.inner.options.hosts.get(repository.host());
        let mirrors = settings.map_or(&[][..], |settings| &settings.mirrors);
        let mirror = |text: &String| {
            self.endpoint((true, text.clone()), || Endpoint::mirror(&self.inner.options, text))
        };
        let mut sources = mirrors.iter().map(mirror).collect::<Result<Vec<_>, _>>()?;
        sources.retain(|mirror| !mirror.is_down());
        sources.push(self.origin(repository));
        Ok(sources)
    }

    pub(crate) fn endpoint(
        &self,
        key: (bool, String),
        make: impl FnOnce() -> Result<Endpoint, RegistryError>,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let mut endpoints = self.inner.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(&key) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(make()?);
        endpoints.insert(key, Arc::clone(&endpoint));
        Ok(endpoint)
    }

    pub(crate) async fn transport<'a>(
        &'a self,
        endpoint: &'a Endpoint,
    ) -> Result<Transport<'a>, RegistryError> {
        let Inner { options, credentials, roots, endpoints: _ } = &*self.inner;
        let (limits, watch, credentials) = (&self.limits, &*self.watch, &**credentials);
        let base = told_late(endpoint.base(options, roots), endpoint, watch).await?;
        Ok(Transport { options, limits, roots, credentials, endpoint, watch, base })
    }

    pub(crate) fn tries<'a>(&'a self, endpoint: &'a Endpoint) -> Tries<'a> {
        Tries::new(self.limits, endpoint, &*self.watch)
    }

    /// Takes note that a mirror did not help.
    pub(crate) fn skip_mirror(&self, mirror: &Endpoint, failure: &RegistryError) {
        if failure.is_transient() {
            mirror.mark_down();
        }
        // That it lacks something is what a mirror is allowed.
        if !matches!(failure, RegistryError::NotFound { .. }) {
            let (mirror, reason) = (mirror.name.clone(), failure.to_string());
            self.watch.notice(&Notice::MirrorSkipped { mirror, reason });
        }
    }
}

/// What a token has to allow for reading a repository.
pub(crate) fn pull_scope(endpoint: &Endpoint, repository: &Repository) -> String {
    format!("repository:{}:pull", endpoint.path(repository))
}

/// What a token has to allow for writing to a repository.
pub(crate) fn push_scope(endpoint: &Endpoint, repository: &Repository) -> String {
    format!("repository:{}:pull,push", endpoint.path(repository))
}
