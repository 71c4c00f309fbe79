//! Words of `rb docker`.

use clap::{Args as ClapArgs, Subcommand};

/// `rb docker`
#[derive(Debug, Subcommand)]
pub(crate) enum DockerCommand {
    /// Make `docker rb` this rb
    ///
    /// By a link in the folder of docker's plugins: `cli-plugins` in $DOCKER_CONFIG or ~/.docker.
    #[command(after_help = "\
`docker rb build`, `docker rb bake` and every other command of rb are there then; images go to Docker unless an output is \
named. With --as-buildx, `docker build`, `docker buildx build` and `docker buildx bake` are rb's, too.

Examples:
  rb docker install
  rb docker install --as-buildx        and `docker build` is rb, too")]
    Install(DockerInstallArgs),
    /// Take away the links that lead to rb
    Uninstall,
}

/// `rb docker install`
#[derive(Debug, ClapArgs)]
pub(crate) struct DockerInstallArgs {
    /// Also take buildx's place
    #[arg(long)]
    pub(crate) as_buildx: bool,
    /// Put links in the place of what is there
    #[arg(long, short)]
    pub(crate) force: bool,
}
