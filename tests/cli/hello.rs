//! The README's first command, and what follows it.

use crate::env::{TestEnv, copy_tree, hello};

fn hello_env() -> TestEnv {
    let env = TestEnv::new();
    copy_tree(&hello(), &env.project());
    env
}

const HELLO: &str = "Hello from an image that rb built: no daemon, no Docker, no root.\n";

#[test]
fn hello_is_built_and_run_and_only_its_words_are_on_stdout() {
    let env = hello_env();
    let first = env.rb(["run", "+image"]).expect(0);
    assert_eq!(first.stdout, HELLO);
    let again = env.rb(["run", "hello"]).expect(0);
    assert_eq!(again.stdout, HELLO);
}

#[test]
fn the_second_build_runs_no_step_and_says_so() {
    let env = hello_env();
    env.rb(["+image"]).expect(0).says("steps run");
    env.rb(["+image"]).expect(0).says("nothing to do");
}

#[test]
fn touch_comments_and_moved_lines_run_nothing_and_a_changed_file_runs_what_needs_it() {
    let env = hello_env();
    env.rb(["+image"]).expect(0);

    env.write("hello.c", env.read("hello.c"));
    env.rb(["+image"]).expect(0).says("nothing to do");

    let moved = env.read("Buildfile").replace("VERSION 1\n", "VERSION 1\n\n# A remark.\n\n");
    env.write("Buildfile", moved);
    env.rb(["+image"]).expect(0).says("nothing to do");

    env.write("unrelated.txt", "nobody copies this");
    env.rb(["+image"]).expect(0).says("nothing to do");

    env.write("hello.c", env.read("hello.c").replace("Hello", "HELLO"));
    let changed = env.rb(["run", "+image"]).expect(0).says("steps run");
    assert_eq!(changed.stdout, HELLO.replace("Hello", "HELLO"));
}

#[test]
fn a_change_that_compiles_to_the_same_bytes_stops_there() {
    let env = hello_env();
    env.rb(["+image"]).expect(0);
    env.write("hello.c", format!("{}/* a remark for readers */\n", env.read("hello.c")));
    // WORKDIR is cached, COPY and RUN run, and SAVE ARTIFACT and the image find what they need by content.
    env.rb(["+image"]).expect(0).says("2 steps run");
}

#[test]
fn a_remark_in_the_buildfile_is_no_change_of_the_folder_it_builds() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    COPY . .\n    RUN ls > /list\n    SAVE ARTIFACT /list AS LOCAL out/list\n")
        .write("f", "x");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out/list"), "f\n");
    std::fs::remove_dir_all(env.project().join("out")).expect("removes");
    env.write("Buildfile", env.read("Buildfile") + "# A remark.\n");
    env.rb(["+t"]).expect(0).says("nothing to do");
}
