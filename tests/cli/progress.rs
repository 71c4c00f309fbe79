//! Progress where there is no terminal: lines, JSON, GitHub, nothing; and readers that go away.

use std::process::Stdio;

use serde_json::Value;

use crate::env::TestEnv;

const TWO: &str = "VERSION 1\nall:\n    BUILD +job --N=1\n    BUILD +job --N=2\n    BUILD +long-name\n\
                   job:\n    FROM @host\n    ARG N\n    RUN printf '\\033[31mjob %s\\033[0m\\n' $N\n\
                   long-name:\n    FROM @host\n    RUN printf '1%%\\r2%%\\r3%%\\nno end'\n";

#[test]
fn lines_are_aligned_and_say_which_call_they_are_of() {
    let env = TestEnv::new();
    env.write("Buildfile", TWO);
    let said = env.rb(["+all"]).expect(0).stderr;
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
    for line in ["+job --N=1 | job 1\n", "+job --N=2 | job 2\n", "+long-name | 3%\n", "+long-name | no end\n"]
    {
        assert!(said.contains(line), "{line:?} in:\n{said}");
    }
    assert!(said.contains("built +all in "), "{said}");
}

#[test]
fn verbose_progress_tells_why_steps_run_and_scripts_have_short_names() {
    let env = TestEnv::new();
    env.write("src/a", "1");
    let text = "VERSION 1\nt:\n    FROM @host\n    COPY src /src\n    RUN <<EOF\n    cat /src/a\n    true\n    EOF\n";
    env.write("Buildfile", text.replace("    EOF", "EOF"));
    let step = "+t | --> RUN <<EOF (cat /src/a…)\n";
    let said = env.rb(["-V", "+t"]).expect(0).stderr;
    assert!(said.contains(&format!("{step}+t | (runs: never built before)\n")), "{said}");
    let said = env.rb(["+t", "-V"]).stderr;
    assert!(!said.contains("(found"), "behind a target it is the target's:\n{said}");
    let said = env.rb(["--verbose", "+t"]).expect(0).stderr;
    assert!(said.contains("+t | *cached* --> RUN <<EOF (cat /src/a…)\n+t | (found by "), "{said}");
    env.write("src/a", "2");
    assert!(!env.rb(["+t"]).expect(0).stderr.contains("(runs"));
    env.write("src/a", "3");
    let said = env.rb(["-V", "+t"]).expect(0).stderr;
    assert!(
        said.contains(&format!("{step}+t | (runs: what it reads of `+t | COPY src /src` has changed")),
        "{said}"
    );
}

#[test]
fn json_is_json_and_quiet_is_quiet() {
    let env = TestEnv::new();
    env.write("Buildfile", TWO);
    let said = env.rb(["--progress=json", "+all"]).expect(0).stderr;
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for event in ["added", "started", "log", "done", "summary"] {
        assert!(lines.iter().any(|line| line["event"] == event), "no {event} in:\n{said}");
    }
    let run = env.rb(["--quiet", "--no-cache", "+all"]).expect(0);
    assert_eq!((&*run.stdout, &*run.stderr), ("", ""));
}

#[test]
fn a_long_export_is_seen_to_go_on() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    COPY text /text\n    SAVE IMAGE app\n");
    // Words at random, so that the best of compressions takes its time.
    let mut state = 1_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:x} ", state >> 48)
    };
    let mut text = String::new();
    while text.len() < 8 << 20 {
        text.push_str(&word());
    }
    env.write("text", &text);
    let output = "type=oci,dest=app.tar,compression=zstd,compression-level=19";
    let said = env.rb(["--progress=json", "-o", output, "+t"]).expect(0).stderr;
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let outputs = lines.iter().find(|line| line["name"] == "writing outputs").expect("is told");
    let packed: Vec<(u64, u64)> = lines
        .iter()
        .filter(|line| line["vertex"] == outputs["vertex"] && line["doing"] == "packing")
        .map(|line| (line["current"].as_u64().expect("bytes"), line["total"].as_u64().expect("bytes")))
        .collect();
    assert!(!packed.is_empty(), "{said}");
    assert!(packed.iter().all(|(done, all)| done <= all && *all == text.len() as u64), "{packed:?}");
}

#[test]
fn github_gets_groups_annotations_and_a_summary() {
    let env = TestEnv::new();
    env.write(
        "app/Buildfile",
        "VERSION 1\ngood:\n    FROM @host\n    RUN echo '::set-output name=x::y'; echo '##[warning]no'\n\
         bad:\n    FROM @host\n    RUN echo '::error::100%, not ours'; exit 7\n",
    );
    let summary = env.project().join("summary.md");
    let project = env.project();
    let (summary_text, project) = (summary.to_string_lossy().into_owned(), project.to_string_lossy());
    let github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", &*summary_text),
        ("GITHUB_WORKSPACE", &*project),
    ];
    let said = env.rb_with(&github, ["./app+good"]).expect(0).stderr;
    let word =
        said.lines().find_map(|line| line.strip_prefix("::stop-commands::")).expect("commands are stopped");
    let (stop, go) = (format!("::stop-commands::{word}"), format!("::{word}::"));
    // What the runner would take for commands: those outside of what is stopped.
    let taken = |said: &str| -> Vec<String> {
        let mut stopped = None;
        let mut taken = Vec::new();
        for line in said.lines().map(str::trim_start) {
            match &stopped {
                Some(end) if line == format!("::{end}::") => stopped = None,
                Some(_) => {}
                None => match line.strip_prefix("::stop-commands::") {
                    Some(word) => stopped = Some(word.to_owned()),
                    None if line.starts_with("::") || line.contains("##[") => taken.push(line.to_owned()),
                    None => {}
                },
            }
        }
        assert_eq!(stopped, None, "{said}");
        taken
    };
    assert!(said.contains(&stop) && said.contains(&go), "{said}");
    let groups = taken(&said);
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(groups[0].starts_with("::group::+good | RUN echo") && groups[1] == "::endgroup::", "{groups:?}");
    let said = env.rb_with(&github, ["./app+bad"]).expect(1).stderr;
    let commands = taken(&said);
    let error = commands.last().expect("there is one");
    let place = "::error file=app/Buildfile,line=7,col=5,title=+bad%3A `RUN echo '%3A%3Aerror%3A%3A100%25%2C not ours'; exit 7` failed::";
    assert!(error.starts_with(place), "{error}");
    assert!(error.contains("exit code 7%0A::error::100%25, not ours"), "{error}");
    assert_eq!(commands.iter().filter(|line| line.starts_with("::error")).count(), 1, "{commands:?}");
    let summary = std::fs::read_to_string(summary).expect("was written");
    assert!(summary.contains("### built ./app+good in") && summary.contains("### rb failed"), "{summary}");
    // What is typed wins.
    let said = env.rb_with(&github, ["--progress=plain", "./app+good"]).expect(0).stderr;
    assert!(!said.contains("::group::") && !said.contains("stop-commands"), "{said}");
}

#[test]
fn readers_that_go_away_end_nothing_and_panic_nobody() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN seq 20000; echo done > /x\n    SAVE ARTIFACT /x AS LOCAL x\n",
    );
    let mut child = env
        .command(["--progress=plain", "+t"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    drop(child.stderr.take());
    assert!(child.wait().expect("ends").success());
    assert!(env.has("x"));
    for args in [&["ls"][..], &["logs"], &["--help"], &["ast"]] {
        let mut child =
            env.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{args:?}: {} {said}", output.status);
    }
    let mut child =
        env.command(["+none"]).env("RB_LOG", "trace").stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ends").code(), Some(2), "logs to nobody are no panic");
}
