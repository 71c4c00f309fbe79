//! What becomes of an image: names, files that tell of it, archives, registries, platforms, one layer.

use serde_json::Value;

use super::{build, config, project};
use crate::env::TestEnv;
use crate::push::{Place, skopeo};
use crate::registry::support::docker_registry::Wants;

fn scratch() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nENV A=1 B=2\nCOPY one two /\nCMD [\"/one\"]\n",
    );
    env.write("one", "1").write("two", "2").write(".dockerignore", "*\n!one\n!two\n");
    env
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn files_tell_what_was_made() {
    let env = scratch();
    env.rb(["build", "-t", "a:1", "--iidfile", "id", "--metadata-file", "meta.json", "."]).expect(0);
    let meta = json(&env.read("meta.json"));
    assert_eq!(meta["image.name"], "a:1");
    assert_eq!(meta["containerimage.config.digest"].as_str(), Some(env.read("id").as_str()));
    let quiet = env.rb(["build", "-q", "."]).expect(0).stdout;
    assert_eq!(meta["containerimage.digest"].as_str(), Some(quiet.trim()));
    let config = config(&env, "a:1");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/one"]));
    assert!(config["history"].as_array().is_some_and(|history| history.len() == 5), "{config}");
}

#[test]
fn no_file_tells_of_an_image_that_is_not_made() {
    let env = scratch();
    for output in ["out", "type=tar,dest=out"] {
        env.rb(["build", "--iidfile", "id", "-o", output, "."])
            .expect(2)
            .says("--iidfile: the build makes no image");
        assert!(!env.has("out") && !env.has("id"));
    }
    env.rb(["build", "--iidfile", "id", "-o", "out", "-o", "type=image,name=a", "."]).expect(0);
    assert!(env.read("id").starts_with("sha256:"));
}

#[test]
fn a_tar_has_a_folder_for_each_of_several_platforms() {
    let env = scratch();
    let names = |words: &[&str]| -> Vec<String> {
        let words = [&["build"], words, &["."]].concat();
        env.rb(words).expect(0);
        let mut tar = tar::Archive::new(std::fs::File::open(env.project().join("x.tar")).expect("is there"));
        let entries = tar.entries().expect("is a tar");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("is whole").path().expect("a path").display().to_string())
            .collect();
        names.sort();
        names
    };
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let split = [
        "linux_amd64/",
        "linux_amd64/one",
        "linux_amd64/two",
        "linux_arm64/",
        "linux_arm64/one",
        "linux_arm64/two",
    ];
    assert_eq!(names(&[&both[..], &["-o", "type=tar,dest=x.tar"]].concat()), split);
    assert_eq!(names(&["-o", "type=tar,dest=x.tar"]), ["one", "two"]);
    let one = ["--platform", "linux/arm64", "-o", "type=tar,dest=x.tar,platform-split=true"];
    assert_eq!(names(&one), ["linux_arm64/", "linux_arm64/one", "linux_arm64/two"]);
    let words = [&["build"], &both[..], &["-o", "type=tar,dest=x.tar,platform-split=false", "."]].concat();
    env.rb(words).expect(2).says("one platform");
}

#[test]
fn lines_of_the_history_have_the_layers_of_their_own_steps() {
    let Some(env) = project() else { return };
    let text = |base: &str, steps: &str| format!("FROM {base}\nWORKDIR /a\nRUN true\n{steps}");
    let layers = |image: &str| -> Vec<(String, bool)> {
        let config = config(&env, image);
        let lines = config["history"].as_array().expect("a history").clone();
        let text = |line: &Value| line["created_by"].as_str().unwrap_or_default().to_owned();
        let has_layer = |line: &Value| !line["empty_layer"].as_bool().unwrap_or_default();
        let told: Vec<_> = lines.iter().map(|line| (text(line), has_layer(line))).collect();
        let count = config["rootfs"]["diff_ids"].as_array().expect("layers").len();
        assert_eq!(told.iter().filter(|(_, has_layer)| *has_layer).count(), count, "{told:?}");
        told
    };
    let of = |told: &[(String, bool)]| told.iter().map(|(_, has_layer)| *has_layer).collect::<Vec<_>>();
    env.write("Dockerfile", text("base", "RUN echo x > /x\nENV A=1\nWORKDIR /a\nCOPY x /y\nRUN true\n"));
    env.write("x", "x");
    let mut known = Vec::new();
    for words in [&[][..], &[], &["--no-cache"]] {
        build(&env, &[words, &["-t", "a", "."]].concat()).expect(0);
        let told = layers("a");
        // First the layer of the base, which says nothing of it.
        assert_eq!(of(&told), [true, true, false, true, false, false, true, false], "{told:?}");
        known.push(told);
    }
    assert!(known.iter().all(|told| *told == known[0]), "found or made, it is the same: {known:?}");
    // On that image, which tells all.
    env.write("Dockerfile", text("a", "RUN touch /z\n"));
    for _ in 0..2 {
        env.rb(["build", "-t", "b", "."]).expect(0);
        let told = layers("b");
        assert_eq!(of(&told[8..]), [false, false, true], "{told:?}");
        assert_eq!(told[..8], known[0], "the base's stay");
    }
}

#[test]
fn what_is_unset_is_not_in_the_image() {
    let env = scratch();
    env.rb(["build", "-t", "a", "--unsetenv", "A", "--unsetlabel", "for", "--label", "more=1", "."])
        .expect(0);
    let config = config(&env, "a");
    let text = config["config"].to_string();
    assert!(
        text.contains("B=2") && text.contains("more") && !text.contains("A=1") && !text.contains("for"),
        "{text}"
    );
}

#[test]
fn times_are_as_late_as_they_may_be() {
    let env = scratch();
    for words in [["--timestamp", "1000"], ["--build-arg", "SOURCE_DATE_EPOCH=1000"]] {
        env.rb(["build", "-t", "a", words[0], words[1], "."]).expect(0);
        assert_eq!(config(&env, "a")["created"], "1970-01-01T00:16:40Z", "{words:?}");
    }
}

#[test]
fn layers_become_one() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN echo 1 > /a\nRUN rm /a && echo 2 > /b\nCMD cat /b\n");
    build(&env, &["--squash", "-t", "one", "app"]).expect(0);
    assert_eq!(config(&env, "one")["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(1));
    assert_eq!(env.rb(["run", "one"]).expect(0).stdout, "2\n");
}

#[test]
fn platforms_make_an_index_and_what_does_not_depend_on_them_runs_once() {
    let env = scratch();
    let run = env.rb(["build", "--platform", "linux/amd64,linux/arm64", "-t", "multi", "."]).expect(0);
    assert!(run.stderr.contains("(linux/amd64, linux/arm64)"), "{}", run.stderr);
    let Some(env) = project() else { return };
    env.write(
        "app/Dockerfile",
        "FROM --platform=$BUILDPLATFORM base AS gen\nRUN echo once > /gen\nFROM scratch\nARG TARGETARCH\nCOPY --from=gen /gen /gen-$TARGETARCH\n",
    );
    let words = ["--platform=linux/amd64", "--platform=linux/arm64", "-o", "out", "app"];
    build(&env, &words).expect(0).says("3 steps run");
    assert_eq!(env.read("out/linux_arm64/gen-arm64"), "once\n");
}

#[test]
fn a_platform_is_one_word_or_the_one_of_the_environment() {
    let env = scratch();
    let architecture = |name: &str| config(&env, name)["architecture"].as_str().map(ToOwned::to_owned);
    env.rb(["build", "--platform", "riscv64", "-t", "word", "."]).expect(0);
    assert_eq!(architecture("word").as_deref(), Some("riscv64"));
    let of = |text| [("DOCKER_DEFAULT_PLATFORM", text)];
    env.rb_with(&of("linux/riscv64"), ["build", "-t", "default", "."]).expect(0);
    env.rb_with(&of("linux/riscv64"), ["build", "--platform", "s390x", "-t", "typed", "."]).expect(0);
    assert_eq!(architecture("default").as_deref(), Some("riscv64"));
    assert_eq!(architecture("typed").as_deref(), Some("s390x"));
    env.rb_with(&of("a/b/c/d"), ["build", "."]).expect(2).says("DOCKER_DEFAULT_PLATFORM=a/b/c/d");
}

#[test]
fn an_image_needs_no_name_unless_it_is_pushed() {
    let env = scratch();
    env.rb(["build", "-o", "type=image,compression=zstd", "."]).expect(0);
    env.rb(["build", "-o", "type=image,push=true", "."]).expect(2).says("name");
}

#[test]
fn annotations_are_of_one_platform_or_of_several_things() {
    let env = scratch();
    let words = [
        "--annotation",
        "manifest[linux/arm64]:of=arm",
        "--annotation",
        "index,manifest:all=yes",
        "-o",
        "type=oci,dest=out,tar=false,annotation[linux/amd64].of=amd",
        "--platform=linux/amd64,linux/arm64",
    ];
    env.rb([&["build"], &words[..], &["."]].concat()).expect(0);
    let blob = |descriptor: &Value| {
        let digest =
            descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("one");
        json(&env.read(&format!("out/blobs/sha256/{digest}")))
    };
    let index = blob(&json(&env.read("out/index.json"))["manifests"][0]);
    assert_eq!(index["annotations"], serde_json::json!({"all": "yes"}));
    let said: Vec<Value> = index["manifests"]
        .as_array()
        .expect("some")
        .iter()
        .map(|one| blob(one)["annotations"].clone())
        .collect();
    assert_eq!(
        said,
        [serde_json::json!({"all": "yes", "of": "amd"}), serde_json::json!({"all": "yes", "of": "arm"})]
    );
    let other = ["build", "--annotation", "manifest[linux/s390x]:of=none", "-o", "type=oci,dest=o.tar", "."];
    env.rb(other).expect(2).says("--annotation manifest[linux/s390x]");
    env.rb(["build", "--annotation", "index[linux/amd64]:a=b", "."]).expect(2).says("manifest[OS/ARCH]:");
}

#[test]
fn one_platform_is_written_as_several_where_an_argument_says_so() {
    let env = scratch();
    let build = |value: &str, output: &str| {
        let arg = format!("BUILDKIT_MULTI_PLATFORM={value}");
        env.rb(["build", "--platform=linux/arm64", "--build-arg", &arg, "-o", output, "."])
    };
    build("1", "type=oci,dest=out,tar=false").expect(0);
    let index = json(&env.read("out/index.json"));
    assert!(
        index["manifests"][0]["mediaType"].as_str().is_some_and(|kind| kind.contains("index")),
        "{index}"
    );
    build("true", "files").expect(0);
    assert_eq!(env.read("files/linux_arm64/one"), "1");
    build("0", "plain").expect(0);
    assert_eq!(env.read("plain/one"), "1");
    build("maybe", "other").expect(2).says("BUILDKIT_MULTI_PLATFORM=maybe");
}

#[test]
fn an_archive_has_the_names_of_t() {
    let env = scratch();
    env.rb(["build", "-t", "a:1", "-o", "type=oci,dest=a.tar", "."]).expect(0);
    let loaded = env.rb(["image", "load", "-i", "a.tar"]).expect(0);
    assert!(loaded.stdout.contains("a:1"), "{loaded:?}");
    env.rb(["build", "-t", "A:1", "."]).expect(2).says("A:1");
}

#[test]
fn without_docker_loading_is_told() {
    let env = scratch();
    let none = [("DOCKER_HOST", "tcp://127.0.0.1:1")];
    env.rb_with(&none, ["build", "--load", "-t", "a", "."]).expect(0).says("image store of rb");
    env.rb(["image", "inspect", "a"]).expect(0);
}

#[test]
fn an_image_is_pushed_under_its_names() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let env = &place.env;
    env.write("Dockerfile", "FROM scratch\nCOPY data /\n");
    let name = place.name("me/app:1");
    env.rb(["build", "--push", "."]).expect(2).says("no name");
    env.rb(["build", "-t", &name, "--push", "."]).expect(0).says("pushed");
    let Some(told) = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]) else { return };
    assert_eq!(json(&told)["Layers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_metadata_file_has_what_buildx_writes() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nfrom scratch\nCOPY --from=0 Dockerfile /\n");
    let told = |variables: &[(&str, &str)], words: &[&str]| -> serde_json::Value {
        let all = ["build", "--metadata-file", "meta.json", "-t", "app"];
        env.rb_with(variables, all.iter().chain(words).chain(&["."])).expect(0);
        serde_json::from_str(&env.read("meta.json")).expect("JSON")
    };
    let plain = told(&[], &[]);
    let reference = plain["buildx.build.ref"].as_str().expect("a reference");
    assert!(env.rb(["history", "show", reference]).expect(0).stdout.contains("rb build ."), "{reference}");
    assert!(plain.get("buildx.build.warnings").is_none() && plain.get("buildx.build.provenance").is_none());
    let short = told(&[("BUILDX_METADATA_WARNINGS", "1")], &["--provenance=mode=max"]);
    let warning = &short["buildx.build.warnings"][0];
    assert_eq!((&warning["range"][0]["start"]["line"], &warning["level"]), (&3.into(), &1.into()));
    assert!(warning["url"].as_str().is_some_and(|url| url.contains("consistent-instruction-casing")));
    let provenance = &short["buildx.build.provenance"];
    assert!(provenance["buildDefinition"].is_object() && provenance["runDetails"].get("metadata").is_none());
    let whole = told(&[("BUILDX_METADATA_PROVENANCE", "max")], &["--provenance=mode=max"]);
    assert!(whole["buildx.build.provenance"]["runDetails"]["metadata"].is_object(), "{whole}");
    let none = told(&[("BUILDX_METADATA_PROVENANCE", "disabled")], &["--provenance=true"]);
    assert!(none.get("buildx.build.provenance").is_none(), "{none}");
    let several = told(&[], &["--provenance=true", "--platform=linux/amd64,linux/arm64"]);
    for platform in ["amd64", "arm64"] {
        assert!(several[format!("buildx.build.provenance/linux/{platform}")].is_object(), "{several}");
    }
}
