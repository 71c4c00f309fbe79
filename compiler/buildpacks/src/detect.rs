//! Detection: which group of the order builds the app?
//!
//! In: the order, the modules that it names, the base image, and what each `bin/detect` said so far. Out: the modules to ask
//! next, or the group and the plan, or why there is none; and the tree of all that was tried.
//! How: the order is walked depth first. A composite is replaced by each of its groups, followed by the rest of the group that
//! it stands in; an optional one by nothing, too. The extensions' order is an optional first element of every group. What
//! stands in the group already (same kind and id) is passed over. A group whose elements are all modules is judged.
//! **Invariant:** the walk is a function of its input; who asks again with more answers comes to the same groups in the same
//! order. Depth, groups and trials are bounded.
//! Deliberately unlike the lifecycle: an optional module that is for other base images is left out, as the spec has it, and
//! `exec-env` of an order's entry counts.
//! Source: buildpack spec, "Phase 1: Detection"; the lifecycle's detector.

use std::collections::{BTreeMap, BTreeSet};

use crate::explain::{Explanation, GroupEnd, GroupReport, MemberReport, Step, Verdict};
use crate::module::includes;
use crate::trials::{Candidate, TrialLimits, Tried, try_within};
use crate::{
    BaseTarget, BuildPlan, Exit, Group, GroupElement, Module, ModuleKey, ModuleKind, Order, OrderElement,
    OrderFile, Plan, PlatformApi, System,
};

/// How many composites may stand within or after one another in one group.
const DEPTH: usize = 128;
/// How many elements a group may have.
const ELEMENTS: usize = 1024;
/// How many groups may be judged.
const GROUPS: usize = 4096;
/// How many modules they may have together.
const MEMBERS: usize = 1 << 18;
/// How many trials are kept for the explanation.
const TRIALS: usize = 4096;

/// The modules that an order names, and those that composites name.
pub type Modules = BTreeMap<ModuleKey, Module>;

/// What is to be detected.
#[derive(Clone, Debug)]
pub struct DetectRequest<'a> {
    /// The API of the platform.
    pub platform: PlatformApi,
    /// What is tried.
    pub order: &'a OrderFile,
    /// What stands around each group.
    pub system: &'a System,
    /// All modules.
    pub modules: &'a Modules,
    /// The base that the app will run on.
    pub base: &'a BaseTarget,
    /// The execution environment, such as `production`; empty for none.
    pub execution_environment: &'a str,
    /// How much may be tried.
    pub limits: TrialLimits,
}

/// What a `bin/detect` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectRun {
    /// Its exit code; -1 if it was ended by a signal or could not be run.
    pub code: i32,
    /// The build plan that it wrote.
    pub plan: Vec<u8>,
}

/// What came of a detection.
#[derive(Clone, Debug, PartialEq)]
pub enum Detection {
    /// These have to be asked first; they are independent of one another.
    Ask(BTreeSet<ModuleKey>),
    /// It is decided.
    Done {
        /// What was chosen, or why nothing.
        result: Result<Detected, DetectError>,
        /// Everything that was tried.
        explanation: Explanation,
    },
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    /// The modules that build.
    pub group: Group,
    /// What they ask of one another.
    pub plan: Plan,
}

/// Nothing was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// No group passed.
    #[error("no group of buildpacks passed detection")]
    NoGroup,
    /// No group passed, and a module ended with an error.
    #[error("no group of buildpacks passed detection, and a buildpack ended with an error")]
    NoGroupWithErrors,
    /// The order names a module that is not there.
    #[error("the order names {kind} {key}, which is not there")]
    Unknown {
        /// Its kind.
        kind: ModuleKind,
        /// Which.
        key: ModuleKey,
        /// Whether a composite names it, rather than the order itself.
        nested: bool,
    },
    /// Composites stand in one another without an end.
    #[error("composite buildpacks lead more than {DEPTH} deep, last by {0}")]
    TooDeep(ModuleKey),
    /// A group has too many elements.
    #[error("a group has more than {ELEMENTS} elements")]
    TooLong,
    /// Too many groups were tried.
    #[error("more than {GROUPS} groups, or {MEMBERS} modules in them, were tried")]
    TooManyGroups,
    /// Too many choices of plans were tried.
    #[error("{0} choices of what a group requires and provides were tried, and there are more")]
    TooManyTrials(u64),
}

impl DetectError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoGroup => Exit::NoGroup,
            Self::NoGroupWithErrors => Exit::NoGroupWithErrors,
            Self::Unknown { nested: false, .. } => Exit::Failed,
            Self::Unknown { .. }
            | Self::TooDeep(_)
            | Self::TooLong
            | Self::TooManyGroups
            | Self::TooManyTrials(_) => Exit::Detect,
        }
    }
}

/// Detects as far as is known.
pub fn detect(request: &DetectRequest<'_>, runs: &BTreeMap<ModuleKey, DetectRun>) -> Detection {
    let order = request.order.with_system(request.system, request.platform);
    let mut walk = Walk {
        request,
        runs,
        plans: BTreeMap::new(),
        budget: request.limits.entries,
        trials: TRIALS,
        members: MEMBERS,
        explanation: Explanation::default(),
    };
    let end = walk.verify(&order).and_then(|()| walk.groups(&order));
    let result = match end {
        Ok(detected) => Ok(detected),
        Err(Stop::Ask(keys)) => return Detection::Ask(keys),
        Err(Stop::Failed) => Err(DetectError::NoGroup),
        Err(Stop::FailedWithErrors) => Err(DetectError::NoGroupWithErrors),
        Err(Stop::Error(error)) => Err(error),
    };
    Detection::Done { result, explanation: walk.explanation }
}

/// Why a part of the walk chose nothing.
enum Stop {
    Ask(BTreeSet<ModuleKey>),
    Failed,
    FailedWithErrors,
    Error(DetectError),
}

/// An element of a group on its way to be judged.
#[derive(Clone, Copy)]
enum Element<'a> {
    /// The order of extensions, which stands before all others.
    Extensions,
    One(&'a OrderElement, ModuleKind),
}

/// Whose groups are tried.
#[derive(Clone, Copy)]
enum Parent<'a> {
    Extensions,
    Composite(&'a ModuleKey),
}

struct Walk<'a> {
    request: &'a DetectRequest<'a>,
    runs: &'a BTreeMap<ModuleKey, DetectRun>,
    /// Plans of those that passed, and why others cannot be used: each is read once.
    plans: BTreeMap<ModuleKey, Result<BuildPlan, String>>,
    /// What may still be looked at.
    budget: u64,
    /// How many trials may still be kept.
    trials: usize,
    /// How many modules groups may still have.
    members: usize,
    explanation: Explanation,
}

/// The group as far as it is taken apart.
#[derive(Clone, Default)]
struct Taken {
    path: Vec<Step>,
    /// What stands in the group; `None` has to be asked.
    members: Vec<(ModuleKey, bool, Option<Verdict>)>,
    depth: usize,
}

impl<'a> Walk<'a> {
    /// Every module that the order itself names has to be there, whether it comes to it or not.
    fn verify(&self, order: &Order) -> Result<(), Stop> {
        let extensions =
            self.request.order.order_extensions.iter().map(|group| (group, ModuleKind::Extension));
        for (group, kind) in order.iter().map(|group| (group, ModuleKind::Buildpack)).chain(extensions) {
            for one in &group.group {
                self.module(&key(one, kind), false)?;
            }
        }
        Ok(())
    }

    fn module(&self, key: &ModuleKey, nested: bool) -> Result<&'a Module, Stop> {
        let modules = self.request.modules;
        modules
            .get(key)
            .ok_or_else(|| Stop::Error(DetectError::Unknown { kind: key.kind, key: key.clone(), nested }))
    }

    fn groups(&mut self, order: &Order) -> Result<Detected, Stop> {
        let mut errors = false;
        for (index, group) in order.iter().enumerate() {
            let taken = Taken { path: vec![Step::Order(index + 1)], ..Taken::default() };
            let mut elements = Vec::new();
            if !self.request.order.order_extensions.is_empty() {
                elements.push(Element::Extensions);
            }
            elements.extend(group.group.iter().map(|one| Element::One(one, ModuleKind::Buildpack)));
            match self.group(&elements, taken) {
                Err(Stop::Failed) => {}
                Err(Stop::FailedWithErrors) => errors = true,
                end => return end,
            }
        }
        Err(if errors { Stop::FailedWithErrors } else { Stop::Failed })
    }

    /// Tries each group of a composite, or of the extensions, before the rest of the group that it stands in.
    fn nested(
        &mut self,
        (parent, order, optional): (Parent<'_>, &Order, bool),
        rest: &[Element<'_>],
        taken: &Taken,
    ) -> Result<Detected, Stop> {
        if taken.depth == DEPTH {
            let key = match parent {
                Parent::Composite(key) => key.clone(),
                Parent::Extensions => ModuleKey::default(),
            };
            return Err(Stop::Error(DetectError::TooDeep(key)));
        }
        let on = |step: Step| {
            let mut taken = taken.clone();
            taken.path.push(step);
            taken.depth += 1;
            taken
        };
        let mut errors = false;
        for (index, group) in order.iter().enumerate() {
            let (kind, step) = match parent {
                Parent::Extensions => (ModuleKind::Extension, Step::Extensions(index + 1)),
                Parent::Composite(key) => (ModuleKind::Buildpack, Step::Composite(key.clone(), index + 1)),
            };
            let own = group.group.iter().map(|one| Element::One(one, kind));
            let elements: Vec<_> = own.chain(rest.iter().copied()).collect();
            match self.group(&elements, on(step)) {
                Err(Stop::Failed) => {}
                Err(Stop::FailedWithErrors) => errors = true,
                end => return end,
            }
        }
        if optional {
            // What is told of the groups before is forgotten: the lifecycle's exit code is that of the last one.
            return self.group(
                rest,
                on(match parent {
                    Parent::Extensions => Step::NoExtensions,
                    Parent::Composite(key) => Step::Without(key.clone()),
                }),
            );
        }
        Err(if errors { Stop::FailedWithErrors } else { Stop::Failed })
    }

    fn group(&mut self, elements: &[Element<'_>], mut taken: Taken) -> Result<Detected, Stop> {
        if elements.len() > ELEMENTS {
            return Err(Stop::Error(DetectError::TooLong));
        }
        let request = self.request;
        for (index, element) in elements.iter().enumerate() {
            let rest = &elements[index + 1..];
            let (one, kind) = match element {
                Element::Extensions => {
                    return self.nested(
                        (Parent::Extensions, &request.order.order_extensions, true),
                        rest,
                        &taken,
                    );
                }
                Element::One(one, kind) => (*one, *kind),
            };
            let key = key(one, kind);
            if taken
                .members
                .iter()
                .any(|member| stands(member) && (member.0.kind, &member.0.id) == (kind, &key.id))
            {
                continue;
            }
            let module = self.module(&key, true)?;
            let optional = one.optional || kind == ModuleKind::Extension;
            if self.is_elsewhere(&one.exec_env) {
                taken.members.push((key, optional, Some(Verdict::ExecutionEnvironment)));
                continue;
            }
            if module.is_composite() {
                return self.nested((Parent::Composite(&key), &module.order, optional), rest, &taken);
            }
            // A module that is for other base images fails its group even where it is for other environments, too.
            let fits =
                module.targets.is_empty() || module.targets.iter().any(|target| target.fits(request.base));
            let elsewhere = module.api.execution_environments() && self.is_elsewhere(&module.info.exec_env);
            let verdict = match (fits, elsewhere) {
                (false, _) => Some(Verdict::Target),
                (true, true) => Some(Verdict::ExecutionEnvironment),
                (true, false) => None,
            };
            taken.members.push((key, optional, verdict));
        }
        self.judge(taken)
    }

    /// Whether a list of execution environments leaves out the one that is asked for.
    fn is_elsewhere(&self, list: &[String]) -> bool {
        let environment = self.request.execution_environment;
        self.request.platform.execution_environments()
            && !environment.is_empty()
            && !includes(list, environment)
    }

    /// Judges a group of modules.
    fn judge(&mut self, taken: Taken) -> Result<Detected, Stop> {
        let mut ask = BTreeSet::new();
        let mut members = Vec::new();
        for (module, optional, verdict) in taken.members {
            let verdict = match (verdict, self.runs.get(&module)) {
                (Some(known), _) => known,
                (None, Some(run)) => self.verdict(&module, run),
                (None, None) => {
                    ask.insert(module);
                    continue;
                }
            };
            members.push(MemberReport { module, optional, verdict });
        }
        // One that is required and for other base images decides without anyone being asked.
        let foreign = members.iter().any(|one| !one.optional && one.verdict == Verdict::Target);
        if !ask.is_empty() && !foreign {
            return Err(Stop::Ask(ask));
        }
        if self.explanation.groups.len() == GROUPS || members.len() > self.members {
            return Err(Stop::Error(DetectError::TooManyGroups));
        }
        self.members -= members.len();
        let (end, result) = self.end(&members, foreign);
        self.explanation.groups.push(GroupReport { path: taken.path, members, end });
        result
    }

    /// Says what a run means, and keeps its plan.
    fn verdict(&mut self, module: &ModuleKey, run: &DetectRun) -> Verdict {
        match run.code {
            0 => {
                let read = || BuildPlan::parse(&run.plan, module.kind).map_err(|error| error.to_string());
                match self.plans.entry(module.clone()).or_insert_with(read) {
                    Ok(_) => Verdict::Passed,
                    Err(why) => Verdict::Plan(why.clone()),
                }
            }
            100 => Verdict::Failed,
            code => Verdict::Exit(code),
        }
    }

    fn end(&mut self, members: &[MemberReport], foreign: bool) -> (GroupEnd, Result<Detected, Stop>) {
        let fails = |one: &&MemberReport| !one.optional && !passes(&one.verdict);
        let errors = foreign || members.iter().any(|one| is_error(&one.verdict));
        if members.iter().any(|one| fails(&one)) {
            return (GroupEnd::Lacks, Err(if errors { Stop::FailedWithErrors } else { Stop::Failed }));
        }
        if !members
            .iter()
            .any(|one| one.verdict == Verdict::Passed && one.module.kind == ModuleKind::Buildpack)
        {
            return (GroupEnd::Empty, Err(Stop::Failed));
        }
        let candidates: Vec<_> = members
            .iter()
            .filter(|one| one.verdict == Verdict::Passed)
            .filter_map(|one| {
                let plan = self.plans.get(&one.module)?.as_ref().ok()?;
                Some(Candidate { key: &one.module, optional: one.optional, plan })
            })
            .collect();
        let limits = TrialLimits { kept: self.request.limits.kept.min(self.trials), ..self.request.limits };
        match try_within(&candidates, limits, &mut self.budget) {
            Tried::Fits { stay, plan, trials, count } => {
                let group = self.chosen(stay.iter().map(|index| candidates[*index].key));
                (GroupEnd::Chosen { trials, count }, Ok(Detected { group, plan }))
            }
            Tried::NoneFits { trials, count } => {
                self.trials -= trials.len();
                (GroupEnd::Plans { trials, count }, Err(Stop::Failed))
            }
            Tried::TooMany { count } => {
                let error = DetectError::TooManyTrials(count);
                (GroupEnd::Plans { trials: Vec::new(), count }, Err(Stop::Error(error)))
            }
        }
    }

    fn chosen<'k>(&self, keys: impl Iterator<Item = &'k ModuleKey>) -> Group {
        let mut group = Group::default();
        for key in keys {
            let module = &self.request.modules[key];
            let element = GroupElement {
                id: key.id.clone(),
                version: key.version.clone(),
                api: module.api.to_string(),
                homepage: module.info.homepage.clone(),
                extension: false,
            };
            match key.kind {
                ModuleKind::Buildpack => group.buildpacks.push(element),
                ModuleKind::Extension => group.extensions.push(element),
            }
        }
        group
    }
}

fn key(one: &OrderElement, kind: ModuleKind) -> ModuleKey {
    ModuleKey { kind, id: one.id.clone(), version: one.version.clone() }
}

/// Whether a member is in the group: one that was dropped leaves its place to another version of it.
fn stands((_, optional, verdict): &(ModuleKey, bool, Option<Verdict>)) -> bool {
    match verdict {
        Some(Verdict::ExecutionEnvironment) => false,
        Some(Verdict::Target) => !optional,
        _ => true,
    }
}

/// Whether a required module with this verdict leaves the group whole.
fn passes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Passed | Verdict::ExecutionEnvironment)
}

fn is_error(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Exit(_) | Verdict::Plan(_))
}

#[cfg(test)]
mod tests;
