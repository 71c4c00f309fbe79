//! What `rb cache` takes.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use rb_store::Kind;

use crate::sizes;

/// `rb cache`
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show what is kept, how big it is and why it is still here
    #[command(after_help = "\
Sizes are what is really allocated on the disk, each file once: all of it is what `du -s` says. SIZE is what the removal of a \
piece frees; what it shares with others stays with them. COST is how long it took to make, guessed (~) where nobody measured it. What costs \
little for its size and was not used for long goes first when room is needed.")]
    Du(DuArgs),
    /// Remove what is kept, and say how much that freed
    ///
    /// Without a filter: layers, blobs and beginnings of downloads. What a running rb needs, what is pinned and what images
    /// with a name are made of stays.
    #[command(after_help = "\
Examples:
  rb cache prune --filter until=24h         what nobody used for a day
  rb cache prune --all --keep-storage 10GB  what is worth least, to 10 GB
  rb cache prune --filter type=mounts       the directories of cache mounts")]
    Prune(PruneArgs),
    /// Keep pieces whatever else has to go
    Pin(PinArgs),
    /// Let pinned pieces go again when room is needed
    Unpin(PinArgs),
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

/// `rb cache du`
#[derive(Debug, ClapArgs)]
pub(crate) struct DuArgs {
    /// Show only what this names: until=24h, type=layers, id=layer/12
    ///
    /// May be given several times, or with commas; several ids or types are any of them. Types are layers, blobs, mounts, git,
    /// logs and downloads.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) filter: Vec<CacheFilter>,
    /// List every piece, not only the largest
    #[arg(long, short = 'v')]
    pub(crate) all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb cache prune`
#[derive(Debug, ClapArgs)]
pub(crate) struct PruneArgs {
    /// Cache mounts, git repositories and the records of builds, too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Remove no more than needed so that this much is left
    #[arg(
        long,
        visible_alias = "keep-storage",
        alias = "reserved-space",
        value_name = "SIZE",
        value_parser = sizes::storage
    )]
    pub(crate) max_used_space: Option<u64>,
    /// Remove only what this names: until=24h, type=layers, id=layer/12
    ///
    /// May be given several times, or with commas; several ids or types are any of them. Types are layers, blobs, mounts, git,
    /// logs and downloads.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) filter: Vec<CacheFilter>,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Tell of each piece what it is and when it was used
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Do not ask; nothing is asked anyway
    #[arg(long, short, hide = true)]
    pub(crate) force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb cache pin`, `rb cache unpin`
#[derive(Debug, ClapArgs)]
pub(crate) struct PinArgs {
    /// What, as `rb cache du` names it: layer/12
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// What a list is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheFilter {
    /// What was not used for so long.
    Until(Duration),
    /// A kind.
    Type(Kind),
    /// A piece.
    Id(String),
}

impl FromStr for CacheFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or("write until=24h, type=layers or id=layer/12".to_owned())?;
        match key {
            "until" | "unused-for" => {
                let age = humantime::parse_duration(value);
                age.map(Self::Until).map_err(|_| format!("`{value}` is no time, such as `24h` or `7d`"))
            }
            "type" => value.parse().map(Self::Type).map_err(|()| {
                let names: Vec<&str> = Kind::ALL.map(Kind::name).into();
                format!("there is no type `{value}`; there are {}", names.join(", "))
            }),
            "id" => Ok(Self::Id(value.to_owned())),
            _ => Err(format!("there is no filter `{key}`; `until`, `type` and `id` are some")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_refused_by_name() {
        let day = Duration::from_secs(24 * 3600);
        assert_eq!("until=24h".parse(), Ok(CacheFilter::Until(day)));
        assert_eq!("type=layer".parse(), Ok(CacheFilter::Type(Kind::Layers)));
        assert_eq!("id=git/12".parse(), Ok(CacheFilter::Id("git/12".to_owned())));
        for (text, word) in [("until=x", "24h"), ("type=trees", "mounts"), ("label=a", "until"), ("x", "id=")]
        {
            let error = text.parse::<CacheFilter>().expect_err("is none");
            assert!(error.contains(word), "{error}");
        }
    }
}
