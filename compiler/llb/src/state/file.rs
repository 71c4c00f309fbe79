//! File nodes: indices of actions in BuildKit's numbering.

use std::sync::Arc;

use super::{InputList, Node, NodeMeta, State};
use crate::{
    CopyAction, FileAction, FileActionKind, FileOp, LlbError, MkdirAction, MkfileAction, Op, Owner, RmAction,
    SymlinkAction, UserSpec,
};

/// Makes a file node of inputs that may be empty or equal.
pub(super) fn node(given: &[State], mut op: FileOp, meta: NodeMeta) -> Arc<Node> {
    match settle(given, &mut op) {
        Ok(inputs) => {
            let visit = visit_order(&op, inputs.len());
            Node::new(&Op::File(op), &inputs, &visit, None, meta)
        }
        Err(error) => Node::failed(&Op::File(op), error, meta),
    }
}

/// Renumbers what the actions point to, and returns the inputs in the order of their first use.
fn settle(given: &[State], op: &mut FileOp) -> Result<Vec<State>, LlbError> {
    let mut inputs = InputList::default();
    // Inputs first: how many there are decides the numbers of actions, which wait meanwhile.
    let mut waiting = Vec::new();
    for (slot, what) in op.actions.iter_mut().flat_map(slots) {
        match *slot {
            Some(at) if at >= given.len() => waiting.push((slot, at - given.len())),
            at => *slot = inputs.index(given, at, what)?,
        }
    }
    let count = inputs.states.len();
    for (slot, action) in waiting {
        *slot = Some(count + action);
    }
    Ok(inputs.states)
}

/// All indices of an action, with what they are.
fn slots(action: &mut FileAction) -> Vec<(&mut Option<usize>, &'static str)> {
    let owner = owner_mut(&mut action.kind);
    let mut slots = vec![
        (&mut action.input, "input of a file action"),
        (&mut action.secondary_input, "secondary input of a file action"),
    ];
    for user in owner.into_iter().flat_map(|Owner { user, group }| [user, group]).flatten() {
        if let UserSpec::Name { input, .. } = user {
            slots.push((input, "input of an owner"));
        }
    }
    slots
}

fn owner_mut(kind: &mut FileActionKind) -> Option<&mut Owner> {
    match kind {
        FileActionKind::Copy(copy) => copy.owner.as_mut(),
        FileActionKind::Mkfile(mkfile) => mkfile.owner.as_mut(),
        FileActionKind::Mkdir(mkdir) => mkdir.owner.as_mut(),
        FileActionKind::Symlink(symlink) => symlink.owner.as_mut(),
        FileActionKind::Rm(_) => None,
    }
}

/// BuildKit's client visits the base, then what is copied from, last action first.
fn visit_order(op: &FileOp, inputs: usize) -> Vec<usize> {
    let base = op.actions.first().and_then(|action| action.input);
    let copied = op.actions.iter().rev().filter_map(|action| action.secondary_input);
    let mut order = Vec::new();
    for at in base.into_iter().chain(copied).chain(0..inputs).filter(|at| *at < inputs) {
        if !order.contains(&at) {
            order.push(at);
        }
    }
    order
}

/// Collects actions on one tree, each on the result of the one before. Names of owners are looked up in that tree.
#[derive(Clone, Debug)]
pub struct FileBuilder {
    inputs: Vec<State>,
    /// Secondary input and kind of each action.
    actions: Vec<(Option<usize>, FileActionKind)>,
}

impl FileBuilder {
    /// Starts on `base`.
    pub fn new(base: &State) -> Self {
        Self { inputs: vec![base.clone()], actions: Vec::new() }
    }

    /// Copies from `source`.
    #[must_use]
    pub fn copy(mut self, source: &State, action: CopyAction) -> Self {
        let secondary = Some(self.inputs.len());
        self.inputs.push(source.clone());
        self.push(secondary, FileActionKind::Copy(action))
    }

    /// Makes a file.
    #[must_use]
    pub fn mkfile(self, action: MkfileAction) -> Self {
        self.push(None, FileActionKind::Mkfile(action))
    }

    /// Makes a directory.
    #[must_use]
    pub fn mkdir(self, action: MkdirAction) -> Self {
        self.push(None, FileActionKind::Mkdir(action))
    }

    /// Removes.
    #[must_use]
    pub fn rm(self, action: RmAction) -> Self {
        self.push(None, FileActionKind::Rm(action))
    }

    /// Makes a symbolic link.
    #[must_use]
    pub fn symlink(self, action: SymlinkAction) -> Self {
        self.push(None, FileActionKind::Symlink(action))
    }

    fn push(mut self, secondary: Option<usize>, mut kind: FileActionKind) -> Self {
        let owner = owner_mut(&mut kind);
        for user in owner.into_iter().flat_map(|Owner { user, group }| [user, group]).flatten() {
            if let UserSpec::Name { input, .. } = user {
                *input = Some(0);
            }
        }
        self.actions.push((secondary, kind));
        self
    }

    /// Makes the node; without actions that is the tree it started on.
    pub fn finish(self, meta: NodeMeta) -> State {
        let (count, last) = (self.inputs.len(), self.actions.len());
        let action = |(at, (secondary_input, kind)): (usize, _)| FileAction {
            input: Some(if at == 0 { 0 } else { count + at - 1 }),
            secondary_input,
            output: (at + 1 == last).then_some(0),
            kind,
        };
        if last == 0 {
            return self.inputs.into_iter().next().unwrap_or_default();
        }
        let actions = self.actions.into_iter().enumerate().map(action).collect();
        State::file(self.inputs, FileOp { actions }, 0, None, meta)
    }
}
