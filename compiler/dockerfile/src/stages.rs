//! Stages: who starts from whom, and who takes files from whom.
//!
//! In: a file, options and the values of its global arguments. Out: a [`Graph`] of nodes: one for each stage, then one
//! for each image or context that only a `--from` names. What is not needed for a target is never looked at again.
//! **Invariant:** a node's base stands before it; sources may stand anywhere until [`Graph::check_order`] has looked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, Span, nearest};
use rb_oci::Platform;

use crate::arguments::{GlobalArguments, expansions};
use crate::checks::{Checks, Control, values};
use crate::contexts::NamedContexts;
use crate::failure::Fallible;
use crate::options::Options;
use crate::parse::{has_variable, is_plain};
use crate::words::{Expanded, Lexer};
use crate::{Dockerfile, Instruction, RunMount, Stage, Step, Transfer, Word, codes, platform};

/// Number of a node.
pub(crate) type NodeId = usize;

/// The name of the empty tree.
pub(crate) const SCRATCH: &str = "scratch";

/// All nodes of a file.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    names: BTreeMap<String, NodeId>,
    /// How many of the nodes are stages.
    stages: usize,
    /// A mount takes nothing from anywhere, which counts as one more node where names are chosen.
    has_empty_mounts: bool,
    /// A stage may have a name that is not known, since its FROM is wrong.
    hides_names: bool,
}

/// A stage, or what only a `--from` names.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What its files begin as, with all arguments filled in.
    pub(crate) base_name: String,
    /// The instruction that names the base.
    pub(crate) span: Span,
    /// The name of the base there, or wherever a `--from` names it, the first place first.
    pub(crate) named_at: Vec<Span>,
    /// What it begins as cannot be known, since its FROM is wrong; that was told.
    pub(crate) is_unknown: bool,
    /// The same as text; empty if it is no FROM.
    pub(crate) code: String,
    /// The stage's name in lower case, or empty.
    pub(crate) name: String,
    /// Its number among the stages; none if it is no stage.
    pub(crate) number: Option<usize>,
    /// `--platform`.
    pub(crate) platform: Option<Platform>,
    /// The stage that it starts from.
    pub(crate) base: Option<NodeId>,
    /// A named context stands in its place: nothing of it runs.
    pub(crate) is_replaced: bool,
    /// Its steps run, though their results are known.
    pub(crate) no_cache: bool,
    /// What a comment above says of build checks.
    pub(crate) check: Option<Control>,
    /// Arguments that its FROM names.
    pub(crate) arguments: BTreeSet<String>,
    /// What a comment above the FROM says of it.
    pub(crate) description: Option<String>,
    /// Where the first line of it begins that is wrong and might have set variables.
    pub(crate) torn_at: Option<u32>,
    /// Where its `--platform` stands.
    pub(crate) platform_at: Option<Span>,
    /// Its instructions.
    pub(crate) commands: Vec<Command>,
}

/// An instruction of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The instruction.
    pub(crate) step: Arc<Step>,
    /// Where it is told that something is wrong: the step, or of a trigger the FROM that brought it.
    pub(crate) at: Span,
    /// Nodes that it takes files from: of a COPY at most one, of a RUN one for each mount.
    pub(crate) sources: Vec<Option<NodeId>>,
    /// It comes from an `ONBUILD` of the base.
    pub(crate) is_trigger: bool,
}

/// What nodes are made with.
pub(crate) struct Reading<'a> {
    pub(crate) options: &'a Options,
    pub(crate) arguments: &'a GlobalArguments,
    pub(crate) contexts: &'a NamedContexts<'a>,
    pub(crate) lexer: Lexer,
    /// What is built for, if the user said so.
    pub(crate) target_platform: Option<&'a Platform>,
    /// A stage may have a name that is not known.
    pub(crate) hides_names: bool,
}

impl Graph {
    /// Makes the nodes of a file, and tells all that is wrong with how they name each other.
    pub(crate) fn new(file: &Dockerfile, reading: &Reading<'_>, checks: &mut Checks) -> Self {
        let mut graph = Self { hides_names: reading.hides_names, ..Self::default() };
        for stage in &file.stages {
            let node = graph.node(stage, reading, checks);
            if !node.name.is_empty() {
                graph.names.insert(node.name.clone(), graph.nodes.len());
            }
            graph.nodes.push(node);
        }
        graph.stages = graph.nodes.len();
        for (number, stage) in file.stages.iter().enumerate() {
            let commands = stage.steps.iter().map(|step| graph.command(Arc::new(step.clone()), None, checks));
            let commands = commands.collect();
            graph.nodes[number].commands = commands;
        }
        graph
    }

    fn node(&self, stage: &Stage, reading: &Reading<'_>, checks: &mut Checks) -> Node {
        let name = stage.name.as_ref().map(|(_, name)| name.value.to_lowercase()).unwrap_or_default();
        let (mut is_unknown, mut arguments) = (stage.is_wrong, BTreeSet::new());
        let mut tell = |wrong: Diagnostics, checks: &mut Checks| {
            is_unknown = true;
            wrong.into_iter().for_each(|error| checks.tell(error));
        };
        let base = match stage.base.value.is_empty() && stage.is_wrong {
            true => Ok(Expanded::default()),
            false => reading.base_of(stage, checks),
        };
        let base_name = match base {
            Ok(expanded) => {
                arguments = expanded.matched;
                expanded.text
            }
            Err(wrong) => {
                tell(wrong, checks);
                String::new()
            }
        };
        let platform = match reading.platform_of(stage, &name, &mut arguments, checks) {
            Ok(platform) => platform,
            Err(wrong) => {
                tell(wrong, checks);
                None
            }
        };
        // It may be the stage whose name is not known.
        is_unknown |= self.hides_names && !self.names.contains_key(&base_name) && base_name != SCRATCH;
        let wanted = platform.as_ref().or(reading.target_platform);
        let is_replaced = !name.is_empty() && reading.contexts.has(&name, wanted);
        Node {
            base: self.names.get(&base_name).copied().filter(|_| !is_replaced),
            base_name,
            span: stage.span,
            named_at: vec![stage.base.span],
            is_unknown,
            code: stage.code.clone(),
            number: Some(self.nodes.len()),
            platform,
            is_replaced,
            no_cache: reading.options.no_cache.covers(&name),
            name,
            check: stage.check.clone(),
            arguments,
            description: stage.description.clone(),
            torn_at: stage.torn_at,
            platform_at: stage.platform.as_ref().map(|platform| platform.span),
            commands: Vec::new(),
        }
    }

    /// Finds out what an instruction takes files from; `trigger_of` is the FROM that brought it.
    pub(crate) fn command(
        &mut self,
        step: Arc<Step>,
        trigger_of: Option<Span>,
        checks: &mut Checks,
    ) -> Command {
        let at = trigger_of.unwrap_or(step.span);
        let sources = match &step.instruction {
            Instruction::Copy(transfer) => {
                let found = self.source_of_copy(transfer, trigger_of, at);
                let found = found.unwrap_or_else(|error| {
                    checks.tell(error);
                    None
                });
                found.into_iter().map(Some).collect()
            }
            Instruction::Run(run) => {
                run.mounts.iter().map(|mount| self.source_of_mount(mount, trigger_of, at)).collect()
            }
            _ => Vec::new(),
        };
        Command { step, at, sources, is_trigger: trigger_of.is_some() }
    }

    fn source_of_copy(
        &mut self,
        transfer: &Transfer,
        trigger_of: Option<Span>,
        at: Span,
    ) -> Fallible<Option<NodeId>> {
        // One with a variable in it was told as that.
        let Some(from) = transfer.from.as_ref().filter(|from| is_plain(&from.value)) else { return Ok(None) };
        let Ok(number) = from.value.parse::<usize>() else {
            return Ok(Some(self.named(&from.value, at, trigger_of.unwrap_or(from.span))));
        };
        if number < self.stages {
            return Ok(Some(number));
        }
        let help = match self.stages {
            1 => "the only stage is number 0".to_owned(),
            stages => format!("stages are numbered from 0 to {}", stages - 1),
        };
        let message = format!("invalid stage index {number}");
        Err(Diagnostic::error(codes::UNKNOWN_STAGE, message).with_label(from.span, "").with_help(help))
    }

    fn source_of_mount(&mut self, mount: &RunMount, trigger_of: Option<Span>, at: Span) -> Option<NodeId> {
        let from = mount.options.iter().rev().find(|(key, _)| key.value == "from");
        let from = from.and_then(|(_, value)| value.as_ref());
        // One with a variable in it was told as that.
        let from = from.filter(|value| !value.value.is_empty() && !has_variable(&value.value));
        match from {
            Some(from) => Some(self.named(&from.value, at, trigger_of.unwrap_or(from.span))),
            None => {
                self.has_empty_mounts = true;
                None
            }
        }
    }

    /// Returns the stage of a name, or a node for the image or context that it must then be.
    fn named(&mut self, name: &str, at: Span, named_at: Span) -> NodeId {
        if let Some(stage) = self.names.get(&name.to_lowercase()) {
            return *stage;
        }
        let known = self.nodes.iter().skip(self.stages).position(|node| node.base_name == name);
        if let Some(known) = known {
            let id = self.stages + known;
            self.nodes[id].named_at.push(named_at);
            return id;
        }
        self.nodes.push(Node {
            base_name: name.to_owned(),
            span: at,
            named_at: vec![named_at],
            is_unknown: self.hides_names,
            code: String::new(),
            name: String::new(),
            number: None,
            platform: None,
            base: None,
            is_replaced: false,
            no_cache: false,
            check: None,
            arguments: BTreeSet::new(),
            description: None,
            torn_at: None,
            platform_at: None,
            commands: Vec::new(),
        });
        self.nodes.len() - 1
    }

    /// Returns the stage that is to be built.
    pub(crate) fn target(&self, options: &Options) -> Fallible<NodeId> {
        let Some(name) = &options.target else { return Ok(self.stages - 1) };
        self.names.get(&name.to_lowercase()).copied().ok_or_else(|| {
            let message = format!("target stage {} could not be found", crate::go::quote(name));
            let found = Diagnostic::error(codes::UNKNOWN_STAGE, message);
            let names: Vec<&str> = self.stage_names().collect();
            match nearest(name, names.iter().copied()) {
                Some(near) => found.with_nearest(Some(near)),
                None if names.is_empty() => found.with_help("no stage has a name: write `FROM … AS NAME`"),
                None => found.with_help(format!("stages that have a name: {}", names.join(", "))),
            }
        })
    }

    /// Returns the names of stages, in order.
    pub(crate) fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stage_names_above(None)
    }

    /// Returns the names of stages above one, or of all.
    pub(crate) fn stage_names_above(&self, number: Option<usize>) -> impl Iterator<Item = &str> {
        let above = self.nodes.iter().take(number.unwrap_or(self.nodes.len()));
        above.map(|node| node.name.as_str()).filter(|name| !name.is_empty())
    }

    /// Returns what a stage is called before its steps; a stage that is alone, and what is no stage, is not called
    /// anything.
    pub(crate) fn shown_name(&self, id: NodeId) -> String {
        let node = &self.nodes[id];
        let is_alone = self.nodes.len() == 1 && !self.has_empty_mounts;
        match node.number {
            Some(_) if is_alone => String::new(),
            Some(_) if !node.name.is_empty() => node.name.clone(),
            Some(number) => format!("stage-{number}"),
            None => String::new(),
        }
    }

    /// Counts what a stage shows: its image, and its steps.
    pub(crate) fn total(&self, id: NodeId) -> usize {
        let node = &self.nodes[id];
        if node.number.is_none() {
            return 0;
        }
        let image = usize::from(node.base.is_none() && node.base_name != SCRATCH);
        image + node.commands.iter().filter(|command| command.is_shown()).count()
    }

    /// Returns the node whose files another begins with, through all stages between.
    pub(crate) fn root(&self, id: NodeId) -> NodeId {
        let mut root = id;
        while let Some(base) = self.nodes[root].base {
            root = base;
        }
        root
    }

    /// Returns all nodes that some need, with these.
    pub(crate) fn reachable(&self, from: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<NodeId> = from.into_iter().collect();
        while let Some(id) = waiting.pop() {
            if found.insert(id) && !self.nodes[id].is_replaced {
                waiting.extend(self.nodes[id].base);
                waiting.extend(self.sources(id).map(|(source, _)| source));
            }
        }
        found
    }

    /// Returns what a node takes files from, with the instruction that does.
    pub(crate) fn sources(&self, id: NodeId) -> impl Iterator<Item = (NodeId, Span)> {
        let commands = self.nodes[id].commands.iter();
        commands.flat_map(|command| command.sources.iter().flatten().map(|source| (*source, command.at)))
    }

    /// Finds stages that need each other, and of those that are needed ones that take files from a later one.
    pub(crate) fn check_order(&self, needed: &BTreeSet<NodeId>) -> Diagnostics {
        let mut wrong = Diagnostics::new();
        for id in 0..self.stages {
            if self.nodes[id].is_replaced {
                continue;
            }
            for (source, at) in self.sources(id).filter(|(source, _)| (id..self.stages).contains(source)) {
                let (own, other) = (self.called(id), self.called(source));
                let is_circle = source == id || self.reachable([source]).contains(&id);
                if !is_circle && !needed.contains(&id) {
                    continue;
                }
                let found = match is_circle {
                    true => Diagnostic::error(
                        codes::STAGE_ORDER,
                        format!("circular dependency detected on stage: {own}"),
                    )
                    .with_help("a stage cannot take files from itself, or from one that needs it"),
                    false => Diagnostic::error(
                        codes::STAGE_ORDER,
                        format!("cannot copy from stage \"{other}\", it needs to be defined before current stage \"{own}\""),
                    )
                    .with_help(format!("move stage \"{other}\" above stage \"{own}\"")),
                };
                wrong.push(found.with_label(at, "").with_label(self.nodes[source].span, "this stage"));
            }
        }
        wrong
    }

    fn called(&self, id: NodeId) -> String {
        let node = &self.nodes[id];
        match (node.name.as_str(), node.number) {
            ("", Some(number)) => format!("stage-{number}"),
            ("", None) => node.base_name.clone(),
            (name, _) => name.to_owned(),
        }
    }
}

impl Node {
    /// Tells whether variables may be missing for an instruction, since a line above it is wrong.
    pub(crate) fn is_torn_above(&self, command: &Command) -> bool {
        !command.is_trigger && self.torn_at.is_some_and(|torn| torn < command.step.span.start)
    }
}

impl Command {
    /// Tells whether a line of progress is its own.
    fn is_shown(&self) -> bool {
        let instruction = &self.step.instruction;
        matches!(
            instruction,
            Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_)
        )
    }
}

impl Reading<'_> {
    /// Says what a stage starts from.
    fn base_of(&self, stage: &Stage, checks: &mut Checks) -> Result<Expanded, Diagnostics> {
        let base = &stage.base;
        let expanded = self.expand(base)?;
        if self.arguments.lost.touches(&expanded) {
            return Err(Diagnostics::new());
        }
        let undeclared = values::undefined_in_from(stage.span, &expanded.unmatched, &self.arguments.names());
        checks.add(stage.check.as_ref(), undeclared);
        if !expanded.text.is_empty() {
            return Ok(expanded);
        }
        let message = format!("base name ({}) should not be blank", base.value);
        let missing: Vec<String> = expanded.unmatched.iter().map(|name| format!("`{name}`")).collect();
        let help = match missing.as_slice() {
            [] => "name an image, a stage above or `scratch`".to_owned(),
            names => format!(
                "nothing gives {} a value: write `ARG NAME=value` above the first FROM, or pass `--build-arg`",
                names.join(" and ")
            ),
        };
        Err(vec![Diagnostic::error(codes::BAD_BASE, message).with_label(base.span, "").with_help(help)])
    }

    /// Fills a word's variables in.
    fn expand(&self, word: &Word) -> Result<Expanded, Diagnostics> {
        let GlobalArguments { values, lost, .. } = self.arguments;
        let expanded = self.lexer.expand(&word.value, values);
        expanded.map_err(|error| expansions(error, word, self.lexer, values, lost))
    }

    fn platform_of(
        &self,
        stage: &Stage,
        name: &str,
        arguments: &mut BTreeSet<String>,
        checks: &mut Checks,
    ) -> Result<Option<Platform>, Diagnostics> {
        let Some(flag) = &stage.platform else { return Ok(None) };
        let value = self.expand(flag)?;
        if self.arguments.lost.touches(&value) {
            return Err(Diagnostics::new());
        }
        let local = stage.check.as_ref();
        let names = self.arguments.names();
        checks.add(local, values::undefined_in_from(stage.span, &value.unmatched, &names));
        let target = self.arguments.values.value("TARGETPLATFORM").unwrap_or_default();
        checks.add(local, values::redundant_platform(stage.span, &flag.value, &value, target));
        let near = value.unmatched.iter().find_map(|unset| nearest(unset, names.iter().copied()));
        let found = match value.text.as_str() {
            "" => Err(format!("empty platform value from expression {}", flag.value)),
            text => platform::parse(text, &self.options.build_platform)
                .map_err(|error| format!("failed to parse platform {}: {error}", flag.value)),
        };
        let platform = found.map_err(|message| {
            let found = Diagnostic::error(codes::BAD_PLATFORM, message).with_label(flag.span, "");
            vec![match near {
                Some(near) => found.with_nearest(Some(near)),
                None => {
                    found.with_help("write such as `--platform=linux/arm64`, or `--platform=$BUILDPLATFORM`")
                }
            }]
        })?;
        checks.add(local, values::constant_platform(stage.span, name, &value, &platform));
        arguments.extend(value.matched);
        Ok(Some(platform))
    }
}
