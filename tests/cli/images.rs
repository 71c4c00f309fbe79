//! Images: listed, looked into, saved, read by other programs, forgotten.

use std::process::Command;

use crate::env::{TestEnv, copy_tree, hello};

fn built() -> TestEnv {
    let env = TestEnv::new();
    copy_tree(&hello(), &env.project());
    env.rb(["+image"]).expect(0);
    env
}

fn tool(name: &str) -> bool {
    let there = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .output()
        .is_ok_and(|out| out.status.success());
    if !there {
        eprintln!("stepping aside: there is no {name}");
    }
    there
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let env = built();
    assert!(env.rb(["image", "ls"]).expect(0).stdout.contains("hello:latest"));
    let details = env.rb(["image", "inspect", "hello"]).expect(0).stdout;
    assert!(
        serde_json::from_str::<serde_json::Value>(&details).is_ok() && details.contains("/hello"),
        "{details}"
    );
    env.rb(["image", "inspect", "helo"]).expect(2).says("hello");
    env.rb(["image", "rm", "hello"]).expect(0);
    env.rb(["image", "rm", "hello"]).expect(2);
    assert!(!env.rb(["image", "ls"]).expect(0).stdout.contains("hello:latest"));
}

#[test]
fn an_image_shows_when_it_was_made_and_is_saved_where_a_folder_is() {
    let env = TestEnv::new();
    env.write("one", "1\n")
        .write("Buildfile", "VERSION 1\nimage:\n    FROM scratch\n    COPY one /one\n    SAVE IMAGE app\n");
    env.rb_with(&[("SOURCE_DATE_EPOCH", "1700000000")], ["+image"]).expect(0);
    env.rb(["image", "tag", "app", "later"]).expect(0);
    let listed = env.rb(["image", "ls"]).expect(0).stdout;
    assert_eq!(listed.matches("2023-11-14 22:13:20").count(), 2, "{listed}");
    for format in ["oci-archive", "oci-dir", "docker-archive"] {
        let run = env.rb(["image", "save", "app", "--format", format, "-o", "missing/folder/x"]).expect(2);
        run.says("its folder does not exist").says("mkdir -p");
        assert!(!env.has("missing"));
    }
    env.rb(["image", "copy", "app", "oci-archive:missing/x.tar"]).expect(2).says("its folder does not exist");
    env.rb(["image", "save", "app", "-o", "x.tar"]).expect(0);
}

#[test]
fn skopeo_and_umoci_accept_what_is_saved() {
    if !tool("skopeo") || !tool("umoci") {
        return;
    }
    let env = built();
    env.rb(["image", "save", "hello", "-o", "hello.tar"]).expect(0);
    env.rb(["image", "save", "hello", "--format", "oci-dir", "-o", "layout"]).expect(0);
    let check = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(env.project()).output().expect("starts");
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check("skopeo", &["inspect", "oci-archive:hello.tar"]).contains("\"Layers\""));
    assert!(check("skopeo", &["inspect", "docker-archive:hello.tar"]).contains("\"Layers\""));
    check("skopeo", &["copy", "oci-archive:hello.tar", "oci:copied:latest"]);
    check("umoci", &["unpack", "--rootless", "--image", "layout:latest", "bundle"]);
    let unpacked = std::fs::read(env.project().join("bundle/rootfs/hello")).expect("umoci unpacked hello");
    let output = env.rb(["run", "hello"]).expect(0).stdout;
    let text = output.trim_end();
    assert!(unpacked.windows(text.len()).any(|window| window == text.as_bytes()));
}

#[test]
fn outputs_of_a_build_are_written_where_asked() {
    let env = built();
    env.rb(["-o", "type=oci,dest=i.tar", "+image"]).expect(0);
    env.rb(["-o", "type=oci,tar=false,dest=i", "+image"]).expect(0);
    env.rb(["-o", "type=tar,dest=files.tar", "+image"]).expect(0);
    env.rb(["-o", "type=local,dest=files", "+image"]).expect(0);
    assert!(env.project().join("i/index.json").exists() && env.project().join("i.tar").exists());
    assert!(env.project().join("files.tar").exists() && env.project().join("files/hello").exists());
    // As with Docker's exporter: what is there already stays.
    env.rb(["-o", ".", "+image"]).expect(0);
    assert!(env.project().join("Buildfile").exists() && env.project().join("hello").exists());
}
