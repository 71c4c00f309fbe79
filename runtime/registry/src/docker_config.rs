//! Credentials as docker keeps them: `config.json`, and programs that keep them elsewhere (credential helpers).
//!
//! In: a registry's host. Out: a [`Credential`], or that none is known. Looked for in docker's own file, then in those of
//! podman, in each first where a helper is named for the host and then in the file itself. [`DockerConfig::store`] and
//! [`DockerConfig::erase`] write docker's file alone, so a login is one for docker too.
//! **What always holds.** A file that cannot be understood is an error with its place, never "nobody is logged in". What
//! is not understood in it survives a rewrite as it was written. Nothing secret stands in an error or on a command line.
//! Source: docker/cli, cli/config/configfile and cli/config/credentials; containers-auth.json(5).

mod document;
mod entry;
mod error;
mod helper;
mod host;
mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rb_session::Secret;

use crate::{Credential, CredentialError, Credentials};
use document::Document;
pub use error::DockerConfigError;
pub use helper::{HelperFailure, HelperOutput, HelperRunner};
use host::Habit;

/// Where credentials are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialPlace {
    /// In a file, encoded, but readable by who reads the file.
    File(PathBuf),
    /// With a program of this name.
    Helper(String),
}

/// What a logout did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Where something was erased.
    pub from: Vec<CredentialPlace>,
    /// Files of others that still know the host.
    pub left: Vec<PathBuf>,
}

/// Docker's configuration file, those of podman behind it, and the helpers they name.
#[derive(Clone)]
pub struct DockerConfig {
    file: Option<PathBuf>,
    fallbacks: Vec<PathBuf>,
    helpers: Arc<dyn HelperRunner>,
}

impl DockerConfig {
    /// Reads and writes docker's `file`, if there is a place for it, and reads the `fallbacks`, which are podman's; none
    /// of them has to exist.
    pub fn new(file: Option<PathBuf>, fallbacks: Vec<PathBuf>, helpers: Arc<dyn HelperRunner>) -> Self {
        Self { file, fallbacks, helpers }
    }

    /// Looks a host's credential up. Blocks: helpers may ask the user.
    ///
    /// # Errors
    /// Where a file cannot be read or understood, or a helper fails.
    pub fn find(&self, host: &str) -> Result<Option<Credential>, DockerConfigError> {
        let docker = self.file.iter().map(|file| (file, Habit::Docker));
        let podman = self.fallbacks.iter().map(|file| (file, Habit::Podman));
        for (file, habit) in docker.chain(podman) {
            let Some(text) = storage::read(file)? else { continue };
            let document = Document::parse(file, &text)?;
            if let Some(helper) = document.helper(host)?
                && let Some(found) = helper::get(&*self.helpers, &helper, host::server(host, habit))?
            {
                return Ok(Some(found));
            }
            if let Some(found) = document.credential(host, habit)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a name and a password for a host: with the helper that is configured for it, else in the file. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read, understood or written, or the helper fails; what was kept before is kept then.
    pub fn store(
        &self,
        host: &str,
        user: &str,
        password: &Secret,
    ) -> Result<CredentialPlace, DockerConfigError> {
        let file = self.file()?;
        let server = host::server(host, Habit::Docker);
        let helper = helper_of(file, host)?;
        if let Some(program) = &helper {
            helper::store(&*self.helpers, program, server, user, password)?;
        }
        storage::edit(file, |text| {
            let mut document = Document::parse(file, text)?;
            // Where a helper has it, the file says as much, as docker's does, and no longer holds what it held.
            let entry = if helper.is_some() { entry::empty() } else { entry::encode(user, password) };
            document.set(server, entry)?;
            Ok((Some(document.render()), ()))
        })?;
        Ok(helper.map_or_else(|| CredentialPlace::File(file.to_owned()), CredentialPlace::Helper))
    }

    /// Forgets a host: in docker's file and with the helper that is configured for it. Blocks.
    ///
    /// # Errors
    /// Where a file cannot be read, understood or written, or the helper fails.
    pub fn erase(&self, host: &str) -> Result<Erased, DockerConfigError> {
        let file = self.file()?;
        let mut erased = Erased::default();
        let helper = helper_of(file, host)?;
        // The file first: a helper that is gone must not keep a password in it.
        if storage::read(file)?.is_some() {
            storage::edit(file, |text| {
                let mut document = Document::parse(file, text)?;
                let found = document.remove(host)?;
                if found.had_secret {
                    erased.from.push(CredentialPlace::File(file.to_owned()));
                }
                Ok((found.changed.then(|| document.render()), ()))
            })?;
        }
        if let Some(program) = helper
            && helper::erase(&*self.helpers, &program, host::server(host, Habit::Docker))?
        {
            erased.from.push(CredentialPlace::Helper(program));
        }
        for fallback in &self.fallbacks {
            let Some(text) = storage::read(fallback)? else { continue };
            if Document::parse(fallback, &text)?.credential(host, Habit::Podman)?.is_some() {
                erased.left.push(fallback.clone());
            }
        }
        Ok(erased)
    }

    fn file(&self) -> Result<&Path, DockerConfigError> {
        self.file.as_deref().ok_or(DockerConfigError::NoPlace)
    }
}

/// Returns the program that a file names for a host.
fn helper_of(file: &Path, host: &str) -> Result<Option<String>, DockerConfigError> {
    let Some(text) = storage::read(file)? else { return Ok(None) };
    Document::parse(file, &text)?.helper(host)
}

#[async_trait]
impl Credentials for DockerConfig {
    async fn get(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        let (this, asked) = (self.clone(), host.to_owned());
        match tokio::task::spawn_blocking(move || this.find(&asked)).await {
            Ok(found) => found.map_err(|error| error.for_host(host)),
            Err(lost) => Err(CredentialError {
                host: host.to_owned(),
                reason: lost.to_string(),
                kind: rb_diag::ErrorKind::Internal,
                help: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
