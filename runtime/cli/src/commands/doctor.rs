//! `rb doctor`: what this machine allows, what that means, and what mends it.

use std::fs;
use std::path::{Path, PathBuf};

use rb_diag::chain;
use rb_exec::{Check, ExecError, Privileges, Rootless, Verdict};
use serde_json::{Value, json};

use crate::args::{BuildOptions, DoctorArgs, IsolationChoice};
use crate::environment::Environment;
use crate::progress::human_bytes;
use crate::report::{self, Failure};
use crate::settings::{self, snapshotter::SnapshotterChoice};

/// Less free space than this deserves a word.
const LOW_SPACE_BYTES: u64 = 2 << 30;

/// Builds cannot work with less.
const NO_SPACE_BYTES: u64 = 64 << 20;

/// Exit code where builds cannot work: the environment's.
const CANNOT_WORK: u8 = 3;

/// Looks at everything; 0 where builds can work.
pub(super) fn execute(environment: &Environment, doctor: &DoctorArgs) -> Result<u8, Failure> {
    let config = settings::read_config(environment)?;
    let root = environment.state_directory(config.root.as_deref())?;
    // What sandboxes can do shows from inside of where they are made.
    let (isolation, said) = settings::steps::isolation(&BuildOptions::default(), &config, environment)?;
    let (snapshotter, _) = settings::snapshotter::settle(&config, environment)?;
    let (mut checks, state, usable) = match isolation {
        IsolationChoice::Sandbox => {
            let identity = identity(rb_exec::enter_runtime());
            let host = rb_exec::probe_host();
            let entered = identity.verdict != Verdict::Missing;
            let usable = host.is_usable() && entered;
            let state = state_checks(&root, entered.then_some(snapshotter));
            let mut checks = vec![identity, taken(isolation, said)];
            if entered {
                checks.extend(host.checks().into_iter().cloned());
            } else {
                checks.extend(host.checks_without_identity().into_iter().cloned());
            }
            // What else there is where there can be no sandbox.
            checks.extend((!usable).then(|| chroot(&root)).flatten());
            let runtime = settings::steps::usual_runtime(&config, environment, &root)?;
            checks.extend(runtime.map(|runtime| rb_exec::probe_runtime(&runtime)));
            (checks, state, usable)
        }
        IsolationChoice::Chroot => {
            let identity = identity(rb_exec::enter_chroot());
            let chroot = chroot(&root);
            let usable = chroot.as_ref().is_some_and(|check| check.verdict != Verdict::Missing);
            let checks = [Some(identity), Some(taken(isolation, said)), chroot].into_iter().flatten();
            (checks.collect(), state_checks(&root, Some(SnapshotterChoice::Native)), usable)
        }
    };
    let works = usable && state.iter().all(|check| check.verdict != Verdict::Missing);
    checks.push(rb_exec::probe_platforms(&rb_exec::Emulators { named: config.emulators.clone() }));
    checks.extend(state);
    let text = if doctor.json {
        format!("{:#}\n", as_json(&checks, &root, &config.files, works))
    } else {
        let end = if works { "builds work here" } else { "builds cannot work here" };
        let settings = config.files.iter().map(|file| format!("settings of {}\n", file.display()));
        let settings = settings.collect::<String>();
        format!("{}\nstate directory {}\n{settings}{end}\n", lines(&checks), root.display())
    };
    report::print(text.as_bytes())?;
    Ok(if works { 0 } else { CANNOT_WORK })
}

/// Tells what steps run in, and who says so.
fn taken(isolation: IsolationChoice, said: Option<&str>) -> Check {
    let by = match (isolation, said) {
        (_, Some(variable)) => format!("as {variable} says"),
        (IsolationChoice::Sandbox, None) => {
            "as ever; --isolation=chroot is for where none can be made".to_owned()
        }
        (IsolationChoice::Chroot, None) => "as isolation in [steps] of config.toml says".to_owned(),
    };
    let what = match isolation {
        IsolationChoice::Sandbox => "a sandbox",
        IsolationChoice::Chroot => "a chroot, which isolates less",
    };
    Check {
        name: "isolation",
        verdict: Verdict::Works,
        reason: format!("steps run in {what}: {by}"),
        remedy: None,
    }
}

/// Tries a chroot on the file system of the state directory; nothing where nothing can be made there, which is told apart.
fn chroot(root: &Path) -> Option<Check> {
    let place = root.ancestors().find(|place| place.is_dir())?;
    let probe = place.join(format!(".rb-doctor-chroot.{}", std::process::id()));
    fs::create_dir(&probe).ok()?;
    let check = rb_exec::probe_chroot(&probe);
    // What stays of it is small, and named as ours.
    rb_store::remove_tree(&probe).ok();
    Some(check)
}

/// Tells what identity builds have.
fn identity(entered: Result<Privileges, ExecError>) -> Check {
    let name = "identity";
    match entered {
        Ok(Privileges { mode, reason, outer_uid: uid, outer_gid: _ }) => {
            let (verdict, text) = match mode {
                Rootless::Root => (Verdict::Works, "root: every user id exists in builds".to_owned()),
                Rootless::SubIds { count } => {
                    (Verdict::Works, format!("user {uid}: {count} user ids exist in builds"))
                }
                Rootless::SingleId => {
                    let text = format!(
                        "user {uid}: only root exists in builds, and results are not shared with others"
                    );
                    (Verdict::Limited, text)
                }
            };
            Check {
                name,
                verdict,
                reason: reason.map_or(text.clone(), |why| format!("{text} ({why})")),
                remedy: None,
            }
        }
        Err(error) => Check { name, verdict: Verdict::Missing, reason: chain(&error), remedy: error.help() },
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "ok",
        Verdict::Limited => "limited",
        Verdict::Missing => "missing",
    }
}

fn lines(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for check in checks {
        out.push_str(&format!("{:<8} {:width$}  {}\n", verdict(check.verdict), check.name, check.reason));
        if let Some(remedy) = &check.remedy {
            out.push_str(&format!("{:<8} {:width$}  -> {remedy}\n", "", ""));
        }
    }
    out
}

fn as_json(checks: &[Check], root: &Path, settings: &[PathBuf], works: bool) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name, "verdict": verdict(check.verdict),
                "reason": check.reason, "remedy": check.remedy,
            })
        })
        .collect();
    let settings: Vec<String> = settings.iter().map(|file| file.display().to_string()).collect();
    let root = root.display().to_string();
    json!({ "works": works, "state_directory": root, "settings": settings, "checks": checks })
}

/// Looks at the place of the state directory: can it be written, what lies below it, how much room is there. Without a
/// `snapshotter` layers are not tried: there is nobody who could mount them, which is told already.
fn state_checks(root: &Path, snapshotter: Option<SnapshotterChoice>) -> Vec<Check> {
    let check =
        |name, verdict, reason: String, remedy: Option<String>| Check { name, verdict, reason, remedy };
    let name = "state directory";
    // The nearest folder that exists tells what will be below the one that does not yet.
    let Some(place) = root.ancestors().find(|place| place.is_dir()) else {
        return vec![check(name, Verdict::Missing, "has no place".to_owned(), None)];
    };
    let probe = place.join(format!(".rb-doctor.{}", std::process::id()));
    let writable = match fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)) {
        Ok(()) if place == root => check(name, Verdict::Works, "can be written".to_owned(), None),
        Ok(()) => check(name, Verdict::Works, "can be made".to_owned(), None),
        Err(error) => check(
            name,
            Verdict::Missing,
            format!("`{}` cannot be written: {error}", place.display()),
            Some("RB_ROOT=/some/dir names another place".to_owned()),
        ),
    };
    let can_write = writable.verdict != Verdict::Missing;
    let layers = snapshotter.filter(|_| can_write).map(|snapshotter| layers(&probe, snapshotter));
    [Some(writable), Some(file_system(place)), layers, Some(space(place))].into_iter().flatten().collect()
}

/// Tries layers on the file system itself, in a folder that is not there yet, unless they are not to be mounted.
fn layers(probe: &Path, snapshotter: SnapshotterChoice) -> Check {
    let name = "layers there";
    if snapshotter == SnapshotterChoice::Native {
        let reason = "each step copies its root, which is slower: `snapshotter` is set to native".to_owned();
        return Check { name, verdict: Verdict::Works, reason, remedy: None };
    }
    let tried = fs::create_dir(probe).map(|()| rb_exec::try_overlay_in(probe));
    // What stays of it is small, and named as ours.
    rb_store::remove_tree(probe).ok();
    let why = match tried {
        Ok(Ok(())) => {
            let reason = "can be mounted on one another".to_owned();
            return Check { name, verdict: Verdict::Works, reason, remedy: None };
        }
        Ok(Err(error)) => chain(&error),
        Err(error) => error.to_string(),
    };
    let (verdict, what) = match snapshotter {
        SnapshotterChoice::Overlayfs => {
            (Verdict::Missing, "cannot be mounted, and `snapshotter` forbids copies")
        }
        SnapshotterChoice::Auto | SnapshotterChoice::Native => {
            (Verdict::Limited, "each step copies its root, which is slower")
        }
    };
    Check {
        name,
        verdict,
        reason: format!("{what}: {why}"),
        remedy: Some("RB_ROOT=/some/dir names a place on a disk, such as ext4, xfs or btrfs".to_owned()),
    }
}

fn file_system(place: &Path) -> Check {
    let name = "file system";
    let kind = match rustix::fs::statfs(place) {
        Ok(stat) => stat.f_type as u64,
        Err(error) => {
            return Check {
                name,
                verdict: Verdict::Limited,
                reason: format!("cannot be asked: {error}"),
                remedy: None,
            };
        }
    };
    // Magic numbers: statfs(2) and linux/magic.h.
    let (shown, verdict, meaning) = match kind {
        0xef53 => ("ext4", Verdict::Works, ""),
        0x5846_5342 => ("xfs", Verdict::Works, ""),
        0x9123_683e => ("btrfs", Verdict::Works, ""),
        0x2fc1_2fc1 => ("zfs", Verdict::Works, ""),
        0xf2f5_2010 => ("f2fs", Verdict::Works, ""),
        0x0102_1994 => {
            ("tmpfs", Verdict::Limited, ": what is stored takes memory and is gone after a restart")
        }
        0x794c_7630 => ("overlayfs", Verdict::Limited, ": one more layer below each of ours"),
        0x6969 => ("nfs", Verdict::Missing, ": its locks and its database files cannot be relied on"),
        0x6573_5546 => ("a FUSE file system", Verdict::Limited, ": slow"),
        0x0102_1997 => ("9p", Verdict::Limited, ": slow"),
        other => {
            return Check {
                name,
                verdict: Verdict::Works,
                reason: format!("of kind 0x{other:x}"),
                remedy: None,
            };
        }
    };
    let remedy = (verdict != Verdict::Works)
        .then(|| "RB_ROOT=/some/dir names a place on a disk, such as ext4, xfs or btrfs".to_owned());
    Check { name, verdict, reason: format!("{shown}{meaning}"), remedy }
}

fn space(place: &Path) -> Check {
    let name = "free space";
    match rustix::fs::statvfs(place) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let verdict = match free {
                0..NO_SPACE_BYTES => Verdict::Missing,
                NO_SPACE_BYTES..LOW_SPACE_BYTES => Verdict::Limited,
                _ => Verdict::Works,
            };
            let remedy = (verdict != Verdict::Works)
                .then(|| "free some, or RB_ROOT=/some/dir names another disk".to_owned());
            Check { name, verdict, reason: human_bytes(free), remedy }
        }
        Err(error) => Check {
            name,
            verdict: Verdict::Limited,
            reason: format!("cannot be asked: {error}"),
            remedy: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_can_be_made_is_well() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let checks = state_checks(&dir.path().join("not/yet"), Some(SnapshotterChoice::Auto));
        let writable = checks.first().expect("the first check");
        assert_eq!((writable.verdict, writable.reason.as_str()), (Verdict::Works, "can be made"));
        assert_eq!(fs::read_dir(dir.path()).expect("reads").count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_place_that_cannot_be_written_has_a_remedy() {
        let checks = state_checks(Path::new("/proc/self/rb"), Some(SnapshotterChoice::Auto));
        let writable = checks.first().expect("the first check");
        assert_eq!(writable.verdict, Verdict::Missing);
        assert!(writable.remedy.as_ref().is_some_and(|remedy| remedy.contains("RB_ROOT")));
    }

    #[test]
    fn layers_are_not_tried_where_nobody_could_mount_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let names = |snapshotter| -> Vec<&str> {
            state_checks(dir.path(), snapshotter).iter().map(|check| check.name).collect()
        };
        assert_eq!(names(None), ["state directory", "file system", "free space"]);
        let with_layers = ["state directory", "file system", "layers there", "free space"];
        assert_eq!(names(Some(SnapshotterChoice::Native)), with_layers);
    }

    #[test]
    fn each_check_says_verdict_meaning_and_remedy() {
        let check = |name, verdict, reason: &str, remedy: Option<&str>| Check {
            name,
            verdict,
            reason: reason.to_owned(),
            remedy: remedy.map(ToOwned::to_owned),
        };
        let checks = [
            check("overlay", Verdict::Works, "as root", None),
            check(
                "subordinate ids",
                Verdict::Missing,
                "none for user 1000",
                Some("sudo usermod --add-subuids …"),
            ),
        ];
        insta::assert_snapshot!(lines(&checks), @r"
        ok       overlay          as root
        missing  subordinate ids  none for user 1000
                                  -> sudo usermod --add-subuids …
        ");
    }
}
