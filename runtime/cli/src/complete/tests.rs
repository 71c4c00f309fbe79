//! What words become, in a tree of files.

use std::fs;

use super::*;
use crate::environment::tests::environment;

const TEXT: &str = "\
VERSION 1
# REGISTRY is where images go.
ARG --global REGISTRY=example.org

# image puts the program into an image of its own.
image:
    # TAG names the version.
    ARG TAG=latest
    ARG --required MODE: enum(debug, release)
    ARG FAST: bool=true
    ARG FILE: path=./x
    FROM scratch
    # app is the program.
    SAVE ARTIFACT out/app app AS LOCAL bin/
    SAVE ARTIFACT $MODE/* other
    SAVE IMAGE $REGISTRY/app:$TAG

test:
    FROM scratch

# COMPILE runs the compiler.
COMPILE:
    FUNCTION
    ARG FLAGS
";

/// A workspace with build files in `.`, `svc/api` and `svc/web/deep`, and a folder without any.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (file, text) in [
        ("Buildfile", TEXT),
        ("rb.toml", ""),
        ("svc/api/Buildfile", "VERSION 1\nserve:\n    FROM scratch\nlint:\n    FROM scratch\n"),
        ("svc/web/deep/Earthfile", "VERSION 0.8\nsite:\n    FROM scratch\n"),
        ("svc/empty/README", ""),
        (".hidden/Buildfile", TEXT),
        ("broken/Buildfile", "VERSION 1\ngood:\n    FROM scratch\n    RUN \"unclosed\nodd!!:\n  IF\n"),
        ("pipe/Buildfile.txt", ""),
    ] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
        fs::write(path, text).expect("writes");
    }
    dir
}

fn at(dir: &tempfile::TempDir, below: &str) -> Environment {
    let mut environment = environment(&[("HOME", "/nonexistent")]);
    environment.cwd = dir.path().join(below);
    environment
}

fn told_in(environment: &Environment, shell: Shell, words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    match complete(environment, shell, &words) {
        Answer::Words(found) => found.into_iter().map(|found| found.word).collect::<Vec<_>>().join(" "),
        Answer::Files(before) => format!("files {before}"),
        Answer::Folders(before) => format!("folders {before}"),
    }
}

#[test]
fn targets_are_found_as_rb_finds_them() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert_eq!(told(&["+"]), "+image +test");
    assert_eq!(told(&["+im"]), "+image");
    assert_eq!(told(&["./svc/api+"]), "./svc/api+serve ./svc/api+lint");
    assert_eq!(told(&["svc/api+s"]), "svc/api+serve");
    assert_eq!(told(&["//svc/web/deep+"]), "//svc/web/deep+site");
    assert_eq!(told_in(&at(&dir, "svc/empty"), Shell::Bash, &["+te"]), "+test");
    assert_eq!(told_in(&at(&dir, "svc/empty"), Shell::Bash, &["//svc/ap"]), "//svc/api+serve //svc/api+lint");
    assert_eq!(told(&["+test", "+"]), "+image +test");
    assert_eq!(told(&["run", "+im"]), "+image");
    assert_eq!(told(&["compile", "+im"]), "+image");
    assert_eq!(told(&["doc", "+"]), "+image +test +COMPILE");
    assert_eq!(told(&["help", "+im"]), "+image");
    assert!(
        told(&[""]).starts_with("build bake run pack shell resume ls ")
            && told(&[""]).ends_with(" +image +test"),
        "{}",
        told(&[""])
    );
}

#[test]
fn stages_stand_behind_their_dockerfile() {
    let dir = tree();
    let text = "ARG MODE=fast\nFROM scratch AS build\nFROM build\n";
    fs::write(dir.path().join("svc/api/Dockerfile"), text).expect("writes");
    let told = |words: &[&str]| told_in(&at(&dir, ""), Shell::Bash, words);
    let both = "./svc/api:Dockerfile+build ./svc/api:Dockerfile+default";
    assert_eq!(told(&["./svc/api:Dockerfile+"]), both);
    assert_eq!(told(&["./svc/api:Dockerfile+b"]), "./svc/api:Dockerfile+build");
    assert!(told(&["./svc/api:Dockerfile+build", "--"]).contains("--MODE="), "no argument");
    assert_eq!(told(&["./svc/api:web.Dockerfile+"]), "");
}

#[test]
fn folders_lead_to_build_files() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert_eq!(told(&["./s"]), "./svc/");
    // A folder with targets alone is gone on with at once; one without any and without folders is left out.
    assert_eq!(told(&["./svc/a"]), "./svc/api+serve ./svc/api+lint");
    assert_eq!(told(&["./svc/"]), "./svc/api+ ./svc/web/");
    assert_eq!(told(&["./svc/web"]), "./svc/web/");
    assert_eq!(told(&["./"]), "./broken+ ./svc/ ./+image ./+test");
    assert_eq!(told(&["./.h"]), "./.hidden+image ./.hidden+test");
    assert_eq!(told_in(&environment, Shell::Fish, &["./svc/"]), "./svc/api/ ./svc/web/");
    assert_eq!(told_in(&environment, Shell::Fish, &["./svc/api/"]), "./svc/api/+serve ./svc/api/+lint");
}

#[test]
fn arguments_come_with_their_values() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert_eq!(told(&["+image", "-"]), "--MODE= --TAG= --FAST= --FILE= --REGISTRY= --help");
    assert_eq!(told(&["+image", "--TAG=1", "--T"]), "");
    assert_eq!(told(&["+image", "--MODE="]), "--MODE=debug --MODE=release");
    assert_eq!(told(&["+image", "--MODE", "r"]), "release");
    assert_eq!(told(&["+image", "--FAST=t"]), "--FAST=true");
    assert_eq!(told(&["+image", "--TAG="]), "--TAG=latest");
    assert_eq!(told(&["+image", "--FILE=./"]), "files --FILE=");
    assert_eq!(told(&["+image", "--NONE="]), "");
    assert_eq!(told(&["+test", "./svc/api+serve", "--"]), "--help");
    assert_eq!(told(&["+image", "--TAG", "a+test", "--MO"]), "--MODE=");
    assert_eq!(told(&["run", "+image", "--MO"]), "--MODE=");
    assert_eq!(told(&["run", "+image", "--MODE=debug", "--", "-"]), "files ");
    assert_eq!(told(&["run", "+image", "sh", "--"]), "files ");
    let words = vec!["+image".to_owned(), "--".to_owned()];
    let Answer::Words(found) = complete(&environment, Shell::Zsh, &words) else { panic!("words") };
    let help: Vec<&str> = found.iter().map(|found| found.help.as_str()).collect();
    assert_eq!(help[0], "enum(debug, release), required");
    assert_eq!(help[1], "names the version. (default latest)");
}

#[test]
fn artifacts_stand_behind_their_target() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert_eq!(told(&["-a", "+"]), "+image/");
    assert_eq!(told(&["-a", "+image/"]), "+image/app +image/other +image/*");
    assert_eq!(told(&["-a", "+image/app", ""]), "files ");
    assert_eq!(told(&["-a", "+image/app", "--MODE="]), "--MODE=debug --MODE=release");
}

#[test]
fn options_and_their_values_are_those_of_the_table() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert!(told(&["--no-"]).contains("--no-cache"), "{}", told(&["--no-"]));
    assert!(!told(&["--no-cache", "--no-"]).contains("--no-cache"));
    assert!(told(&["--secret", "A", "--secr"]).contains("--secret "));
    assert!(told(&["-"]).starts_with('-') && told(&["-"]).contains("-j "), "{}", told(&["-"]));
    assert_eq!(told(&["--progress=pl"]), "--progress=plain");
    assert_eq!(told(&["--pull", "+t"]), "+test");
    assert_eq!(told(&["--load=p"]), "--load=podman");
    assert_eq!(told(&["-o", "type=lo"]), "type=local");
    assert_eq!(told(&["--secret-file", "A=./"]), "files A=");
    assert_eq!(told(&["--allow-bind="]), "folders --allow-bind=");
    assert_eq!(told(&["ls", "./"]), "folders ");
    assert_eq!(told(&["run", "-v", "./"]), "files ");
    assert_eq!(told(&["run", "-v", "./a:/"]), "");
    assert_eq!(told(&["help", "env"]), "environment");
    assert_eq!(told(&["config", "network.h"]), "network.http_proxy network.https_proxy");
    assert_eq!(told(&["completion", "z"]), "zsh");
    assert_eq!(told(&["image", "pu"]), "pull push");
    assert!(
        told(&["image", "pull", "--platform="])
            .starts_with(&format!("--platform={}", rb_oci::Platform::host()))
    );
}

#[test]
fn what_is_broken_has_what_can_be_read_of_it() {
    let dir = tree();
    let environment = at(&dir, "");
    let told = |words: &[&str]| told_in(&environment, Shell::Bash, words);
    assert_eq!(told(&["./broken+g"]), "./broken+good");
    for word in ["./none+", "/dev/null+", "./none/", "\0+", "+\0", "./svc/empty+", "~nobody/+"] {
        assert_eq!(told(&[word]), "", "{word:?}");
    }
    fs::write(dir.path().join("Buildfile"), [0xff, 0xfe, 0]).expect("writes");
    assert_eq!(told(&["+"]), "");
    assert!(told(&[""]).starts_with("build bake run pack shell resume ls "));
}
