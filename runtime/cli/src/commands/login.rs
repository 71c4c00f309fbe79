//! `rb login` and `rb logout`: who we are to a registry, kept where docker keeps it.
//!
//! In: a host, a name and a password, typed or read. Out: a line that says where it is kept. A password is shown to the
//! registry before it is kept, and to nobody else.

use std::io::Read as _;
use std::sync::Arc;

use rb_diag::chain;
use rb_exec::Outside;
use rb_registry::{Anonymous, Credential, CredentialPlace, DockerConfigError, Registry, RegistryError};
use rb_session::Secret;
use zeroize::Zeroizing;

use crate::args::{LoginArgs, LogoutArgs};
use crate::environment::Environment;
use crate::helpers::docker_config;
use crate::prompt::{self, PromptError};
use crate::report::{self, Failure};
use crate::settings::Display;
use crate::settings::registry::{self, DOCKER_HUB, RegistrySettings};
use crate::signals::{Interrupt, until_interrupted};

/// Longest password on stdin.
const LIMIT_BYTES: u64 = 64 << 10;

/// Logs in.
pub(super) fn login(environment: &Environment, login: &LoginArgs, display: Display) -> Result<u8, Failure> {
    let host = host_of(login.host.as_deref())?;
    let mut settings = crate::settings::registry(environment)?;
    settings.ca_files.extend(login.registry.ca.iter().map(|file| environment.cwd.join(file)));
    let outside = Arc::new(Outside::start()?);
    if login.password.is_some() {
        let told = "a password on the command line can be seen by other users of this machine, and stays in your \
                    shell's history: `--password-stdin` reads it from a pipe or a file";
        super::warn(&[told.to_owned()], display);
    }
    let user = user_of(login, &host)?;
    let password = password_of(login)?;
    verify(&settings, &host, &user, &password)?;
    let place = docker_config(&settings, outside).store(&host, &user, &password)?;
    let kept = match place {
        CredentialPlace::Helper(program) => format!("the password is kept by `{program}`"),
        CredentialPlace::File(file) => format!(
            "the password is kept in `{}`, for who can read that file; a `credsStore` there names a helper that \
             keeps passwords elsewhere",
            file.display()
        ),
    };
    say(display, &format!("logged in to {host} as {user}\n{kept}\n"));
    Ok(0)
}

/// Logs out.
pub(super) fn logout(
    environment: &Environment,
    logout: &LogoutArgs,
    display: Display,
) -> Result<u8, Failure> {
    let host = host_of(logout.host.as_deref())?;
    let settings = crate::settings::registry(environment)?;
    let outside = Arc::new(Outside::start()?);
    let erased = docker_config(&settings, outside).erase(&host)?;
    for place in &erased.from {
        let place = match place {
            CredentialPlace::File(file) => format!("`{}`", file.display()),
            CredentialPlace::Helper(program) => format!("`{program}`"),
        };
        say(display, &format!("logged out of {host}: {place} no longer has it\n"));
    }
    if erased.from.is_empty() {
        say(display, &format!("nobody was logged in to {host}\n"));
    }
    for file in &erased.left {
        let told =
            format!("`{}` still has a login for {host}: `podman logout {host}` removes it", file.display());
        super::warn(&[told], display);
    }
    Ok(0)
}

/// Shows a name and a password to the registry.
fn verify(settings: &RegistrySettings, host: &str, user: &str, password: &Secret) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::environment("the registry cannot be asked", &error))?;
    let credential = Credential::Password { user: user.to_owned(), password: password.clone() };
    let work = async {
        let registry = Registry::new(settings.options(), Arc::new(Anonymous));
        registry.check_login(host, &credential).await
    };
    match runtime.block_on(until_interrupted(work, |_| {})) {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(RegistryError::Unauthorized { .. }))) => {
            let help = "many registries take an access token in place of the password".to_owned();
            Err(Failure::input(format!("{host} does not take this name with this password"), Some(help)))
        }
        Ok(Ok(Err(error))) => {
            Err(Failure::Said { kind: error.kind(), message: chain(&error), help: error.help() })
        }
        Ok(Err(interrupt)) => Err(Failure::Interrupted(interrupt)),
        Err(error) => Err(Failure::environment("signals cannot be waited for", &error)),
    }
}

fn say(display: Display, text: &str) {
    if display.mode != crate::settings::ProgressMode::Quiet {
        report::tell(text);
    }
}

/// Reads a registry's host out of what people type, which may be an address.
fn host_of(typed: Option<&str>) -> Result<String, Failure> {
    let Some(typed) = typed else { return Ok(DOCKER_HUB.to_owned()) };
    let bare = ["https://", "http://"].iter().find_map(|scheme| typed.strip_prefix(scheme)).unwrap_or(typed);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let trouble = match (registry::check_host(host), path.trim_end_matches('/')) {
        (Err(trouble), _) => trouble,
        // Docker's own address has the one, all others the other.
        (Ok(()), "" | "v1" | "v2") => return Ok(registry::usual_name(host).to_owned()),
        (Ok(()), _) => "it has a path",
    };
    let help = "name its host, such as `ghcr.io` or `registry.example.com:5000`".to_owned();
    Err(Failure::input(format!("`{typed}` is not a registry: {trouble}"), Some(help)))
}

fn user_of(login: &LoginArgs, host: &str) -> Result<String, Failure> {
    let user = match &login.username {
        Some(user) => user.clone(),
        None if prompt::can_ask() => prompt::ask(&format!("name for {host}: "))?.trim().to_owned(),
        None => {
            let help = "name it: `rb login HOST -u USER --password-stdin < FILE`".to_owned();
            return Err(Failure::input("there is no terminal to ask for a name on", Some(help)));
        }
    };
    // The first colon ends the name, wherever it stands.
    let trouble = match user.as_str() {
        "" => "the name is empty",
        user if user.contains(':') => "a name with a colon cannot be sent",
        user if user.contains(char::is_control) => "the name has a control character",
        _ => return Ok(user),
    };
    Err(Failure::input(trouble, None))
}

fn password_of(login: &LoginArgs) -> Result<Secret, Failure> {
    let password = match &login.password {
        Some(password) => Secret::new(password.reveal()),
        None if login.password_stdin => password_from_stdin()?,
        None if prompt::can_ask() => prompt::ask_hidden("password or access token: ")?,
        None => {
            let help = "`--password-stdin` reads it from a pipe or a file".to_owned();
            return Err(Failure::input("there is no terminal to ask for a password on", Some(help)));
        }
    };
    if password.as_ref().is_empty() {
        return Err(Failure::input("the password is empty", None));
    }
    Ok(password)
}

/// Reads all of stdin; the end of a line at its end is none of the password's.
fn password_from_stdin() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT_BYTES as usize + 1));
    let read = std::io::stdin().lock().take(LIMIT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::environment("the password cannot be read from stdin", &error))?;
    if bytes.len() as u64 > LIMIT_BYTES {
        let limit = LIMIT_BYTES >> 10;
        return Err(Failure::input(format!("what stdin gives is longer than {limit} KiB"), None));
    }
    let password = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if std::str::from_utf8(password).is_err() {
        return Err(Failure::input("what stdin gives is not UTF-8 text", None));
    }
    Ok(Secret::new(password))
}

impl From<PromptError> for Failure {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Interrupted => Self::Interrupted(Interrupt::Int),
            PromptError::Ended | PromptError::TooLong => Self::input(error.to_string(), None),
            PromptError::Terminal(source) => Self::environment("the terminal cannot be read", &source),
        }
    }
}

impl From<DockerConfigError> for Failure {
    fn from(error: DockerConfigError) -> Self {
        Self::Said { kind: error.kind(), message: chain(&error), help: error.help() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_registries_are_their_hosts() {
        for (typed, expected) in [
            (None, Some("docker.io")),
            (Some("ghcr.io"), Some("ghcr.io")),
            (Some("https://ghcr.io/"), Some("ghcr.io")),
            (Some("http://localhost:5000/v2/"), Some("localhost:5000")),
            (Some("https://index.docker.io/v1/"), Some("docker.io")),
            (Some("registry-1.docker.io"), Some("docker.io")),
            (Some("ghcr.io/team"), None),
            (Some(""), None),
            (Some("https://"), None),
            (Some("a b"), None),
            (Some("user:pw@ghcr.io"), None),
            (Some("ftp://ghcr.io"), None),
        ] {
            assert_eq!(host_of(typed).ok().as_deref(), expected, "{typed:?}");
        }
    }
}
