//! Ways out that a stranger's build file may try: mounts, caches, secrets, agents, sockets of this machine. None leads anywhere.
//!
//! The sandbox's own part is in the tests of `rb-exec` (`escapes`), networks in `network`, devices in `devices`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::env::TestEnv;

const SECRET: &str = "hunter2-b7f1c0";

/// A folder of this machine that no build may read or write, with one file.
fn outside(env: &TestEnv) -> PathBuf {
    let outside = env.state().parent().expect("lies in a folder").join("outside");
    std::fs::create_dir(&outside).expect("makes a folder");
    std::fs::write(outside.join("secret"), SECRET).expect("writes");
    outside
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn targets_of_mounts_lead_nowhere() {
    let env = TestEnv::new();
    let outside = outside(&env);
    env.write("src/a", "own");
    let (place, up) = (outside.display(), "../".repeat(20));
    let climbing = format!("/x/{up}{}", outside.strip_prefix("/").expect("is absolute").display());
    let mut text = "VERSION 1\nplanted:\n    FROM @host\n".to_owned();
    // What it leads to in the step is made there.
    text.push_str(&format!("    RUN ln -s {place} /link && ln -s {up}{place} /up && mkdir /x\n"));
    let mut targets = Vec::new();
    for (at, target) in
        ["/link/made", "/link", "/up/made", &format!("{climbing}/made")].into_iter().enumerate()
    {
        for (kind, mount) in [
            ("tmpfs", "type=tmpfs".to_owned()),
            ("cache", "type=cache,id=c".to_owned()),
            ("bind", "type=bind,source=src".to_owned()),
            ("secret", "type=secret,id=s".to_owned()),
        ] {
            // A secret is a file, and `/link` leads to a folder.
            let target = if kind == "secret" { format!("{target}/file") } else { target.to_owned() };
            let name = format!("{kind}{at}");
            text.push_str(&format!(
                "{name}:\n    FROM +planted\n    RUN --mount={mount},target={target} touch {target}/touched || test -e {target}\n"
            ));
            targets.push(format!("+{name}"));
        }
    }
    env.write("Buildfile", text);
    for target in &targets {
        env.rb(["--secret", "s=x", target.as_str()]).expect(0).hides(SECRET);
    }
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("reads"), SECRET);
    assert_eq!(names(&env.project().join("src")), ["a"]);
}

#[test]
fn sources_of_mounts_lead_nowhere() {
    let env = TestEnv::new();
    let outside = outside(&env);
    let place = outside.display().to_string();
    symlink(&outside, env.project().join("out-link")).expect("links");
    symlink("../outside/secret", env.project().join("secret-link")).expect("links");
    let up = "../".repeat(20);
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nmade:\n    FROM @host\n    RUN mkdir /o && ln -s {place} /o/folder && ln -s {place}/secret /o/file && \
             ln -s {up}{place}/secret /o/up\n    SAVE ARTIFACT /o /o\n"
        ),
    );
    let made = env.read("Buildfile");
    for mount in [
        "from=+made/o,source=folder",
        "from=+made/o,source=file",
        "from=+made/o,source=up",
        "from=+made/o,source=folder/secret",
        "from=+made/o/folder/secret",
        "source=out-link",
        "source=out-link/secret",
        "source=secret-link",
    ] {
        let step = format!(
            "t:\n    FROM @host\n    RUN --mount=type=bind,{mount},target=/t cat /t /t/secret /t/*; false\n"
        );
        env.write("Buildfile", format!("{made}{step}"));
        let run = env.rb(["+t"]).hides(SECRET);
        assert_ne!(run.code, 0, "{mount}: {}", run.stderr);
    }
    // A cache begins as nothing of it, either.
    let step = "t:\n    FROM @host\n    RUN --mount=type=cache,id=x,from=+made/o,target=/c cat /c/file /c/up /c/folder/secret; false\n";
    env.write("Buildfile", format!("{made}{step}"));
    env.rb(["+t"]).expect(1).hides(SECRET);
    assert_eq!(names(&outside), ["secret"]);
}

#[test]
fn names_and_contents_of_caches_lead_nowhere() {
    let env = TestEnv::new();
    let outside = outside(&env);
    let place = outside.display().to_string();
    let above = env.state().parent().expect("lies in a folder").to_owned();
    let before = names(&above);
    let mut text = "VERSION 1\n".to_owned();
    let up = "../".repeat(20);
    for (at, id) in
        ["../../../escaped", &format!("{up}{place}"), &place, "a/../../../../b", "..", ".", "a/b/c"]
            .iter()
            .enumerate()
    {
        text.push_str(&format!(
            "id{at}:\n    FROM @host\n    RUN --mount=type=cache,id={id},target=/c test ! -e /c/secret && echo x > /c/made\n"
        ));
    }
    // Links in a cache, on which a later step mounts and through which one reads.
    text.push_str(&format!(
        "plant:\n    FROM @host\n    RUN --mount=type=cache,id=p,target=/c ln -sfn {place} /c/l && ln -sfn {up}{place} /c/u\n\
         mounts:\n    FROM +plant\n    RUN --mount=type=cache,id=p,target=/c --mount=type=tmpfs,target=/c/l/t \
         --mount=type=cache,id=q,target=/c/u/v ls -R /c; touch /c/l/t/x /c/u/v/x\n\
         reads:\n    FROM +plant\n    RUN --mount=type=cache,id=p,target=/c cat /c/l/secret /c/u/secret; false\n"
    ));
    env.write("Buildfile", text);
    for at in 0..7 {
        env.rb([format!("+id{at}")]).expect(0).hides(SECRET);
    }
    env.rb(["+mounts"]).hides(SECRET);
    env.rb(["+reads"]).expect(1).hides(SECRET);
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(names(&above), before);
    assert_eq!(names(&env.project()), ["Buildfile"]);
    // What was made in caches is below their folder.
    let mut all = Vec::new();
    files(&env.state(), &mut all);
    let made: Vec<_> = all.iter().filter(|path| path.ends_with("made")).collect();
    assert!(
        !made.is_empty() && made.iter().all(|path| path.starts_with(env.state().join("caches"))),
        "{made:?}"
    );
}

/// A build that ends with the test, however that ends.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Waits until a step has made a file in its cache; returns the folder.
fn met(env: &TestEnv, child: &mut Child) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let mut found = Vec::new();
        files(&env.state().join("caches"), &mut found);
        if let Some(ready) = found.iter().find(|path| path.ends_with("ready")) {
            return ready.parent().expect("lies in a folder").to_owned();
        }
        assert!(child.try_wait().expect("waits").is_none(), "it ended before");
        assert!(Instant::now() < deadline, "the step does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_secret_is_with_its_step_and_nowhere_else() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN --secret TOKEN --mount=type=secret,id=TOKEN,target=/token --mount=type=cache,id=c,target=/c \
         test \"$TOKEN\" = \"$(cat /token)\" && touch /c/ready && while [ ! -e /c/go ]; do sleep 0.05; done; echo \"it is $TOKEN\"\n    \
         RUN echo after > /after\n    SAVE ARTIFACT /after AS LOCAL after\n",
    );
    // Beside the project, so that only the state is looked through.
    let given = env.state().parent().expect("lies in a folder").join("home/token");
    std::fs::write(&given, SECRET).expect("writes");
    let child = env.spawn(["--secret-file", &format!("TOKEN={}", given.display()), "+t"]);
    let mut running = Running(Some(child));
    let cache = met(&env, running.0.as_mut().expect("runs"));
    let own = std::fs::read_link("/proc/self/ns/pid").expect("has one");
    let (mut seen, mut within) = (0, 0);
    for process in std::fs::read_dir("/proc").expect("lists").flatten() {
        let said = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        // The step's own processes have it, and nobody outside shares their namespace.
        let space = std::fs::read_link(process.path().join("ns/pid"));
        if space.is_ok_and(|space| space != own) {
            within += usize::from(holds(&said("environ"), SECRET));
            continue;
        }
        seen += usize::from(!said("cmdline").is_empty());
        for name in ["cmdline", "environ"] {
            assert!(!holds(&said(name), SECRET), "{name} of {}", process.path().display());
        }
    }
    assert!(seen > 0 && within > 0, "{seen} {within}");
    std::fs::write(cache.join("go"), "").expect("writes");
    let ended = running.0.take().expect("runs").wait_with_output().expect("waits");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("it is ***") && !said.contains(SECRET), "{said}");
    assert_eq!(env.read("after"), "after\n");
    let mut all = Vec::new();
    files(&env.state(), &mut all);
    assert!(all.iter().any(|path| path.ends_with("rb.db")), "{all:?}");
    for path in all {
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!holds(&bytes, SECRET), "{}", path.display());
    }
}

#[test]
fn sockets_of_this_machine_are_not_there() {
    let env = TestEnv::new();
    let name = format!("rb-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("is short");
    let _abstract = UnixListener::bind_addr(&address).expect("listens");
    let path = env.project().join("socket");
    let _by_path = UnixListener::bind(&path).expect("listens");
    let known = std::fs::read_to_string("/proc/net/unix").expect("reads");
    assert!(known.contains(&format!("@{name}")));
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN cat /proc/net/unix > /said; { ls /run /var/run /tmp 2>&1 || true; } >> /said\n    \
         SAVE ARTIFACT /said AS LOCAL said\nsock:\n    FROM @host\n    \
         RUN --mount=type=bind,source=socket,target=/s test ! -S /s\n",
    );
    env.rb(["+t"]).expect(0);
    let said = env.read("said");
    assert!(said.starts_with("Num") && !said.contains(&name) && !said.contains("socket\n"), "{said}");
    // Nor by way of the project's folder.
    env.rb(["+sock"]).expect(2).says("/socket does not exist");
}

#[test]
fn a_lent_agent_is_with_its_step_alone_and_keeps_its_keys() {
    let env = TestEnv::new();
    let key = env.state().parent().expect("lies in a folder").join("home/key");
    let file = key.to_str().expect("is text");
    let words = ["-q", "-t", "ed25519", "-N", "", "-C", "lent-key", "-f", file];
    if !std::process::Command::new("ssh-keygen").args(words).status().is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs ssh-keygen and ssh-add (Debian: openssh-client)");
        return;
    }
    // What holds it waits for a file in a cache, which the others make.
    env.write(
        "Buildfile",
        "VERSION 1\nall:\n    BUILD +holds\n    BUILD +looks\n\
         holds:\n    FROM @host\n    RUN --ssh --mount=type=cache,id=meet,target=/meet,sharing=shared touch /meet/held && \
         while [ ! -e /meet/looked ]; do sleep 0.05; done; ! ssh-add -D && ! ssh-add -d && ! ssh-add -x </dev/null && \
         ssh-keygen -q -t ed25519 -N '' -f /tmp/own && ! ssh-add /tmp/own && ssh-add -l\n    \
         RUN test ! -e /run/buildkit && test -z \"$SSH_AUTH_SOCK\"\n\
         looks:\n    FROM @host\n    RUN --mount=type=cache,id=meet,target=/meet,sharing=shared \
         while [ ! -e /meet/held ]; do sleep 0.05; done; found=$(find / -xdev -type s 2>/dev/null; grep -i -e agent -e rb- /proc/net/unix || true); \
         touch /meet/looked; echo \"found: $found.\"; test -z \"$found\"; ! ssh-add -l\n",
    );
    let run = env.rb(["--ssh", &format!("default={file}"), "--jobs=2", "+all"]).expect(0);
    assert!(run.stderr.contains("found: .") && run.stderr.contains("lent-key"), "{}", run.stderr);
    assert!(!run.stderr.contains("All identities removed"), "{}", run.stderr);
}

#[test]
fn a_device_node_that_a_step_made_opens_nothing() {
    let env = TestEnv::new();
    // Memory, the kernel's log, a disk and a terminal of this machine, by their numbers; then through a cache, where another finds it.
    let nodes =
        [("c", 1, 1), ("c", 1, 11), ("b", 254, 0), ("b", 8, 0), ("c", 5, 0), ("c", 10, 200), ("c", 10, 229)];
    let mut steps = String::new();
    for (at, (kind, major, minor)) in nodes.iter().enumerate() {
        steps.push_str(&format!(
            "    RUN --mount=type=cache,id=n,target=/c for d in /tmp /c /dev/shm; do rm -f $d/n{at}; mknod $d/n{at} {kind} {major} {minor} 2>/dev/null || \
             continue; ! head -c 1 $d/n{at} 2>/dev/null && ! (: >> $d/n{at}) 2>/dev/null || echo opened {at} in $d; done\n"
        ));
    }
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nmakes:\n    FROM @host\n{steps}finds:\n    FROM +makes\n    RUN --mount=type=cache,id=n,target=/other \
             for n in /other/n* /tmp/n*; do [ ! -e $n ] || ! head -c 1 $n 2>/dev/null || echo opened $n; done; echo looked\n"
        ),
    );
    env.rb(["+finds"]).expect(0).says("looked").hides("+makes | opened").hides("+finds | opened");
}
