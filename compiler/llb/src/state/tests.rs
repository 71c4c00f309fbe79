use super::*;
use crate::{
    ExecBuilder, ExecMeta, ExecOp, FileAction, FileActionKind, Mount, MountOptions, RmAction, SshMount, dump,
};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn image(name: &str) -> State {
    let identifier = format!("docker-image://docker.io/library/{name}:latest");
    State::source(identifier, BTreeMap::new(), Some(&amd64()), NodeMeta::default())
}

fn local(name: &str) -> State {
    State::source(format!("local://{name}"), BTreeMap::new(), None, NodeMeta::default())
}

fn meta_of(args: &[&str]) -> ExecMeta {
    ExecMeta { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..ExecMeta::default() }
}

fn run(base: &State, command: &str) -> State {
    ExecBuilder::new(base, meta_of(&[command])).finish(Some(&amd64()), NodeMeta::default()).root()
}

fn dumped(state: &State) -> String {
    dump(&state.marshal(&SourceMap::default()).unwrap().graph().unwrap())
}

fn bind(dest: &str, input: Option<usize>, output: Option<u32>) -> Mount {
    Mount { dest: dest.to_owned(), input, output, ..Mount::default() }
}

#[test]
fn scratch_is_an_empty_definition() {
    let definition = State::scratch().marshal(&SourceMap::default()).unwrap();
    assert_eq!(definition, Definition::empty());
    assert_eq!(State::scratch().digest(), Ok(None));
    assert_eq!(definition.graph().unwrap().root(), None);
    assert_eq!(Definition::from_bytes(&definition.to_bytes()), Ok(definition));
}

#[test]
fn the_digest_of_a_state_is_the_root_of_its_definition() {
    let state = run(&image("busybox"), "true");
    let graph = state.marshal(&SourceMap::default()).unwrap().graph().unwrap();
    assert_eq!(state.digest().unwrap(), graph.root());
    assert_eq!(graph.vertex(&graph.root().unwrap().vertex).display(), "exec true");
}

#[test]
fn a_definition_survives_its_bytes() {
    let sources = SourceMap::default();
    let file = sources.add("a/Buildfile", "FROM x\nRUN true\n");
    let meta = NodeMeta {
        ignore_cache: true,
        export_cache: Some(false),
        progress_group: Some(ProgressGroup { id: "i".to_owned(), name: "n".to_owned(), weak: true }),
        linux_resources: Some(LinuxResources { memory_bytes: 1 << 30, ..LinuxResources::default() }),
        ..NodeMeta::named("run it").at(Span { source: file.id, start: 7, end: 15 })
    };
    let state = ExecBuilder::new(&image("x"), meta_of(&["true"])).finish(None, meta).root();
    let definition = state.marshal(&sources).unwrap();
    assert_eq!(Definition::from_bytes(&definition.to_bytes()).as_ref(), Ok(&definition));

    let graph = definition.graph().unwrap();
    let root = graph.root().unwrap().vertex;
    let (source, range) = graph.location(&root).unwrap();
    assert_eq!((source.name.as_str(), source.language.as_str()), ("a/Buildfile", "Buildfile"));
    assert_eq!(
        (range.start, range.end),
        (crate::Position { line: 2, character: 0 }, crate::Position { line: 2, character: 8 },)
    );
    assert_eq!(graph.name(graph.vertex(&root)), "run it");
    assert!(graph.meta(&root).caps.contains_key("exec.meta.linux.resources"));
    let head = definition.meta.values().find(|meta| meta.caps.contains_key("platform")).unwrap();
    let caps: Vec<&str> = head.caps.keys().map(String::as_str).collect();
    assert_eq!(caps, ["constraints", "meta.description", "meta.exportcache", "meta.ignorecache", "platform"]);
}

#[test]
fn what_is_said_of_a_node_is_not_in_its_digest() {
    let plain = local("a");
    let named = State::source(
        "local://a",
        BTreeMap::new(),
        None,
        NodeMeta { ignore_cache: true, ..NodeMeta::named("x") },
    );
    let for_workers = NodeMeta { worker_filter: vec!["w".to_owned()], ..NodeMeta::default() };
    let bound = State::source("local://a", BTreeMap::new(), None, for_workers);
    assert_eq!(plain.digest(), named.digest());
    assert_ne!(plain.digest(), bound.digest());
}

#[test]
fn equal_nodes_are_one_op_and_both_speak() {
    let first = State::source("local://a", BTreeMap::new(), None, NodeMeta::named("first"));
    let second = State::source(
        "local://a",
        BTreeMap::new(),
        None,
        NodeMeta { ignore_cache: true, ..NodeMeta::default() },
    );
    let merged = State::merge(vec![first, second, local("b")], None, NodeMeta::default());
    let graph = merged.marshal(&SourceMap::default()).unwrap().graph().unwrap();
    assert_eq!(graph.len(), 3);
    let source = graph.vertices().next().unwrap();
    assert_eq!(graph.meta(&source.digest).name(), Some("first"));
    assert!(graph.meta(&source.digest).ignore_cache);
}

#[test]
fn mounts_in_any_order_give_the_same_op_and_keep_their_numbers() {
    let (base, tools) = (image("busybox"), image("tools"));
    let inputs = vec![tools.clone(), base.clone()];
    let op = |mounts| ExecOp { meta: meta_of(&["make"]), mounts, ..ExecOp::default() };
    let mounts =
        vec![bind("/tools", Some(0), Some(7)), bind("/out", None, Some(3)), bind("/", Some(1), Some(0))];
    let shuffled = State::exec(inputs, op(mounts), Some(&amd64()), NodeMeta::default());
    let built = ExecBuilder::new(&base, meta_of(&["make"]))
        .mount("/tools", &tools, MountOptions::default())
        .mount("/out", &State::scratch(), MountOptions::default())
        .finish(Some(&amd64()), NodeMeta::default());
    assert_eq!(shuffled.output(0).digest(), built.root().digest());
    assert_eq!(shuffled.output(3).digest(), built.mount("/out").unwrap().digest());
    assert_eq!(shuffled.output(7).digest(), built.mount("/tools").unwrap().digest());
    assert_eq!(built.mount("/out").unwrap().digest().unwrap().unwrap().index, 1);
    assert!(built.mount("/elsewhere").is_none());
}

#[test]
fn a_readonly_root_stays_what_it_was() {
    let base = image("busybox");
    let exec = ExecBuilder::new(&base, meta_of(&["make"]))
        .readonly_root()
        .mount("/out", &State::scratch(), MountOptions::default())
        .finish(Some(&amd64()), NodeMeta::default());
    assert_eq!(exec.root().digest(), base.digest());
    assert_eq!(exec.mount("/out").unwrap().digest().unwrap().unwrap().index, 0);
}

#[test]
fn agents_get_a_path_and_the_command_is_told() {
    let agent = |base: &State, env: &[&str]| {
        let meta = ExecMeta { env: env.iter().map(|line| (*line).to_owned()).collect(), ..meta_of(&["x"]) };
        let exec = ExecBuilder::new(base, meta).ssh("", SshMount::default()).ssh("/two", SshMount::default());
        dumped(&exec.finish(Some(&amd64()), NodeMeta::default()).root())
    };
    let told = agent(&image("a"), &["A=1"]);
    assert!(told.contains("env=[A=1 SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0]"), "{told}");
    let kept = agent(&image("a"), &["SSH_AUTH_SOCK=/mine"]);
    assert!(kept.contains("env=[SSH_AUTH_SOCK=/mine]"), "{kept}");
}

#[test]
fn file_inputs_may_be_empty_or_equal() {
    let base = image("busybox");
    let copy = |from, to| {
        let copy = CopyAction { src: "/a".to_owned(), dest: "/b".to_owned(), ..CopyAction::default() };
        FileAction { input: to, secondary_input: from, output: None, kind: FileActionKind::Copy(copy) }
    };
    let rm = RmAction { path: "/c".to_owned(), ..RmAction::default() };
    let rm =
        FileAction { input: Some(4), secondary_input: None, output: Some(0), kind: FileActionKind::Rm(rm) };
    // Inputs: base, empty, base again; so action 0 has the number 3.
    let op = FileOp { actions: vec![copy(Some(1), Some(0)), copy(Some(2), Some(3)), rm] };
    let state = State::file(vec![base.clone(), State::scratch(), base], op, 0, None, NodeMeta::default());
    insta::assert_snapshot!(dumped(&state), @r"
    platform = linux/amd64
    v0 = source docker-image://docker.io/library/busybox:latest
    v1 = file   copy scratch:/a -> v0.0:/b; copy v0.0:/a -> a0:/b; rm a1:/c
    root = v1.0
    ");
}

#[test]
fn merges_and_diffs_of_nothing_are_simple() {
    let a = local("a");
    let nothing = NodeMeta::default;
    assert!(State::merge(vec![State::scratch()], None, nothing()).is_scratch());
    assert_eq!(State::merge(vec![State::scratch(), a.clone()], None, nothing()).digest(), a.digest());
    assert_eq!(State::diff(&State::scratch(), &a, None, nothing()).digest(), a.digest());
    assert!(State::diff(&State::scratch(), &State::scratch(), None, nothing()).is_scratch());
    assert!(
        dumped(&State::diff(&a, &State::scratch(), None, nothing())).contains("v1 = diff   v0.0 -> scratch")
    );
    assert_eq!(a.files().finish(nothing()).digest(), a.digest());
}

#[test]
fn wrong_nodes_say_so_wherever_they_are_used() {
    let no_args = ExecBuilder::new(&image("a"), ExecMeta::default()).finish(None, NodeMeta::default());
    let error = run(&no_args.root(), "true").marshal(&SourceMap::default()).unwrap_err();
    assert_eq!(error.kind(), rb_diag::ErrorKind::Internal);
    assert!(matches!(&error, LlbError::Builder { source, .. } if matches!(**source, LlbError::Invalid(_))));

    let exec = ExecBuilder::new(&image("a"), meta_of(&["x"])).finish(None, NodeMeta::default());
    assert!(exec.output(1).digest().is_err());
    let twice = vec![bind("/", None, Some(0)), bind("/b", None, Some(0))];
    let op = ExecOp { meta: meta_of(&["x"]), mounts: twice, ..ExecOp::default() };
    assert!(State::exec(Vec::new(), op, None, NodeMeta::default()).root().digest().is_err());
    let op = ExecOp { meta: meta_of(&["x"]), mounts: vec![bind("/", Some(5), Some(0))], ..ExecOp::default() };
    assert!(State::exec(Vec::new(), op, None, NodeMeta::default()).output(0).digest().is_err());
    assert!(State::source("", BTreeMap::new(), None, NodeMeta::default()).digest().is_err());
    assert!(State::build(&State::scratch(), None, None, NodeMeta::default()).digest().is_err());
}

#[test]
fn long_chains_are_built_marshalled_and_dropped_without_recursion() {
    let mut state = local("a");
    for _ in 0..10_000 {
        state =
            state.mkdir(MkdirAction { path: "/a".to_owned(), ..MkdirAction::default() }, NodeMeta::default());
    }
    let graph = state.marshal(&SourceMap::default()).unwrap().graph().unwrap();
    assert_eq!(graph.len(), 10_001);
}

#[test]
fn an_op_digest_leaves_inputs_out() {
    let [one, two] = ["a", "b"].map(|name| {
        let graph = run(&image(name), "make").marshal(&SourceMap::default()).unwrap().graph().unwrap();
        graph.vertex(&graph.root().unwrap().vertex).clone()
    });
    assert_ne!(one.digest, two.digest);
    assert_eq!(one.op_digest(), two.op_digest());
    let arm = one.op.digest_without_inputs(Some(&OpPlatform {
        architecture: "arm64".to_owned(),
        ..OpPlatform::default()
    }));
    assert_ne!(one.op_digest(), arm);
}

#[test]
fn dump_shows_what_is_in_the_digest() {
    let sources = SourceMap::default();
    let file = sources.add("Buildfile", "FROM a\nCOPY src /src\nRUN make\n");
    let at = |start| NodeMeta::default().at(Span { source: file.id, start, end: start + 4 });
    let base = State::source("docker-image://a", BTreeMap::new(), Some(&amd64()), at(0));
    let attrs = [
        (attr::LOCAL_INCLUDE_PATTERNS, crate::json_list(["src"])),
        (attr::LOCAL_SHARED_KEY_HINT, "a b".to_owned()),
    ];
    let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let context = State::source("local://context", attrs, None, at(7));
    let owner = crate::Owner {
        user: Some(crate::UserSpec::Name { name: "app".to_owned(), input: None }),
        group: Some(crate::UserSpec::Id(5)),
    };
    let copy = CopyAction {
        src: "/src".to_owned(),
        dest: "/src".to_owned(),
        owner: Some(owner),
        create_dest_path: true,
        mode: crate::CopyMode::Bits(0o644),
        ..CopyAction::default()
    };
    let mkfile =
        MkfileAction { path: "/m".to_owned(), mode: 0o600, data: "x\n".into(), ..MkfileAction::default() };
    let copied = base.files().copy(&context, copy).mkfile(mkfile).finish(at(7));
    let exec =
        ExecBuilder::new(&copied, ExecMeta { cwd: "/src".to_owned(), ..meta_of(&["sh", "-c", "make all"]) })
            .cache("/c", &State::scratch(), "id", crate::CacheSharing::Locked)
            .tmpfs("/t", 5)
            .secret(
                "/run/s",
                crate::SecretMount { id: "s".to_owned(), mode: 0o400, optional: true, ..Default::default() },
            )
            .mount(
                "/ctx",
                &context,
                MountOptions { readonly: true, selector: "/sub".to_owned(), ..Default::default() },
            )
            .mount("/out", &State::scratch(), MountOptions::default())
            .network(crate::NetworkMode::None)
            .finish(Some(&"linux/arm64".parse().unwrap()), NodeMeta { ignore_cache: true, ..at(21) });
    let graph = exec.mount("/out").unwrap().marshal(&sources).unwrap().graph().unwrap();
    insta::assert_snapshot!(dump(&graph), @r#"
    platform = linux/amd64
    v0 = source docker-image://a  ; Buildfile:1
    v1 = source local://context includepattern=["src"] sharedkeyhint="a b"  ; Buildfile:2
    v2 = file   copy v1.0:/src -> v0.0:/src parents mode=0644 owner=app@v0.0:5; mkfile a0:/m 0600 "x\n"  ; Buildfile:2
    v3 = exec   [sh -c "make all"] root=v2.0 /c=cache(id locked) /ctx=v1.0:/sub,ro /out=scratch,out=1 /t=tmpfs(5) /run/s=secret(s? 0:0 0400) cwd=/src network=none platform=linux/arm64 no-cache  ; Buildfile:3
    root = v3.1
    "#);
    assert!(exec.mount("/c").is_none());
}

mod random {
    use proptest::prelude::*;

    use super::*;

    /// Makes a node of kind `kind` from two of the states before it.
    fn node(kind: u8, number: u32, one: &State, two: &State, text: &str) -> State {
        let dest = format!("/{text}");
        let user = |name: &str| Some(crate::UserSpec::Name { name: name.to_owned(), input: None });
        let owner = Some(crate::Owner { user: user(text), group: Some(crate::UserSpec::Id(number)) });
        match kind {
            0 => State::source(
                format!("local://{text}"),
                BTreeMap::from([(text.to_owned(), String::new())]),
                None,
                NodeMeta::default(),
            ),
            1 => image(text),
            2 => {
                let options = MountOptions {
                    readonly: number.is_multiple_of(2),
                    selector: text.to_owned(),
                    ..Default::default()
                };
                ExecBuilder::new(one, ExecMeta { env: vec![text.to_owned()], ..meta_of(&["x", text]) })
                    .mount(format!("/m{text}"), two, options)
                    .cache(format!("/c{text}"), one, text, crate::CacheSharing::Private)
                    .ssh("", SshMount { mode: number, ..SshMount::default() })
                    .finish(Some(&amd64()), NodeMeta::named(text))
                    .root()
            }
            3 => {
                let copy = CopyAction {
                    src: dest.clone(),
                    dest: dest.clone(),
                    owner: owner.clone(),
                    mode: crate::CopyMode::Bits(number & 0o7777),
                    timestamp: Some(i64::from(number)),
                    exclude_patterns: vec![String::new(), text.to_owned()],
                    ..CopyAction::default()
                };
                let mkfile = MkfileAction {
                    path: dest,
                    data: text.to_owned().into(),
                    owner,
                    ..MkfileAction::default()
                };
                one.files().mkfile(mkfile).copy(two, copy).finish(NodeMeta::default())
            }
            4 => State::merge(vec![one.clone(), two.clone()], None, NodeMeta::default()),
            _ => State::diff(one, two, None, NodeMeta::default()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_built_is_what_is_read(
            steps in proptest::collection::vec(
                (0..6_u8, any::<u32>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[a-zü .]{0,4}"),
                1..25,
            ),
        ) {
            let mut states = vec![State::scratch()];
            for (kind, number, one, two, text) in &steps {
                let (one, two) = (one.get(&states), two.get(&states));
                states.push(node(*kind, *number, one, two, text));
            }
            let top = State::merge(states.clone(), None, NodeMeta::default());
            let definition = top.marshal(&SourceMap::default()).unwrap();
            let again = Definition::from_bytes(&definition.to_bytes()).unwrap();
            prop_assert_eq!(&again, &definition);
            let graph = definition.graph().unwrap();
            prop_assert_eq!(graph.root(), top.digest().unwrap());
            for vertex in graph.vertices() {
                prop_assert_eq!(&vertex.encode(), &vertex.bytes);
            }
            for edge in states.iter().filter_map(|state| state.digest().unwrap()) {
                prop_assert!(top.is_scratch() || graph.get(&edge.vertex).is_some());
            }
            prop_assert_eq!(dump(&graph).lines().filter(|line| line.starts_with('v')).count(), graph.len());
        }
    }
}
