//! `rb pack build --lifecycle=builder`: the builder's own `creator` makes the image in one step.
//!
//! Here a shell script stands for it, which writes a layout as the lifecycle does; beside this file `pack_lifecycle` has the
//! reference's.

use std::os::unix::fs::PermissionsExt as _;

use crate::pack::{FOR_ALL, Packed, runs};

/// Says what it was told and what it finds, and makes an image of one layer upon the base.
pub(crate) const CREATOR: &str = r#"#!/bin/sh
set -e
echo "told: $*"
echo "platform $CNB_PLATFORM_API, made at ${SOURCE_DATE_EPOCH:-no time}, for $(cat /platform/env/FOR)"
system=none
while [ $# -gt 1 ]; do
  case $1 in
    -layout-dir) dir=$2 ;;
    -order) echo "order: $(busybox tr '\n' ' ' < "$2")" ;;
    -run) echo "run: $(busybox tr '\n' ' ' < "$2")" ;;
    -cache-dir) cache=$2 ;;
    -app) app=$2 ;;
    -layout|-no-color) set -- "$1" "$@" ;;
  esac
  shift 2
done
touch /cnb/x 2>/dev/null && exit 1
ls "/cnb/buildpacks"
count=$(cat "$cache/count" 2>/dev/null || echo 0)
echo "seen before: $count, last image: $(ls "$dir/index.docker.io/library/previous/kept" 2>/dev/null | busybox wc -l)"
echo $((count + 1)) > "$cache/count"
run=$dir/index.docker.io/library/run/1
made=$dir/index.docker.io/library/app/made
manifest=$(busybox sed 's/.*sha256:\([0-9a-f]*\).*/\1/' "$run/index.json")
config=$(busybox sed 's/.*"config":{[^}]*sha256:\([0-9a-f]*\).*/\1/' "$run/blobs/sha256/$manifest")
mkdir -p "$made/blobs/sha256" /tmp/layer
sum() { busybox sha256sum "$1" | busybox cut -d ' ' -f 1; }
put() { digest=$(sum "$1"); busybox cp "$1" "$made/blobs/sha256/$digest"; }
echo "text of $(cat "$app/app.txt")" > /tmp/layer/text
busybox tar -C /tmp/layer -cf /tmp/layer.tar text
diff_id=$(sum /tmp/layer.tar)
[ -z "$LIES" ] || diff_id=$(sum /tmp/layer/text)
busybox gzip /tmp/layer.tar
put /tmp/layer.tar.gz
layer=$digest
busybox sed "s/\"diff_ids\":\[\([^]]*\)\]/\"diff_ids\":[\1,\"sha256:$diff_id\"]/" "$run/blobs/sha256/$config" > /tmp/config
put /tmp/config
busybox sed "s/$config/$digest/; s/\"layers\":\[\([^]]*\)\]/\"layers\":[\1,{\"mediaType\":\"x\",\"digest\":\"sha256:$layer\",\"size\":1}]/" \
  "$run/blobs/sha256/$manifest" > /tmp/manifest
put /tmp/manifest
busybox sed "s/$manifest/$digest/" "$run/index.json" > "$made/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' > "$made/oci-layout"
mkdir -p /layers/sbom/launch
echo '{}' > /layers/sbom/launch/sbom.legacy.json
"#;

/// Puts a program into the builder as its `creator`; the new builder is `own:1`.
pub(crate) fn with_creator(packed: &Packed) {
    let place = packed.0.project().join("creator");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("modes");
    let text = "VERSION 1\nown:\n    FROM builder:1\n    USER root\n    \
         RUN echo user:x:1000:1000::/root:/bin/sh >> /etc/passwd\n    \
         COPY --chmod=0755 creator /cnb/lifecycle/creator\n    USER 1000:1000\n    SAVE IMAGE own:1\n";
    packed.0.write("Buildfile", text);
    packed.0.rb(["+own"]).expect(0);
}

#[test]
fn the_builders_own_lifecycle_is_one_step() {
    let Some(packed) = Packed::new() else { return };
    let build = |more: &[&str]| {
        let words =
            ["pack", "build", "-B", "own:1", "-p", "app", "--progress=plain", "--lifecycle=builder", "app:1"];
        packed.0.rb(words.iter().chain(&FOR_ALL).chain(more))
    };
    packed.0.write("creator", CREATOR);
    with_creator(&packed);
    build(&["--sbom-output-dir", "out", "-D", "task"])
        .expect(0)
        .says(&runs("create the image with the lifecycle of own:1"))
        .says("-run-image run:1")
        .says("-process-type task app:made")
        .says("platform 0.15, made at no time, for tests")
        .says("id = \"test/never\"")
        .says("optional = true")
        .says("run: [[images]] image = \"run:1\"")
        .says("seen before: 0, last image: 0");
    assert_eq!(packed.0.read("out/sbom/launch/sbom.legacy.json"), "{}\n");
    assert_eq!(packed.0.rb(["run", "app:1", "cat", "/text"]).expect(0).stdout, "text of world\n");
    let (config, base) = (packed.image("app:1"), packed.image("run:1"));
    let count = |config: &serde_json::Value| config["rootfs"]["diff_ids"].as_array().map(Vec::len);
    assert_eq!(count(&config), count(&base).map(|count| count + 1));
    assert_eq!(config["rootfs"]["diff_ids"][0], base["rootfs"]["diff_ids"][0]);
    // Nothing changed, whatever was kept.
    build(&["-D", "task"]).expect(0).says("nothing to do: all");
    packed.0.write("app/app.txt", "you");
    build(&["--creation-time", "86400"])
        .expect(0)
        .says("made at 86400,")
        .says("seen before: 1, last image: 3");
    assert_eq!(packed.0.rb(["run", "app:1", "cat", "/text"]).expect(0).stdout, "text of you\n");
    build(&["--clear-cache"]).expect(0).says("seen before: 0, last image: 0");
    // A buildpack of the user's lies where the order looks for it.
    packed.buildpack("mine", "3", "test/mine", crate::pack::PASS, crate::pack::PASS);
    build(&["-b", "buildpacks/mine/3"])
        .expect(0)
        .says("order: [[order]] ")
        .says("id = \"test/mine\"")
        .says("test_mine");
    packed
        .0
        .rb(["pack", "build", "-B", "builder:1", "-p", "app", "--lifecycle=builder", "app:1"])
        .expect(2)
        .says("the builder `builder:1` has no `/cnb/lifecycle/creator`");
}

#[test]
fn a_lifecycle_that_fails_or_lies_makes_no_image() {
    let Some(packed) = Packed::new() else { return };
    let build = || {
        let words =
            ["pack", "build", "-B", "own:1", "-p", "app", "--progress=plain", "--lifecycle=builder", "app:1"];
        packed.0.rb(words.iter().chain(&FOR_ALL))
    };
    packed.0.write("creator", "#!/bin/sh\necho it is no use\nexit 20\n");
    with_creator(&packed);
    build().expect(1).says("it is no use").says("20");
    packed.0.write("creator", "#!/bin/sh\nexit 0\n");
    with_creator(&packed);
    build().expect(2).says("what the builder's own lifecycle left cannot be used: there is no image");
    packed.0.write("creator", CREATOR.replace("[ -z \"$LIES\" ]", "false"));
    with_creator(&packed);
    build().expect(2).says("the builder's lifecycle names other layers than it has made");
    packed.0.rb(["image", "inspect", "app:1"]).expect(2);
}
