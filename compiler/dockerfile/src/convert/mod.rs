//! Stages become trees and configs: each instruction once, in order.
//!
//! In: a [`Graph`], bases, and what is shared by all stages ([`Shared`]). Out: a [`StageState`] for each node, and which
//! paths were taken of what. Nothing is asked of anybody here, so it can be done twice: once to learn which paths of
//! the client's folders are taken, and once with these folders as they then are.
//! The instructions: `metadata` (the config alone), `variables` (ARG, ENV), `run` with `mounts`, `transfer` (COPY, ADD) with
//! `remote` and `chmod`, `workdir`, `ports` (EXPOSE).

mod chmod;
mod metadata;
mod mounts;
mod names;
mod ports;
mod remote;
mod run;
mod state;
mod transfer;
mod variables;
mod workdir;

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostics, Label, Span};
use rb_llb::{NodeMeta, ProxyEnv, State};
use rb_oci::Platform;

use crate::bases::{Base, BaseFiles};
use crate::checks::{Checks, Finding, values};
use crate::contexts::{Ignored, Taken};
use crate::environment::{Environment, Shown};
use crate::failure::Fallible;
use crate::filesystem::Filesystem;
use crate::lost::Lost;
use crate::options::Options;
use crate::stages::{Command, Graph, NodeId};
use crate::words::{Expanded, Lexer};
use crate::{Instruction, Word, arguments, codes, image};

pub(crate) use state::{Parameters, StageState};

/// What all stages of one platform share.
pub(crate) struct Shared<'a> {
    pub(crate) options: &'a Options,
    pub(crate) graph: &'a Graph,
    pub(crate) bases: &'a BTreeMap<NodeId, Base>,
    /// What the user gave.
    pub(crate) build_args: &'a BTreeMap<String, String>,
    /// Values of the global arguments.
    pub(crate) arguments: &'a Environment,
    pub(crate) lexer: Lexer,
    pub(crate) target_platform: &'a Platform,
    pub(crate) epoch: Option<i64>,
    /// What of the context is left out.
    pub(crate) ignored: &'a Ignored,
    /// Proxies among the build arguments.
    pub(crate) proxy: Option<ProxyEnv>,
    /// The build context.
    pub(crate) context: State,
    /// Which paths are taken of the folders that stages begin as.
    pub(crate) taken: &'a TakenPaths,
    /// Global arguments whose values are not known.
    pub(crate) lost: &'a Lost,
}

/// Which paths are taken of what.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenPaths {
    /// Of the build context.
    pub(crate) context: Taken,
    /// Of nodes that stages begin as; what is taken of a stage counts for its first one.
    pub(crate) nodes: BTreeMap<NodeId, Taken>,
}

/// What came of all stages.
pub(crate) struct Converted {
    pub(crate) stages: BTreeMap<NodeId, StageState>,
    pub(crate) taken: TakenPaths,
}

impl Shared<'_> {
    /// Converts the nodes that are needed; of `target` everything is taken. What is wrong is told, each instruction's own.
    pub(crate) fn convert(
        &self,
        needed: &BTreeSet<NodeId>,
        target: NodeId,
        checks: &mut Checks,
    ) -> Converted {
        let mut converted = Converted { stages: BTreeMap::new(), taken: TakenPaths::default() };
        // What only a `--from` names has no instructions, and any stage may take from it.
        let (named, stages): (Vec<&NodeId>, Vec<&NodeId>) =
            needed.iter().partition(|id| self.graph.nodes[**id].number.is_none());
        for id in named.into_iter().chain(stages) {
            let state = self.stage(*id, &mut converted, checks);
            converted.stages.insert(*id, state);
        }
        converted.taken.take(self.graph.root(target), "/");
        converted
    }

    fn stage(&self, id: NodeId, converted: &mut Converted, checks: &mut Checks) -> StageState {
        let node = &self.graph.nodes[id];
        let mut state = match node.base.and_then(|base| converted.stages.get(&base)) {
            Some(base) => base.inherited(),
            None => self.of_base(id),
        };
        state.names = names::Names::new(self, id, state.names.shown);
        if node.number.is_none() || node.is_replaced {
            return state;
        }
        state.begin(self.options);
        for command in &node.commands {
            state.names.set_trigger(command.is_trigger);
            state.lost.all |= node.is_torn_above(command);
            let (wrong, varying) = (Vec::new(), Vec::new());
            let mut work =
                Work { shared: self, id, state: &mut state, converted, checks, command, wrong, varying };
            if let Err(error) = work.convert() {
                work.wrong.push(error);
            }
            work.tell();
        }
        state.lost.all |= node.torn_at.is_some();
        state
    }

    /// Returns a stage as its base leaves it.
    fn of_base(&self, id: NodeId) -> StageState {
        let base =
            self.bases.get(&id).expect("every node that is needed and starts from no stage has a base");
        let nothing = Taken::new();
        let mut shown = 0;
        let files = match &base.files {
            BaseFiles::Context(origin) => {
                origin.filesystem(self.options, self.taken.nodes.get(&id).unwrap_or(&nothing))
            }
            BaseFiles::Image(image) => {
                let node = &self.graph.nodes[id];
                let mut names = names::Names::new(self, id, 0);
                let platform = self.options.multi_platform.then_some(&base.platform);
                let name =
                    names.next(&format!("FROM {}", image.reference), platform, &Environment::default());
                shown = names.shown;
                let meta = NodeMeta { span: Some(node.span), ..described(name, &node.code) };
                let identifier = format!("docker-image://{}", image.reference);
                let tree = State::source(identifier, image.attrs.clone(), Some(&base.platform), meta);
                Filesystem::of_image(tree, &base.platform)
            }
        };
        let mut state =
            StageState::new(files, base.image.clone(), base.original.clone(), base.platform.clone());
        state.names.shown = shown;
        state.lost.all = self.lost.all || base.is_unknown;
        state
    }
}

impl TakenPaths {
    /// Notes that something is taken of a node.
    fn take(&mut self, root: NodeId, path: &str) {
        self.nodes.entry(root).or_default().insert(rb_path::join("/", path));
    }
}

/// Says of a node what it is called, and which instruction it comes from.
fn described(name: String, code: &str) -> NodeMeta {
    let key = "com.docker.dockerfile.v1.command".to_owned();
    NodeMeta { description: [(key, code.to_owned())].into(), ..NodeMeta::named(name) }
}

/// One instruction that is being converted.
struct Work<'a> {
    shared: &'a Shared<'a>,
    /// Its stage.
    id: NodeId,
    state: &'a mut StageState,
    /// Stages that are done.
    converted: &'a mut Converted,
    checks: &'a mut Checks,
    command: &'a Command,
    /// What is wrong so far with words that say nothing of each other.
    wrong: Diagnostics,
    /// Words that might have come out otherwise, were all variables known.
    varying: Vec<Span>,
}

impl Work<'_> {
    fn convert(&mut self) -> Fallible<()> {
        let step = std::sync::Arc::clone(&self.command.step);
        match &step.instruction {
            Instruction::Add(transfer) => self.transfer(transfer, true),
            Instruction::Copy(transfer) => self.transfer(transfer, false),
            Instruction::Run(run) => self.run(run),
            Instruction::Workdir(path) => self.workdir(path),
            Instruction::Arg(definitions) => self.arg(definitions),
            Instruction::Env(pairs) => self.env(pairs),
            Instruction::Label(pairs) => self.label(pairs),
            Instruction::Expose(ports) => self.expose(ports),
            Instruction::Cmd(command) => self.cmd(command),
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::User(user) => self.user(user),
            Instruction::Volume(volumes) => self.volume(volumes),
            Instruction::Stopsignal(signal) => self.stopsignal(signal),
            Instruction::Shell(words) => self.shell(words),
            Instruction::Maintainer(name) => self.maintainer(name),
            Instruction::Onbuild(onbuild) => {
                self.state.image.config.on_build.push(onbuild.text.value.clone());
                Ok(())
            }
        }
    }

    /// Returns where it is told that something is wrong with the instruction.
    fn at(&self) -> Span {
        self.command.at
    }

    /// Says what a word stands for.
    fn word(&mut self, word: &Word) -> Fallible<String> {
        self.expanded(word, self.shared.lexer).map(|expanded| expanded.text)
    }

    /// Says what a word stands for; if that cannot be said, the words behind it are still looked at.
    fn heard_word(&mut self, word: &Word) -> Option<String> {
        let found = self.word(word);
        self.heard(found)
    }

    /// Keeps what is wrong with a part of the instruction, so that its other parts are still looked at.
    fn heard<T>(&mut self, found: Fallible<T>) -> Option<T> {
        found.map_err(|error| self.wrong.push(error)).ok()
    }

    /// Tells what was wrong, unless it may be only a variable that is missing because of something else.
    fn tell(self) {
        let varies = |label: &Label| {
            let at = label.span;
            let meets = |word: &Span| word.source == at.source && word.start < at.end && at.start < word.end;
            self.varying.iter().any(meets)
        };
        for error in self.wrong {
            if error.code == codes::EXPANSION || !error.labels.iter().any(varies) {
                self.checks.tell(error);
            }
        }
    }

    /// Ends the instruction if a part of it was wrong.
    fn settled(&mut self) -> Fallible<()> {
        self.wrong.pop().map_or(Ok(()), Err)
    }

    /// Says what a word stands for, and finds variables in it that nobody declared.
    fn expanded(&mut self, word: &Word, lexer: Lexer) -> Fallible<Expanded> {
        let expanded = self.filled(word, lexer)?;
        if !expanded.unmatched.is_empty() && !self.state.lost.touches(&expanded) {
            let names: Vec<&str> = self.state.files.environment.names().collect();
            let declared = |name: &str| self.state.build_args.iter().any(|(known, _)| known == name);
            let found = values::undefined_variables(self.at(), &expanded.unmatched, declared, &names);
            self.check(found);
        }
        Ok(expanded)
    }

    /// Fills the variables of a word in.
    fn filled(&mut self, word: &Word, lexer: Lexer) -> Fallible<Expanded> {
        let variables = &self.state.files.environment;
        match lexer.expand(&word.value, variables) {
            Ok(expanded) => {
                if self.state.lost.touches(&expanded) {
                    self.varying.push(word.span);
                }
                Ok(expanded)
            }
            Err(error) => {
                let told = arguments::expansions(error, word, lexer, variables, &self.state.lost);
                let mut told = told.into_iter();
                let first = told.next();
                self.wrong.extend(told);
                self.varying.push(word.span);
                first.map_or_else(|| Ok(Expanded::default()), Err)
            }
        }
    }

    /// Notes of a variable that a word was to set whether its value is known.
    fn note_lost(&mut self, name: &str, value: Option<&Word>, is_wrong: bool) {
        let varies = value.is_some_and(|word| self.varying.contains(&word.span));
        self.state.lost.set(name, is_wrong || varies);
    }

    fn check(&mut self, found: impl IntoIterator<Item = Finding>) {
        self.checks.add(self.command.step.check.as_ref(), found);
    }

    fn record(&mut self, text: String, layer: image::Layer) {
        image::record(&mut self.state.image, text, layer, self.shared.epoch);
    }

    /// Returns the instruction in one line, with variables filled in where that can be done and people may see them.
    fn shown_code(&self, lexer: Lexer) -> String {
        let (code, variables) = (&self.command.step.code, &self.state.files.environment);
        let shown = lexer.expand(code, &Shown { variables, secrets: &[] });
        let shown = shown.map_or_else(|_| code.clone(), |shown| shown.text);
        variables.struck().text(&shown).into_owned()
    }

    /// Takes a name for the instruction's own line of progress: its text, with variables filled in.
    fn next_name(&mut self, text: &str) -> String {
        let platform = self.shared.options.multi_platform.then_some(&self.state.platform);
        self.state.names.next(&names::upper_case(text), platform, &self.state.files.environment)
    }
}
