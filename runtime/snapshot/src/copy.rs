//! Copying from a tree into the snapshot that is being made.
//!
//! In: a view, a path or pattern in it, a path here, options. Out: files in the upper directory. First the source is
//! walked and a plan is made, so that a tree can be copied into itself; then directories are created in order, files
//! are copied on all cores, hard links are made, and last the directories get their times.
//! Source: the behaviour of tonistiigi/fsutil/copy as BuildKit's file backend calls it.
//!
//! What an earlier layer has just as it would be copied is linked from there, if the caller names one.
//!
//! Beyond that behaviour: times of directories that hold only some of their files are kept too; a pattern in a directory that
//! does not exist matches nothing; a file copied onto itself stays.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::content::ContentDigest;
use crate::editor::Editor;
use crate::error::{Result, SnapshotError};
use crate::metadata::{FileType, Metadata};
use crate::mode::ModeChange;
use crate::path::{clean, names_a_directory};
use crate::patterns::PatternMatcher;
use crate::place::{Placing, execute};
use crate::plan::Plan;
use crate::reuse::Reuse;
use crate::tally::Tally;
use crate::view::{Follow, View};

/// Says what the content of a source file must be: its path, relative to the source's root → the digest, or `None`
/// where nothing is known. For a symlink it is the digest of its target.
pub type Verify<'a> = &'a (dyn Fn(&Path) -> Option<ContentDigest> + Sync);

/// How to copy. The default copies one file or directory as it is, to a place whose parent exists.
#[derive(Clone, Default)]
pub struct CopyOptions<'a> {
    /// If the source itself is a symlink, what it points to is copied.
    pub follow_symlink: bool,
    /// Of a directory, what is inside is copied, into the destination.
    pub dir_copy_contents: bool,
    /// The directories above the destination are created: mode 0755 (or `mode`), owner root (or `owner`).
    pub create_dest_path: bool,
    /// The source may be a pattern of Go's `filepath.Match`; what it matches is copied in order.
    pub allow_wildcard: bool,
    /// A pattern may match nothing.
    pub allow_empty_wildcard: bool,
    /// The 12 mode bits of all that is copied, directories included.
    pub mode: Option<u32>,
    /// As `mode`, in octal or as clauses such as `u+x,go-w`; wins over `mode`.
    pub mode_str: Option<String>,
    /// The owner and group of all that is copied.
    pub owner: Option<(u32, u32)>,
    /// The time of all that is copied and created, nanoseconds since 1970.
    pub timestamp: Option<i64>,
    /// Only what matches, relative to the source directory, is copied; with the directories above.
    pub include_patterns: Vec<String>,
    /// What matches, relative to the source directory, is left out.
    pub exclude_patterns: Vec<String>,
    /// Paths of the source, one of which at or below each must be among what is copied.
    pub required_paths: Vec<String>,
    /// What is copied replaces whatever is in the way, a directory by a file and the other way round.
    pub always_replace: bool,
    /// Files get mode 0644, or 0755 if their owner may execute them, directories 0755, before `mode` applies;
    /// extended attributes and hard links stay behind: the tree as git would check it out.
    pub normalise_modes: bool,
    /// Each file's content is checked as it is copied; `ChangedDuringBuild` if it differs.
    pub verify: Option<Verify<'a>>,
    /// A finished layer: of what it has at the same path, just as this copy would make it, no copy is made but a link, or
    /// not even that until somebody looks ([`Snapshots::reuse_on`]). Only files whose content `verify` knows are
    /// compared with it.
    ///
    /// [`Snapshots::reuse_on`]: crate::Snapshots::reuse_on
    pub reuse: Option<&'a Reuse>,
    /// Who is told how much there is to copy, and how far it is.
    pub tally: Option<&'a Tally>,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, links and devices; no directories.
    pub files: u64,
    /// Length of the files' contents.
    pub size_bytes: u64,
}

/// Options that were parsed once for all sources.
struct Parsed<'a> {
    options: &'a CopyOptions<'a>,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    placing: Placing<'a>,
    /// Mode of the directories above the destination.
    parents_mode: u32,
}

impl Editor<'_> {
    /// Copies `src` of `source` to `dst`.
    ///
    /// A `dst` that is a directory takes the source under its own name, unless it is a directory whose contents are
    /// copied; a `dst` that ends in `/` is created as a directory. Directories are merged, files replace files and links.
    /// `NotFound` or `NoMatch` if there is nothing to copy, `IsADirectory` and `NotADirectory` if something else is in
    /// the way, `ChangedDuringBuild` by `verify`.
    pub fn copy(
        &self,
        source: &View,
        src: impl AsRef<Path>,
        dst: impl AsRef<Path>,
        options: &CopyOptions<'_>,
    ) -> Result<Copied> {
        let (src, dst) = (src.as_ref(), dst.as_ref());
        let parsed = Parsed::new(options)?;
        let view = self.view();
        if !options.create_dest_path {
            let resolved = view.resolve(&clean(dst), Follow::Yes)?.path;
            view.existing(resolved.parent().unwrap_or(Path::new("")), Follow::No)?;
        }
        let sources = match src.to_str() {
            Some(pattern) if options.allow_wildcard => source.glob(pattern)?,
            _ => vec![clean(src)],
        };
        if sources.is_empty() && !options.allow_empty_wildcard {
            return Err(SnapshotError::NoMatch { pattern: src.to_string_lossy().into_owned() });
        }
        let mut copied = Copied::default();
        let mut missing = Missing::new(source, &options.required_paths)?;
        for src in sources {
            let one = self.copy_one(source, &src, dst, &parsed, &mut missing)?;
            copied.files += one.files;
            copied.size_bytes += one.size_bytes;
        }
        missing.none()?;
        Ok(copied)
    }

    fn copy_one(
        &self,
        source: &View,
        src: &Path,
        dst: &Path,
        parsed: &Parsed<'_>,
        missing: &mut Missing,
    ) -> Result<Copied> {
        let options = parsed.options;
        let follow = if options.follow_symlink { Follow::Yes } else { Follow::No };
        let start = source.existing(src, follow)?;
        // What another source left out may be in the way of this one.
        self.settle()?;
        let view = self.view();
        let mut created = Vec::new();
        let mut create = |path: &Path| -> Result<()> {
            created.extend(self.create_directories(path, parsed.parents_mode, options.owner)?);
            Ok(())
        };

        let cleaned = clean(dst);
        let above =
            if names_a_directory(dst) { cleaned.as_path() } else { cleaned.parent().unwrap_or(&cleaned) };
        create(&view.resolve(above, Follow::Yes)?.path)?;

        let resolved = view.resolve(&cleaned, Follow::Yes)?;
        let (mut target, existing) = (resolved.path, resolved.entry);
        let is_directory = start.metadata.is_directory();
        let into = if is_directory {
            !options.dir_copy_contents && existing.is_some()
        } else {
            existing.as_ref().is_some_and(|entry| entry.metadata.is_directory())
        };
        if into {
            target.push(src.file_name().unwrap_or(OsStr::new("")));
        }
        if is_directory && options.dir_copy_contents && existing.is_none() {
            create(&target)?;
        } else {
            create(target.parent().unwrap_or(Path::new("")))?;
        }

        let plan =
            Plan::new(source, start, parsed.include.as_ref(), parsed.exclude.as_ref(), &parsed.placing)?;
        missing.found_in(&plan);
        let copied = execute(self, source, plan, &target, &parsed.placing)?;
        self.stamp(&created, options.timestamp)?;
        Ok(copied)
    }

    /// Copies the whole of `source`, exactly, into the empty upper directory; all but the root's own metadata.
    pub(crate) fn clone_tree(&self, source: &View) -> Result<()> {
        let placing = Placing { exact: true, ..Placing::default() };
        let start = source.existing(Path::new(""), Follow::No)?;
        let plan = Plan::new(source, start, None, None, &placing)?;
        execute(self, source, plan, Path::new(""), &placing)?;
        Ok(())
    }
}

/// Paths that must be among what is copied, and were not met yet: each as it was asked for, and where it leads.
struct Missing(Vec<(PathBuf, PathBuf)>);

impl Missing {
    fn new(source: &View, required: &[String]) -> Result<Self> {
        let found = |path: &String| {
            let asked = clean(Path::new(path));
            Ok((asked.clone(), source.resolve(&asked, Follow::No)?.path))
        };
        required.iter().map(found).collect::<Result<_>>().map(Self)
    }

    fn found_in(&mut self, plan: &Plan) {
        if !self.0.is_empty() {
            let planned: Vec<&Path> = plan.sources().collect();
            self.0.retain(|(_, path)| !planned.iter().any(|planned| planned.starts_with(path)));
        }
    }

    fn none(self) -> Result<()> {
        self.0.into_iter().next().map_or(Ok(()), |(path, _)| Err(SnapshotError::NotFound { path }))
    }
}

impl<'a> Parsed<'a> {
    fn new(options: &'a CopyOptions<'a>) -> Result<Self> {
        let mode = match (&options.mode_str, options.mode) {
            (Some(text), _) if !text.is_empty() => Some(ModeChange::parse(text)?),
            (_, mode) => mode.map(|mode| ModeChange::Absolute(mode & 0o7777)),
        };
        let parents_mode = match &mode {
            Some(ModeChange::Absolute(mode)) if options.mode_str.as_ref().is_none_or(String::is_empty) => {
                *mode & 0o777
            }
            _ => 0o755,
        };
        let placing = Placing {
            mode,
            owner: options.owner,
            timestamp: options.timestamp,
            replace: options.always_replace,
            normalise: options.normalise_modes,
            verify: options.verify,
            reuse: options.reuse,
            tally: options.tally,
            exact: false,
        };
        Ok(Self {
            options,
            include: PatternMatcher::of(&options.include_patterns)?,
            exclude: PatternMatcher::of(&options.exclude_patterns)?,
            placing,
            parents_mode,
        })
    }
}

impl Placing<'_> {
    /// The mode a file or directory gets.
    pub(crate) fn mode_of(&self, metadata: &Metadata) -> u32 {
        let is_directory = metadata.is_directory();
        let mode = match metadata.file_type {
            FileType::Directory | FileType::File if self.normalise => {
                if is_directory || metadata.mode & 0o100 != 0 { 0o755 } else { 0o644 }
            }
            _ => metadata.mode,
        };
        self.mode.as_ref().map_or(mode, |change| change.apply(mode, is_directory))
    }
}
