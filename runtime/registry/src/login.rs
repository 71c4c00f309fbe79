//! Whether a registry takes a credential, before anybody keeps it.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;

use crate::endpoint::Endpoint;
use crate::transport::Ask;
use crate::{Credential, CredentialError, Credentials, Registry, RegistryError};

/// Knows one, whoever asks.
struct One(Credential);

#[async_trait]
impl Credentials for One {
    async fn get(&self, _host: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(self.0.clone()))
    }
}

impl Registry {
    /// Shows a credential to a registry and returns whether it was taken. One that asks nobody takes any.
    ///
    /// Nothing that is known of the registry already is used for it, and nothing that is learnt is kept.
    ///
    /// # Errors
    /// `Unauthorized` or `Denied` where it is not taken, others where that cannot be found out.
    pub async fn check_login(&self, host: &str, credential: &Credential) -> Result<(), RegistryError> {
        let alone = Self::new(self.inner.options.clone(), Arc::new(One(credential.clone())));
        let endpoint = Endpoint::registry(&alone.inner.options, host);
        let transport = alone.transport(&endpoint).await?;
        let url = transport.base.clone();
        let response = transport.send(Ask::new(Method::GET, url.clone(), host)).await?;
        transport.expected(response, &Method::GET, &url, host, &[200]).await.map(drop)
    }
}
