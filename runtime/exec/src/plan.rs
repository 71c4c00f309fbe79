//! From a [`Spec`] to a program for the child: everything that can be prepared is prepared here, outside.
//!
//! Order: the root and each mount are made detached; their places are found, and made, in the [`Tree`]; the user is
//! resolved by the image's files; then steps are laid out. Mounts that depend on the child's own namespaces (`/proc`,
//! message queues) are made by the child. Each step has a label, by which a failure becomes a typed error.
//!
//! Devices: only those bound into `/dev` work. Every other mount forbids device nodes, which stands in for the device
//! cgroup that other runtimes need.
//! Source: Docker's default capabilities (moby, oci/caps; facts).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rb_sys::caps::{self, Capabilities, number};
use rb_sys::child::{FileRef, Namespaces, Program, Slot, Step};
use rb_sys::mount::{Attributes, set_attributes};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cgroup::Group;
use crate::error::ExecError;
use crate::oci::Bundle;
use crate::spec::{Network, Output, Spec, Stdin};
use crate::terminal::{self, Pair};
use crate::tree::{Kind, Place, Tree};
use crate::user::User;
use crate::{identity, limits, roots, seccomp, user};

mod bundled;
mod chroot;
mod extra;
mod foreign;
mod standard;

pub(crate) use chroot::{ChrootPlan, prepare as chroot};
pub(crate) use foreign::Ids;
use standard::Standard;

/// What Docker gives a container.
pub(crate) const DEFAULT_CAPABILITIES: Capabilities = Capabilities::of(&[
    number::AUDIT_WRITE,
    number::CHOWN,
    number::DAC_OVERRIDE,
    number::FOWNER,
    number::FSETID,
    number::KILL,
    number::MKNOD,
    number::NET_BIND_SERVICE,
    number::NET_RAW,
    number::SETFCAP,
    number::SETGID,
    number::SETPCAP,
    number::SETUID,
    number::SYS_CHROOT,
]);

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The slot of the child for what is attached at once.
const SCRATCH: Slot = Slot(1);

/// How much of a passwd or group file is read.
const MAX_ACCOUNTS_BYTES: u64 = 16 << 20;

/// What a failing step means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Step(String),
    Cwd,
}

/// Everything that [`run`](crate::run()) needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) labels: Vec<Label>,
    pub(crate) namespaces: Namespaces,
    /// Where output comes from.
    pub(crate) output: Source,
    /// Paths at which the program was looked for.
    pub(crate) candidates: Vec<String>,
    /// The ids of a user namespace that the child enters.
    pub(crate) ids: Option<Ids>,
    /// What another runtime is given, if one runs the command.
    pub(crate) bundle: Option<Bundle>,
    // Last: its mount points are removed when nothing else holds the mounts.
    pub(crate) tree: Tree,
}

/// Where the output of a command comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// It goes where ours goes.
    Inherited,
    /// Reading ends of standard output and error.
    Pipes([OwnedFd; 2]),
    /// A terminal.
    Terminal(Pair),
}

/// Steps with their labels.
#[derive(Default)]
struct Steps {
    steps: Vec<(Step, Label)>,
}

impl Steps {
    fn push(&mut self, label: impl Into<String>, step: Step) {
        self.steps.push((step, Label::Step(label.into())));
    }
}

/// Prepares the run of `spec`.
pub(crate) fn prepare(spec: &Spec, group: Option<&Group>) -> Result<Plan, ExecError> {
    let name = spec.args.first().ok_or(ExecError::NoCommand)?;
    if let Some(runtime) = &spec.runtime {
        return bundled::prepare(spec, runtime, group);
    }
    let nodev = if spec.insecure { Attributes::default() } else { Attributes::NODEV };
    let root = roots::mount(&spec.root, nodev)?;
    let mut tree = Tree::new(clone(&root.mount)?, root.written);
    // Declared after the tree, so that on failure they let go of the mounts before stubs are removed.
    let mut program = Program::new();
    let standard = Standard::prepare(spec, &mut tree, &mut program)?;
    let extra = extra::prepare(spec, nodev, &mut tree, &mut program)?;
    let user = resolve_user(spec, &mut tree)?;
    let terminal = open_terminal(spec, &standard, &user)?;
    tree.settle();
    if spec.readonly_root {
        let readonly = nodev.with(Attributes::RDONLY);
        set_attributes(root.mount.as_fd(), readonly, false)
            .map_err(setup("make the root file system read-only"))?;
    }
    let root = program.lend(root.mount);

    let mut steps = Steps::default();
    enter(spec, group, &mut program, &mut steps)?;
    steps.push("mount generated files", Step::AttachAside { mount: standard.generated });
    for mount in &extra {
        if let extra::Source::Part { aside, .. } = mount.source {
            steps.push(format!("mount the layers for {}", mount.target), Step::AttachAside { mount: aside });
        }
    }
    steps.push("mount the root file system", Step::AttachAside { mount: root });
    standard.lay_out(spec, root, &mut steps)?;
    attach(extra, root, &mut steps)?;
    steps.push("set the host name", Step::HostName(text(hostname(spec), "the host name")?));
    if spec.network.is_none() {
        steps.push("set the loopback interface up", Step::LoopbackUp);
    }
    let output = connect(spec, &user, terminal, &pipe_for, &mut program, &mut steps)?;
    steps.push("change the root", Step::PivotRoot { root });
    for (label, step) in limits::steps(&spec.rlimits)? {
        steps.push(label, step);
    }
    steps.push("set the umask", Step::Umask(0o022));
    let ids = match &spec.emulator {
        Some(emulator) => Some(foreign::lay_out(emulator, &standard.proc, &mut program, &mut steps)?),
        None => None,
    };
    let cwd = text(if spec.cwd.is_empty() { "/" } else { spec.cwd.as_str() }, "the working directory")?;
    steps.steps.push((Step::ChangeDirectory(cwd), Label::Cwd));
    drop_privileges(spec, &user, &mut steps)?;
    // Changing ids clears it.
    steps.push("die with the parent", Step::DieWithParent);
    let environment = environment(spec, &user);
    let candidates = candidates(name, &environment);
    steps.push(
        "execute",
        Step::Execute {
            candidates: texts(&candidates, "the command")?,
            arguments: texts(&spec.args, "an argument")?,
            environment: variables(spec, &environment)?,
            init: spec.init,
        },
    );

    let mut labels = Vec::with_capacity(steps.steps.len());
    for (step, label) in steps.steps {
        program.push(step);
        labels.push(label);
    }
    let mut namespaces = Namespaces::MOUNT.with(Namespaces::PID).with(Namespaces::IPC).with(Namespaces::UTS);
    if spec.network.is_none() {
        namespaces = namespaces.with(Namespaces::NET);
    }
    Ok(Plan { program, labels, namespaces, output, candidates, ids, bundle: None, tree })
}

/// Adds the first steps: where the child is, before anything is mounted.
fn enter(
    spec: &Spec,
    group: Option<&Group>,
    program: &mut Program,
    steps: &mut Steps,
) -> Result<(), ExecError> {
    steps.push("die with the parent", Step::DieWithParent);
    for file in group.map(Group::to_join).transpose()?.unwrap_or_default() {
        let root = program.lend(file.into());
        // 0 is whoever writes it.
        steps.push("enter the control group", Step::Write { root, path: c"".into(), bytes: b"0".to_vec() });
    }
    if let Network::Member(member) = &spec.network {
        let network = member.network().map_err(setup("lend the command its network"))?;
        let network = program.lend(network);
        steps.push("enter the network", Step::EnterNetwork(network));
    }
    steps.push("start a session", Step::NewSession);
    steps.push("start a session keyring", Step::NewKeyring);
    steps.push("make mounts private", Step::PrivateMounts);
    Ok(())
}

/// Adds the steps that attach the mounts of a spec.
fn attach(extra: Vec<extra::Prepared>, root: FileRef, steps: &mut Steps) -> Result<(), ExecError> {
    for mount in extra {
        let label = format!("mount {}", mount.target);
        let path = text(mount.place.path(), "a mount target")?;
        let source = match mount.source {
            extra::Source::Mount(mount) => mount,
            extra::Source::Part { path, attributes, .. } => {
                steps.push(
                    label.clone(),
                    Step::Bind { from: path, path: c"".into(), attributes, into: SCRATCH },
                );
                FileRef::Slot(SCRATCH)
            }
        };
        steps.push(label, Step::Attach { mount: source, root, path });
    }
    Ok(())
}

fn place(tree: &mut Tree, target: &str, kind: Kind) -> Result<Place, ExecError> {
    tree.place(target, kind).map_err(|source| ExecError::MountPoint { target: target.to_owned(), source })
}

fn open(path: &Path) -> Result<OwnedFd, ExecError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| open_error(path)(error.into()))
}

fn bind(path: &Path, recursive: bool, attributes: Attributes) -> Result<OwnedFd, ExecError> {
    bind_open(&open(path)?, path, recursive, attributes)
}

fn bind_open(
    file: &OwnedFd,
    path: &Path,
    recursive: bool,
    attributes: Attributes,
) -> Result<OwnedFd, ExecError> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(file, "", flags).map_err(|error| open_error(path)(error.into()))?;
    set_attributes(mount.as_fd(), attributes, recursive).map_err(open_error(path))?;
    Ok(mount)
}

fn open_error(path: &Path) -> impl FnOnce(io::Error) -> ExecError {
    move |source| ExecError::Open { path: path.to_owned(), source }
}

fn resolve_user(spec: &Spec, tree: &mut Tree) -> Result<User, ExecError> {
    let mut read = |path: &str| -> Result<String, ExecError> {
        let bytes =
            tree.read(path, MAX_ACCOUNTS_BYTES).map_err(setup(format!("read {path} of the image")))?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let mut user = user::resolve(&spec.user.0, &passwd, &group)?;
    let remedy = identity::MORE_IDS;
    for id in &spec.groups {
        // Asked for by number, so not to be left out.
        if identity::setgroups_denied() {
            return Err(ExecError::UnmappedId { what: "group", id: *id, remedy });
        }
        if !user.groups.contains(id) {
            user.groups.push(*id);
        }
    }
    if !identity::is_mapped(&identity::map("uid_map"), user.uid) {
        return Err(ExecError::UnmappedId { what: "user", id: user.uid, remedy });
    }
    let gids = identity::map("gid_map");
    for id in std::iter::once(user.gid).chain(user.groups.iter().copied()) {
        // Without setgroups(2) supplementary groups are left out anyway.
        if !identity::is_mapped(&gids, id) && (id == user.gid || !identity::setgroups_denied()) {
            return Err(ExecError::UnmappedId { what: "group", id, remedy });
        }
    }
    Ok(user)
}

/// Opens the terminal of a command that is to have one.
fn open_terminal(spec: &Spec, standard: &Standard, user: &User) -> Result<Option<Pair>, ExecError> {
    let Some(terminal) = &spec.terminal else { return Ok(None) };
    terminal::open(&standard.terminals, user.uid, terminal).map(Some).map_err(setup("open a terminal"))
}

/// Makes a pipe for the output: the end to read from, the end to write to.
fn pipe_for(_: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Connects the standard streams, the output by what `pipe_for` makes for a stream. Returns our ends.
fn connect(
    spec: &Spec,
    user: &User,
    terminal: Option<Pair>,
    pipe_for: &dyn Fn(i32) -> io::Result<(OwnedFd, OwnedFd)>,
    program: &mut Program,
    steps: &mut Steps,
) -> Result<Source, ExecError> {
    let mut connect = |file: OwnedFd, to| {
        let file = program.lend(file);
        steps.push("connect the standard streams", Step::Duplicate { file, to });
    };
    if let Some(pair) = terminal {
        for to in 0..3 {
            connect(clone(&pair.theirs)?, to);
        }
        steps.push("take the terminal", Step::ControllingTerminal);
        return Ok(Source::Terminal(pair));
    }
    if spec.stdio.stdin == Stdin::Null {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        connect(null.map_err(|error| open_error(Path::new("/dev/null"))(error.into()))?, 0);
    }
    if let Stdin::From(file) = &spec.stdio.stdin {
        connect(clone(&file.0)?, 0);
    }
    if spec.stdio.output == Output::Inherit {
        return Ok(Source::Inherited);
    }
    let mut pipe = |to| -> io::Result<OwnedFd> {
        let (read, write) = pipe_for(to)?;
        // The user may want to open /dev/stdout anew.
        let owner = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
        rustix::fs::fchown(&write, Some(owner.0), Some(owner.1))?;
        rustix::io::ioctl_fionbio(&read, true)?;
        connect(write, to);
        Ok(read)
    };
    let failed = || setup("make pipes for the output");
    Ok(Source::Pipes([pipe(1).map_err(failed())?, pipe(2).map_err(failed())?]))
}

fn drop_privileges(spec: &Spec, user: &User, steps: &mut Steps) -> Result<(), ExecError> {
    let own = caps::effective().map_err(setup("read our capabilities"))?;
    let wanted = if spec.insecure { Capabilities::ALL } else { DEFAULT_CAPABILITIES };
    if !spec.insecure {
        steps.push("bound the capabilities", Step::Bound(wanted));
    }
    if spec.no_new_privileges {
        steps.push("forbid new privileges", Step::NoNewPrivileges);
    }
    if !spec.insecure {
        // While we still may: without no_new_privs it takes CAP_SYS_ADMIN. It allows all that follows.
        steps.push("install the system call filter", Step::Seccomp(seccomp::filter()));
    }
    if !identity::setgroups_denied() {
        steps.push("set the supplementary groups", Step::Groups(user.groups.clone()));
    }
    steps.push("become the user", Step::Ids { uid: user.uid, gid: user.gid });
    let held = if user.uid == 0 { own.and(wanted) } else { Capabilities::default() };
    steps.push("set the capabilities", Step::Capabilities(held));
    Ok(())
}

/// The spec's environment, with `PATH` and `HOME` where they are missing, without what a secret replaces.
fn environment(spec: &Spec, user: &User) -> Vec<String> {
    let mut environment = spec.env.clone();
    for (name, value) in [("PATH=", DEFAULT_PATH), ("HOME=", user.home.as_str())] {
        if !environment.iter().any(|item| item.starts_with(name)) {
            environment.push(format!("{name}{value}"));
        }
    }
    let is = |item: &str, name: &str| item.split_once('=').is_some_and(|(before, _)| before == name);
    environment.retain(|item| !spec.secret_env.iter().any(|(name, _)| is(item, name)));
    environment
}

/// The environment as the kernel takes it, secrets included.
fn variables(spec: &Spec, environment: &[String]) -> Result<Vec<CString>, ExecError> {
    let mut variables = texts(environment, "the environment")?;
    for (name, value) in &spec.secret_env {
        variables.push(text([name.as_bytes(), b"=", value.bytes()].concat(), "a secret variable")?);
    }
    Ok(variables)
}

/// The paths at which a program may be: itself if it has a slash, else in each absolute directory of `PATH`.
fn candidates(name: &str, environment: &[String]) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = environment.iter().find_map(|item| item.strip_prefix("PATH=")).unwrap_or_default();
    let absolute = path.split(':').filter(|directory| directory.starts_with('/'));
    absolute.map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).collect()
}

fn hostname(spec: &Spec) -> &str {
    if spec.hostname.is_empty() { "localhost" } else { &spec.hostname }
}

fn text(bytes: impl Into<Vec<u8>>, what: &'static str) -> Result<CString, ExecError> {
    CString::new(bytes).map_err(|_| ExecError::Nul { what })
}

fn texts(list: &[String], what: &'static str) -> Result<Vec<CString>, ExecError> {
    list.iter().map(|item| text(item.as_str(), what)).collect()
}

fn clone(file: &OwnedFd) -> Result<OwnedFd, ExecError> {
    file.try_clone().map_err(setup("duplicate a descriptor"))
}

fn setup(action: impl Into<String>) -> impl FnOnce(io::Error) -> ExecError {
    let action = action.into();
    move |source| ExecError::Setup { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RootMount;

    #[test]
    fn programs_are_looked_for_in_absolute_directories() {
        let environment = ["PATH=/a:b::/c/".to_owned()];
        assert_eq!(candidates("sh", &environment), ["/a/sh", "/c/sh"]);
        assert_eq!(candidates("./sh", &environment), ["./sh"]);
        assert!(candidates("", &environment).is_empty());
    }

    #[test]
    fn environment_is_kept_and_completed() {
        let mut spec = Spec::new(RootMount::directory("/"), vec![]);
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        assert_eq!(environment(&spec, &user), [format!("PATH={DEFAULT_PATH}"), "HOME=/root".into()]);
        spec.env = vec!["HOME=".into(), "X=1".into(), "PATH=/x".into()];
        assert_eq!(environment(&spec, &user), ["HOME=", "X=1", "PATH=/x"]);
    }

    #[test]
    fn fourteen_capabilities() {
        assert_eq!(DEFAULT_CAPABILITIES.0, 0x0000_0000_a804_25fb);
        assert_eq!(DEFAULT_CAPABILITIES.0.count_ones(), 14);
    }
}
