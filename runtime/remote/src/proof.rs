//! What is wrong where one side does not prove to the other who it is.
//!
//! In: what a connection by TCP failed with. Out: a [`Proof`] that is missing, where that is the reason. What we refuse stands typed in the
//! chain of causes; what the other side refuses is an alert, of which only the words reach us.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// A proof that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Proof {
    /// The daemon's certificate is signed by nobody whom we trust.
    #[error("its certificate is signed by nobody who is trusted")]
    Authority,
    /// The daemon's certificate is old, or of the future.
    #[error("its certificate has expired, or does not hold yet")]
    Time,
    /// The daemon's certificate is that of another host.
    #[error("its certificate is for another name than `{0}`")]
    Name(String),
    /// The daemon's certificate is no good for another reason.
    #[error("its certificate is no good: {0}")]
    Other(String),
    /// The daemon refuses ours, or misses one.
    #[error("it refuses who we are: {0}")]
    Refused(String),
    /// The daemon hung up once it had seen who we are.
    #[error("it hangs up {}", if *.shown { "on who we are (cert.pem)" } else { "as we do not show who we are (cert.pem)" })]
    HungUp {
        /// Whether we have shown a certificate.
        shown: bool,
    },
    /// What listens there speaks no TLS.
    #[error("it does not speak TLS")]
    Plain,
}

impl Proof {
    /// Finds what a connection to `host` failed with, if it is a proof.
    pub(crate) fn missing(error: &(dyn Error + 'static), host: &str) -> Option<Self> {
        if let Some(error) = tls_error(error) {
            return Some(Self::of(error, host));
        }
        // h2 keeps what a connection broke with to itself, and tells it in words.
        let words = rb_diag::chain(error);
        let (_, alert) = words.split_once("received fatal alert: ")?;
        Some(Self::Refused(alert.chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect()))
    }

    fn of(error: &rustls::Error, host: &str) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Authority,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Time,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::Name(host.to_owned())
                }
                other => Self::Other(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            rustls::Error::InvalidMessage(_) => Self::Plain,
            other => Self::Other(other.to_string()),
        }
    }

    /// Returns what to do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Authority => {
                "ca.pem of the folder of certificates has to be the authority that signed for the daemon"
            }
            Self::Time => {
                "have the daemon's certificate renewed, and see that the clock of this machine is right"
            }
            Self::Name(_) => {
                "name the host as its certificate does, or have it made for this name (subjectAltName)"
            }
            Self::Refused(_) | Self::HungUp { .. } => {
                "cert.pem and key.pem of the folder of certificates (RB_ENGINE_CERTS) have to be signed by the daemon's authority"
            }
            Self::Plain => {
                "without certificates (RB_ENGINE_CERTS, --certs) nothing is encrypted, and that daemon expects it so"
            }
            Self::Other(_) => "have the daemon's certificate made anew",
        }
    }
}

/// Finds an error of TLS among causes; those of `io` keep theirs inside.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    // No chain of errors is so long but one that leads back.
    for _ in 0..32 {
        let error = next?;
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_among_causes() {
        let found = |error: rustls::Error| {
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            Proof::missing(&wrapped, "far")
        };
        let bad = |reason| rustls::Error::InvalidCertificate(reason);
        assert_eq!(found(bad(CertificateError::UnknownIssuer)), Some(Proof::Authority));
        assert_eq!(found(bad(CertificateError::Expired)), Some(Proof::Time));
        assert_eq!(found(bad(CertificateError::NotValidForName)), Some(Proof::Name("far".to_owned())));
        assert!(matches!(found(bad(CertificateError::Revoked)), Some(Proof::Other(_))));
        let told = io::Error::other("error reading: received fatal alert: CertificateRequired; gone");
        assert_eq!(Proof::missing(&told, "far"), Some(Proof::Refused("CertificateRequired".to_owned())));
        assert_eq!(Proof::missing(&io::Error::other("connection refused"), "far"), None);
    }
}
