//! Cache mounts: what they begin as, how long they last, who uses them at once.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rb_api::Engine as _;
use rb_llb::{
    CacheSharing, ExecOp, MkdirAction, MkfileAction, Mount, MountKind, NodeMeta, Owner, State, UserSpec,
};

use super::{Kit, mount, runtime, step, until};

fn cache(dest: &str, id: &str, sharing: CacheSharing) -> (Mount, State) {
    (mount(dest, MountKind::Cache { id: id.to_owned(), sharing }), State::scratch())
}

/// A step with one cache at `/c`.
fn with(script: &str, sharing: CacheSharing) -> State {
    step(script, vec![cache("/c", "one", sharing)], ExecOp::default()).0
}

/// The folders of a kit's caches that are called `name`.
fn directories(kit: &Kit, name: &str) -> Vec<PathBuf> {
    let below =
        |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let seeds = below(kit.state().join("caches")).flat_map(below);
    seeds.map(|seed| seed.join(name)).filter(|path| path.is_dir()).collect()
}

#[test]
fn a_cache_outlives_builds_and_enters_no_key_and_no_layer() {
    let Some(kit) = Kit::new() else { return };
    for sharing in [CacheSharing::Shared, CacheSharing::Locked] {
        for round in 1..4 {
            let script = format!("echo {sharing:?} {round} >> /c/n; grep -c {sharing:?} /c/n > /out/said");
            let state = with(&script, sharing);
            assert_eq!(kit.said(&state), format!("{round}\n"));
            assert_eq!(kit.solve(&[state]), 0, "its result is found");
        }
    }
    let (_, root) = step("echo > /c/x", vec![cache("/c", "one", CacheSharing::Shared)], ExecOp::default());
    assert_eq!(kit.solve(&[root]), 1);
    assert!(!kit.dir.join("out/0/c").exists());
    // A failing step leaves what it wrote.
    kit.try_solve(&[with("touch /c/left; exit 1", CacheSharing::Locked)]).unwrap_err();
    assert_eq!(kit.said(&with("ls /c/left > /out/said", CacheSharing::Shared)), "/c/left\n");
    // Another id is another cache.
    let other =
        step("ls -A /c > /out/said", vec![cache("/c", "other", CacheSharing::Shared)], ExecOp::default());
    assert_eq!(kit.said(&other.0), "");
}

#[test]
fn a_cache_of_a_workspace_is_of_that_one_alone_and_still_enters_no_key() {
    let Some(mut kit) = Kit::new() else { return };
    let said = |kit: &Kit, id: &str, word: &str| {
        let script = format!("echo {word} >> /c/n; cat /c/n > /out/said");
        kit.said(&step(&script, vec![cache("/c", id, CacheSharing::Locked)], ExecOp::default()).0)
    };
    kit.session = kit.session.with_cache_scope("one");
    assert_eq!(said(&kit, "//app/cache", "a"), "a\n");
    assert_eq!(said(&kit, "named", "a"), "a\n");
    kit.session = kit.session.with_cache_scope("two");
    assert_eq!(said(&kit, "//app/cache", "b"), "b\n");
    assert_eq!(said(&kit, "named", "b"), "a\nb\n");
    // The same step as that of the other workspace: its result is found.
    assert_eq!(said(&kit, "//app/cache", "a"), "a\n");
    kit.session = kit.session.with_cache_scope("one");
    assert_eq!(said(&kit, "//app/cache", "c"), "a\nc\n");
}

#[test]
fn a_cache_begins_as_its_input() {
    let Some(kit) = Kit::new() else { return };
    let seed = |mode| {
        let owner = Owner { user: Some(UserSpec::Id(7)), group: Some(UserSpec::Id(8)) };
        let made = MkdirAction { path: "/in".to_owned(), mode, owner: Some(owner), ..MkdirAction::default() };
        let file = MkfileAction {
            path: "/in/f".to_owned(),
            mode: 0o640,
            data: "begin\n".into(),
            ..MkfileAction::default()
        };
        State::scratch().mkdir(made, NodeMeta::default()).mkfile(file, NodeMeta::default())
    };
    let look = |script: &str, mode| {
        let (mut mount, _) = cache("/c", "seeded", CacheSharing::Shared);
        mount.selector = "/in".to_owned();
        step(script, vec![(mount, seed(mode))], ExecOp::default()).0
    };
    let script = "stat -c '%a %u %g' /c > /out/said; cat /c/f >> /out/said; echo more >> /c/f";
    assert_eq!(kit.said(&look(script, 0o750)), "750 7 8\nbegin\n");
    assert_eq!(kit.said(&look(&format!("{script};"), 0o750)), "750 7 8\nbegin\nmore\n");
    // What begins otherwise is another cache, so that its first user finds what it asked for.
    assert_eq!(kit.said(&look(script, 0o711)), "711 7 8\nbegin\n");
    assert_eq!(directories(&kit, "common").len(), 2);
}

#[test]
fn a_selected_part_lies_within_the_cache_and_may_be_read_only() {
    let Some(kit) = Kit::new() else { return };
    kit.solve(&[with("ln -s / /c/up; mkdir /c/etc; echo within > /c/etc/mark", CacheSharing::Shared)]);
    let (mut mount, tree) = cache("/m", "one", CacheSharing::Shared);
    (mount.selector, mount.readonly) = ("/up/etc".to_owned(), true);
    let script = "cat /m/mark > /out/said; ! touch /m/x 2>/dev/null";
    assert_eq!(kit.said(&step(script, vec![(mount, tree)], ExecOp::default()).0), "within\n");
}

/// A step that goes on only once the other one runs too.
fn meeting(me: &str, other: &str, sharing: CacheSharing) -> State {
    let script = format!(
        "test ! -e /c/busy-{me}; touch /c/busy-{me} /meet/{me}; i=0; \
         while ! test -e /meet/{other}; do i=$((i+1)); test $i -lt 600; sleep 0.1; done; \
         ls /c > /out/said; echo {me} >> /c/n; touch /meet/{me}-saw; \
         while ! test -e /meet/{other}-saw; do i=$((i+1)); test $i -lt 600; sleep 0.1; done; rm /c/busy-{me}"
    );
    let mounts = vec![cache("/c", "one", sharing), cache("/meet", "meet", CacheSharing::Shared)];
    step(&script, mounts, ExecOp::default()).0
}

/// A step that fails if another has the cache at the same time.
fn alone(me: &str) -> State {
    let script =
        format!("mkdir /c/busy; sleep 0.2; echo {me} >> /c/n; rmdir /c/busy; wc -l < /c/n > /out/said");
    with(&script, CacheSharing::Locked)
}

#[test]
fn shared_is_used_by_everybody_at_once() {
    let Some(kit) = Kit::new() else { return };
    kit.solve(&[meeting("a", "b", CacheSharing::Shared), meeting("b", "a", CacheSharing::Shared)]);
    for number in 0..2 {
        let seen = std::fs::read_to_string(kit.dir.join(format!("out/{number}/said"))).unwrap();
        assert!(seen.contains("busy-a") && seen.contains("busy-b"), "{seen}");
    }
}

#[test]
fn private_gives_a_second_one_its_own_and_reuses_what_is_free() {
    let Some(kit) = Kit::new() else { return };
    kit.solve(&[meeting("a", "b", CacheSharing::Private), meeting("b", "a", CacheSharing::Private)]);
    for (number, other) in [(0, "busy-b"), (1, "busy-a")] {
        let seen = std::fs::read_to_string(kit.dir.join(format!("out/{number}/said"))).unwrap();
        assert!(!seen.contains(other), "{seen}");
    }
    assert_eq!(kit.said(&with("cat /c/n | wc -l > /out/said", CacheSharing::Private)), "1\n");
    let made = ["1", "2", "3", "common"].map(|name| directories(&kit, name).len());
    assert_eq!(made, [1, 1, 0, 1], "the common one is where they met");
}

#[test]
fn locked_is_used_by_one_after_the_other() {
    let Some(kit) = Kit::new() else { return };
    let names = ["a", "b", "c", "d", "e"];
    kit.solve(&names.map(alone));
    // Two engines are as good as two processes.
    let runtime = runtime();
    let engines = [kit.open(2), kit.open(2)];
    let (first, second) = ([alone("f"), alone("g")], [alone("h"), alone("i")]);
    let (one, other) = runtime.block_on(async {
        tokio::join!(kit.solving(&engines[0], &first), kit.solving(&engines[1], &second))
    });
    one.unwrap();
    other.unwrap();
    assert_eq!(kit.said(&with("wc -l < /c/n > /out/said", CacheSharing::Shared)), "9\n");
}

#[test]
fn one_step_may_mount_a_cache_twice_and_several_in_any_order() {
    let Some(kit) = Kit::new() else { return };
    let both = |first: &str, second: &str| {
        let mounts = vec![
            cache("/1", first, CacheSharing::Locked),
            cache("/2", second, CacheSharing::Locked),
            cache("/3", first, CacheSharing::Shared),
        ];
        let script =
            format!("mkdir /1/busy /2/busy; test -d /3/busy; sleep 0.2; rmdir /1/busy /2/busy # {first}");
        step(&script, mounts, ExecOp::default()).0
    };
    assert_eq!(kit.solve(&[both("x", "y"), both("y", "x")]), 2);
}

#[test]
fn a_waiting_step_says_so_and_can_be_cancelled() {
    let Some(kit) = Kit::new() else { return };
    kit.solve(&[with("true", CacheSharing::Locked)]);
    let [common] = directories(&kit, "common").try_into().expect("one");
    let holder = File::open(common.with_extension("lock")).unwrap();
    holder.lock_shared().unwrap();
    let engine = kit.open(2);
    runtime().block_on(async {
        let state = [with("echo ran > /out/said", CacheSharing::Locked)];
        let told = async {
            while !kit.logs().contains("waiting for the cache `one`") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = kit.solving(&engine, &state) => panic!("it does not wait: {done:?}"),
            () = told => {}
        }
        // Ends although the lock is held for ever.
        engine.idle().await;
    });
    // One who waits to have it alone goes before a sharer who comes later.
    let order = common.join("order");
    std::thread::scope(|scope| {
        let run = |name: &'static str, sharing| {
            let kit = &kit;
            move || {
                let state = with(&format!("echo {name} >> /c/order"), sharing);
                let engine = kit.open(1);
                runtime().block_on(kit.solving(&engine, &[state])).unwrap();
            }
        };
        scope.spawn(run("alone", CacheSharing::Locked));
        let turn = File::open(common.with_extension("turn")).unwrap();
        until("waiting", || match turn.try_lock() {
            Ok(()) => turn.unlock().is_err(),
            Err(_) => true,
        });
        scope.spawn(run("sharer", CacheSharing::Shared));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!order.exists());
        holder.unlock().unwrap();
    });
    assert_eq!(std::fs::read_to_string(order).unwrap(), "alone\nsharer\n");
}

#[test]
fn a_waiting_step_leaves_its_place_to_another() {
    let Some(kit) = Kit::new() else { return };
    kit.solve(&[with("true", CacheSharing::Locked)]);
    let [common] = directories(&kit, "common").try_into().expect("one");
    let holder = File::open(common.with_extension("lock")).unwrap();
    holder.lock().unwrap();
    let other =
        |script: &str| step(script, vec![cache("/c", "two", CacheSharing::Shared)], ExecOp::default()).0;
    let states = [with("echo waited > /out/said", CacheSharing::Locked), other("echo ran > /c/n")];
    let engine = kit.open(1);
    runtime().block_on(async {
        let ran = async {
            let is_there = || directories(&kit, "common").iter().any(|made| made.join("n").exists());
            while !is_there() || !kit.logs().contains("waiting for the cache `one`") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            holder.unlock().unwrap();
        };
        let both = async { tokio::join!(kit.solving(&engine, &states), ran) };
        let both = tokio::time::timeout(Duration::from_secs(60), both).await;
        let (done, ()) = both.expect("the second one gets the place of the first");
        assert_eq!(done.unwrap().summary.executed, 2);
    });
    assert_eq!(std::fs::read_to_string(kit.dir.join("out/0/said")).unwrap(), "waited\n");
}

#[test]
fn shared_across_processes() {
    if let Some(kit) = Kit::lent() {
        kit.solve(&[meeting("b", "a", CacheSharing::Shared)]);
        return;
    }
    let Some(kit) = Kit::new() else { return };
    across(&kit, "shared_across_processes", &meeting("a", "b", CacheSharing::Shared));
    let n = with("wc -l < /c/n > /out/said", CacheSharing::Shared);
    assert_eq!(kit.said(&n), "2\n");
}

#[test]
fn private_across_processes() {
    if let Some(kit) = Kit::lent() {
        kit.solve(&[meeting("b", "a", CacheSharing::Private)]);
        return;
    }
    let Some(kit) = Kit::new() else { return };
    across(&kit, "private_across_processes", &meeting("a", "b", CacheSharing::Private));
    assert_eq!(["1", "2", "3"].map(|name| directories(&kit, name).len()), [1, 1, 0]);
}

#[test]
fn locked_across_processes() {
    if let Some(kit) = Kit::lent() {
        kit.solve(&["c", "d", "e"].map(alone));
        return;
    }
    let Some(kit) = Kit::new() else { return };
    across(&kit, "locked_across_processes", &alone("a"));
    assert_eq!(kit.said(&with("wc -l < /c/n > /out/said", CacheSharing::Shared)), "4\n");
}

/// Solves `state` here while a copy of the test `name` does its part.
fn across(kit: &Kit, name: &str, state: &State) {
    let child = kit.elsewhere(&format!("mounts::caches::{name}"));
    kit.solve(std::slice::from_ref(state));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_killed_process_leaves_its_caches_usable() {
    if let Some(kit) = Kit::lent() {
        kit.solve(&[with("echo half >> /c/n; touch /c/started; sleep 1009", CacheSharing::Locked)]);
        return;
    }
    let Some(kit) = Kit::new() else { return };
    let mut child = kit.elsewhere("mounts::caches::a_killed_process_leaves_its_caches_usable");
    until("the step starts", || {
        directories(&kit, "common").iter().any(|directory| directory.join("started").exists())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(kit.said(&with("cat /c/n > /out/said", CacheSharing::Locked)), "half\n");
    assert_eq!(directories(&kit, "common").len(), 1);
}
