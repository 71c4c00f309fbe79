//! What is said with credential helpers: programs `docker-credential-NAME` that keep credentials elsewhere.
//!
//! `get` and `erase` are told a server on standard input, `store` an object of server, name and secret; `get` answers such
//! an object. Who keeps nothing for a server says so in words. The programs are the user's own and run on the user's own
//! machine; who runs them, and within which limits, is a [`HelperRunner`]'s business.
//! **Invariant:** a secret is said on standard input and output alone.
//! Source: docker-credential-helpers, README and credentials package.

use std::time::Duration;

use rb_diag::ErrorKind;
use rb_session::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::DockerConfigError;
use crate::Credential;

/// What all names of helpers begin with.
pub(super) const PREFIX: &str = "docker-credential-";

/// What a helper says that keeps nothing for a server.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The name that goes with a secret that is an identity token.
const TOKEN_USER: &str = "<token>";

/// No more of what a helper says is told.
const SAID_CHARACTERS: usize = 300;

/// Runs helpers.
pub trait HelperRunner: Send + Sync {
    /// Runs a program, found by its name, with one argument and `input`, and returns what it said. Blocks.
    ///
    /// # Errors
    /// Says why it did not run to its end.
    fn run(&self, program: &str, action: &str, input: &Secret) -> Result<HelperOutput, HelperFailure>;
}

/// What a helper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperOutput {
    /// It ended with code 0.
    pub success: bool,
    /// Standard output.
    pub stdout: Secret,
    /// Standard error.
    pub stderr: Secret,
}

/// Why a helper did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelperFailure {
    /// There is no such program.
    #[error("it is not installed")]
    NotInstalled,
    /// It took too long.
    #[error("it did not answer within {} seconds", limit.as_secs())]
    TimedOut {
        /// How long it had.
        limit: Duration,
    },
    /// It said too much.
    #[error("it said more than {limit_bytes} bytes")]
    TooLong {
        /// How much it might have said.
        limit_bytes: usize,
    },
    /// It could not be run.
    #[error("{reason}")]
    NotRun {
        /// Why not.
        reason: String,
        /// Who has to act.
        kind: ErrorKind,
    },
}

/// Returns the program of a helper's name; none for what is no name.
pub(super) fn program(name: &str) -> Option<String> {
    let fits = |next: char| next.is_ascii_alphanumeric() || "._-+@".contains(next);
    (!name.is_empty() && name.chars().all(fits)).then(|| format!("{PREFIX}{name}"))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", alias = "username", default)]
    user: String,
    #[serde(rename = "Secret", alias = "secret", default)]
    secret: String,
}

/// Asks for a server's credential.
pub(super) fn get(
    runner: &dyn HelperRunner,
    program: &str,
    server: &str,
) -> Result<Option<Credential>, DockerConfigError> {
    let input = Secret::new(server);
    let Some(output) = ask(runner, program, "get", &input, None)? else { return Ok(None) };
    let wrong = |trouble| DockerConfigError::Answer { program: program.to_owned(), trouble };
    let text = std::str::from_utf8(output.stdout.as_ref()).map_err(|_| wrong("it is not UTF-8"))?;
    let Answer { user, secret } =
        serde_json::from_str(text).map_err(|_| wrong("it is no JSON with Username and Secret"))?;
    let secret = Secret::new(secret);
    Ok(match user.as_str() {
        _ if secret.as_ref().is_empty() => None,
        TOKEN_USER => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Password { user, password: secret }),
    })
}

/// Has a credential kept.
pub(super) fn store(
    runner: &dyn HelperRunner,
    program: &str,
    server: &str,
    user: &str,
    password: &Secret,
) -> Result<(), DockerConfigError> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let secret = std::str::from_utf8(password.as_ref()).map_err(|_| DockerConfigError::Refused {
        program: program.to_owned(),
        action: "store",
        said: "the password is not UTF-8".to_owned(),
    })?;
    let secret = Zeroizing::new(text(secret));
    let input = Secret::new(format!(
        "{{\"ServerURL\":{},\"Username\":{},\"Secret\":{}}}",
        text(server),
        text(user),
        *secret
    ));
    ask(runner, program, "store", &input, Some(password)).map(drop)
}

/// Has a credential forgotten. Returns whether there may have been one.
pub(super) fn erase(
    runner: &dyn HelperRunner,
    program: &str,
    server: &str,
) -> Result<bool, DockerConfigError> {
    Ok(ask(runner, program, "erase", &Secret::new(server), None)?.is_some())
}

/// Runs a helper; none if it says that it keeps nothing.
fn ask(
    runner: &dyn HelperRunner,
    program: &str,
    action: &'static str,
    input: &Secret,
    hidden: Option<&Secret>,
) -> Result<Option<HelperOutput>, DockerConfigError> {
    let output = runner
        .run(program, action, input)
        .map_err(|failure| DockerConfigError::Helper { program: program.to_owned(), failure })?;
    if output.success {
        return Ok(Some(output));
    }
    // Complaints come on standard output; standard error is for those that know no better.
    let said =
        [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said.as_ref()).into_owned());
    let said = said.iter().map(|text| text.trim()).find(|text| !text.is_empty()).unwrap_or_default();
    if said == NOT_FOUND {
        return Ok(None);
    }
    let hides = hidden.map(|secret| String::from_utf8_lossy(secret.as_ref()).into_owned());
    let said = match hides {
        Some(secret) if !secret.is_empty() && said.contains(&secret) => {
            "its message repeats the password".to_owned()
        }
        _ if said.is_empty() => "it said nothing".to_owned(),
        _ => said.chars().take(SAID_CHARACTERS).collect(),
    };
    Err(DockerConfigError::Refused { program: program.to_owned(), action, said })
}
