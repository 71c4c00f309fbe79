//! Going on where a step failed.
//!
//! In: failed steps that are [`kept`](super::kept), and the graphs of a job. Out: of each the one step of the job that takes its
//! place, and the trees that this begins with: what the failed one left, laid over what a build from the beginning would give
//! it now. How: the layers that the failed step wrote become layers of links over the new tree. What it wrote or removed
//! stays so; what it did not touch is as it is now, and files that are others than then are newer than all that it
//! wrote, so that `make` and its like see them.
//!
//! Which step takes its place: the same vertex; else the one of the same name; else one of the same target that stands on the same
//! line or follows the same steps, since its command is what was mended. No two failed steps have one.
//! **Invariants:** what such a step makes, and all that is made of it, is a [`Product::Resumed`]: no key finds it, no record names it,
//! and it becomes no image unless that is allowed. What is kept of the failed step stays as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rb_api::{Export, ImageName};
use rb_llb::{Edge, ExecOp, Graph, MountKind, Op};
use rb_oci::Digest;
use rb_snapshot::{ContentDigest, ContentKey, Editor, Follow};
use rb_solver::{Context, OpError, Stream};
use rb_store::{SnapshotId, Store};

use super::kept::{Kept, Origin, content};
use super::mounts;
use crate::LocalEngine;
use crate::error::EngineError;
use crate::job::JobContext;
use crate::parts::Parts;
use crate::value::{Product, Tree, Value};

/// What to do where an image is refused.
pub(crate) const INSTEAD_OF_IMAGES: &str = "`--no-output` resumes and writes nothing, `--with-images` writes it all the same; \
                                            without `rb resume` it is built clean";

/// What is to be gone on with, and how.
#[derive(Clone, Debug, Default)]
pub struct ResumeRequest {
    /// The failed steps.
    pub ids: Vec<u64>,
    /// Runs in place of their own command; empty for that.
    pub command: Vec<String>,
    /// Images may hold what is made so.
    pub images: bool,
}

/// A step that went on where it had failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedStep {
    /// By which number it was kept.
    pub id: u64,
    /// What it is called now: `+app | RUN make`.
    pub name: String,
}

impl LocalEngine {
    /// Has the jobs of this engine go on where these steps failed. Once, before the first job.
    ///
    /// `NotKept` of one that is not kept, or was by an older version.
    pub fn resume(&self, request: &ResumeRequest) -> Result<(), EngineError> {
        let mut open = Vec::with_capacity(request.ids.len());
        for id in &request.ids {
            let gone = || EngineError::NotKept { id: *id };
            let row = self.parts.store.failure(*id)?.ok_or_else(gone)?;
            let mut left = Kept::read(&row).and_then(|kept| kept.left(&row)).ok_or_else(gone)?;
            left.hold(&self.parts.store)?;
            left.command.clone_from(&request.command);
            open.push(Arc::new(left));
        }
        let state = Mutex::new(State { open, ..State::default() });
        // The first one stays.
        drop(self.parts.resumption.set(Resumption { state, images: request.images }));
        Ok(())
    }

    /// Returns the steps that went on where they had failed, or began to.
    pub fn resumed(&self) -> Vec<ResumedStep> {
        self.parts.resumption.get().map(|resumption| resumption.state().begun.clone()).unwrap_or_default()
    }
}

/// The failed steps that the jobs of an engine go on with.
pub(crate) struct Resumption {
    state: Mutex<State>,
    images: bool,
}

#[derive(Default)]
struct State {
    /// Of which no step has taken the place yet.
    open: Vec<Arc<Left>>,
    /// The others, by the vertices that have.
    chosen: BTreeMap<Digest, Arc<Left>>,
    begun: Vec<ResumedStep>,
    /// Something was read out of what was made so: what else is decided by it nobody can tell.
    has_answered: bool,
}

impl Resumption {
    /// Gives each failed step that is open the step of a graph that takes its place, if there is one.
    pub(crate) fn choose(&self, graph: &Graph) {
        let mut state = self.state();
        if state.open.is_empty() {
            return;
        }
        let is_command = |vertex: &&rb_llb::Vertex| matches!(vertex.op, Op::Exec(_));
        let candidates: Vec<Candidate> = graph
            .vertices()
            .filter(is_command)
            .map(|vertex| Candidate {
                vertex: vertex.digest,
                name: graph.name(vertex),
                place: graph
                    .location(&vertex.digest)
                    .map(|(file, range)| (file.name.clone(), range.start.line)),
                inputs: vertex.inputs.clone(),
            })
            .collect();
        for left in std::mem::take(&mut state.open) {
            let free = candidates.iter().filter(|candidate| !state.chosen.contains_key(&candidate.vertex));
            let ranked = free.filter_map(|candidate| Some((left.likeness(candidate)?, candidate.vertex)));
            match ranked.min_by_key(|(likeness, _)| *likeness) {
                Some((_, vertex)) => drop(state.chosen.insert(vertex, left)),
                None => state.open.push(left),
            }
        }
    }

    /// Returns what the failed step left whose place a vertex takes.
    pub(super) fn left_for(&self, vertex: &Digest) -> Option<Arc<Left>> {
        self.state().chosen.get(vertex).cloned()
    }

    /// Tells whether a step of this graph takes the place of a failed one.
    pub(crate) fn is_in(&self, graph: &Graph) -> bool {
        let state = self.state();
        graph.vertices().any(|vertex| state.chosen.contains_key(&vertex.digest))
    }

    /// Notes that something was read out of what was made so.
    pub(crate) fn note_answer(&self) {
        self.state().has_answered = true;
    }

    /// Refuses images that hold what is made so, unless they are allowed; `is_resumed` tells of a root whether it does.
    pub(crate) fn refuse_images(
        &self,
        exports: &[Export],
        is_resumed: impl Fn(usize) -> bool,
    ) -> Result<(), EngineError> {
        let all = self.state().has_answered;
        let held = |export: &&Export| export.images().iter().any(|image| all || is_resumed(image.root));
        match exports.iter().find(held).filter(|_| !self.images) {
            None => Ok(()),
            Some(export) => Err(EngineError::ResumedImage { what: called(export) }),
        }
    }

    fn begin(&self, id: u64, name: String) {
        self.state().begun.push(ResumedStep { id, name });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// Returns what an image is called.
fn called(export: &Export) -> String {
    let name = match export {
        Export::Image { names, .. } => names.first().map(|name| match name {
            ImageName::Plain(name) | ImageName::Digest(name) => name.as_str(),
        }),
        Export::OciLayout { names, .. } => names.first().map(String::as_str),
        Export::Local { .. } | Export::Tar { .. } => None,
    };
    name.map_or_else(|| "the image".to_owned(), |name| format!("the image `{name}`"))
}

/// A step that may take the place of a failed one.
struct Candidate {
    vertex: Digest,
    name: String,
    place: Option<(String, u32)>,
    inputs: Vec<Edge>,
}

/// What a failed step left, for the one that takes its place.
pub(crate) struct Left {
    id: u64,
    name: String,
    /// Vertex, inputs, and file and line.
    was: (Digest, Vec<Edge>, Option<(String, u32)>),
    trees: Vec<LeftTree>,
    /// Runs in place of the step's own; empty for that.
    command: Vec<String>,
    held: Vec<Held>,
}

/// One tree that the failed step wrote in.
pub(super) struct LeftTree {
    /// Where it was mounted.
    pub(super) dest: String,
    /// What it was before.
    pub(super) began: Tree,
    pub(super) left: Tree,
}

impl Left {
    pub(super) fn new(
        id: u64,
        name: String,
        was: (Digest, Vec<Edge>, Option<(String, u32)>),
        trees: Vec<LeftTree>,
    ) -> Self {
        Self { id, name, was, trees, command: Vec::new(), held: Vec::new() }
    }

    /// Says that something else is to run, whatever is known of the step's own command.
    pub(super) fn has_command(&self) -> bool {
        !self.command.is_empty()
    }

    /// Returns what runs in place of the step's own command, as it may be typed.
    pub(super) fn command(&self) -> Option<String> {
        let word = |word: &String| match word.contains(|letter: char| letter.is_whitespace()) {
            true => format!("'{word}'"),
            false => word.clone(),
        };
        self.has_command().then(|| self.command.iter().map(word).collect::<Vec<_>>().join(" "))
    }

    /// Sees to it that nothing of it goes: of steps that failed only the last are kept.
    fn hold(&mut self, store: &Store) -> Result<(), EngineError> {
        for snapshot in self.trees.iter().filter_map(|tree| tree.left.snapshot) {
            let child = store.new_snapshot(Some(snapshot))?;
            self.held.push(Held { store: store.clone(), child });
        }
        Ok(())
    }

    /// Tells how like the failed step another one is, the likest first; nothing of one that cannot be it.
    fn likeness(&self, other: &Candidate) -> Option<u8> {
        let (vertex, inputs, place) = &self.was;
        let is_there = place.is_some() && *place == other.place;
        let is_of_target = || target(&self.name).is_some_and(|own| Some(own) == target(&other.name));
        match () {
            () if *vertex == other.vertex => Some(0),
            () if self.name == other.name => Some(if is_there { 1 } else { 2 }),
            // The first input is the tree that it stands on; others come with its command.
            () if is_of_target() && (is_there || inputs.first() == other.inputs.first()) => Some(3),
            () => None,
        }
    }
}

/// Returns the target of a step by its name, or the stage of a Dockerfile: of `[build 2/5] RUN make` that is `[build`.
fn target(name: &str) -> Option<&str> {
    let of_stage = || {
        let (before, _) = name.strip_prefix('[').and_then(|_| name.split_once("] "))?;
        let number = before.rsplit([' ', '[']).next().filter(|number| number.contains('/'))?;
        before.strip_suffix(number).map(str::trim_end)
    };
    of_stage().or_else(|| name.split_once(" | ").map(|(target, _)| target))
}

/// Says which command a failure is of, where that is not the one that is shown.
pub(super) fn told(origin: &Origin, failed: EngineError) -> EngineError {
    match (failed, &origin.instead) {
        (EngineError::Exit { outcome, log_tail, help }, Some(instead)) => {
            let subject = format!("`{instead}`, which ran instead,");
            EngineError::Exit { outcome: outcome.replacen("the command", &subject, 1), log_tail, help }
        }
        (failed, _) => failed,
    }
}

/// Keeps a snapshot by standing on it.
struct Held {
    store: Store,
    child: SnapshotId,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.store.delete_snapshot(self.child) {
            // The store removes it when it is opened after this process.
            tracing::warn!(snapshot = %self.child, %error, "an abandoned snapshot stays for now");
        }
    }
}

/// A step that is about to run: what it does, its inputs, and which of its mounts were what before.
type Begun = (ExecOp, Vec<Value>, Vec<(usize, Tree)>);

/// Has a step begin with what the failed one left whose place it takes.
pub(super) async fn begin(
    cx: &Context,
    job: &Arc<JobContext>,
    (left, name): (Arc<Left>, String),
    (op, inputs): (ExecOp, Vec<Value>),
) -> Result<Begun, OpError> {
    let text = format!("going on where step {} failed: what it left is laid over its files\n", left.id);
    cx.log(Stream::Stderr, Bytes::from(text));
    if let Some(resumption) = job.parts.resumption.get() {
        resumption.begin(left.id, name);
    }
    let parts = Arc::clone(&job.parts);
    crate::blocking(move || lay_under(&parts, op, inputs, &left)).await
}

fn lay_under(
    parts: &Parts,
    mut op: ExecOp,
    mut inputs: Vec<Value>,
    left: &Left,
) -> Result<Begun, EngineError> {
    let mut began = Vec::new();
    for (number, mount) in op.mounts.iter_mut().enumerate() {
        if mount.kind != MountKind::Bind || mount.readonly {
            continue;
        }
        let Some(tree) = left.trees.iter().find(|tree| tree.dest == mount.dest) else { continue };
        let input = match mount.input {
            None => Value::Tree(Tree::scratch()),
            Some(index) => inputs.get(index).cloned().ok_or_else(|| super::no_input("a command", index))?,
        };
        let is_root = mount.dest == "/";
        let now = mounts::tree(parts, &input, if is_root { &mount.selector } else { "" })?;
        let (laid, now) = laid(parts, now, tree)?;
        if is_root {
            // It is cut down to that already.
            mount.selector.clear();
        }
        mount.input = Some(inputs.len());
        inputs.push(Value::Tree(laid));
        began.push((number, now));
    }
    if !left.command.is_empty() {
        op.meta.args.clone_from(&left.command);
    }
    Ok((op, inputs, began))
}

/// Lays what a step left over what it would begin with now. Returns that, and what it lies on.
fn laid(
    parts: &Parts,
    now: Tree,
    LeftTree { began, left, .. }: &LeftTree,
) -> Result<(Tree, Tree), EngineError> {
    let snapshots = &parts.snapshots;
    let (snapshot, now) = if now.snapshot == began.snapshot {
        (left.snapshot, now)
    } else {
        let own = match began.snapshot {
            // All of it.
            None => left.snapshot,
            Some(_) => snapshots.difference(began.snapshot, left.snapshot)?.0,
        };
        let now = renewed(parts, began, now)?;
        let over = match now.snapshot {
            None => own,
            Some(_) => snapshots.merge(&[now.snapshot, own])?.0,
        };
        (over, now)
    };
    let content = match snapshot {
        None => now.content,
        // What is laid on another tree has a key; what a step left has none.
        Some(id) => match parts.store.snapshot(id)?.and_then(|row| row.content_key) {
            Some(key) => ContentKey::from_bytes(key),
            None => content(parts, "gone on with", id),
        },
    };
    Ok((Tree { snapshot, content, host: now.host.clone() }, now))
}

/// Gives files that are others than they were, when the failed step began, a time of today: what it made of them is older. That
/// is a layer with a key that nothing else has, and so has all that is laid on it.
fn renewed(parts: &Parts, began: &Tree, now: Tree) -> Result<Tree, EngineError> {
    let snapshots = &parts.snapshots;
    let (was, is) = (snapshots.layer_tops(began.snapshot)?, snapshots.layer_tops(now.snapshot)?);
    let (was, is) = (files(parts, &was, &is)?, files(parts, &is, &was)?);
    let view = snapshots.view(now.snapshot)?;
    let mut others = Vec::new();
    for (path, (digest, modified_ns)) in is {
        let is_same = was.get(&path).is_some_and(|(was, _)| *was == digest);
        // A later layer may have put another file there.
        let shows = || view.lookup(&path, Follow::No);
        if !is_same && shows()?.is_some_and(|entry| entry.metadata.modified_ns == modified_ns) {
            others.push(path);
        }
    }
    if now.snapshot.is_none() {
        return Ok(now);
    }
    let active = snapshots.prepare(now.snapshot)?;
    let today_ns = i64::try_from(parts.store.clock().now().as_nanos()).unwrap_or(i64::MAX);
    let editor = Editor::new(&active)?;
    for path in others {
        editor.set_metadata(path, None, None, Some(today_ns))?;
    }
    drop(editor);
    let content = content(parts, "with times of today", active.id);
    let snapshot = snapshots.commit_as(active, content)?;
    Ok(Tree { snapshot: Some(snapshot), content, host: now.host })
}

/// Files, with their digests and times, by their paths.
type Files = BTreeMap<PathBuf, (ContentDigest, i64)>;

/// Returns the files that layers brought, but for those that another tree has too.
fn files(parts: &Parts, layers: &[SnapshotId], others: &[SnapshotId]) -> Result<Files, EngineError> {
    let mut files = Files::new();
    for id in layers.iter().filter(|id| !others.contains(id)) {
        let Some(manifest) = parts.snapshots.manifest(*id)? else { continue };
        let brought = manifest.files().map(|(path, digest, time)| (path.to_owned(), (digest, time)));
        files.extend(brought);
    }
    Ok(files)
}

/// Marks what was made so: under keys that nothing else has.
pub(super) fn marked(parts: &Parts, vertex: &Digest, values: Vec<Value>) -> Vec<Product> {
    let now = parts.store.clock().now().as_nanos();
    let mark = |(index, value)| {
        let key = format!("resumed: {index} of {vertex} at {now} in {}", std::process::id());
        Product::Resumed(value, Digest::of(key))
    };
    values.into_iter().enumerate().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32) -> Option<(String, u32)> {
        Some(("Buildfile".to_owned(), line))
    }

    fn candidate(name: &str, line: u32, input: &str) -> Candidate {
        let inputs = vec![Edge { vertex: Digest::of(input), index: 0 }];
        Candidate {
            vertex: Digest::of(format!("{name} {line} {input}")),
            name: name.to_owned(),
            place: place(line),
            inputs,
        }
    }

    #[test]
    fn steps_of_a_dockerfile_are_of_its_stages() {
        for (name, expected) in [
            ("+t --A=[1/2] | RUN make", Some("+t --A=[1/2]")),
            ("[build 2/5] RUN a | b", Some("[build")),
            ("[build  2/15] RUN a", Some("[build")),
            ("[linux/arm64 build 2/5] RUN a", Some("[linux/arm64 build")),
            ("[1/2] RUN a", Some("[")),
            ("[internal] load x", None),
            ("writing outputs", None),
        ] {
            assert_eq!(target(name), expected);
        }
    }

    #[test]
    fn the_likest_step_takes_the_place_of_a_failed_one() {
        let was = candidate("+t | RUN make", 4, "copy");
        let left =
            Left::new(1, was.name.clone(), (was.vertex, was.inputs.clone(), was.place.clone()), Vec::new());
        let likeness = |name: &str, line, input: &str| left.likeness(&candidate(name, line, input));
        assert_eq!(likeness("+t | RUN make", 4, "copy"), Some(0));
        assert_eq!(likeness("+t | RUN make", 4, "other"), Some(1));
        assert_eq!(likeness("+t | RUN make", 5, "other"), Some(2));
        // The command was mended, in place; or lines were put above it.
        assert_eq!(likeness("+t | RUN make -k", 4, "other"), Some(3));
        assert_eq!(likeness("+t | RUN make -k", 6, "copy"), Some(3));
        assert_eq!(likeness("+t | RUN make -k", 6, "other"), None);
        assert_eq!(likeness("+u | RUN make -k", 4, "copy"), None);
    }
}
