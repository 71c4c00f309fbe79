//! What a typed op must be: indices that point to something, outputs that are numbered without gaps, and what
//! BuildKit's solver asks for (`solver/llbsolver/ops/opsutils`).

use crate::{
    BuildOp, DiffOp, ExecOp, FileAction, FileActionKind, FileOp, LlbError, MergeOp, Op, Owner, SourceOp,
    UserSpec,
};

impl Op {
    /// Returns how many outputs the vertex has; they are numbered from 0.
    pub fn output_count(&self) -> u32 {
        let count =
            |outputs: &mut dyn Iterator<Item = u32>| outputs.map(|output| output + 1).max().unwrap_or(0);
        match self {
            Self::Source(_) | Self::Merge(_) | Self::Diff(_) | Self::Build(_) => 1,
            Self::Exec(exec) => count(&mut exec.mounts.iter().filter_map(|mount| mount.output)),
            Self::File(file) => count(&mut file.actions.iter().filter_map(|action| action.output)),
        }
    }
}

/// Checks `op`, which has `inputs` inputs.
pub(crate) fn validate(op: &Op, inputs: usize) -> Result<(), LlbError> {
    match op {
        Op::Source(source) => source_op(source),
        Op::Exec(exec) => exec_op(exec, inputs),
        Op::File(file) => file_op(file, inputs),
        Op::Build(build) => build_op(build, inputs),
        Op::Merge(merge) => merge_op(merge, inputs),
        Op::Diff(DiffOp { lower, upper }) => {
            in_range("lower side of a diff", *lower, inputs)?;
            in_range("upper side of a diff", *upper, inputs)
        }
    }
}

pub(crate) fn in_range(what: &'static str, index: Option<usize>, limit: usize) -> Result<(), LlbError> {
    match index {
        Some(index) if index >= limit => {
            let index = i64::try_from(index).unwrap_or(i64::MAX);
            Err(LlbError::Index { what, index, limit: limit as u64 })
        }
        Some(_) | None => Ok(()),
    }
}

fn source_op(source: &SourceOp) -> Result<(), LlbError> {
    if source.identifier.is_empty() {
        return Err(LlbError::Invalid("a source needs an identifier"));
    }
    Ok(())
}

fn exec_op(exec: &ExecOp, inputs: usize) -> Result<(), LlbError> {
    if exec.meta.args.is_empty() {
        return Err(LlbError::Invalid("an exec operation needs arguments"));
    }
    if exec.mounts.iter().filter(|mount| mount.dest == "/").count() != 1 {
        return Err(LlbError::Invalid("an exec operation needs exactly one mount at `/`"));
    }
    for mount in &exec.mounts {
        in_range("input of a mount", mount.input, inputs)?;
    }
    outputs(exec.mounts.iter().filter_map(|mount| mount.output))
}

/// Output numbers must be 0, 1, … without gaps and each there once.
fn outputs(outputs: impl Iterator<Item = u32>) -> Result<(), LlbError> {
    let mut outputs: Vec<u32> = outputs.collect();
    outputs.sort_unstable();
    if outputs.iter().enumerate().any(|(at, output)| *output as usize != at) {
        return Err(LlbError::Invalid("outputs must be numbered from 0, without gaps and each once"));
    }
    Ok(())
}

fn file_op(file: &FileOp, inputs: usize) -> Result<(), LlbError> {
    if file.actions.is_empty() {
        return Err(LlbError::Invalid("a file operation needs actions"));
    }
    for (at, action) in file.actions.iter().enumerate() {
        let limit = inputs + at;
        in_range("input of a file action", action.input, limit)?;
        in_range("secondary input of a file action", action.secondary_input, limit)?;
        for name in named_owners(action) {
            in_range("input of an owner", name, limit)?;
        }
    }
    outputs(file.actions.iter().filter_map(|action| action.output))
}

/// Yields the inputs in which the names of the action's owner are looked up.
fn named_owners(action: &FileAction) -> impl Iterator<Item = Option<usize>> {
    let owner = match &action.kind {
        FileActionKind::Copy(copy) => copy.owner.as_ref(),
        FileActionKind::Mkfile(mkfile) => mkfile.owner.as_ref(),
        FileActionKind::Mkdir(mkdir) => mkdir.owner.as_ref(),
        FileActionKind::Symlink(symlink) => symlink.owner.as_ref(),
        FileActionKind::Rm(_) => None,
    };
    owner.into_iter().flat_map(|Owner { user, group }| [user, group]).flatten().filter_map(
        |user| match user {
            UserSpec::Name { input, .. } => Some(*input),
            UserSpec::Id(_) => None,
        },
    )
}

fn build_op(build: &BuildOp, inputs: usize) -> Result<(), LlbError> {
    in_range("builder of a build", build.builder, inputs)?;
    build.inputs.values().try_for_each(|input| in_range("input of a build", Some(*input), inputs))
}

fn merge_op(merge: &MergeOp, inputs: usize) -> Result<(), LlbError> {
    if merge.inputs.is_empty() {
        return Err(LlbError::Invalid("a merge needs inputs"));
    }
    merge.inputs.iter().try_for_each(|input| in_range("input of a merge", *input, inputs))
}
