//! Which stages count, what they are called, and platforms.

use crate::bench::Bench;

#[test]
fn only_what_the_target_needs_is_asked_for() {
    let file = "FROM unused AS x\nRUN no\nFROM a AS build\nRUN --mount=type=bind,from=b,target=/b x\nFROM c AS last\nCOPY --from=build /o /o\nFROM d";
    let outcome = Bench::of(file).option("target", "LAST").outcome();
    let asked: Vec<String> = outcome
        .asked
        .images
        .keys()
        .map(|(name, _)| name.rsplit('/').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(asked, ["a:latest", "b:latest", "c:latest"]);
    assert!(!outcome.dump().contains("no"));
}

#[test]
fn of_two_stages_with_one_name_from_takes_the_one_above_and_copy_the_last() {
    let file = "FROM a AS x\nRUN first\nFROM x AS y\nRUN second\nFROM b AS x\nRUN third\nFROM scratch\nCOPY --from=x /o /o\nCOPY --from=y /o /p";
    let outcome = Bench::of(file).outcome();
    let dump = outcome.dump();
    assert!(dump.contains("first") && dump.contains("second") && dump.contains("third"), "{dump}");
    assert_eq!(outcome.findings().len(), 1);
}

#[test]
fn several_platforms_share_what_is_the_same() {
    let file = "FROM --platform=$BUILDPLATFORM a AS build\nRUN same\nFROM a\nARG TARGETARCH\nCOPY --from=build /o /o\nRUN on $TARGETARCH";
    let outcome = Bench::of(file).option("platform", "linux/amd64,linux/arm64").outcome();
    assert_eq!(outcome.planned.images.len(), 2);
    let digests = |image| outcome.graph_of(image).vertices().map(|vertex| vertex.digest).collect::<Vec<_>>();
    let (amd, arm) = (digests(0), digests(1));
    // The image of the builder's platform and the step of the build stage.
    assert_eq!(amd.iter().filter(|digest| arm.contains(digest)).count(), 2);
    let graph = outcome.graph_of(1);
    let names: Vec<&str> =
        graph.vertices().map(|vertex| graph.meta(&vertex.digest).name().unwrap_or_default()).collect();
    assert!(names.contains(&"[linux/amd64 build 2/2] RUN same"), "{names:?}");
    assert!(names.contains(&"[linux/arm64 stage-1 3/3] RUN on arm64"), "{names:?}");
    let architectures: Vec<&str> =
        outcome.planned.images.iter().map(|image| image.config.architecture.as_str()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    // Each image of each platform is asked for once.
    assert_eq!(outcome.asked.images.len(), 2);
}

#[test]
fn what_stages_are_built_for_is_shown() {
    let file = "FROM --platform=$BUILDPLATFORM a\nARG TARGETPLATFORM\nRUN x";
    let outcome =
        Bench::of(file).option("platform", "linux/arm64").option("multi-platform", "true").outcome();
    assert_eq!(outcome.names()[1], "[linux/amd64->arm64 2/2] RUN x");
}

#[test]
fn a_base_of_another_platform_is_told() {
    let outcome = Bench::of("FROM a")
        .image("docker.io/library/a:latest", |config| config.architecture = "s390x".to_owned())
        .option("platform", "linux/arm64")
        .outcome();
    assert_eq!(
        outcome.findings(),
        [
            "InvalidBaseImagePlatform: Base image a was pulled with platform \"linux/s390x\", expected \"linux/arm64\" for current build"
        ]
    );
    assert_eq!(outcome.image().config.architecture, "arm64");
}

#[test]
fn images_without_layers_are_nothing() {
    let outcome = Bench::of("FROM a\nCOPY f /")
        .image("docker.io/library/a:latest", |config| config.rootfs = rb_oci::RootFs::default())
        .outcome();
    assert!(!outcome.dump().contains("docker-image"), "{}", outcome.dump());
    assert_eq!(outcome.image().config.config.cmd.as_deref(), Some(&["/bin/sh".to_owned()][..]));
}

#[test]
fn labels_of_the_user_win_and_no_cache_is_for_stages_of_a_name() {
    let file = "FROM a AS one\nRUN x\nFROM one AS two\nLABEL l=file\nRUN y";
    let outcome = Bench::of(file).option("label:l", "user").option("no-cache", "TWO").outcome();
    assert_eq!(outcome.image().config.config.labels["l"], "user");
    let graph = outcome.graph();
    let again: Vec<bool> = graph.vertices().map(|vertex| graph.meta(&vertex.digest).ignore_cache).collect();
    assert_eq!(again, [false, false, true]);
}
