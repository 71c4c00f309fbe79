use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::spec::{Bind, ExtraMount, Hook, Moment, RootMount};

const GPU: &str = r#"{
    "cdiVersion": "0.6.0", "kind": "vendor.example/gpu",
    "annotations": {"org.mobyproject.buildkit.device.class": "gpus"},
    "containerEdits": {"env": ["GPUS=all"], "mounts": [
        {"hostPath": "/usr", "containerPath": "/opt/vendor", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}]},
    "devices": [
        {"name": "0", "containerEdits": {"env": ["GPU=0"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            "additionalGids": [44, 0]}},
        {"name": "1", "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"},
            "containerEdits": {"deviceNodes": [{"path": "/dev/gpu1", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5,
                "permissions": "rw"}]}}
    ]
}"#;

const FPGA: &str = "
cdiVersion: 1.0.0
kind: vendor.example/fpga
devices:
  - name: card:a
    containerEdits:
      deviceNodes:
        - path: /dev/full
";

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn spec() -> Spec {
    Spec::new(RootMount::directory("/"), vec!["x".to_owned()])
}

/// Describes one device with these edits and gives it.
fn given(edits: &str) -> Result<Spec, CdiError> {
    give(edits, spec())
}

fn give(edits: &str, mut spec: Spec) -> Result<Spec, CdiError> {
    let folder = folder();
    let text = format!(
        r#"{{"cdiVersion": "0.5.0", "kind": "v/c", "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
    );
    write(folder.path(), "d.json", &text);
    let devices = Devices::load(&[folder.path()]);
    let found = devices.find_required("v/c=d")?;
    devices.give(&found, &mut spec)?;
    Ok(spec)
}

#[test]
fn names_mean_what_they_mean_in_buildkit() {
    let folder = folder();
    write(folder.path(), "gpu.json", GPU);
    write(folder.path(), "fpga.yaml", FPGA);
    write(folder.path(), "notes.txt", "not a description");
    let devices = Devices::load(&[folder.path()]);
    let found = |name: &str| devices.find(name).join(" ");
    assert_eq!(found("vendor.example/gpu=1"), "vendor.example/gpu=1");
    assert_eq!(found("vendor.example/gpu"), "vendor.example/gpu=0");
    assert_eq!(found("vendor.example/gpu=*"), "vendor.example/gpu=0 vendor.example/gpu=1");
    assert_eq!(found("gpus"), "vendor.example/gpu=0 vendor.example/gpu=1");
    assert_eq!(found("vendor.example/fpga=card:a"), "vendor.example/fpga=card:a");
    for nothing in
        ["", "=", "=*", "/", "gpu", "vendor.example/gp", "vendor.example/gpu=2", "vendor.example/tpu=*"]
    {
        assert_eq!(found(nothing), "", "{nothing}");
    }
    assert!(devices.is_for_everybody("vendor.example/gpu=1"));
    assert!(!devices.is_for_everybody("vendor.example/gpu=0"));
    let error = devices.find_required("vendor.example/gpu=2").unwrap_err();
    assert!(error.help().contains("`vendor.example/gpu=0`"), "{}", error.help());
}

#[test]
fn what_a_device_gives_is_given_once() {
    let folder = folder();
    write(folder.path(), "gpu.json", GPU);
    let devices = Devices::load(&[folder.path()]);
    let mut spec = spec();
    spec.env = vec!["GPU=9".to_owned(), "A=b".to_owned()];
    devices.give(&devices.find("vendor.example/gpu=*"), &mut spec).unwrap();
    assert_eq!(spec.env, ["A=b", "GPUS=all", "GPU=0"]);
    assert_eq!(spec.groups, [44]);
    let shown = |mount: &ExtraMount| match mount {
        ExtraMount::Bind(Bind { source, target, readonly, recursive, nosuid, noexec }) => format!(
            "{} {target}{}{}{}{}",
            source.display(),
            if *readonly { " ro" } else { "" },
            if *recursive { " recursive" } else { "" },
            if *nosuid { " nosuid" } else { "" },
            if *noexec { " noexec" } else { "" },
        ),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        spec.mounts.iter().map(shown).collect::<Vec<_>>(),
        [
            "/usr /opt/vendor ro recursive nosuid",
            "/dev/null /dev/gpu0 nosuid noexec",
            "/dev/zero /dev/gpu1 nosuid noexec"
        ]
    );
}

#[test]
fn a_later_folder_wins_and_two_files_of_one_are_told() {
    let (first, second) = (folder(), folder());
    let one = |node: &str| {
        format!(
            r#"{{"cdiVersion": "0.3.0", "kind": "v/c", "devices":
                [{{"name": "d", "containerEdits": {{"deviceNodes": [{{"path": "{node}"}}]}}}}]}}"#
        )
    };
    write(first.path(), "a.json", &one("/dev/null"));
    write(first.path(), "b.json", &one("/dev/zero"));
    let devices = Devices::load(&[first.path()]);
    let error = devices.give(&devices.find("v/c=d"), &mut spec()).unwrap_err();
    assert!(matches!(&error, CdiError::Twice { rival, .. } if rival.ends_with("b.json")), "{error}");
    write(second.path(), "c.json", &one("/dev/full"));
    let devices = Devices::load(&[first.path(), second.path(), Path::new("/nowhere/at/all")]);
    let mut spec = spec();
    devices.give(&devices.find("v/c=d"), &mut spec).unwrap();
    assert!(matches!(&spec.mounts[..], [ExtraMount::Bind(bind)] if bind.source == Path::new("/dev/full")));
}

#[test]
fn what_cannot_be_given_is_refused_by_its_name() {
    for (edits, said) in [
        (
            r#"{"netDevices": [{"hostInterfaceName": "eth9", "name": "eth0"}]}"#,
            "the network interface `eth9`",
        ),
        (r#"{"intelRdt": {"closID": "x"}}"#, "intelRdt"),
        (
            r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "tmpfs"}]}"#,
            "a mount of type `tmpfs`",
        ),
        (
            r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["idmap"]}]}"#,
            "the option `idmap`",
        ),
        (
            r#"{"deviceNodes": [{"path": "/dev/null", "permissions": "r"}]}"#,
            "the permissions `r` for /dev/null",
        ),
        (r#"{"deviceNodes": [{"path": "/dev/null", "fileMode": 256}]}"#, "the mode 400 for /dev/null"),
        (r#"{"deviceNodes": [{"path": "/dev/null", "uid": 77}]}"#, "another owner for /dev/null"),
    ] {
        let error = given(edits).unwrap_err();
        assert!(matches!(error, CdiError::Unsupported { .. }), "{edits}: {error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn hooks_are_for_another_runtime() {
    let edits = r#"{"hooks": [
        {"hookName": "createContainer", "path": "/usr/bin/x", "args": ["x", "y"], "env": ["A=b"], "timeout": 5},
        {"hookName": "prestart", "path": "/usr/bin/z"}]}"#;
    let error = given(edits).unwrap_err();
    assert!(matches!(error, CdiError::Hook { .. }) && error.help().contains("--runtime=runc"), "{error}");
    assert!(
        error.to_string().contains("the hook `createContainer`, which runs /usr/bin/x on this machine"),
        "{error}"
    );
    let with_runtime = Spec { runtime: Some(crate::Runtime::named("runc", "/")), ..spec() };
    let given = give(edits, with_runtime).unwrap().hooks;
    let hook = |moment, path: &str, timeout_seconds| Hook {
        moment,
        path: path.into(),
        args: Vec::new(),
        env: Vec::new(),
        timeout_seconds,
    };
    let (args, env) = (["x", "y"].map(ToOwned::to_owned).to_vec(), vec!["A=b".to_owned()]);
    let first = Hook { args, env, ..hook(Moment::CreateContainer, "/usr/bin/x", Some(5)) };
    assert_eq!(given, [first, hook(Moment::Prestart, "/usr/bin/z", None)]);
    // What is no hook is no description.
    for wrong in [r#""hookName": "createcontainer", "path": "/x""#, r#""hookName": "poststop", "path": "x""#]
    {
        let error = self::given(&format!(r#"{{"hooks": [{{{wrong}}}]}}"#)).unwrap_err();
        assert!(matches!(&error, CdiError::Unknown { help, .. } if help.contains("is not read")), "{error}");
    }
}

#[test]
fn a_node_is_the_one_described() {
    for (edits, said) in [
        (r#"{"deviceNodes": [{"path": "/dev/null", "type": "b"}]}"#, "it is c 1:3 and described as b 0:0"),
        (r#"{"deviceNodes": [{"path": "/dev/null", "major": 1, "minor": 5}]}"#, "described as c 1:5"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/nowhere/x"}]}"#, "No such file"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/usr"}]}"#, "it is not a device"),
        // A link may lead anywhere by the time it is opened.
        (r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/proc/self/exe"}]}"#, "it is not a device"),
    ] {
        let error = given(edits).unwrap_err();
        assert!(matches!(error, CdiError::Node { .. }), "{edits}: {error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(
        given(r#"{"deviceNodes": [{"path": "/dev/null", "type": "u", "major": 1, "minor": 3}]}"#).is_ok()
    );
}

#[test]
fn a_broken_description_says_what_is_wrong() {
    let whole = |kind: &str, devices: &str| {
        format!(r#"{{"cdiVersion": "0.5.0", "kind": "{kind}", "devices": {devices}}}"#)
    };
    let one = |name: &str, edits: &str| format!(r#"[{{"name": "{name}", "containerEdits": {edits}}}]"#);
    let fine = r#"{"env": ["A=b"]}"#;
    for (text, said) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "invalid"),
        (whole("v/c", "[]"), "it describes no device"),
        (whole("vc", &one("d", fine)), "the kind `vc`"),
        (whole("v/", &one("d", fine)), "the kind `v/`"),
        (whole("1v/c", &one("d", fine)), "the kind `1v/c`"),
        (whole("v/c", &one("-d", fine)), "`-d` cannot be the name"),
        (whole("v/c", &one("d", "{}")), "the device `d` gives nothing"),
        (whole("v/c", &one("d", r#"{"env": ["=b"]}"#)), "`=b` sets no variable"),
        (
            whole("v/c", &one("d", r#"{"deviceNodes": [{"path": "dev/x"}]}"#)),
            "`dev/x` is not an absolute path",
        ),
        (whole("v/c", &one("d", r#"{"deviceNodes": [{"path": "/dev/../x"}]}"#)), "is not an absolute path"),
        (
            whole("v/c", &one("d", r#"{"deviceNodes": [{"path": "/dev/x", "type": "q"}]}"#)),
            "`q` is not a type",
        ),
        (whole("v/c", &one("d", r#"{"mounts": [{"hostPath": "/", "containerPath": "/x"}]}"#)), "`/` is not"),
        (whole("v/c", &one("d", r#"{"surprise": 1}"#)), "unknown field `surprise`"),
        (whole("v/c", &one("d", fine)).replace("0.5.0", "2.0.0"), "the version `2.0.0`"),
        (
            whole(
                "v/c",
                r#"[{"name": "d", "containerEdits": {"env": ["A=b"]}}, {"name": "d", "containerEdits": {"env": ["A=b"]}}]"#,
            ),
            "twice",
        ),
    ] {
        let folder = folder();
        let file = write(folder.path(), "d.json", &text);
        let error = Devices::load(&[folder.path()]).find_required("v/c=d").unwrap_err();
        let help = error.help();
        assert!(help.contains(said) && help.contains(&file.display().to_string()), "{text}: {help}");
    }
}

#[test]
fn neither_size_nor_kind_of_a_file_keeps_a_build_waiting() {
    let folder = folder();
    let long = format!("{}{GPU}", " ".repeat(1 << 20));
    write(folder.path(), "long.json", &long);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    // Each line is eight of the line before.
    let mut bomb = "cdiVersion: 1.0.0\nkind: &a0 [x]\n".to_owned();
    for depth in 1..40 {
        let before = format!("*a{}", depth - 1);
        bomb.push_str(&format!("a{depth}: &a{depth} [{}]\n", vec![before; 8].join(", ")));
    }
    write(folder.path(), "bomb.yaml", &bomb);
    let devices = Devices::load(&[folder.path()]);
    assert!(devices.find("vendor.example/gpu=0").is_empty());
    let help = devices.what_there_is();
    for said in ["longer than 1 MiB", "it is not a file", "bomb.yaml"] {
        assert!(help.contains(said), "{help}");
    }
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), json: bool) {
        let name = if json { "x.json" } else { "x.yaml" };
        drop(file::read(Path::new(name), &bytes));
    }

    #[test]
    fn a_name_that_is_found_is_one_of_a_device(name in "[a-z./=*:]{0,12}") {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "gpu.json", GPU);
        let devices = Devices::load(&[folder.path()]);
        for found in devices.find(&name) {
            prop_assert!(devices.known.contains_key(&found));
        }
    }
}
