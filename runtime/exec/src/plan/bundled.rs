//! A plan in which another runtime takes over: see [`crate::oci`].
//!
//! Order: as ever, up to the mounts; then the child enters the directory where the bundle is seen, mounts the bundle, in it
//! the root with all that stands in it, a `/proc` of its own, and executes the runtime.
//! Weighed: to name every mount in `config.json` instead. Each runtime would then look for the places by itself, make those
//! that are missing and leave them behind; here they are found, made and removed as for our own sandbox.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};
use rb_sys::caps::{self, Capabilities};
use rb_sys::child::{FileRef, Namespaces, Program, Slot, Step};
use rb_sys::mount::{Attributes, set_attributes};

use super::extra::Source as Origin;
use super::standard::{PROC_MASKED, PROC_PROTECTED, SYS_MASKED, Standard};
use super::{DEFAULT_CAPABILITIES, Label, Plan, Steps};
use super::{
    attach, bind, candidates, clone, connect, enter, environment, extra, hostname, pipe_for, place,
    resolve_user, setup, text,
};
use crate::cgroup::Group;
use crate::error::ExecError;
use crate::oci::{ASIDE, Bundle, Container, Kind, Known, ROOT, Runtime, config};
use crate::roots::{self, file_system};
use crate::spec::{ExtraMount, Spec};
use crate::tree::{Kind as PlaceKind, Place, Tree, place_is_below};
use crate::user::User;
use crate::{identity, limits};

/// The child's own `/proc`.
const PROC: Slot = Slot(0);

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

const TEMPORARY: &str = "/tmp";

/// Prepares the run of `spec` by `runtime`.
pub(super) fn prepare(spec: &Spec, runtime: &Runtime, group: Option<&Group>) -> Result<Plan, ExecError> {
    let name = spec.args.first().ok_or(ExecError::NoCommand)?;
    let known = runtime.known()?;
    known.refuse(spec)?;
    let at = runtime.place()?;
    let nodev = if spec.insecure { Attributes::default() } else { Attributes::NODEV };
    let root = roots::mount(&spec.root, nodev)?;
    let mut tree = Tree::new(clone(&root.mount)?, root.written);
    // Declared after the tree, so that on failure they let go of the mounts before stubs are removed.
    let mut program = Program::new();
    let standard = Standard::prepare(spec, &mut tree, &mut program)?;
    let extra = extra::prepare(spec, nodev, &mut tree, &mut program)?;
    refuse_covered(&known, spec, &standard, &extra)?;
    let kept = kept(&known, &mut tree)?;
    let user = resolve_user(spec, &mut tree)?;
    let environment = environment(spec, &user);
    let candidates = candidates(name, &environment);
    let cwd = enter_at(spec, &known, &mut tree)?;
    let absolute = |path: &String| if path.starts_with('/') { path.clone() } else { format!("{cwd}/{path}") };
    if !candidates.iter().any(|path| tree.exists(&absolute(path)).unwrap_or(false)) {
        // Said before the runtime does so in words of its own.
        return Err(ExecError::NotFound { program: name.to_owned() });
    }
    tree.settle();
    if spec.readonly_root {
        let readonly = nodev.with(Attributes::RDONLY);
        set_attributes(root.mount.as_fd(), readonly, false)
            .map_err(setup("make the root file system read-only"))?;
    }
    let root = program.lend(root.mount);

    let environment = with_secrets(spec, &known, environment)?;
    let who = Who { user: &user, environment, cwd };
    let written = config(spec, container(spec, &at, &known, &standard, kept, who)?);
    let (bundle, mount) = Bundle::make(known.clone(), runtime.program().to_owned(), &written)
        .map_err(setup("make the bundle of a runtime"))?;
    let bundle_mount = program.lend(mount);

    let mut steps = Steps::default();
    enter(spec, group, &mut program, &mut steps)?;
    let directory = directory(&at)?;
    over(&directory, bundle_mount, "mount the bundle", &mut steps);
    // Again, now that it is there.
    go(&directory, "enter the bundle", &mut steps);
    let here = |name: &str| text(name, "a path");
    let aside = |mount, label: String, steps: &mut Steps| -> Result<(), ExecError> {
        steps.push(label, Step::Attach { mount, root: FileRef::Here, path: here(ASIDE)? });
        Ok(())
    };
    aside(standard.generated, "mount generated files".to_owned(), &mut steps)?;
    for mount in &extra {
        if let Origin::Part { aside: mounted, .. } = mount.source {
            aside(mounted, format!("mount the layers for {}", mount.target), &mut steps)?;
        }
    }
    steps.push(
        "mount the root file system",
        Step::Attach { mount: root, root: FileRef::Here, path: here(ROOT)? },
    );
    standard.lay_out_devices(root, &mut steps)?;
    if let Some(sys) = standard.sys_bind {
        let path = text(standard.sys.path(), "a mount target")?;
        steps.push("mount /sys", Step::Attach { mount: sys, root, path });
    }
    standard.lay_out_names(root, &mut steps)?;
    attach(extra, root, &mut steps)?;
    if let Some((mount, _)) = &standard.control_groups {
        // Over all others there, under the path that `config.json` names.
        aside(*mount, format!("mount {CONTROL_GROUPS}"), &mut steps)?;
    }
    // The runtime looks at itself by it, and is the first process of a namespace of its own.
    let kind = c"proc".to_owned();
    let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
    let proc = Step::FileSystem { kind, options: Vec::new(), attributes, into: PROC };
    steps.push("mount /proc", proc);
    over(c"/proc", FileRef::Slot(PROC), "mount /proc", &mut steps);
    if known.kind != Kind::Runsc {
        let view = program.lend(control_groups_to_look_at()?);
        over(&text(CONTROL_GROUPS, "a path")?, view, "mount control groups", &mut steps);
    }
    go(&directory, "enter the bundle", &mut steps);
    if spec.network.is_none() {
        steps.push("set the loopback interface up", Step::LoopbackUp);
    }
    let output = connect(spec, &user, None, &pipe_for, &mut program, &mut steps)?;
    let texts = |list: Vec<String>| list.into_iter().map(|word| text(word, "an argument")).collect();
    let arguments: Result<Vec<CString>, ExecError> = texts(known.arguments(&at, &spec.network));
    let execute = Step::Execute {
        candidates: vec![text(runtime.program().as_os_str().as_encoded_bytes(), "a path")?],
        arguments: arguments?,
        environment: vec![c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        init: false,
    };
    steps.push(format!("execute {}", known.name()), execute);

    let mut labels: Vec<Label> = Vec::with_capacity(steps.steps.len());
    for (step, label) in steps.steps {
        program.push(step);
        labels.push(label);
    }
    let mut namespaces = Namespaces::MOUNT.with(Namespaces::PID);
    if spec.network.is_none() {
        namespaces = namespaces.with(Namespaces::NET);
    }
    Ok(Plan { program, labels, namespaces, output, candidates, ids: None, bundle: Some(bundle), tree })
}

/// Adds the step that goes to a directory of this machine.
fn go(directory: &CStr, label: &str, steps: &mut Steps) {
    steps.push(label, Step::ChangeDirectory(directory.to_owned()));
}

/// Adds the steps that mount something over a directory of this machine.
fn over(directory: &CStr, mount: FileRef, label: &str, steps: &mut Steps) {
    go(directory, label, steps);
    steps.push(label, Step::Attach { mount, root: FileRef::Here, path: c".".to_owned() });
}

fn directory(at: &Path) -> Result<CString, ExecError> {
    // It becomes part of a command line and of JSON.
    let shown = at.to_str().ok_or_else(|| ExecError::Open {
        path: at.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8"),
    })?;
    text(shown, "the state directory")
}

/// Returns the working directory, free of links.
///
/// A runtime would make one that is missing; and one of `/proc/self/fd` led out of the sandbox by what runc before 1.1.12 had
/// open (CVE-2024-21626), so none may lie where the runtime mounts something itself.
fn enter_at(spec: &Spec, known: &Known, tree: &mut Tree) -> Result<String, ExecError> {
    let failed = |source| ExecError::Cwd { cwd: spec.cwd.clone(), source };
    let place =
        tree.find(&spec.cwd).map_err(failed)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    match place.is_directory().map_err(failed)? {
        Some(true) => Ok(inside(&place)),
        Some(false) => Err(failed(io::ErrorKind::NotADirectory.into())),
        None => Err(known.unable(format!("begin in `{}`, which is in its own /proc or the like", spec.cwd))),
    }
}

/// Refuses mounts that stand where the runtime mounts something itself, which would hide them.
fn refuse_covered(
    known: &Known,
    spec: &Spec,
    standard: &Standard,
    extra: &[extra::Prepared],
) -> Result<(), ExecError> {
    let mut covers = vec![(&standard.proc, "/proc"), (&standard.mqueue, "/dev/mqueue")];
    if standard.sys_bind.is_none() {
        covers.push((&standard.sys, "/sys"));
    }
    if known.kind == Kind::Runsc {
        covers.push((&standard.dev_place, "/dev"));
    }
    for mount in extra {
        if let Some((_, below)) = covers.iter().find(|(cover, _)| place_is_below(&mount.place, cover)) {
            return Err(known.unable(format!("mount `{}`, which is below its own {below}", mount.target)));
        }
    }
    let is_device = |mount: &ExtraMount| {
        let ExtraMount::Bind(bind) = mount else { return false };
        use std::os::unix::fs::FileTypeExt as _;
        fs::metadata(&bind.source)
            .is_ok_and(|found| found.file_type().is_char_device() || found.file_type().is_block_device())
    };
    if known.kind == Kind::Runsc && spec.mounts.iter().any(is_device) {
        return Err(known.unable("show a step a device of this machine"));
    }
    Ok(())
}

/// Makes sure of the place that gVisor would cover by memory, if it is empty or missing, since what a command leaves there would be lost.
/// Tells whether it is to be told of what stands there: it lets a mount be that it is told of, but not one by a link.
fn kept(known: &Known, tree: &mut Tree) -> Result<bool, ExecError> {
    if known.kind != Kind::Runsc {
        return Ok(false);
    }
    let found = tree.find(TEMPORARY).and_then(|found| found.as_ref().map_or(Ok(None), Place::is_directory));
    match found {
        // It leaves a file alone.
        Ok(Some(false)) => return Ok(false),
        Ok(_) => {}
        Err(error) => return Err(setup(format!("look at {TEMPORARY}"))(error)),
    }
    let found = place(tree, TEMPORARY, PlaceKind::Directory)?;
    if inside(&found) == TEMPORARY {
        Ok(true)
    } else {
        Err(known.unable(format!("keep what is written to {TEMPORARY}, which is a link in this image")))
    }
}

fn with_secrets(spec: &Spec, known: &Known, mut environment: Vec<String>) -> Result<Vec<String>, ExecError> {
    for (name, value) in &spec.secret_env {
        let value = std::str::from_utf8(value.bytes()).map_err(|_| {
            known.unable(format!("give a command the secret variable {name}, which is not UTF-8"))
        })?;
        environment.push(format!("{name}={value}"));
    }
    if environment.iter().chain(&spec.args).any(|item| item.contains('\0')) {
        return Err(ExecError::Nul { what: "the command or its environment" });
    }
    Ok(environment)
}

/// Who runs the command, and in what.
struct Who<'a> {
    user: &'a User,
    environment: Vec<String>,
    cwd: String,
}

fn container<'a>(
    spec: &'a Spec,
    at: &Path,
    known: &Known,
    standard: &Standard,
    kept: bool,
    Who { user, environment, cwd }: Who<'a>,
) -> Result<Container<'a>, ExecError> {
    let own = caps::effective().map_err(setup("read our capabilities"))?;
    let wanted = own.and(if spec.insecure { Capabilities::ALL } else { DEFAULT_CAPABILITIES });
    let root = at.join(ROOT);
    let (proc, sys) = (inside(&standard.proc), inside(&standard.sys));
    let below = |top: &str, names: &[&str]| -> Vec<String> {
        if spec.insecure { Vec::new() } else { names.iter().map(|name| format!("{top}/{name}")).collect() }
    };
    Ok(Container {
        user,
        environment,
        cwd,
        bounding: wanted,
        held: if user.uid == 0 { wanted } else { Capabilities::default() },
        limits: limits::values(&spec.rlimits)?,
        hostname: hostname(spec),
        mounts: mounts(spec, at, &root, known, standard, kept),
        root,
        // The others would mount it anew, read-only and without its attributes; it is read-only already.
        readonly_root: spec.readonly_root && known.kind == Kind::Runsc,
        masked: [below(&proc, &PROC_MASKED), below(&sys, &SYS_MASKED)].concat(),
        protected: below(&proc, &PROC_PROTECTED),
    })
}

/// Returns what the runtime mounts itself, in this order.
fn mounts(spec: &Spec, at: &Path, root: &Path, known: &Known, standard: &Standard, kept: bool) -> Vec<Mount> {
    let mount = |kind: &str, source: PathBuf, destination: String, options: &[&str]| {
        MountBuilder::default()
            .typ(kind)
            .source(source)
            .destination(destination)
            .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
            .build()
            .expect("every field has a default")
    };
    let dev = inside(&standard.dev_place);
    let mut mounts = Vec::new();
    if known.kind == Kind::Runsc {
        // Its devices are its kernel's.
        let shm = format!("size={}", spec.shm_bytes.unwrap_or(64 << 20));
        mounts.push(mount("tmpfs", "tmpfs".into(), dev.clone(), &["nosuid", "mode=755"]));
        mounts.push(mount(
            "devpts",
            "devpts".into(),
            format!("{dev}/pts"),
            &["nosuid", "noexec", "ptmxmode=0666"],
        ));
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &shm];
        mounts.push(mount("tmpfs", "shm".into(), format!("{dev}/shm"), &options));
    } else {
        // It is there; said, so that the runtime makes no devices of its own in it.
        let source = root.join(dev.trim_start_matches('/'));
        let options: &[&str] =
            if spec.insecure { &["rbind", "nosuid"] } else { &["rbind", "nosuid", "nodev"] };
        mounts.push(mount("bind", source, dev, options));
        mounts.push(mount(
            "mqueue",
            "mqueue".into(),
            inside(&standard.mqueue),
            &["nosuid", "nodev", "noexec"],
        ));
    }
    mounts.push(mount("proc", "proc".into(), inside(&standard.proc), &["nosuid", "nodev", "noexec"]));
    if standard.sys_bind.is_none() {
        let writable = if spec.insecure { "rw" } else { "ro" };
        let options = ["nosuid", "nodev", "noexec", writable];
        mounts.push(mount("sysfs", "sysfs".into(), inside(&standard.sys), &options));
    }
    if let Some((_, place)) = &standard.control_groups {
        mounts.push(mount("bind", at.join(ASIDE), inside(place), &["rbind"]));
    }
    if kept {
        let source = root.join(TEMPORARY.trim_start_matches('/'));
        mounts.push(mount("bind", source, TEMPORARY.to_owned(), &["rbind"]));
    }
    if known.kind == Kind::Crun {
        // crun binds the root anew, without its attributes; but devices in it must not work. Of `/` it takes none.
        let writable = if spec.readonly_root { "ro" } else { "rw" };
        let devices = if spec.insecure { "dev" } else { "nodev" };
        mounts.push(mount("bind", root.to_owned(), "/.".to_owned(), &["remount", "bind", devices, writable]));
    }
    mounts
}

/// The path inside.
fn inside(place: &Place) -> String {
    if place.at.is_empty() { "/".to_owned() } else { format!("/{}", String::from_utf8_lossy(&place.path())) }
}

/// Returns a mount of control groups in which nothing can be made.
///
/// runc makes a group for each container, wherever it can: outside of the one with our limits, perhaps, and left behind if
/// it is killed. Where it cannot, it leaves the command where it is. crun does not start where there are hierarchies of both
/// versions, though it is to make none.
fn control_groups_to_look_at() -> Result<std::os::fd::OwnedFd, ExecError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(setup("read which mounts there are"))?;
    let of_v2 = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next() == Some("cgroup2"))
            .then(|| left.split(' ').nth(4))
            .flatten()
            .map(PathBuf::from)
    };
    match mounts.lines().find_map(of_v2) {
        Some(mount) => bind(&mount, false, Attributes::RDONLY),
        None if identity::in_user_namespace() => Err(setup("show the runtime control groups of version 2")(
            io::Error::new(io::ErrorKind::Unsupported, "they are not mounted here"),
        )),
        None => file_system("cgroup2", &[], Attributes::RDONLY)
            .map_err(setup("mount control groups of version 2")),
    }
}
