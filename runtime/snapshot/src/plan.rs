//! What a copy will do: the directories and files of the source that include and exclude patterns leave.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::metadata::FileType;
use crate::patterns::{MatchInfo, PatternMatcher};
use crate::place::Placing;
use crate::view::{Entry, View};
use crate::walk::Walk;

/// The plan of one copy. Directories come before what is inside.
pub(crate) struct Plan {
    pub(crate) directories: Vec<PlannedDirectory>,
    /// The source is no directory but this.
    pub(crate) single: Option<Entry>,
}

pub(crate) struct PlannedDirectory {
    pub(crate) source: Entry,
    /// Relative to the source's start; empty for the start itself.
    pub(crate) relative: PathBuf,
    pub(crate) role: Role,
    pub(crate) items: Vec<Item>,
}

/// Why a directory is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is where the copy starts: one that exists keeps its metadata.
    Start,
    /// It is copied: one that exists takes on the metadata of the source.
    Copied,
    /// It only leads to something that is copied: one that exists takes on the mode.
    Passage,
    /// Nothing inside is copied.
    Unneeded,
}

/// Something to be copied that is no directory.
pub(crate) struct Item {
    pub(crate) name: OsString,
    pub(crate) entry: Entry,
    /// It is another name of this earlier item: directory and index in it.
    pub(crate) same_as: Option<(usize, usize)>,
}

/// A directory on the way down, and what the patterns said of it.
struct Level {
    index: usize,
    include: MatchInfo,
    exclude: MatchInfo,
}

/// How the source is gone through.
enum Way {
    Step(Walk),
    Whole(std::vec::IntoIter<Entry>),
}

impl Iterator for Way {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Step(walk) => walk.next(),
            Self::Whole(entries) => entries.next().map(Ok),
        }
    }
}

impl Plan {
    pub(crate) fn new(
        source: &View,
        start: Entry,
        include: Option<&PatternMatcher>,
        exclude: Option<&PatternMatcher>,
        placing: &Placing<'_>,
    ) -> Result<Self> {
        if !start.metadata.is_directory() {
            return Ok(Self { directories: Vec::new(), single: Some(start) });
        }
        let base = start.path.clone();
        let mut plan = Self { directories: Vec::new(), single: None };
        let mut levels: Vec<Level> = Vec::new();
        let mut first_names: HashMap<(u64, u64), (usize, usize)> = HashMap::new();
        // What is excluded is not even looked at.
        let mut walk = match exclude {
            Some(_) => Way::Step(Walk::new(source.clone(), start)),
            None => Way::Whole(crate::walk::all(source, start)?.into_iter()),
        };
        while let Some(entry) = walk.next() {
            let entry = entry?;
            let relative = entry.path.strip_prefix(&base).unwrap_or(&entry.path);
            levels.truncate(relative.iter().count());
            let above = levels.last();
            let (included, include_info) = ask(include, relative, above.map(|level| &level.include), true);
            let (excluded, exclude_info) = ask(exclude, relative, above.map(|level| &level.exclude), false);
            let wanted = included && !excluded;
            if wanted {
                plan.need_passages(&levels);
            }
            if entry.metadata.is_directory() {
                // Inside an excluded directory only a `!` pattern finds anything.
                if excluded && !exclude.is_some_and(PatternMatcher::has_exclusions) {
                    if let Way::Step(walk) = &mut walk {
                        walk.skip_inside();
                    }
                    continue;
                }
                let role = match (levels.is_empty(), wanted) {
                    (true, _) => Role::Start,
                    (false, true) => Role::Copied,
                    (false, false) => Role::Unneeded,
                };
                levels.push(Level {
                    index: plan.directories.len(),
                    include: include_info,
                    exclude: exclude_info,
                });
                let relative = relative.to_owned();
                plan.directories.push(PlannedDirectory { source: entry, relative, role, items: Vec::new() });
            } else if wanted && let (Some(level), Some(name)) = (levels.last(), entry.path.file_name()) {
                let items = &mut plan.directories[level.index].items;
                let place = (level.index, items.len());
                let first = match entry.metadata.hard_link_group() {
                    Some(group) if !placing.normalise => *first_names.entry(group).or_insert(place),
                    _ => place,
                };
                let name = name.to_owned();
                items.push(Item { name, entry, same_as: (first != place).then_some(first) });
            }
        }
        Ok(plan)
    }

    /// Returns how many files, links and devices it copies, and how many bytes of content.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let needed = self.directories.iter().filter(|directory| directory.role != Role::Unneeded);
        let items = needed.flat_map(|directory| &directory.items);
        let mut extent = (0, 0);
        for (entry, is_again) in items
            .map(|item| (&item.entry, item.same_as.is_some()))
            .chain(self.single.iter().map(|entry| (entry, false)))
        {
            extent.0 += 1;
            if entry.metadata.file_type == FileType::File && !is_again {
                extent.1 += entry.metadata.size_bytes;
            }
        }
        extent
    }

    /// Returns the paths, in the source, of all that is copied.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.entries().map(|entry| entry.path.as_path())
    }

    /// Returns all that is copied, as it is in the source.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let needed = self.directories.iter().filter(|directory| directory.role != Role::Unneeded);
        let within = needed.flat_map(|directory| {
            let items = directory.items.iter().map(|item| &item.entry);
            std::iter::once(&directory.source).chain(items)
        });
        self.single.iter().chain(within)
    }

    /// Marks the directories on the way to something that is copied.
    fn need_passages(&mut self, levels: &[Level]) {
        for level in levels.iter().rev() {
            let directory = &mut self.directories[level.index];
            if directory.role != Role::Unneeded {
                break;
            }
            directory.role = Role::Passage;
        }
    }
}

/// What `matcher` says of `relative`, and what is to be handed on; `none` where there is no matcher, or for the start.
fn ask(
    matcher: Option<&PatternMatcher>,
    relative: &Path,
    above: Option<&MatchInfo>,
    none: bool,
) -> (bool, MatchInfo) {
    match (matcher, above) {
        (Some(matcher), Some(above)) => matcher.matches_with_parent(relative, above),
        _ => (none, MatchInfo::default()),
    }
}
