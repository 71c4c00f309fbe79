//! Every kind of archive, loaded into podman.

use std::process::Command;

use serde_json::Value;

use crate::env::{TestEnv, is_root};

/// podman with a store of its own, gone with the test's folder.
struct Podman<'a>(&'a TestEnv);

impl Podman<'_> {
    fn run(&self, words: &[&str]) -> String {
        let at = |name: &str| self.0.project().join(name).display().to_string();
        let output = Command::new("podman")
            .args(["--root", &at("podman/root"), "--runroot", &at("podman/run"), "--storage-driver", "vfs"])
            .args(words)
            .current_dir(self.0.project())
            .output()
            .expect("podman starts");
        assert!(output.status.success(), "podman {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns the files of an image as they lie on the disk.
    fn mounted(&self, image: &str) -> std::path::PathBuf {
        self.run(&["image", "mount", image]).trim().into()
    }
}

fn ready() -> bool {
    let there = Command::new("podman").arg("--version").output().is_ok_and(|done| done.status.success());
    if !there || !is_root() {
        eprintln!("stepping aside: there is no podman (Debian: podman), or this is not root");
    }
    there && is_root()
}

fn project() -> TestEnv {
    let env = TestEnv::new();
    let text = "VERSION 0.8\nimage:\n    FROM scratch\n    COPY --dir one sub /\n    LABEL a=b\n    ENV E=1\n    CMD [\"/one\"]\n    \
                SAVE IMAGE app:1\n";
    env.write("Buildfile", text).write("one", "1\n").write("sub/deep/lib", "lib\n");
    env
}

fn check(podman: &Podman<'_>, name: &str, what: &str) {
    let found: Value = serde_json::from_str(&podman.run(&["image", "inspect", name])).expect("JSON");
    assert_eq!(found[0]["Config"]["Labels"]["a"], "b", "{what}");
    assert_eq!(found[0]["Config"]["Cmd"], serde_json::json!(["/one"]), "{what}");
    let files = podman.mounted(name);
    assert_eq!(std::fs::read_to_string(files.join("one")).expect("reads"), "1\n", "{what}");
    assert_eq!(std::fs::read_to_string(files.join("sub/deep/lib")).expect("reads"), "lib\n", "{what}");
    podman.run(&["image", "unmount", name]);
}

#[test]
fn podman_loads_every_kind_of_archive() {
    if !ready() {
        return;
    }
    let env = project();
    let podman = Podman(&env);
    for kind in ["docker", "oci"] {
        for compression in ["gzip", "zstd", "uncompressed"] {
            let file = format!("{kind}-{compression}.tar");
            let name = format!("localhost/{kind}/{compression}:1");
            let output = format!("type={kind},dest={file},compression={compression},name={name}");
            env.rb(["-o", &output, "+image"]).expect(0);
            let loaded = podman.run(&["load", "--input", &file]);
            assert!(loaded.contains(&name), "{file}: {loaded}");
            check(&podman, &name, &file);
        }
    }
    env.rb(["image", "save", "app:1", "-o", "saved.tar"]).expect(0);
    assert!(podman.run(&["load", "--input", "saved.tar"]).contains("app:1"));
    check(&podman, "app:1", "saved.tar");
}

#[test]
fn images_are_handed_to_podman() {
    if !ready() {
        return;
    }
    let env = project();
    let podman = Podman(&env);
    // Its store is named by its own file of settings, as a user would.
    let at = |name: &str| env.project().join(name).display().to_string();
    let settings = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        at("podman/root"),
        at("podman/run")
    );
    env.write("storage.conf", settings);
    let variables = [("CONTAINERS_STORAGE_CONF", at("storage.conf"))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(0).says("loaded into podman");
    check(&podman, "app:1", "--load");
    let other = if rb_oci::Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let both = format!("{},linux/{other}", rb_oci::Platform::host());
    let run = env.rb_with(&variables, ["--platform", &both, "--load=podman", "+image"]).expect(0);
    run.says("alone is loaded").says("loaded into podman");
    check(&podman, "app:1", "--load of an index");
}
