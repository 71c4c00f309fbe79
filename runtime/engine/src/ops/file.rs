//! File operations: written straight into the layer, without mounting and without a process.
//!
//! A copy out of the user's folder is remembered by what it did and where it came from. The next time, when some files
//! have changed, the others are taken over from the layer it left then: linked, or, if they are nearly all, left where they
//! are, with a layer of what differs on top (`rb_snapshot::Snapshots::reuse_on`). That is a hint and enters no key: it
//! makes the same tree sooner.

use std::collections::BTreeMap;
use std::path::Path;

use rb_llb::{CopyAction, CopyMode, FileAction, FileActionKind, FileOp, Owner, UserSpec};
use rb_oci::{Digest, Hasher};
use rb_snapshot::{
    Active, ChangeKind, CopyOptions, Diff, Editor, Reuse, SnapshotError, SnapshotId, Tally, users,
};

use super::{mounts, unpack};
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// Inputs that are only copied from: their key is the content of what the copies read.
pub(super) fn slow_inputs(op: &FileOp, inputs: usize) -> Vec<bool> {
    let only_read = |index: usize| {
        let primary = op.actions.iter().any(|action| action.input == Some(index));
        let by_owner = op.actions.iter().flat_map(owner_inputs).any(|input| input == index);
        let copied = op.actions.iter().any(|action| action.secondary_input == Some(index));
        copied && !primary && !by_owner
    };
    (0..inputs).map(only_read).collect()
}

fn owner_inputs(action: &FileAction) -> impl Iterator<Item = usize> + use<> {
    let owner = match &action.kind {
        FileActionKind::Copy(copy) => copy.owner.clone(),
        FileActionKind::Mkfile(mkfile) => mkfile.owner.clone(),
        FileActionKind::Mkdir(mkdir) => mkdir.owner.clone(),
        FileActionKind::Symlink(symlink) => symlink.owner.clone(),
        FileActionKind::Rm(_) => None,
    };
    let input = |user: Option<UserSpec>| match user {
        Some(UserSpec::Name { input, .. }) => input,
        Some(UserSpec::Id(_)) | None => None,
    };
    let (user, group) = owner.map(|owner| (owner.user, owner.group)).unwrap_or_default();
    [input(user), input(group)].into_iter().flatten()
}

/// What an action works on: a layer being written, or a finished tree.
enum Stage {
    Writing(Box<Writing>),
    Done(Tree),
}

/// A layer being written.
struct Writing {
    active: Active,
    base: Tree,
    /// The first action that wrote to it.
    begun: usize,
    /// What the same action left an earlier time.
    earlier: Option<Reuse>,
}

/// Layers of fewer changes are copied as soon as they are taken over.
const WORTH_REMEMBERING: usize = 8;

/// The op as far as its stages need to know it.
struct Job<'a> {
    parts: &'a Parts,
    op: &'a FileOp,
    /// Names what the op does and which folders of the user's it reads; none if it reads none.
    hint: Option<Digest>,
}

impl<'a> Job<'a> {
    fn new(parts: &'a Parts, op: &'a FileOp, inputs: &[Value]) -> Self {
        let copied = op.actions.iter().filter_map(|action| inputs.get(action.secondary_input?));
        let folders: Vec<&[u8]> = copied
            .filter_map(|value| match value {
                Value::Local(local) => Some(local.folder.as_os_str().as_encoded_bytes()),
                Value::Tree(_) => None,
            })
            .collect();
        let hint = (!folders.is_empty()).then(|| {
            let mut hasher = Hasher::default();
            hasher.update(b"layer of a copy");
            hasher.update(rb_llb::Op::File(op.clone()).digest_without_inputs(None).as_bytes());
            for folder in folders {
                hasher.update(&(folder.len() as u64).to_le_bytes());
                hasher.update(folder);
            }
            hasher.finish().0
        });
        Self { parts, op, hint }
    }

    fn hint(&self, begun: usize) -> Option<Digest> {
        let mut hasher = Hasher::default();
        hasher.update(self.hint?.as_bytes());
        hasher.update(&(begun as u64).to_le_bytes());
        Some(hasher.finish().0)
    }

    /// Returns the layer that the actions from `begun` on left an earlier time, for one on `base`.
    fn earlier(&self, begun: usize, base: &Tree) -> Result<Option<Reuse>, EngineError> {
        let Some(hint) = self.hint(begun) else { return Ok(None) };
        // Its files are looked at as they are linked: nobody needs to look at all of them before.
        let record = self.parts.store.stored_record(&hint)?;
        let Some(snapshot) = record.and_then(|record| record.snapshots.first().copied()) else {
            return Ok(None);
        };
        Ok(self.parts.snapshots.reuse_on(snapshot, base.snapshot)?)
    }

    fn remember(&self, begun: usize, snapshot: SnapshotId) {
        if let Some(hint) = self.hint(begun)
            && let Err(error) = self.parts.store.put_record(&hint, b"", &[snapshot])
        {
            // Another process may have removed it just now. Without the hint all is copied.
            tracing::debug!(%snapshot, %error, "the layer of a copy is not remembered");
        }
    }

    /// Ends a layer.
    fn finish(&self, writing: Writing) -> Result<Tree, EngineError> {
        let Writing { active, base, begun, earlier } = writing;
        let snapshots = &self.parts.snapshots;
        if let Some(hint) = self.hint(begun)
            && earlier.is_some_and(|earlier| earlier.is_changed())
        {
            // Somebody wrote to the earlier layer: asked for as a result, it is looked at and forgotten.
            self.parts.store.record(&hint)?;
        }
        let diff = rb_snapshot::diff(&active)?;
        refuse_below_host(&base, &diff)?;
        let copies: Vec<&CopyAction> = self
            .op
            .actions
            .iter()
            .filter_map(|action| match &action.kind {
                FileActionKind::Copy(copy) => Some(copy),
                _ => None,
            })
            .collect();
        let (snapshot, content) = if copies.is_empty() {
            snapshots.commit(active, &diff, base.content)?
        } else {
            let keeps_times = copies.iter().any(|copy| copy.timestamp.is_none());
            mounts::commit_with_manifest(self.parts, active, &diff, base.content, keeps_times)?
        };
        if diff.changes.len() >= WORTH_REMEMBERING {
            self.remember(begun, snapshot);
        }
        Ok(Tree { snapshot: Some(snapshot), content, host: base.host })
    }
}

/// Refuses files in a folder of the machine that steps are shown instead. A folder there is one to go to, by WORKDIR.
fn refuse_below_host(base: &Tree, diff: &Diff) -> Result<(), EngineError> {
    let binds = base.host.iter().flat_map(|host| &host.binds);
    for bind in binds {
        let files = diff.changes.iter().filter(|change| change.kind != ChangeKind::Dir);
        if let Some(path) =
            files.map(|file| Path::new("/").join(&file.path)).find(|path| path.starts_with(bind))
        {
            return Err(EngineError::BelowHost { path, bind: bind.clone() });
        }
    }
    Ok(())
}

/// Does all actions in order and returns the trees that are outputs; `tally` hears what is copied, `stopped` is asked
/// where it may take long.
pub(super) fn run(
    parts: &Parts,
    op: &FileOp,
    inputs: &[Value],
    tally: &Tally,
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Value>, EngineError> {
    let job = Job::new(parts, op, inputs);
    match act(&job, inputs, tally, stopped) {
        Err(EngineError::Snapshot(error @ SnapshotError::EarlierChanged { .. })) => {
            tracing::debug!(error = rb_diag::chain(&error), "all is copied");
            act(&Job { hint: None, ..job }, inputs, tally, stopped)
        }
        done => done,
    }
}

fn act(
    job: &Job<'_>,
    inputs: &[Value],
    tally: &Tally,
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Value>, EngineError> {
    let (parts, op) = (job.parts, job.op);
    let mut stages: Vec<Option<Stage>> = Vec::new();
    let mut outputs = BTreeMap::new();
    for (number, action) in op.actions.iter().enumerate() {
        let secondary = match action.secondary_input {
            None => Value::Tree(Tree::scratch()),
            Some(index) => value_at(job, index, inputs, &mut stages)?,
        };
        let owners = owner_inputs(action)
            .map(|index| Ok((index, value_at(job, index, inputs, &mut stages)?)))
            .collect::<Result<BTreeMap<_, _>, EngineError>>()?;
        let used_again = op.actions.iter().skip(number + 1).any(|later| {
            later.input == action.input
                || later.secondary_input == action.input
                || owner_inputs(later).any(|input| Some(input) == action.input)
        });
        let writing = begin(job, number, action.input, inputs, &mut stages, used_again)?;
        apply(parts, action, &writing, &secondary, &owners, tally, stopped)?;
        stages.push(Some(Stage::Writing(Box::new(writing))));
        if let Some(output) = action.output {
            outputs.insert(output, inputs.len() + number);
        }
    }
    let dense = outputs.keys().enumerate().all(|(index, output)| index == *output as usize);
    if !dense {
        let reason = "the outputs of a file operation are not numbered from 0".to_owned();
        return Err(EngineError::Definition { reason });
    }
    outputs.values().map(|index| value_at(job, *index, inputs, &mut stages)).collect()
}

fn no_input(index: usize) -> EngineError {
    super::no_input("a file action", index)
}

/// Returns an input, or what an earlier action made, as a finished value.
fn value_at(
    job: &Job<'_>,
    index: usize,
    inputs: &[Value],
    stages: &mut [Option<Stage>],
) -> Result<Value, EngineError> {
    if let Some(value) = inputs.get(index) {
        return Ok(value.clone());
    }
    let stage = stages.get_mut(index - inputs.len()).ok_or_else(|| no_input(index))?;
    let tree = match stage.take().ok_or_else(|| no_input(index))? {
        Stage::Done(tree) => tree,
        Stage::Writing(writing) => job.finish(*writing)?,
    };
    *stage = Some(Stage::Done(tree.clone()));
    Ok(Value::Tree(tree))
}

/// Returns the layer an action writes to: a new one, or that of the action before, if nobody else wants its result.
fn begin(
    job: &Job<'_>,
    number: usize,
    input: Option<usize>,
    inputs: &[Value],
    stages: &mut [Option<Stage>],
    used_again: bool,
) -> Result<Writing, EngineError> {
    if let Some(earlier) = input.and_then(|index| index.checked_sub(inputs.len()))
        && !used_again
        && let Some(stage) = stages.get_mut(earlier)
    {
        match stage.take() {
            Some(Stage::Writing(writing)) => return Ok(*writing),
            other => *stage = other,
        }
    }
    let base = match input {
        None => Tree::scratch(),
        Some(index) => mounts::tree(job.parts, &value_at(job, index, inputs, stages)?, "/")?,
    };
    let active = job.parts.snapshots.prepare(base.snapshot)?;
    let earlier = job.earlier(number, &base)?;
    Ok(Writing { active, base, begun: number, earlier })
}

fn apply(
    parts: &Parts,
    action: &FileAction,
    writing: &Writing,
    secondary: &Value,
    owners: &BTreeMap<usize, Value>,
    tally: &Tally,
    stopped: &dyn Fn() -> bool,
) -> Result<(), EngineError> {
    let editor = Editor::new(&writing.active)?;
    match &action.kind {
        FileActionKind::Mkdir(mkdir) => {
            let owner = owner(parts, mkdir.owner.as_ref(), owners)?;
            editor.mkdir(&mkdir.path, mkdir.mode, mkdir.make_parents, owner, mkdir.timestamp)?;
        }
        FileActionKind::Mkfile(mkfile) => {
            let owner = owner(parts, mkfile.owner.as_ref(), owners)?;
            editor.mkfile(&mkfile.path, mkfile.mode, &mkfile.data, owner, mkfile.timestamp)?;
        }
        FileActionKind::Symlink(symlink) => {
            let owner = owner(parts, symlink.owner.as_ref(), owners)?;
            editor.symlink(&symlink.target, &symlink.path, owner, symlink.timestamp)?;
        }
        FileActionKind::Rm(rm) => editor.remove(&rm.path, rm.allow_not_found, rm.allow_wildcard)?,
        FileActionKind::Copy(copy) => {
            let owner = owner(parts, copy.owner.as_ref(), owners)?;
            let (reuse, tally) = (writing.earlier.as_ref(), Some(tally));
            let options = CopyOptions { owner, reuse, tally, ..copy_options(copy) };
            if copy.attempt_unpack {
                unpack::copy(parts, &editor, secondary, copy, &options, stopped)?;
            } else {
                mounts::copy_from(&editor, parts, secondary, &copy.src, &copy.dest, options)?;
            }
        }
    }
    Ok(())
}

fn copy_options(copy: &CopyAction) -> CopyOptions<'static> {
    let (mode, mode_str) = match &copy.mode {
        CopyMode::Keep => (None, None),
        CopyMode::Bits(bits) => (Some(*bits), None),
        CopyMode::Symbolic(text) => (None, Some(text.clone())),
    };
    CopyOptions {
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        mode,
        mode_str,
        timestamp: copy.timestamp,
        include_patterns: copy.include_patterns.clone(),
        exclude_patterns: copy.exclude_patterns.clone(),
        required_paths: copy.required_paths.clone(),
        always_replace: copy.always_replace,
        ..CopyOptions::default()
    }
}

/// Settles an owner to ids; names are looked up in the passwd and group files of the tree the definition names.
fn owner(
    parts: &Parts,
    owner: Option<&Owner>,
    trees: &BTreeMap<usize, Value>,
) -> Result<Option<(u32, u32)>, EngineError> {
    let Some(owner) = owner else { return Ok(None) };
    let settle = |user: &UserSpec, group: bool| match user {
        UserSpec::Id(id) => Ok((*id, *id)),
        UserSpec::Name { name, input } => {
            let view = match input.and_then(|input| trees.get(&input)) {
                Some(value) => mounts::view(parts, value)?,
                None => rb_snapshot::View::new(Vec::new()),
            };
            let text = if group { format!("0:{name}") } else { name.clone() };
            Ok::<_, EngineError>(users::resolve_owner(&view, &text)?)
        }
    };
    let user = owner.user.as_ref().map(|user| settle(user, false)).transpose()?;
    let group = owner.group.as_ref().map(|group| settle(group, true)).transpose()?;
    let uid = user.map_or(0, |(uid, _)| uid);
    let gid = group.or(user).map_or(0, |(_, gid)| gid);
    Ok(Some((uid, gid)))
}
