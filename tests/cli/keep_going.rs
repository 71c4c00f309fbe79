//! `--keep-going`: what does not need what failed is made and written, and every failure is told once.

use crate::env::TestEnv;

const TEXT: &str = "VERSION 1\n\
    lib:\n    FROM @host\n    RUN echo tried >> /tries && exit 3\n    SAVE ARTIFACT /lib\n\
    one:\n    FROM scratch\n    COPY +lib/lib /lib\n    SAVE ARTIFACT /lib AS LOCAL one\n\
    two:\n    FROM scratch\n    COPY +lib/lib /lib\n    SAVE IMAGE two\n\
    asks:\n    FROM @host\n    COPY +lib/lib /lib\n    IF test -e /lib\n        RUN true\n    END\n\
    good:\n    FROM @host\n    RUN echo good > /x\n    SAVE ARTIFACT /x AS LOCAL good\n    SAVE IMAGE good-but-host\n\
    fine:\n    FROM scratch\n    COPY +made/x /x\n    SAVE ARTIFACT /x AS LOCAL fine\n    SAVE IMAGE fine\n\
    made:\n    FROM @host\n    RUN echo fine > /x\n    SAVE ARTIFACT /x\n\
    check:\n    FROM @host\n    RUN echo checking; exit 4\n\
    ship:\n    BUILD +check\n    FROM scratch\n    COPY +made/x /x\n    SAVE ARTIFACT /x AS LOCAL shipped\n    SAVE IMAGE shipped\n\
    all:\n    BUILD +fine\n    BUILD +check\n    BUILD +ship\n\
    condition:\n    FROM @host\n    ARG X=$(echo asked; exit 5)\n    RUN echo $X\n\
    around:\n    BUILD +condition\n    BUILD +fine\n    FROM scratch\n    COPY +made/x /y\n    SAVE ARTIFACT /y AS LOCAL around\n";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT.replace("    SAVE IMAGE good-but-host\n", ""));
    env
}

fn images(env: &TestEnv) -> String {
    env.rb(["image", "ls"]).expect(0).stdout
}

#[test]
fn what_went_well_is_written_and_a_failure_is_told_once() {
    let env = env();
    env.rb(["+one", "+good", "+fine"]).expect(1).says("exit code 3");
    assert!(!env.has("good") && !env.has("fine"));
    let run = env.rb(["-k", "+one", "+good", "+two", "+asks", "+fine"]).expect(1);
    assert_eq!((env.read("good"), env.read("fine")), ("good\n".to_owned(), "fine\n".to_owned()));
    assert!(!env.has("one"));
    assert!(images(&env).contains("fine") && !images(&env).contains("two"));
    assert_eq!(run.stderr.matches(" failed").count(), 1, "{}", run.stderr);
    run.says("exit code 3").says("built 2 of 5 targets");
    let again = env.rb(["-k", "+one", "+good"]).expect(1).says("built 1 of 2 targets");
    assert!(!again.stderr.contains("nothing to do"), "{}", again.stderr);
    // All is well: as without it.
    env.rb(["--keep-going", "+good", "+fine"]).expect(0).says("nothing to do");
}

#[test]
fn what_a_target_builds_goes_on_too_and_what_failed_its_tests_is_not_written() {
    let env = env();
    let run = env.rb(["-k", "+all"]).expect(1).says("exit code 4").says("built a part of +all");
    assert_eq!(run.stderr.matches(" failed").count(), 1, "{}", run.stderr);
    assert_eq!(env.read("fine"), "fine\n");
    assert!(!env.has("shipped") && !images(&env).contains("shipped"));
}

#[test]
fn a_target_that_cannot_be_evaluated_stops_no_other() {
    let env = env();
    let run = env.rb(["-k", "+condition", "+good", "+around"]).expect(1);
    run.says("ended with exit code 5").says("built 1 of 3 targets");
    assert_eq!(env.read("good") + &env.read("fine"), "good\nfine\n");
    assert!(!env.has("around"));
    // Every cause, and the gravest code.
    let run = env.rb(["-k", "+condition", "+check", "+good", "+one"]).expect(1);
    run.says("exit code 5").says("exit code 4").says("exit code 3");
    env.write("blocked/x", "");
    let text = TEXT.replace("AS LOCAL good", "AS LOCAL .").replace("    SAVE IMAGE good-but-host\n", "");
    env.write("Buildfile", text.replace("SAVE ARTIFACT /x AS LOCAL .", "SAVE ARTIFACT / AS LOCAL ."));
    let what_is_wrong = env.rb(["-k", "+good", "+fine"]);
    assert_eq!(what_is_wrong.code, 2, "{what_is_wrong:?}");
}

#[test]
fn an_output_that_cannot_be_written_stops_no_other() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\na:\n    FROM @host\n    RUN echo a > /a\n    SAVE ARTIFACT /a AS LOCAL taken/a\n\
         b:\n    FROM @host\n    RUN echo b > /b\n    SAVE ARTIFACT /b AS LOCAL b\n",
    );
    env.write("taken", "a file where a folder has to be");
    env.rb(["+a", "+b"]).expect(3);
    assert!(!env.has("b"));
    env.rb(["-k", "+a", "+b"]).expect(3).says("taken is a file: remove it");
    assert_eq!(env.read("b"), "b\n");
}

#[test]
fn what_is_wrong_before_anything_runs_stops_all() {
    let env = env();
    env.rb(["-k", "+good", "+gone"]).expect(2).says("there is no target `gone`");
    assert!(!env.has("good"));
    env.rb(["-k", "ls"]).expect(2).says("are for targets alone");
}

#[test]
fn the_record_says_that_it_failed() {
    let env = env();
    env.rb(["-k", "+good", "+check"]).expect(1);
    let builds = std::fs::read_dir(env.state().join("builds")).expect("lists");
    let records = builds
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    let texts: Vec<String> = records.map(|path| std::fs::read_to_string(path).expect("reads")).collect();
    assert!(
        texts.iter().any(|text| text.contains("\"outcome\":\"failed\"") && text.contains("+good +check")),
        "{texts:?}"
    );
}

#[test]
fn a_try_deals_with_what_fails_below_a_target_that_goes_on() {
    let env = TestEnv::new();
    let tries = |name: &str, what: &str| {
        format!(
            "{name}:\n    TRY\n        {what}\n    CATCH\n        RUN echo caught > said\n    FINALLY\n        \
             RUN echo finally >> said\n        SAVE ARTIFACT said AS LOCAL {name}.txt\n    END\n    \
             RUN echo after > after\n    SAVE ARTIFACT after AS LOCAL {name}-after.txt\n"
        )
    };
    let (builds, copies) = (tries("builds", "BUILD +middle"), tries("copies", "COPY +middle/m ."));
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nFROM @host\nWORKDIR /w\nbelow:\n    ARG X=$(echo asked; exit 5)\n    RUN echo $X\n\
             middle:\n    BUILD +below\n    RUN echo m > m\n    SAVE ARTIFACT m\n{builds}{copies}\
             waits:\n    WAIT\n        BUILD +middle\n    END\n    RUN echo w > w\n    SAVE ARTIFACT w AS LOCAL w.txt\n\
             top:\n    BUILD +builds\n    BUILD +copies\n    BUILD +waits\n    BUILD +good\n\
             good:\n    RUN echo good > g\n    SAVE ARTIFACT g AS LOCAL good.txt\n"
        ),
    );
    for (options, name) in [(&[][..], "builds"), (&[], "copies"), (&["-k"], "builds"), (&["-k"], "copies")] {
        let target = format!("+{name}");
        let run = env.rb(options.iter().copied().chain([target.as_str()])).expect(1).says("exit code 5");
        assert_eq!(run.stderr.matches("exit code 5").count(), 1, "{options:?} {name}: {}", run.stderr);
        let said = format!("{name}.txt");
        assert_eq!(env.read(&said), "caught\nfinally\n", "{options:?} {name}");
        assert!(!env.has(&format!("{name}-after.txt")), "{options:?} {name}");
        std::fs::remove_file(env.project().join(said)).expect("removes");
    }
    let run = env.rb(["-k", "+top"]).expect(1).says("exit code 5");
    assert_eq!(run.stderr.matches("exit code 5").count(), 1, "{}", run.stderr);
    assert_eq!(env.read("builds.txt") + &env.read("copies.txt"), "caught\nfinally\ncaught\nfinally\n");
    assert_eq!(env.read("good.txt"), "good\n");
    assert!(!env.has("w.txt") && !env.has("builds-after.txt"), "what waits for a failure is not done");
}

#[test]
fn what_a_target_builds_is_written_though_it_fails_itself() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nFROM @host\nWORKDIR /w\n\
         a:\n    RUN echo a > x\n    SAVE ARTIFACT x AS LOCAL a.txt\n\
         b:\n    RUN echo b > x\n    SAVE ARTIFACT x AS LOCAL b.txt\n\
         tries:\n    BUILD +a\n    TRY\n        BUILD +b\n        RUN echo half > r; exit 3\n    FINALLY\n        \
         SAVE ARTIFACT r AS LOCAL r.txt\n    END\n    SAVE ARTIFACT r AS LOCAL never.txt\n\
         middle:\n    BUILD +tries\n    RUN echo m > m\n    SAVE ARTIFACT m AS LOCAL m.txt\n\
         asks:\n    BUILD +a\n    ARG X=$(exit 5)\n    RUN echo $X > x\n    SAVE ARTIFACT x\n\
         takes:\n    COPY +asks/x .\n",
    );
    let gone =
        |names: &[&str]| names.iter().for_each(|name| drop(std::fs::remove_file(env.project().join(name))));
    let run = env.rb(["-k", "+middle"]).expect(1).says("exit code 3");
    assert_eq!(run.stderr.matches(" failed").count(), 1, "{}", run.stderr);
    assert_eq!(env.read("a.txt") + &env.read("b.txt") + &env.read("r.txt"), "a\nb\nhalf\n");
    assert!(!env.has("m.txt") && !env.has("never.txt"));
    gone(&["a.txt", "b.txt", "r.txt"]);
    env.rb(["-k", "+asks"]).expect(1).says("exit code 5");
    assert_eq!(env.read("a.txt"), "a\n");
    gone(&["a.txt"]);
    // Nothing but BUILD carries outputs; and without it, the first failure ends all.
    env.rb(["-k", "+takes"]).expect(1).says("exit code 5");
    env.rb(["+asks"]).expect(1);
    env.rb(["+middle"]).expect(1);
    assert!(!env.has("a.txt") && !env.has("b.txt") && env.has("r.txt"));
}
