//! Words of `rb login` and `rb logout`, and those of all that asks a registry.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use super::Hidden;

/// How a command that asks a registry reaches it: what is not in the user's settings.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct RegistryArgs {
    /// Trust the authorities in this PEM file, beside those of the system
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Vec<PathBuf>,
}

/// `rb login`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The login is kept where docker keeps it: with the credential helper that its config.json names, else in that file. So it \
is one for docker too, and docker's are for rb.

Examples:
  rb login                                          Docker's own registry; asks
  rb login ghcr.io -u me --password-stdin < token   nothing is asked")]
pub(crate) struct LoginArgs {
    /// Name; asked for on a terminal if it is not given
    #[arg(long, short, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Password or access token; other users of this machine can see it while rb runs
    #[arg(long, short, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<Hidden>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// The registry [default: docker.io]
    pub(crate) host: Option<String>,
}

/// `rb logout`
#[derive(Debug, ClapArgs)]
pub(crate) struct LogoutArgs {
    /// The registry [default: docker.io]
    pub(crate) host: Option<String>,
}
