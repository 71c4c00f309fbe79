//! Any image, any places, any kind of mount: nothing of this machine is read or changed.
//!
//! Roots, caches and trees with links as they come, which lead outside, up, round and into the kernel's files, and mounts on and from
//! paths that go through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use rb_exec::{Bind, ExecError, ExtraMount, FileMount, Hidden, OverlayMount, RootMount};

use crate::support::{Scratch, listing, shell, stepping_aside, try_spec};

/// What no sandbox may print.
const SECRET: &str = "hunter2-hostile";

/// Names in hostile trees.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Where a link of a hostile tree leads; `OUTSIDE` stands for the folder that must stay as it is.
const LEADS: [&str; 12] = [
    "OUTSIDE",
    "OUTSIDE/secret",
    "../../../../../../../../../../../../OUTSIDE",
    "../OUTSIDE/../OUTSIDE",
    "/",
    "..",
    "a",
    "b/c",
    "/proc/self/root",
    "/proc/self/cwd",
    "/proc/1/fd/3",
    "/dev",
];

#[derive(Clone, Debug)]
enum Way {
    Tmpfs,
    File,
    Bind,
    Part(Vec<usize>),
}

/// Steps of a path: a name, or up.
fn path(parts: &[usize]) -> String {
    let part = |at: &usize| if *at < NAMES.len() { NAMES[*at] } else { ".." };
    format!("/{}", parts.iter().map(part).collect::<Vec<_>>().join("/"))
}

fn parts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..NAMES.len() + 1, 1..5)
}

/// Links by folder (`/` or `/d`), name and target.
fn links() -> impl Strategy<Value = Vec<(bool, usize, usize)>> {
    proptest::collection::vec((any::<bool>(), 0..3_usize, 0..LEADS.len()), 0..5)
}

fn ways() -> impl Strategy<Value = Vec<(Way, Vec<usize>)>> {
    let way = prop_oneof![Just(Way::Tmpfs), Just(Way::File), Just(Way::Bind), parts().prop_map(Way::Part),];
    proptest::collection::vec((way, parts()), 1..4)
}

fn plant(folder: &Path, outside: &Path, links: &[(bool, usize, usize)]) {
    fs::create_dir_all(folder.join("d")).unwrap();
    for (deep, name, lead) in links {
        let place = folder.join(if *deep { "d" } else { "" }).join(NAMES[*name]);
        let outside = outside.to_str().unwrap();
        let relative = LEADS[*lead].starts_with("..");
        let target =
            LEADS[*lead].replace("OUTSIDE", if relative { outside.trim_start_matches('/') } else { outside });
        // A name is taken once.
        symlink(target, place).ok();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mount_leads_out(root in links(), part in links(), ways in ways(), overlay: bool) {
        if stepping_aside() {
            return Ok(());
        }
        let scratch = Scratch::new();
        let outside = scratch.directory("outside");
        fs::write(outside.join("secret"), SECRET).unwrap();
        let (base, cache, own) = (scratch.busybox("root"), scratch.directory("cache"), scratch.directory("own"));
        plant(&base, &outside, &root);
        plant(&cache, &outside, &part);
        fs::write(own.join("file"), "own").unwrap();
        let stack = if overlay {
            RootMount::overlay(vec![base], Some(scratch.upper()))
        } else {
            RootMount::directory(base)
        };
        let mut mounts = Vec::new();
        let mut script = String::new();
        for (way, at) in &ways {
            let target = path(at);
            script.push_str(&format!("touch {target} {target}/x; cat {target} {target}/secret {target}/*; "));
            mounts.push(match way {
                Way::Tmpfs => ExtraMount::Tmpfs { target, size_bytes: None, mode: 0o755 },
                Way::File => ExtraMount::File(FileMount {
                    content: Hidden::new("given"), target, uid: 0, gid: 0, mode: 0o600,
                }),
                Way::Bind => ExtraMount::Bind(Bind { source: own.clone(), target, readonly: true, ..Bind::default() }),
                Way::Part(selector) => ExtraMount::Overlay(OverlayMount {
                    root: RootMount::shared(&cache), selector: path(selector), target, readonly: false,
                }),
            });
        }
        script.push_str("true");
        let mut spec = shell(stack, &script);
        spec.mounts = mounts;
        match try_spec(&spec) {
            Ok(ran) => prop_assert!(!ran.stdout.contains(SECRET), "{ran:?}"),
            Err(ExecError::MountPoint { .. } | ExecError::MountSource { .. } | ExecError::Target { .. }) => {}
            Err(ExecError::Step { .. } | ExecError::Setup { .. }) => {}
            // Its own programs are hidden by what is mounted on them.
            Err(ExecError::NotFound { .. } | ExecError::NotExecutable { .. }) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(listing(&outside), ["secret"]);
        prop_assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), SECRET);
        prop_assert_eq!(listing(&own), ["file"]);
    }
}
