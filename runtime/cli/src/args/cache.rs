//! What `rb cache` takes.

use clap::Subcommand;

/// `rb cache`
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Read all that is stored, and drop what is damaged
    ///
    /// Images that lack something are named.
    #[command(after_help = "\
Builds notice layers that were changed, and blobs that are damaged, before they use them. What a disk changed behind \
everybody's back shows only when every byte is read. What is dropped is made again by the build that wants it.

Exit codes:
  0  nothing is damaged
  1  damage was found, and what it touched is dropped; or an image is not whole")]
    Verify {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}
