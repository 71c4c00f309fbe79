//! Every kind of archive, loaded into podman; and images handed to it, of which it reads what it lacks.

use std::process::Command;

use serde_json::Value;

use crate::env::{TestEnv, is_root};
use crate::push::noise;

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

pub(crate) const LARGE: usize = 2 << 20;

/// A project whose image has a large layer below a small one.
pub(crate) fn two_layers() -> TestEnv {
    let env = TestEnv::new();
    let text = "VERSION 1\nlower:\n    FROM scratch\n    COPY large /large\nimage:\n    FROM +lower\n    COPY small /small\n    \
                SAVE IMAGE app:1\n";
    env.write("Buildfile", text).write("large", noise(5, LARGE)).write("small", "1\n");
    env
}

/// Overwrites the largest blob of the state directory.
pub(crate) fn spoil_largest_blob(env: &TestEnv) {
    let blobs = std::fs::read_dir(env.state().join("blobs/sha256")).expect("lists");
    let sized = blobs
        .map(|blob| blob.expect("lists"))
        .map(|blob| (blob.metadata().expect("stats").len(), blob.path()));
    let (size, path) = sized.max().expect("has one");
    assert!(size >= LARGE as u64, "{size}");
    std::fs::write(path, vec![b'x'; usize::try_from(size).expect("fits")]).expect("writes");
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

/// Writes a file of settings that names this store, as a user would, and returns its path.
fn store_settings(env: &TestEnv) -> String {
    let at = |name: &str| env.project().join(name).display().to_string();
    let settings = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        at("podman/root"),
        at("podman/run")
    );
    env.write("storage.conf", settings);
    at("storage.conf")
}

#[test]
fn images_are_handed_to_podman() {
    if !ready() {
        return;
    }
    let env = project();
    let podman = Podman(&env);
    let settings = store_settings(&env);
    let variables = [("CONTAINERS_STORAGE_CONF", settings.as_str())];
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(0).says("loaded into podman");
    check(&podman, "app:1", "--load");
    // By its name alone, as podman writes it whichever way an image comes.
    let names = podman.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names, "localhost/app:1\n");
    let other = if rb_oci::Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let both = format!("{},linux/{other}", rb_oci::Platform::host());
    let run = env.rb_with(&variables, ["--platform", &both, "--load=podman", "+image"]).expect(0);
    run.says("alone is loaded").says("loaded into podman");
    check(&podman, "app:1", "--load of an index");
}

#[test]
fn podman_reads_no_layer_that_it_has() {
    if !ready() {
        return;
    }
    let env = two_layers();
    let podman = Podman(&env);
    let settings = store_settings(&env);
    let variables = [("CONTAINERS_STORAGE_CONF", settings.as_str())];
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(0);
    env.write("small", "2\n");
    spoil_largest_blob(&env);
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(0).says("loaded into podman");
    let files = podman.mounted("app:1");
    assert_eq!(std::fs::read_to_string(files.join("small")).expect("reads"), "2\n");
    assert!(std::fs::read(files.join("large")).expect("reads") == noise(5, LARGE));
    podman.run(&["image", "unmount", "app:1"]);
    // It would have noticed.
    podman.run(&["rmi", "--all", "--force"]);
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(3).says("damaged");
}

#[test]
fn a_podman_that_reads_no_layout_is_given_an_archive() {
    if !ready() {
        return;
    }
    let env = project();
    let podman = Podman(&env);
    let settings = store_settings(&env);
    env.write("bin/podman", "#!/bin/sh\n[ \"$1\" = pull ] && exit 125\nexec /usr/bin/podman \"$@\"\n");
    let program = env.project().join("bin/podman");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("modes");
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", env.project().join("bin").display());
    let variables = [("CONTAINERS_STORAGE_CONF", settings.as_str()), ("PATH", &path)];
    env.rb_with(&variables, ["--load=podman", "+image"]).expect(0).says("loaded into podman");
    check(&podman, "app:1", "an archive");
    let names = podman.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names, "localhost/app:1\n");
}
