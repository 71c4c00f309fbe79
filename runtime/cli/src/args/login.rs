//! Words of `rb login` and `rb logout`.

use clap::Args as ClapArgs;

use super::Hidden;

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
    /// The registry [default: docker.io]
    pub(crate) host: Option<String>,
}

/// `rb logout`
#[derive(Debug, ClapArgs)]
pub(crate) struct LogoutArgs {
    /// The registry [default: docker.io]
    pub(crate) host: Option<String>,
}
