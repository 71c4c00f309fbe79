//! What the parser reads.

use rb_diag::{SourceFile, SourceId};

use super::{instruction, place, read, steps};
use crate::{
    CommandLine, Healthcheck, Heredoc, Instruction, Run, Transfer, TransferSource, Word, parse_trigger,
};

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

fn run(line: &str) -> Run {
    let Instruction::Run(run) = instruction(line) else { panic!("{line}") };
    run
}

fn copy(line: &str) -> Transfer {
    match instruction(line) {
        Instruction::Copy(transfer) | Instruction::Add(transfer) => transfer,
        other => panic!("{other:?}"),
    }
}

fn shell(command: &CommandLine) -> &str {
    match command {
        CommandLine::Shell(line) => &line.value,
        CommandLine::Exec(words) => panic!("{words:?}"),
    }
}

fn exec(command: &CommandLine) -> Vec<&str> {
    match command {
        CommandLine::Exec(words) => texts(words),
        CommandLine::Shell(line) => panic!("{line:?}"),
    }
}

#[test]
fn lines_are_joined_and_comments_within_dropped() {
    let text = "FROM a\nRUN one \\\n  two \\  \n# no\n\t# no\n\n three\\\\\nRUN four\\\n\nRUN five\\";
    let steps = steps(text);
    let code: Vec<&str> = steps.iter().map(|step| step.code.as_str()).collect();
    assert_eq!(code, ["RUN one   two  three\\\\", "RUN fourRUN five"]);
}

#[test]
fn places_are_those_of_the_file() {
    let (file, parsed) =
        read("\u{feff}FROM a\r\nENV one=1 \\\r\n  # no\r\n  é=\"t \\\r\n w\" x=\r\nRUN a \\\r\n\r\n");
    let stage = &parsed.dockerfile.stages[0];
    assert_eq!(place(&file, stage.base.span), "1:7 \"a\"");
    let Instruction::Env(pairs) = &stage.steps[0].instruction else { panic!() };
    let places: Vec<String> =
        pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).map(|word| place(&file, word.span)).collect();
    assert_eq!(
        places,
        ["2:5 \"one\"", "2:9 \"1\"", "4:3 \"é\"", "4:5 \"\\\"t \\\\\\r\\n w\\\"\"", "5:5 \"x\"", "5:7 \"\""]
    );
    assert_eq!(pairs[1].value.value, "\"t  w\"");
    // An instruction ends where the last of its lines does, even if there is nothing on it.
    assert_eq!(
        (file.position(stage.steps[1].span.start).line, file.position(stage.steps[1].span.end).line),
        (6, 7)
    );
}

#[test]
fn directives_stand_before_everything() {
    let (_, parsed) = read(
        "# Syntax = docker/dockerfile:1  comment\n#escape=`\n# check=skip=all;error=true // why\nFROM a\nRUN b `\n c\n",
    );
    let directives = &parsed.dockerfile.directives;
    assert_eq!(directives.syntax.as_ref().unwrap().value, "docker/dockerfile:1");
    assert_eq!(directives.escape, '`');
    assert_eq!(directives.check.as_ref().unwrap().value, "skip=all;error=true");
    assert_eq!(parsed.dockerfile.stages[0].steps[0].code, "RUN b  c");
    for text in
        ["\n# escape=`\nFROM a\n", "# a comment\n# escape=`\nFROM a\n", "# other=1\n# escape=`\nFROM a\n"]
    {
        assert_eq!(read(text).1.dockerfile.directives.escape, '\\', "{text}");
    }
}

#[test]
fn a_first_line_for_the_kernel_is_skipped() {
    let (_, parsed) = read("#!/usr/bin/env docker\n# syntax=a\n# escape=`\nFROM a\n");
    assert_eq!(parsed.dockerfile.directives.syntax.as_ref().unwrap().value, "a");
    assert_eq!(parsed.dockerfile.directives.escape, '\\');
}

#[test]
fn stages_have_names_platforms_and_descriptions() {
    let (_, parsed) = read(
        "# BASE which one\nARG BASE=a OTHER\n# Build makes it\n# build makes it all\nFROM --platform=$BUILDPLATFORM ${BASE} As Build\nARG X\nfrom build\n",
    );
    let file = parsed.dockerfile;
    let Instruction::Arg(arguments) = &file.global_args[0].instruction else { panic!() };
    assert_eq!(arguments[0].description.as_deref(), Some("which one"));
    assert_eq!((arguments[1].name.value.as_str(), &arguments[1].default), ("OTHER", &None));
    let stage = &file.stages[0];
    assert_eq!(stage.platform.as_ref().unwrap().value, "$BUILDPLATFORM");
    assert_eq!(stage.base.value, "${BASE}");
    let (word, name) = stage.name.as_ref().unwrap();
    assert_eq!((word.value.as_str(), name.value.as_str()), ("As", "build"));
    assert_eq!(stage.description.as_deref(), Some("makes it all"));
    assert_eq!(stage.steps.len(), 1);
    assert_eq!(file.stages[1].keyword.value, "from");
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(exec(&run(r#"RUN ["a b", "\u00e9\"", "$c"]"#).command), ["a b", "é\"", "$c"]);
    assert_eq!(exec(&run("RUN [ ]").command), [""; 0]);
    for line in ["['a']", "[\"a\"", "[\"a\"] && b", "[ -f a ]", "\"a\"", "[\"\\ud800\"]"] {
        assert_eq!(shell(&run(&format!("RUN {line}")).command), line);
    }
    assert_eq!(shell(&run("RUN   a  &&   b  ").command), "a  &&   b");
    assert_eq!(shell(&run("RUN --network=none -- --x").command), "--x");
    let Instruction::Cmd(command) = instruction("CMD") else { panic!() };
    assert_eq!(shell(&command), "");
}

#[test]
fn pairs_keep_quotes_and_escapes() {
    let pairs = |line: &str| match instruction(line) {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.into_iter().map(|pair| (pair.key.value, pair.value.value, pair.legacy)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let new = |key: &str, value: &str| (key.to_owned(), value.to_owned(), false);
    assert_eq!(
        pairs(r#"ENV a=b c="d e" f=g\ h i='j k' l="m\" n" o=p=q r="#),
        [
            new("a", "b"),
            new("c", r#""d e""#),
            new("f", r"g\ h"),
            new("i", "'j k'"),
            new("l", r#""m\" n""#),
            new("o", "p=q"),
            new("r", "")
        ]
    );
    assert_eq!(pairs(r#"LABEL "a b"=c "d"="e""#), [new(r#""a b""#, "c"), new(r#""d""#, r#""e""#)]);
    assert_eq!(pairs("ENV a  b c=d "), [("a".to_owned(), "b c=d".to_owned(), true)]);
}

#[test]
fn files_are_copied_with_all_flags() {
    let transfer = copy(
        "COPY --from=b --chown=\"u:g\" --chmod=+x --link --parents=false --exclude=a --exclude='b c' x y/ /z",
    );
    let paths: Vec<_> = transfer
        .sources
        .iter()
        .map(|source| match source {
            TransferSource::Path(path) => path.value.as_str(),
            TransferSource::Heredoc(heredoc) => panic!("{heredoc:?}"),
        })
        .collect();
    assert_eq!((paths, transfer.destination.value.as_str()), (vec!["x", "y/"], "/z"));
    assert_eq!(transfer.from.unwrap().value, "b");
    assert_eq!(transfer.chown.unwrap().value, "u:g");
    assert_eq!((transfer.link.unwrap().value, transfer.parents.unwrap().value), (true, false));
    assert_eq!(texts(&transfer.excludes), ["a", "b c"]);
    let transfer = copy("ADD --checksum=sha256:1 --keep-git-dir=TRUE --unpack=false [\"a b\", \"c\"]");
    assert_eq!(transfer.destination.value, "c");
    assert_eq!((transfer.keep_git_dir.unwrap().value, transfer.unpack.unwrap().value), (true, false));
}

#[test]
fn mounts_have_options() {
    let (file, parsed) =
        read("FROM a\nRUN --mount=Type=cache,ID=$x,ro,\\\"target=/a,b\\\" --mount=target=/c x\n");
    let Instruction::Run(run) = &parsed.dockerfile.stages[0].steps[0].instruction else { panic!() };
    let options = |at: usize| -> Vec<(&str, Option<&str>)> {
        let options = run.mounts[at].options.iter();
        options
            .map(|(key, value)| (key.value.as_str(), value.as_ref().map(|value| value.value.as_str())))
            .collect()
    };
    assert_eq!(
        options(0),
        [("type", Some("cache")), ("id", Some("$x")), ("ro", None), ("target", Some("/a,b"))]
    );
    let (key, value) = &run.mounts[1].options[0];
    assert_eq!(
        (place(&file, key.span), place(&file, value.as_ref().unwrap().span)),
        ("2:57 \"target\"".to_owned(), "2:64 \"/c\"".to_owned())
    );
}

fn heredocs(text: &str) -> Vec<Heredoc> {
    let Instruction::Run(run) = steps(text).remove(0).instruction else { panic!() };
    run.heredocs
}

#[test]
fn heredocs_are_read_in_order() {
    let found =
        heredocs("FROM a\nRUN 3<<A cat <<-\"B C\" x << 'D' \\\n  y\n# one\nA\n\ttwo \\\n\tB C\nD\nUSER u\n");
    let said: Vec<_> = found
        .iter()
        .map(|doc| (doc.name.as_str(), doc.content.as_str(), doc.descriptor, doc.strips_tabs, doc.expands))
        .collect();
    assert_eq!(
        said,
        [("A", "# one\n", 3, false, true), ("B C", "two \\\n", 0, true, false), ("D", "", 0, false, false)]
    );
    assert_eq!(found[1].raw, "\ttwo \\\n");
    let (file, parsed) = read("FROM a\nRUN <<A\none\ntwo\nA\nUSER u\n");
    let step = &parsed.dockerfile.stages[0].steps[0];
    assert_eq!(
        (step.code.as_str(), place(&file, step.span).as_str()),
        ("RUN <<A", "2:1 \"RUN <<A\\none\\ntwo\\nA\"")
    );
    let Instruction::Run(run) = &step.instruction else { panic!() };
    assert_eq!(place(&file, run.heredocs[0].span), "3:1 \"one\\ntwo\\n\"");
}

#[test]
fn what_only_looks_like_a_heredoc_is_none() {
    for line in [
        "RUN a <<<b",
        "RUN a<<b",
        "RUN \"<<b\" a",
        "RUN [\"<<b\"]",
        "RUN $((1<<2))",
        "CMD <<b",
        "RUN it's <<b",
        "RUN <<\"\" a",
    ] {
        let steps = steps(&format!("FROM x\n{line}\n"));
        let heredocs = match &steps[0].instruction {
            Instruction::Run(run) => run.heredocs.len(),
            _ => 0,
        };
        assert_eq!(heredocs, 0, "{line}");
    }
}

#[test]
fn files_are_written_in_the_file() {
    let steps = steps("FROM a\nCOPY <<-a.txt x <<'b' /c/\n\tone $x\n\ta.txt\r\ntwo\nb\n");
    let Instruction::Copy(transfer) = &steps[0].instruction else { panic!() };
    let [TransferSource::Heredoc(a), TransferSource::Path(x), TransferSource::Heredoc(b)] =
        transfer.sources.as_slice()
    else {
        panic!("{transfer:?}")
    };
    assert_eq!((a.name.as_str(), a.content.as_str(), a.expands), ("a.txt", "one $x\n", true));
    assert_eq!((b.name.as_str(), b.content.as_str(), b.expands), ("b", "two\n", false));
    assert_eq!((x.value.as_str(), transfer.destination.value.as_str()), ("x", "/c/"));
}

#[test]
fn triggers_are_kept_as_text_and_read() {
    let steps = steps("FROM a\nonbuild  RUN --network=none <<EOF \\\n  x\n\tb\nEOF\n");
    let Instruction::Onbuild(onbuild) = &steps[0].instruction else { panic!() };
    assert_eq!(onbuild.text.value, "RUN --network=none <<EOF   x\n\tb\nEOF");
    let Instruction::Run(run) = &onbuild.step.instruction else { panic!() };
    assert_eq!(run.heredocs[0].content, "\tb\n");
    let file = SourceFile::new(SourceId(0), "trigger", onbuild.text.value.as_str());
    let step = parse_trigger(&file).unwrap();
    let Instruction::Run(again) = step.instruction else { panic!() };
    assert_eq!(shell(&again.command), shell(&run.command));
    for text in ["", "RUN a\nRUN b", "# c"] {
        let file = SourceFile::new(SourceId(0), "trigger", text);
        assert_eq!(
            parse_trigger(&file).unwrap_err()[0].message,
            "onbuild trigger should be a single expression"
        );
    }
}

#[test]
fn health_is_asked_for() {
    let Instruction::Healthcheck(Healthcheck::Command { command, interval, retries, .. }) =
        instruction("HEALTHCHECK --interval=1m30s --retries=3 --timeout=0 cmd [\"a\"]")
    else {
        panic!()
    };
    assert_eq!(exec(&command), ["a"]);
    assert_eq!((interval.unwrap().value, retries.unwrap().value), ("1m30s".to_owned(), "3".to_owned()));
    assert_eq!(instruction("HEALTHCHECK --interval=1s none"), Instruction::Healthcheck(Healthcheck::None));
}

#[test]
fn other_instructions_take_words() {
    assert!(matches!(instruction("USER a b "), Instruction::User(word) if word.value == "a b"));
    assert!(
        matches!(instruction("MAINTAINER A <a@b>"), Instruction::Maintainer(word) if word.value == "A <a@b>")
    );
    assert!(
        matches!(instruction("EXPOSE 80  81/udp"), Instruction::Expose(words) if texts(&words) == ["80", "81/udp"])
    );
    assert!(
        matches!(instruction("VOLUME /a /b"), Instruction::Volume(words) if texts(&words) == ["/a", "/b"])
    );
    assert!(matches!(instruction("VOLUME [\" /a\"]"), Instruction::Volume(words) if texts(&words) == ["/a"]));
    assert!(
        matches!(instruction("SHELL [\"a\", \"-c\"]"), Instruction::Shell(words) if texts(&words) == ["a", "-c"])
    );
    assert!(matches!(instruction("WORKDIR a b"), Instruction::Workdir(word) if word.value == "a b"));
    assert!(matches!(instruction("STOPSIGNAL 9"), Instruction::Stopsignal(word) if word.value == "9"));
}
