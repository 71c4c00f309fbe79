//! Wrong files, each with all that is said of it.

use rb_diag::{SourceFile, SourceId};

use super::shown;
use crate::parse;

/// Shows each text and its errors; one without errors is no case.
fn table(texts: &[&str]) -> String {
    let mut table = String::new();
    for text in texts {
        let file = SourceFile::new(SourceId(0), "Dockerfile", *text);
        let errors = parse(&file).errors;
        assert_ne!(errors, [], "{text}");
        table.push_str(&format!("=== {text:?}\n"));
        errors.iter().for_each(|error| table.push_str(&shown(&file, error)));
    }
    table
}

/// Shows instructions of a stage and their errors.
fn instructions(lines: &[&str]) -> String {
    let texts: Vec<String> = lines.iter().map(|line| format!("FROM a\n{line}")).collect();
    table(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn whole_files() {
    insta::assert_snapshot!(table(&[
        "",
        "\n\n",
        "# only a comment\n",
        "ARG a\n",
        "RUN a\nRUN b\nFROM c\n",
        "FORM alpine\n",
        "FROM alpine\nrnu make\nCPY a b\n",
        "FROM alpine\nRUN a\n  && b\n",
        "FROM alpine\n\\\n",
        "# escape=/\nFROM a\n",
        "# syntax=a\n# syntax=b\nFROM a\n",
        "FROM a\nENV a\nRUN --mont=x y\nLABEL =\nEXPOSE\n",
    ]));
}

#[test]
fn from() {
    insta::assert_snapshot!(table(&[
        "FROM\n",
        "FROM a as\n",
        "FROM a b\n",
        "FROM a # comment\n",
        "FROM a AS b c\n",
        "FROM a AS 1b\n",
        "FROM a AS b/c\n",
        "FROM --platfrom=linux/amd64 a\n",
        "FROM --platform a\n",
        "FROM --platform=x --platform=y a\n",
        "FROM --from=x a\n",
    ]));
}

#[test]
fn arguments() {
    insta::assert_snapshot!(instructions(&[
        "ADD",
        "COPY a",
        "COPY --chown=a",
        "COPY [\"a\"]",
        "ARG",
        "ARG =x",
        "ENV",
        "ENV a",
        "ENV a=b c",
        "ENV =a",
        "LABEL",
        "LABEL a=b \"c d\"",
        "EXPOSE",
        "HEALTHCHECK",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "SHELL []",
        "SHELL bash -c",
        "SHELL ['bash']",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "VOLUME []",
        "VOLUME [\"a\", \" \"]",
        "WORKDIR",
        "RUN [\"a\", 1]",
        "CMD [\"a\", [\"b\"]]",
    ]));
}

#[test]
fn flags() {
    insta::assert_snapshot!(instructions(&[
        "COPY --form=a b c",
        "COPY --chwon=a b c",
        "COPY --link=maybe a b",
        "COPY --link= a b",
        "COPY --from=a --from=b c d",
        "COPY --from=$X c d",
        "ADD --from=a b c",
        "ADD --checksum b c",
        "RUN --network=hots a",
        "RUN --network=\"no ne\" a",
        "RUN --security=none a",
        "ENV --x a=b",
        "HEALTHCHECK --interval=5 CMD a",
        "HEALTHCHECK --timeout=1us CMD a",
        "HEALTHCHECK --retries=-1 CMD a",
        "HEALTHCHECK --retries=many CMD a",
        "HEALTHCHECK CMD",
        "HEALTHCHECK NONE a",
        "HEALTHCHECK curl localhost",
    ]));
}

#[test]
fn mounts() {
    insta::assert_snapshot!(instructions(&[
        "RUN --mount=type=bnid,target=/a x",
        "RUN --mount=typ=bind x",
        "RUN --mount=type=cache,targt=/a,sharing=lock x",
        "RUN --mount=target x",
        "RUN --mount=type=cache,target=/a,ro=maybe,mode=9,uid=me x",
        "RUN --mount=from=$STAGE,target=/a x",
        "RUN --mount=type=bind,required,size=1,uid=0 x",
        "RUN --mount=type=secret x",
        "RUN --mount=type=secret,id=a,src=b,from=c x",
        "RUN --mount=type=bind,\\\"source=a x",
        "RUN \\\n  --mount=type=cache,target=/a \\\n  --mount=type=cache,id=b,share=locked \\\n  x",
    ]));
}

#[test]
fn heredocs_and_triggers() {
    insta::assert_snapshot!(instructions(&[
        "RUN <<EOF\na\n",
        "RUN <<EOF\na\n  EOF\n",
        "RUN <<-EOF\na\n EOF\n",
        "RUN a <<A <<B\n1\nA\n2\n",
        "COPY <<EOF\na\nEOF",
        "COPY a <<EOF\na\nEOF",
        "COPY <<EOF it's /b",
        "COPY [\"<<EOF\", \"/b\"]",
        "ONBUILD ONBUILD RUN a",
        "ONBUILD FROM a",
        "ONBUILD maintainer a",
        "ONBUILD CPOY a b",
        "ONBUILD COPY a",
        "ONBUILD --x RUN a",
    ]));
}
