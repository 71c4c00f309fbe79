//! Cases of the mounts of exec: which of them become outputs, what a selector selects, what may be missing. Some are drawn.

use rb_llb::{
    CacheSharing, ExecMeta, ExecOp, Mount, MountKind, NetworkMode, SecretEnv, SecretMount, SshMount, State,
};

use super::{Cases, file, folder, none, platform};

/// A mount and the tree it begins as.
type Given = (Mount, State);

fn bind(dest: &str, tree: &State, output: Option<u32>) -> Given {
    (Mount { dest: dest.to_owned(), output, ..Mount::default() }, tree.clone())
}

fn readonly(dest: &str, tree: &State) -> Given {
    (Mount { dest: dest.to_owned(), readonly: true, ..Mount::default() }, tree.clone())
}

fn of_kind(dest: &str, kind: MountKind) -> Given {
    (Mount { dest: dest.to_owned(), kind, ..Mount::default() }, State::scratch())
}

fn cache(dest: &str, id: &str, tree: &State) -> Given {
    let kind = MountKind::Cache { id: id.to_owned(), sharing: CacheSharing::Locked };
    (Mount { dest: dest.to_owned(), kind, ..Mount::default() }, tree.clone())
}

fn select((mount, tree): Given, selector: &str) -> Given {
    (Mount { selector: selector.to_owned(), ..mount }, tree)
}

/// Runs a script of busybox's shell with these mounts, the first of which is the root; returns what lies at `result`.
fn step(script: &str, given: Vec<Given>, secret_env: Vec<SecretEnv>, result: u32) -> State {
    let args = ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, env: vec!["PATH=/bin".to_owned()], ..ExecMeta::default() };
    let (mut inputs, mut mounts) = (Vec::new(), Vec::new());
    for (mut mount, tree) in given {
        if !tree.is_scratch() {
            mount.input = Some(inputs.len());
            inputs.push(tree);
        }
        mounts.push(mount);
    }
    let op = ExecOp { meta, mounts, network: NetworkMode::None, secret_env, ..ExecOp::default() };
    State::exec(inputs, op, Some(&platform()), none()).output(result)
}

fn small() -> State {
    let made = State::scratch().files().mkdir(folder("/in/deep")).mkfile(file("/in/file", "first"));
    made.mkfile(file("/in/deep/file", "second")).mkfile(file("/beside", "beside")).finish(none())
}

pub(super) fn add(cases: &mut Cases) {
    outputs(cases);
    selectors(cases);
    caches_and_memory(cases);
    secrets_and_agents(cases);
    drawn(cases);
}

fn outputs(cases: &mut Cases) {
    let (root, small) = (cases.busybox(), small());
    let three = || {
        vec![bind("/", &root, Some(0)), bind("/a", &small, Some(1)), bind("/b", &State::scratch(), Some(2))]
    };
    for (result, name) in ["root", "tree", "scratch"].iter().enumerate() {
        let script = "echo x > /a/new; rm /a/beside; mkdir -p /b/c; echo y > /b/c/d; echo z > /w/z";
        cases.add(&format!("mounts-outputs-{name}"), &step(script, three(), vec![], result as u32));
    }
    let thrown_away = vec![bind("/", &root, Some(0)), bind("/a", &small, None)];
    cases.add("mounts-no-output", &step("echo x > /a/new; cat /a/new > /w/seen", thrown_away, vec![], 0));
    let scratch = vec![bind("/", &root, Some(0)), bind("/a", &State::scratch(), None)];
    cases.add("mounts-no-output-scratch", &step("echo x > /a/new; ls -a /a > /w/seen", scratch, vec![], 0));
    let unchanged = vec![bind("/", &root, Some(0)), bind("/a", &small, Some(1))];
    cases.add("mounts-output-unchanged", &step("true", unchanged, vec![], 1));
    let empty = vec![bind("/", &root, Some(0)), bind("/a", &State::scratch(), Some(1))];
    cases.add("mounts-output-empty", &step("true", empty, vec![], 1));
    let same = vec![bind("/", &root, Some(0)), bind("/a", &small, Some(1)), bind("/b", &small, Some(2))];
    cases.add("mounts-output-of-two-of-a-tree", &step("rm /a/beside; echo b > /b/new", same, vec![], 2));
    let shown = |output| {
        let (mount, tree) = readonly("/a", &small);
        vec![bind("/", &root, Some(0)), (Mount { output, ..mount }, tree)]
    };
    cases.add("mounts-readonly", &step("cat /a/in/file > /w/seen", shown(None), vec![], 0));
    cases.add("mounts-readonly-written", &step("echo x > /a/new", shown(None), vec![], 0));
    cases.add("mounts-readonly-output", &step("true", shown(Some(1)), vec![], 1));
    let (mount, tree) = readonly("/", &root);
    let fixed = vec![(mount, tree), bind("/a", &State::scratch(), Some(0))];
    cases
        .add("mounts-readonly-root", &step("! echo x 2>/dev/null > /w/x; ls /w > /a/seen", fixed, vec![], 0));
    let nested = vec![
        bind("/", &root, Some(0)),
        bind("/a", &small, Some(1)),
        bind("/a/in/deep", &State::scratch(), Some(2)),
    ];
    cases.add("mounts-nested", &step("echo x > /a/in/deep/x; echo y > /a/in/y", nested.clone(), vec![], 1));
    cases.add("mounts-nested-inner", &step("echo x > /a/in/deep/x; echo y > /a/in/y", nested, vec![], 2));
    let missing =
        vec![bind("/", &root, Some(0)), bind("/a", &small, Some(1)), bind("/a/new/er", &small, None)];
    cases.add("mounts-nested-missing", &step("ls /a/new/er > /a/seen", missing, vec![], 1));
    let rich = cases.rich();
    let tools = select(readonly("/bin", &root), "/bin");
    let linked = vec![bind("/", &rich, Some(0)), tools, bind("/links/to-folder/new", &small, Some(1))];
    cases.add("mounts-through-link", &step("echo x > /d/new/x; echo y > /d/y", linked.clone(), vec![], 0));
    cases.add("mounts-through-link-output", &step("echo x > /d/new/x", linked, vec![], 1));
    let lost = vec![bind("/", &root, None), bind("/t", &State::scratch(), Some(0))];
    cases
        .add("mounts-root-no-output", &step("! echo x 2>/dev/null > /w/x; ls /w > /t/seen", lost, vec![], 0));
    let above = vec![bind("/", &root, Some(0)), bind("/w/../t/./x", &small, Some(1))];
    cases.add("mounts-target-climbing", &step("echo x > /t/x/x; echo t > /t/t", above.clone(), vec![], 0));
    cases.add("mounts-target-climbing-output", &step("echo x > /t/x/x", above, vec![], 1));
    let relative = vec![bind("/", &root, Some(0)), bind("w/x", &small, Some(1))];
    cases.add("mounts-target-relative", &step("echo x > /w/x/x", relative, vec![], 1));
}

fn selectors(cases: &mut Cases) {
    let (root, small, rich) = (cases.busybox(), small(), cases.rich());
    let mut one = |name: &str, script: &str, mount: Given, result: u32| {
        cases.add(
            &format!("mounts-selector-{name}"),
            &step(script, vec![bind("/", &root, Some(0)), mount], vec![], result),
        );
    };
    one("output", "echo x > /a/new; rm /a/file", select(bind("/a", &small, Some(1)), "/in"), 1);
    one("no-output", "echo x > /a/new; ls /a > /w/seen", select(bind("/a", &small, None), "/in"), 0);
    one("file", "cat /a > /w/seen", select(readonly("/a", &small), "/in/file"), 0);
    one("file-output", "echo x > /a", select(bind("/a", &small, Some(1)), "/in/file"), 1);
    one("relative", "ls /a > /w/seen", select(readonly("/a", &small), "in"), 0);
    one("slash", "ls /a > /w/seen", select(readonly("/a", &small), "/"), 0);
    one("dot", "ls /a > /w/seen", select(readonly("/a", &small), "."), 0);
    one("missing", "ls /a > /w/seen", select(readonly("/a", &small), "/none"), 0);
    one("missing-written", "ls /a > /w/seen", select(bind("/a", &small, None), "/none"), 0);
    one("of-scratch", "ls /a > /w/seen", select(bind("/a", &State::scratch(), Some(1)), "/none"), 0);
    one("climbing", "ls /a > /w/seen", select(readonly("/a", &small), "/in/../../in/deep"), 0);
    one("link", "ls /a > /w/seen", select(readonly("/a", &rich), "/links/to-folder"), 0);
    one("link-to-file", "cat /a > /w/seen", select(readonly("/a", &rich), "/links/to-file"), 0);
    one("loop", "ls /a > /w/seen", select(readonly("/a", &rich), "/links/loop"), 0);
    one("below-file", "ls /a > /w/seen", select(readonly("/a", &small), "/beside/x"), 0);
}

fn caches_and_memory(cases: &mut Cases) {
    let (root, small) = (cases.busybox(), small());
    let mut one = |name: &str, script: &str, mount: Given| {
        cases
            .add(&format!("mounts-{name}"), &step(script, vec![bind("/", &root, Some(0)), mount], vec![], 0));
    };
    one(
        "cache-empty",
        "ls -la /c | wc -l > /w/seen; stat -c '%a %u' /c >> /w/seen",
        cache("/c", "empty", &State::scratch()),
    );
    one("cache-from", "cat /c/in/file > /w/seen; echo x > /c/in/new", cache("/c", "from", &small));
    one(
        "cache-from-selector",
        "ls /c > /w/seen; echo x > /c/new",
        select(cache("/c", "selector", &small), "/in"),
    );
    one("cache-from-missing", "ls /c > /w/seen", select(cache("/c", "missing", &small), "/none"));
    let (mount, tree) = cache("/c", "readonly", &small);
    let fixed = (Mount { readonly: true, ..mount }, tree);
    one("cache-readonly", "! echo x 2>/dev/null > /c/x; cat /c/beside > /w/seen", fixed);
    one("cache-slashes", "echo x > /c/x; ls /c > /w/seen", cache("/c", "../../a/b", &State::scratch()));
    let memory = |size_bytes| of_kind("/m", MountKind::Tmpfs { size_bytes });
    one("tmpfs", "stat -c %a /m > /w/seen; echo x > /m/x", memory(0));
    let fill =
        "dd if=/dev/zero of=/m/x bs=65536 count=4 2>/dev/null && echo all > /w/seen || echo some > /w/seen";
    one("tmpfs-small", fill, memory(65536));
    one("tmpfs-large", fill, memory(1 << 20));
    let two = vec![bind("/", &root, Some(0)), memory(0), select(readonly("/m/in", &small), "/in")];
    cases.add("mounts-in-tmpfs", &step("ls /m/in > /w/seen", two, vec![], 0));
}

fn secrets_and_agents(cases: &mut Cases) {
    let root = cases.busybox();
    let secret = |optional| {
        let secret = SecretMount { id: "none".to_owned(), uid: 3, gid: 4, mode: 0o440, optional };
        of_kind("/run/secrets/none", MountKind::Secret(secret))
    };
    let agent = |optional| {
        let agent = SshMount { id: "none".to_owned(), uid: 3, gid: 4, mode: 0o660, optional };
        of_kind("/agent", MountKind::Ssh(agent))
    };
    for (name, optional) in [("optional", true), ("required", false)] {
        let given = vec![bind("/", &root, Some(0)), secret(optional)];
        let script = "test ! -e /run/secrets/none; echo x > /w/x";
        cases.add(&format!("mounts-secret-{name}"), &step(script, given, vec![], 0));
        let given = vec![bind("/", &root, Some(0)), agent(optional)];
        cases.add(&format!("mounts-ssh-{name}"), &step("test ! -S /agent; echo x > /w/x", given, vec![], 0));
        let variable = SecretEnv { id: "none".to_owned(), name: "NONE".to_owned(), optional };
        let script = "echo ${NONE-unset} > /w/x";
        cases.add(
            &format!("mounts-secret-env-{name}"),
            &step(script, vec![bind("/", &root, Some(0))], vec![variable], 0),
        );
    }
}

/// What steps that are drawn do, each where it can.
const DEEDS: [&str; 8] = [
    "echo x > new",
    "rm -rf in/deep",
    "mkdir -p in/more/less",
    "echo changed > in/file",
    "mv in out",
    "ln -s in/file link",
    "chmod 700 in",
    "rm -f beside; mkdir beside",
];

/// Numbers that are always the same.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}

/// Steps with mounts, selectors and outputs as they come; what cannot be done is not.
fn drawn(cases: &mut Cases) {
    const COUNT: usize = 40;
    let (root, small, other) = (cases.busybox(), small(), cases.other());
    let mut draw = Draw(7);
    for number in 0..COUNT {
        let mut given = vec![bind("/", &root, Some(0))];
        let mut script = String::new();
        let mut outputs = 1;
        for at in 0..=draw.below(4) {
            let tree = [&small, &other, &State::scratch()][draw.below(3)].clone();
            let dest = [
                format!("/m{at}"),
                format!("/w/m{at}"),
                format!("/m0/in/m{at}"),
                format!("/w/deep/er/m{at}"),
            ][draw.below(4)]
            .clone();
            let mut mount = match draw.below(6) {
                0 => readonly(&dest, &tree),
                1 => bind(&dest, &tree, None),
                2 => of_kind(&dest, MountKind::Tmpfs { size_bytes: 0 }),
                3 => cache(&dest, &format!("drawn-{number}-{at}"), &tree),
                _ => {
                    outputs += 1;
                    bind(&dest, &tree, Some(outputs - 1))
                }
            };
            let selects = matches!(mount.0.kind, MountKind::Bind | MountKind::Cache { .. });
            if selects && !mount.1.is_scratch() && draw.below(3) == 0 {
                mount = select(mount, ["/in", "/d", "/beside"][draw.below(3)]);
            }
            given.push(mount);
            for _ in 0..draw.below(3) {
                script.push_str(&format!(
                    "(cd {dest} && {{ {}; }}) 2>/dev/null || true; ",
                    DEEDS[draw.below(DEEDS.len())]
                ));
            }
            script.push_str(&format!("ls {dest} 2>/dev/null >> /t/seen || true; "));
        }
        let result = draw.below(outputs as usize) as u32;
        cases.add(&format!("mounts-drawn-{number:02}"), &step(&script, given, vec![], result));
    }
}
