//! Why a detection ended as it did: a tree from groups to modules to trials.
//!
//! In: what `detect` saw. Out: data, and a text that shows it: what `rb pack detect --explain` prints.

use std::fmt;

use crate::ModuleKey;

/// Everything that was tried, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// One for each group, composites taken apart.
    pub groups: Vec<GroupReport>,
}

/// What came of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupReport {
    /// How it came from the order: the group of the order, then of each composite.
    pub path: Vec<Step>,
    /// Its modules, in order.
    pub members: Vec<MemberReport>,
    /// How it ended.
    pub end: GroupEnd,
}

/// One choice on the way from the order to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This group of the order, from 1.
    Order(usize),
    /// This group of the extensions' order, from 1.
    Extensions(usize),
    /// Without extensions.
    NoExtensions,
    /// This group, from 1, of a composite.
    Composite(ModuleKey, usize),
    /// Without a composite that is optional.
    Without(ModuleKey),
}

/// What came of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    /// Which.
    pub module: ModuleKey,
    /// Whether the group may do without it.
    pub optional: bool,
    /// What it said.
    pub verdict: Verdict,
}

/// What a module said, or why it was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exit code 0, with a plan that reads.
    Passed,
    /// Exit code 100.
    Failed,
    /// Another exit code.
    Exit(i32),
    /// Exit code 0, with a plan that cannot be used.
    Plan(String),
    /// The base image is none that it is for.
    Target,
    /// It is for other execution environments.
    ExecutionEnvironment,
}

/// How a group ended.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEnd {
    /// It was chosen.
    Chosen {
        /// Trials until the plan fitted, as far as they are kept.
        trials: Vec<Trial>,
        /// How many there were.
        count: u64,
    },
    /// A module that it needs did not pass.
    Lacks,
    /// No buildpack passed.
    Empty,
    /// The plans do not fit together.
    Plans {
        /// Trials, as far as they are kept.
        trials: Vec<Trial>,
        /// How many there were.
        count: u64,
    },
}

/// One choice of alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// From 1.
    pub number: u64,
    /// Which alternative of each module that passed; 0 is the plan's top level.
    pub alternatives: Vec<usize>,
    /// What was found in it, in order.
    pub steps: Vec<TrialStep>,
    /// Whether it is the one that fits.
    pub fits: bool,
}

/// A module that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialStep {
    /// Which.
    pub module: ModuleKey,
    /// Why.
    pub unfit: Unfit,
    /// Whether it was taken out; otherwise the trial failed for it.
    pub removed: bool,
}

/// Why a module does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nobody before it offers this.
    Requires(String),
    /// Nobody after it asks for this.
    ProvidesUnused(String),
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.groups.iter().try_for_each(|group| group.fmt(out))
    }
}

impl fmt::Display for GroupReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.path.iter().enumerate() {
            write!(out, "{}{step}", if index == 0 { "" } else { ", " })?;
        }
        writeln!(out, ": {}", self.end)?;
        for member in &self.members {
            let optional = if member.optional { " (optional)" } else { "" };
            writeln!(out, "  {}{optional}: {}", member.module, member.verdict)?;
        }
        let (trials, count) = match &self.end {
            GroupEnd::Chosen { trials, count } | GroupEnd::Plans { trials, count } => {
                (trials.as_slice(), *count)
            }
            GroupEnd::Lacks | GroupEnd::Empty => (&[][..], 0),
        };
        for trial in trials {
            // A first trial that fits at once says nothing.
            if count > 1 || !trial.fits || !trial.steps.is_empty() {
                writeln!(out, "  trial {}{}", trial.number, if trial.fits { ": fits" } else { "" })?;
            }
            for step in &trial.steps {
                writeln!(out, "    {step}")?;
            }
        }
        match count.saturating_sub(trials.len() as u64) {
            0 => Ok(()),
            more => writeln!(out, "  {more} more trials"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(group) => write!(out, "group {group}"),
            Self::Extensions(group) => write!(out, "extensions {group}"),
            Self::NoExtensions => out.write_str("no extensions"),
            Self::Composite(module, group) => write!(out, "{module} group {group}"),
            Self::Without(module) => write!(out, "without {module}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => out.write_str("passed"),
            Self::Failed => out.write_str("failed (exit code 100)"),
            Self::Exit(code) => write!(out, "ended with an error (exit code {code})"),
            Self::Plan(why) => write!(out, "passed with a plan that cannot be used: {why}"),
            Self::Target => out.write_str("is for other base images"),
            Self::ExecutionEnvironment => out.write_str("is for other execution environments"),
        }
    }
}

impl fmt::Display for GroupEnd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Chosen { .. } => "chosen",
            Self::Lacks => "a module that it needs did not pass",
            Self::Empty => "no buildpack passed",
            Self::Plans { .. } => "what its modules require and provide does not fit together",
        })
    }
}

impl fmt::Display for TrialStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = if self.removed { "left out: " } else { "" };
        match &self.unfit {
            Unfit::Requires(name) => {
                write!(out, "{removed}{} requires `{name}`, which nobody before it provides", self.module)
            }
            Unfit::ProvidesUnused(name) => {
                write!(out, "{removed}{} provides `{name}`, which nobody after it requires", self.module)
            }
        }
    }
}
