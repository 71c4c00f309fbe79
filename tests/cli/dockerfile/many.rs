//! Dockerfiles that are longer than anybody writes them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::env::TestEnv;

#[test]
fn thousands_of_variables_take_no_time() {
    let env = TestEnv::new();
    let text = |count: usize| {
        let lines: String = (0..count).map(|number| format!("ENV V{number}={number}\n")).collect();
        format!("FROM scratch\n{lines}ENV V1=again\n")
    };
    let took = |count: usize| {
        env.write("Dockerfile", text(count));
        let began = Instant::now();
        env.rb(["build", "-t", "many", "."]).expect(0);
        began.elapsed()
    };
    let (few, many) = (took(5_000), took(20_000));
    // Four times as many took sixteen times as long, when each looked through all before it.
    assert!(many < few * 8 + Duration::from_secs(2), "{few:?} {many:?}");
    let config = super::config(&env, "many");
    let variables = config["config"]["Env"].as_array().expect("variables");
    assert_eq!((variables.len(), &variables[2]), (20_001, &serde_json::json!("V1=again")));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let env = TestEnv::new();
    let lines: String = (0..40_000).map(|number| format!("ENV V{number}=$V0$V1$V2$V3\n")).collect();
    env.write("Dockerfile", format!("FROM scratch\n{lines}"));
    let mut rb = env.command(["build", "."]).stderr(Stdio::null()).spawn().expect("rb starts");
    let pid = Pid::from_child(&rb);
    std::thread::sleep(Duration::from_millis(700));
    kill_process(pid, Signal::INT).expect("signals");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    // It may have ended by the first one.
    if rb.try_wait().expect("waits").is_none() {
        kill_process(pid, Signal::INT).expect("signals");
    }
    let code = rb.wait().expect("ends").code();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(code, Some(130));
}
