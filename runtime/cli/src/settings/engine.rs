//! Which engine builds: that of this process, or a BuildKit daemon, and what proves who is who there.
//!
//! In: `--engine`, else RB_ENGINE; RB_ENGINE_CERTS, a folder as docker's clients have them. `.env` says nothing of either: where files and
//! secrets of the user are sent is the user's to say.

use std::path::{Path, PathBuf};

use rb_remote::{Address, Certificates};

use super::SettingsError;
use crate::args::BuildOptions;
use crate::environment::Environment;

/// An engine elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineSettings {
    /// Where it is.
    pub(crate) address: Address,
    /// Folder of certificates.
    certificates: Option<PathBuf>,
}

/// Settles which engine builds; none is that of this process.
pub(crate) fn settle(
    options: &BuildOptions,
    environment: &Environment,
) -> Result<Option<EngineSettings>, SettingsError> {
    named(options.engine.clone(), environment)
}

/// The same of an address that was typed elsewhere.
pub(crate) fn named(
    typed: Option<Address>,
    environment: &Environment,
) -> Result<Option<EngineSettings>, SettingsError> {
    let address = match typed {
        None => environment.parsed("RB_ENGINE", |text| text.parse().ok())?,
        typed => typed,
    };
    let certificates = environment.path("RB_ENGINE_CERTS").map(|path| environment.cwd.join(path));
    Ok(address.map(|address| EngineSettings { address, certificates }))
}

/// Says what an address looks like.
pub(crate) fn help(value: &str) -> String {
    value.parse::<Address>().err().map(|error| error.help()).unwrap_or_default()
}

impl EngineSettings {
    /// Reads the certificates, as far as there are any.
    pub(crate) fn certificates(&self) -> std::io::Result<Certificates> {
        let Some(folder) = &self.certificates else { return Ok(Certificates::default()) };
        let authority = optional(&folder.join("ca.pem"))?;
        let own = match optional(&folder.join("cert.pem"))? {
            Some(certificate) => Some((certificate, std::fs::read(folder.join("key.pem"))?)),
            None => None,
        };
        if authority.is_none() && own.is_none() {
            let reason = format!("`{}` holds neither ca.pem nor cert.pem", folder.display());
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, reason));
        }
        Ok(Certificates { authority, own, name: None })
    }
}

fn optional(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn what_is_typed_wins_and_certificates_are_not_taken_for_none() {
        let variables = [("RB_ENGINE", "unix:///run/a.sock"), ("RB_ENGINE_CERTS", "/nowhere")];
        let of = |typed: Option<&str>| {
            let engine = typed.map(|text| text.parse().expect("an address"));
            let options = BuildOptions { engine, ..BuildOptions::default() };
            settle(&options, &environment(&variables)).expect("settles").expect("is named")
        };
        assert_eq!(of(None).address.to_string(), "unix:///run/a.sock");
        assert_eq!(of(Some("tcp://far:1")).address.to_string(), "tcp://far:1");
        assert!(of(None).certificates().is_err());
        assert_eq!(settle(&BuildOptions::default(), &environment(&[])).expect("settles"), None);
        let error =
            settle(&BuildOptions::default(), &environment(&[("RB_ENGINE", "far")])).expect_err("no address");
        assert!(error.help().expect("helps").contains("ssh://"));
    }
}
