//! TRY, CATCH, FINALLY and `SAVE ARTIFACT --always`: what a command that failed has left is worked on and written.

use crate::env::TestEnv;

#[test]
fn what_failed_is_dealt_with_and_the_build_fails_all_the_same() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    RUN echo above > above\n    TRY\n        \
         RUN echo one > one\n        RUN echo half > report; exit 3\n        RUN touch never\n        \
         SAVE ARTIFACT one AS LOCAL early\n    CATCH\n        RUN cat above one report > all; ! test -e never\n    \
         FINALLY\n        SAVE ARTIFACT report AS LOCAL out/report\n        SAVE ARTIFACT all AS LOCAL out/all\n        \
         SAVE ARTIFACT --if-exists never AS LOCAL out/never\n    END\n    SAVE ARTIFACT one AS LOCAL late\n",
    );
    for _ in 0..2 {
        let run = env.rb(["+t"]).expect(1).says("exit code 3");
        assert_eq!(run.stderr.matches(" failed").count(), 1, "{}", run.stderr);
        assert_eq!(env.read("out/report"), "half\n");
        assert_eq!(env.read("out/all"), "above\none\nhalf\n");
        assert!(!env.has("out/never") && !env.has("early") && !env.has("late"));
        std::fs::remove_dir_all(env.project().join("out")).expect("removes");
    }
}

#[test]
fn without_a_failure_finally_is_done_and_catch_is_not() {
    let env = TestEnv::new();
    env.write(
        "Earthfile",
        "VERSION --try 0.8\nt:\n    FROM @host\n    TRY\n        RUN echo fine > /report\n    CATCH\n        \
         RUN echo caught >> /report\n    FINALLY\n        SAVE ARTIFACT /report AS LOCAL report\n    END\n    \
         RUN echo after >> /report\n    SAVE ARTIFACT /report AS LOCAL after\n",
    );
    env.rb(["+t"]).expect(0);
    assert_eq!((env.read("report"), env.read("after")), ("fine\n".to_owned(), "fine\nafter\n".to_owned()));
    // All of it is cached.
    env.rb(["--expect-cached", "+t"]).expect(0);
}

#[test]
fn always_is_saved_as_far_as_it_is_there() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM @host\n    ARG code=3\n    WORKDIR /w\n    RUN echo first > first.log\n    \
        RUN echo second > second.log; exit $code\n    SAVE ARTIFACT --always *.log AS LOCAL logs/\n    \
        RUN echo third > third.log\n    SAVE ARTIFACT --always third.log AS LOCAL third\n    \
        SAVE ARTIFACT first.log AS LOCAL plain\n";
    env.write("Buildfile", text);
    env.rb(["+t"]).expect(1).says("exit code 3");
    assert_eq!(
        (env.read("logs/first.log"), env.read("logs/second.log")),
        ("first\n".to_owned(), "second\n".to_owned())
    );
    assert!(!env.has("third") && !env.has("plain"));
    env.rb(["+t", "--code=0"]).expect(0);
    assert_eq!((env.read("third"), env.read("plain")), ("third\n".to_owned(), "first\n".to_owned()));
    env.write("Earthfile2/Earthfile", text.replace("VERSION 1", "VERSION 0.8"));
    env.rb(["./Earthfile2+t"]).expect(2).says("--always");
}

#[test]
fn a_failure_elsewhere_leaves_what_was_before() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nother:\n    FROM @host\n    RUN exit 5\n\
         t:\n    FROM @host\n    RUN echo before > /before\n    TRY\n        BUILD +other\n    FINALLY\n        \
         SAVE ARTIFACT /before AS LOCAL before\n    END\n\
         outer:\n    FROM @host\n    TRY\n        TRY\n            RUN echo in > /in; exit 6\n        FINALLY\n            \
         SAVE ARTIFACT /in AS LOCAL in\n        END\n    FINALLY\n        SAVE ARTIFACT /in AS LOCAL again\n    END\n\
         calls:\n    FROM @host\n    TRY\n        DO +F --code=7\n    FINALLY\n        SAVE ARTIFACT /f AS LOCAL f\n    END\n\
         F:\n    FUNCTION\n    ARG code\n    RUN echo f > /f; exit $code\n",
    );
    env.rb(["+t"]).expect(1).says("exit code 5");
    assert_eq!(env.read("before"), "before\n");
    env.rb(["+outer"]).expect(1).says("exit code 6");
    assert_eq!((env.read("in"), env.read("again")), ("in\n".to_owned(), "in\n".to_owned()));
    env.rb(["+calls"]).expect(1).says("exit code 7");
    assert_eq!(env.read("f"), "f\n");
}

#[test]
fn what_goes_wrong_after_a_failure_is_told_too() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    TRY\n        RUN exit 3\n    CATCH\n        RUN exit 4\n    FINALLY\n        \
         RUN echo done > /done\n        SAVE ARTIFACT /done AS LOCAL done\n    END\n",
    );
    env.rb(["+t"]).expect(1).says("exit code 3").says("exit code 4");
    assert_eq!(env.read("done"), "done\n");
    // Each once, whether the build goes on or not.
    for flags in [&["+t"][..], &["-k", "+t"]] {
        let run = env.rb(flags).expect(1).hides("rb::evaluate");
        assert_eq!(run.stderr.matches("ended with exit code 4").count(), 1, "{}", run.stderr);
        assert_eq!(run.stderr.matches("` failed").count(), 2, "{}", run.stderr);
    }
}

#[test]
fn what_catch_would_do_is_not_foreseen_and_that_is_told() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nFROM @host\nWORKDIR /w\nCOPY f f\nt:\n    TRY\n        RUN cat f\n    CATCH\n        \
         RUN echo caught > c\n    END\n    RUN echo after > a\nall:\n    BUILD +t\n",
    );
    env.write("f", "1\n");
    let plan = |target: &str| -> serde_json::Value {
        serde_json::from_str(&env.rb(["plan", "--json", target]).expect(0).stdout).expect("JSON")
    };
    for target in ["+t", "+all"] {
        let told = plan(target);
        assert_eq!(told["complete"], false, "{told:#}");
        assert!(told["stopped"][0]["message"].as_str().is_some_and(|text| text.contains("CATCH of +t")));
    }
    assert!(env.rb(["plan", "+t"]).expect(0).stdout.contains("CATCH of +t runs only if"));
    env.rb(["+t"]).expect(0);
    assert_eq!(plan("+t")["complete"], true, "all that is tried has been done");
    // What comes after it cannot lead there.
    env.write("Buildfile", env.read("Buildfile").replace("echo after", "echo later"));
    assert_eq!(plan("+t")["complete"], true);
    env.rb(["--expect-cached", "+t"]).expect(1);
    env.write("f", "2\n");
    assert_eq!(plan("+all")["complete"], false);
}

#[test]
fn what_a_failed_target_saves_is_written_whoever_asks_for_it() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nFROM @host\nWORKDIR /w\n\
         dep:\n    TRY\n        RUN echo r > r; exit 3\n    FINALLY\n        SAVE ARTIFACT r AS LOCAL r.txt\n    END\n    \
         SAVE ARTIFACT r\n    SAVE ARTIFACT r AS LOCAL late.txt\n\
         always:\n    RUN echo a > a; exit 4\n    SAVE ARTIFACT --always a AS LOCAL a.txt\n\
         fine:\n    RUN echo f > f\n    SAVE ARTIFACT f AS LOCAL f.txt\n\
         copies:\n    COPY +fine/f .\n    COPY +dep/r .\n\
         stands:\n    FROM +always\n    RUN true\n",
    );
    for flags in [&["+copies"][..], &["-k", "+copies"]] {
        env.rb(flags).expect(1).says("exit code 3").says("wrote r.txt");
        assert_eq!(env.read("r.txt"), "r\n");
        assert!(!env.has("late.txt") && !env.has("f.txt"), "what went well is for BUILD alone");
        std::fs::remove_file(env.project().join("r.txt")).expect("removes");
    }
    env.rb(["+stands"]).expect(1).says("exit code 4").says("wrote a.txt");
    env.rb(["--no-output", "+copies"]).expect(1);
    assert!(!env.has("r.txt"));
}

#[test]
fn what_is_not_there_is_not_called_current() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nFROM @host\nWORKDIR /w\nc:\n    COPY f f\n    RUN grep -q good f; cp f r.txt\n    \
         SAVE ARTIFACT --always r.txt AS LOCAL c.txt\n\
         d:\n    COPY f f\n    RUN if grep -q good f; then cp f r.txt; fi\n    \
         SAVE ARTIFACT --if-exists r.txt AS LOCAL d.txt\n",
    );
    env.write("f", "good\n");
    env.rb(["+c", "+d"]).expect(0).says("wrote c.txt").says("wrote d.txt");
    env.write("f", "bad\n");
    env.rb(["+c"]).expect(1).says("c.txt left as it was: nothing was there to write");
    env.rb(["+d"]).expect(0).says("d.txt left as it was: nothing was there to write");
    assert_eq!((env.read("c.txt"), env.read("d.txt")), ("good\n".to_owned(), "good\n".to_owned()));
}

#[test]
fn a_target_that_deals_with_its_own_failure_fails_its_callers_try() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nFROM @host\nWORKDIR /w\nbuilds:\n    TRY\n        BUILD +dep\n    FINALLY\n        \
         RUN echo fin > f\n        SAVE ARTIFACT f AS LOCAL builds.txt\n    END\n\
         copies:\n    TRY\n        COPY +dep/d.txt .\n    FINALLY\n        RUN echo fin > f\n        \
         SAVE ARTIFACT f AS LOCAL copies.txt\n    END\n\
         dep:\n    RUN echo d > d.txt; exit 11\n    LET m = two\n    \
         SAVE ARTIFACT --always d.txt AS LOCAL d-$m.txt\n",
    );
    for (target, saved) in [("+builds", "builds.txt"), ("+copies", "copies.txt")] {
        let run = env.rb([target]).expect(1).says("exit code 11");
        assert_eq!(run.stderr.matches(" failed").count(), 1, "{}", run.stderr);
        assert_eq!(env.read(saved), "fin\n");
    }
    env.rb(["+dep"]).expect(1).says("exit code 11");
    assert_eq!(env.read("d-two.txt"), "d\n");
}
