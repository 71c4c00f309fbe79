//! `ONBUILD`: of images and of stages.

use crate::bench::Bench;

fn on_build(triggers: &[&str]) -> impl Fn(&mut rb_oci::ImageConfig) {
    let triggers: Vec<String> = triggers.iter().map(|trigger| (*trigger).to_owned()).collect();
    move |config| config.config.on_build.clone_from(&triggers)
}

#[test]
fn triggers_of_an_image_come_first_and_only_once() {
    let base = on_build(&["ARG V=1", "COPY . /app", "RUN make $V"]);
    let outcome = Bench::of("FROM base AS one\nRUN own\nFROM one\nRUN last")
        .image("docker.io/library/base:latest", base)
        .outcome();
    let names = outcome.names();
    let shown: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.contains("FROM")).collect();
    assert_eq!(
        shown,
        [
            "[internal] load build context",
            "[one 2/4] ONBUILD COPY . /app",
            "[one 3/4] ONBUILD RUN make 1",
            "[one 4/4] RUN own",
            "[stage-1 1/1] RUN last",
        ]
    );
    assert!(outcome.image().config.config.on_build.is_empty());
    assert_eq!(outcome.history()[0], "ARG V=1");
}

#[test]
fn triggers_of_a_stage_are_for_those_that_start_from_it_alone() {
    let file = "FROM a AS one\nONBUILD ENV X=1\nFROM one AS two\nRUN x\nFROM two\nONBUILD RUN later\nRUN y";
    let outcome = Bench::of(file).outcome();
    assert_eq!(outcome.environment(), ["X=1"]);
    assert_eq!(outcome.image().config.config.on_build, ["RUN later"]);
    let envs = outcome.history().iter().filter(|entry| entry.starts_with("ENV")).count();
    assert_eq!(envs, 1);
}

#[test]
fn triggers_may_need_images_and_stages() {
    let base =
        on_build(&["COPY --from=tools /bin/t /t", "RUN --mount=type=bind,from=src,target=/s,source=/d x"]);
    let outcome = Bench::of("FROM alpine AS src\nRUN fill\nFROM base")
        .image("docker.io/library/base:latest", base)
        .outcome();
    let asked: Vec<&str> = outcome.asked.images.keys().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        asked,
        [
            "docker-image://docker.io/library/alpine:latest",
            "docker-image://docker.io/library/base:latest",
            "docker-image://docker.io/library/tools:latest",
        ]
    );
    assert!(outcome.dump().contains("fill"));
}

#[test]
fn a_trigger_that_cannot_be_read_is_shown() {
    let bench = Bench::of("FROM base").image("docker.io/library/base:latest", on_build(&["RNU x"]));
    let (message, at, _) = bench.error();
    assert!(message.contains("RNU"), "{message}");
    assert_eq!(at, "RNU");
}
