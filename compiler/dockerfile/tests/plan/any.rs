//! Whatever stands in a file, it becomes a graph or an error.

use proptest::prelude::*;

use crate::bench::Bench;

/// Instructions that fit together, and some that do not.
const LINES: [&str; 44] = [
    "FROM a",
    "FROM a AS one",
    "FROM b AS two",
    "FROM one",
    "FROM two AS three",
    "FROM scratch",
    "FROM --platform=$BUILDPLATFORM a AS one",
    "FROM $V",
    "FROM named",
    "ARG V=1",
    "ARG V",
    "ARG W=$V-x",
    "ENV A=1 B=$A",
    "ENV PATH=/x:$PATH",
    "LABEL l=$V",
    "RUN x $V",
    "RUN [\"x\", \"y\"]",
    "RUN <<EOF\necho $V\nEOF",
    "RUN <<A cat <<B\n1\nA\n2\nB",
    "RUN --mount=type=cache,target=c,from=one,source=$V,uid=1 x",
    "RUN --mount=from=two,target=/t --mount=type=tmpfs,target=/m x",
    "RUN --mount=type=secret,id=s,env=S --mount=type=ssh x",
    "RUN --network=none --security=insecure x",
    "COPY a b/ ./",
    "COPY --link --chown=u:1 a /d/",
    "COPY --from=one /o /p",
    "COPY --from=three /o /p",
    "COPY --from=1 /o /p",
    "COPY --from=named --parents x/./y /",
    "COPY <<X /f\n$V\nX",
    "ADD https://h.io/f git@h.io:r.git /d/",
    "ADD --checksum=$V https://h.io/f /",
    "WORKDIR w",
    "WORKDIR /w",
    "USER u",
    "SHELL [\"/bin/bash\", \"-c\"]",
    "CMD x",
    "ENTRYPOINT [\"e\"]",
    "HEALTHCHECK --interval=5s CMD x",
    "EXPOSE $V 80-81/udp",
    "VOLUME /v $V",
    "STOPSIGNAL $V",
    "ONBUILD COPY --from=two /o /p",
    "ONBUILD RUN --mount=from=three,target=/x y",
];

/// What makes most of them fit.
const HEAD: &str = "ARG V=7\nFROM a AS one\nARG V\nFROM b AS two\nFROM two AS three\nFROM one";

proptest! {
    #[test]
    fn a_file_becomes_a_graph_or_an_error(
        picked in proptest::collection::vec(0..LINES.len(), 1..14),
        has_head in prop::bool::weighted(0.9),
        named in any::<bool>(),
        target in prop_oneof![Just(""), Just("one"), Just("three")],
        platforms in prop_oneof![Just(""), Just("linux/arm64"), Just("linux/amd64,linux/arm/v7")],
    ) {
        let lines = picked.iter().map(|at| LINES[*at]);
        let file = has_head.then_some(HEAD).into_iter().chain(lines).collect::<Vec<_>>().join("\n");
        let mut bench = Bench::of(&file).option("target", target).option("platform", platforms);
        if named {
            bench = bench.option("context:named", "local:n").option("context:two", "docker-image://c");
        }
        bench = bench.image("docker.io/library/b:latest", |config| {
            config.config.on_build = ["COPY --from=one /x /x", "RUN y"].map(ToOwned::to_owned).to_vec();
        });
        match bench.plan() {
            Ok(outcome) => {
                for image in 0..outcome.planned.images.len() {
                    prop_assert!(outcome.graph_of(image).vertices().count() <= 200);
                }
            }
            Err((errors, sources)) => {
                prop_assert!(!errors.is_empty());
                for label in errors.iter().flat_map(|error| &error.labels) {
                    let file = sources.get(label.span.source).expect("is a file of the build");
                    prop_assert!(label.span.end as usize <= file.text.len());
                }
            }
        }
    }
}
