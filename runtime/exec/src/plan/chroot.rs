//! A plan for a command in a chroot: see [`crate::chroot`].
//!
//! Order: as for a sandbox; but what that would mount is put into the root, here, before the child exists. The child becomes the keeper; its
//! child changes its root, and gives up what it must not have in there.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rb_sys::caps::{self, Capabilities, number};
use rb_sys::child::{FileRef, Program, Step};
use rb_sys::landlock;
use rustix::fs::{Mode, OFlags};

use super::extra::{depth, select_path, target_of};
use super::{
    DEFAULT_CAPABILITIES, Label, Source, Steps, candidates, clone, connect, environment, hostname,
    open_error, pipe_for, resolve_user, setup, text, texts, variables,
};
use crate::chroot::{Laid, Wanted, devices};
use crate::error::ExecError;
use crate::spec::{ExtraMount, FileMount, OverlayMount, RootDriver, SocketMount, Spec};
use crate::tree::{Kind, file_type};
use crate::user::User;
use crate::{files, limits, seccomp};

/// What a command may hold: less than in a sandbox, where a new root and devices are no way out.
const CAPABILITIES: Capabilities =
    DEFAULT_CAPABILITIES.without(Capabilities::of(&[number::SYS_CHROOT, number::MKNOD]));

/// The stream that has a name in there.
const STDERR: i32 = 2;

/// Everything that a run in a chroot needs.
pub(crate) struct ChrootPlan {
    pub(crate) laid: Laid,
    pub(crate) program: Program,
    pub(crate) labels: Vec<Label>,
    pub(crate) output: Source,
    /// Paths at which the program was looked for.
    pub(crate) candidates: Vec<String>,
}

/// Prepares the run of `spec`, which is not refused; `line` is the keeper's end.
pub(crate) fn prepare(spec: &Spec, line: OwnedFd) -> Result<ChrootPlan, ExecError> {
    let name = spec.args.first().ok_or(ExecError::NoCommand)?;
    let (RootDriver::Directory(root) | RootDriver::Shared(root)) = &spec.root.driver else {
        return Err(ExecError::NoRoot);
    };
    let mut laid = Laid::begin(root)?;
    let dev = lay_standard(spec, &mut laid)?;
    let mut mounts: Vec<&ExtraMount> = spec.mounts.iter().collect();
    // What lies beneath a mount comes after it; equal depths stay in the order given.
    mounts.sort_by_key(|mount| depth(target_of(mount)));
    let mut lent = Vec::new();
    let found: Result<Vec<_>, ExecError> =
        mounts.into_iter().map(|mount| Ok((target_of(mount), wanted(mount, &mut lent)?))).collect();
    for (target, wanted) in found? {
        laid.put(target, wanted)?;
    }
    let user = resolve_user(spec, &mut laid.tree)?;
    laid.settle(spec.readonly_root)?;

    let (mut program, mut steps) = (Program::new(), Steps::default());
    let line = program.lend(line);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let processes = rustix::fs::open("/proc", flags, Mode::empty())
        .map_err(|error| open_error(Path::new("/proc"))(error.into()))?;
    let processes = program.lend(processes);
    steps.push("leave a keeper", Step::Keep { line, processes });
    steps.push("die with the parent", Step::DieWithParent);
    steps.push("start a session", Step::NewSession);
    steps.push("start a session keyring", Step::NewKeyring);
    let named = |to| if to == STDERR { devices::named_stderr(&dev) } else { pipe_for(to) };
    let output = connect(spec, &user, None, &named, &mut program, &mut steps)?;
    let root = program.lend(clone(laid.root())?);
    steps.push("change the root", Step::Chroot { root });
    for (label, step) in limits::steps(&spec.rlimits)? {
        steps.push(label, step);
    }
    steps.push("set the umask", Step::Umask(0o022));
    let cwd = text(if spec.cwd.is_empty() { "/" } else { spec.cwd.as_str() }, "the working directory")?;
    steps.steps.push((Step::ChangeDirectory(cwd), Label::Cwd));
    let ruleset = landlock::keep_to(laid.root().as_fd()).map_err(setup("make a ruleset of Landlock"))?;
    drop_privileges(&user, ruleset.map(|ruleset| program.lend(ruleset)), &mut steps)?;
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
            init: false,
        },
    );
    let mut labels = Vec::with_capacity(steps.steps.len());
    for (step, label) in steps.steps {
        program.push(step);
        labels.push(label);
    }
    Ok(ChrootPlan { laid, program, labels, output, candidates })
}

/// Puts in what every command sees: devices, and files about names. Of `/proc` and `/sys` there is nothing, and nothing stays.
/// Returns the directory of devices.
fn lay_standard(spec: &Spec, laid: &mut Laid) -> Result<OwnedFd, ExecError> {
    for target in ["/proc", "/sys"] {
        laid.put(target, Wanted::Directory { mode: 0o555, fill: |_| Ok(()) })?;
    }
    laid.put("/dev", Wanted::Directory { mode: 0o755, fill: devices::fill })?;
    let dev = laid.open("/dev")?;
    let generated = files::texts(spec, hostname(spec)).map_err(setup("generate /etc/hosts"))?;
    for (name, content) in generated {
        let file = Wanted::File { content: &content, owner: (0, 0), mode: 0o644 };
        laid.put(&format!("/etc/{name}"), file)?;
    }
    Ok(dev)
}

/// Something lent: where it is, and where it is to be seen.
type Lent = (PathBuf, String);

/// Finds what stands for a mount, as long as all is where it comes from. `lent` is what others have taken.
fn wanted<'a>(mount: &'a ExtraMount, lent: &mut Vec<Lent>) -> Result<Wanted<'a>, ExecError> {
    let target = target_of(mount);
    let problem = |problem| ExecError::Target { target: target.to_owned(), problem };
    if !target.starts_with('/') {
        return Err(problem("is not an absolute path"));
    }
    Ok(match mount {
        ExtraMount::Tmpfs { mode, .. } => Wanted::Directory { mode: *mode, fill: |_| Ok(()) },
        ExtraMount::File(FileMount { content, uid, gid, mode, .. }) => {
            Wanted::Secret { content, owner: (*uid, *gid), mode: *mode }
        }
        ExtraMount::Socket(SocketMount { socket, .. }) => {
            let (directory, name) = socket.place().map_err(setup(format!("take the socket for {target}")))?;
            Wanted::Lent { directory, name, kind: Kind::File, readonly: false }
        }
        ExtraMount::Overlay(OverlayMount { root, selector, readonly, .. }) => match &root.driver {
            RootDriver::Directory(directory) | RootDriver::Shared(directory) => {
                let (place, wanted) = lend(target, directory, selector, *readonly)?;
                take_once(target, place, lent)?;
                wanted
            }
            RootDriver::Overlay | RootDriver::OverlayInOneLine => return Err(ExecError::NoRoot),
        },
        ExtraMount::Bind(_) => return Err(problem("shows files of this machine")),
    })
}

/// Notes what is lent; it is in one place at a time, and so is all that is in it.
fn take_once(target: &str, place: PathBuf, lent: &mut Vec<Lent>) -> Result<(), ExecError> {
    let overlaps = |(other, _): &&Lent| place.starts_with(other) || other.starts_with(&place);
    if let Some((_, other)) = lent.iter().find(overlaps) {
        let what = format!("show one directory at two places, `{other}` and `{target}`");
        return Err(ExecError::ChrootUnable { what });
    }
    lent.push((place, target.to_owned()));
    Ok(())
}

/// Finds what `selector` leads to in `directory`, for the mount at `target`, and where it is.
fn lend(
    target: &str,
    directory: &Path,
    selector: &str,
    readonly: bool,
) -> Result<(PathBuf, Wanted<'static>), ExecError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| {
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| open_error(path)(error.into()))
    };
    let mut place = directory.to_owned();
    let mut kind = Kind::Directory;
    if depth(selector) > 0 {
        let (part, path) = select_path(&open(directory)?, selector, target)?;
        // Free of links, and nobody writes there meanwhile but another command of the same cache.
        place.extend(path.iter().filter(|name| *name != "."));
        if file_type(&part).map_err(setup("look at a selected path"))? != rustix::fs::FileType::Directory {
            kind = Kind::File;
        }
    }
    let lost =
        || ExecError::MountPoint { target: selector.to_owned(), source: std::io::ErrorKind::NotFound.into() };
    let name: OsString = place.file_name().ok_or_else(lost)?.to_owned();
    let above: PathBuf = place.parent().ok_or_else(lost)?.to_owned();
    let wanted = Wanted::Lent { directory: open(&above)?, name, kind, readonly };
    Ok((place, wanted))
}

fn drop_privileges(user: &User, ruleset: Option<FileRef>, steps: &mut Steps) -> Result<(), ExecError> {
    let own = caps::effective().map_err(setup("read our capabilities"))?;
    // Without that right the next step is what keeps others away: nothing that is executed gains any.
    if own.has(number::SETPCAP) {
        steps.push("bound the capabilities", Step::Bound(CAPABILITIES));
    }
    steps.push("forbid new privileges", Step::NoNewPrivileges);
    if let Some(ruleset) = ruleset {
        steps.push("keep to the root (Landlock)", Step::Restrict { ruleset });
    }
    steps.push("install the system call filter", Step::Seccomp(seccomp::filter_beside_others()));
    steps.push("set the supplementary groups", Step::Groups(user.groups.clone()));
    steps.push("become the user", Step::Ids { uid: user.uid, gid: user.gid });
    let held = if user.uid == 0 { own.and(CAPABILITIES) } else { Capabilities::default() };
    steps.push("set the capabilities", Step::Capabilities(held));
    Ok(())
}
