//! `RUN --device`: devices of this machine, as descriptions for containers name them.

use crate::env::{Run, TestEnv};

/// Two devices and one that wants a program to be run outside.
const DESCRIPTION: &str = r#"
cdiVersion: 0.6.0
kind: vendor.example/null
annotations:
  org.mobyproject.buildkit.device.class: sinks
containerEdits:
  env: [SINKS=yes]
devices:
  - name: a
    containerEdits:
      env: [SINK=a]
      deviceNodes:
        - path: /dev/sinks/a
          hostPath: /dev/null
  - name: b
    containerEdits:
      deviceNodes:
        - path: /opt/sink
          hostPath: /dev/null
          type: c
          major: 1
          minor: 3
"#;

const HOOKED: &str = r#"{"cdiVersion": "0.5.0", "kind": "vendor.example/hooked", "devices": [{"name": "0", "containerEdits":
    {"hooks": [{"hookName": "createRuntime", "path": "/usr/bin/touch", "args": ["touch", "/tmp/hooked"]}]}}]}"#;

const TARGETS: &str = "VERSION 1
one:
    FROM @host
    RUN --device=vendor.example/null=a,required test -c /dev/sinks/a && echo x > /dev/sinks/a && echo $SINKS $SINK > /said
    SAVE ARTIFACT /said AS LOCAL said
all:
    FROM @host
    RUN --device=sinks echo x > /opt/sink && test -c /dev/sinks/a && mknod /tmp/n c 1 3 && ! (echo x > /tmp/n) 2>/dev/null; rm /tmp/n
    RUN test ! -e /opt/sink && test ! -e /dev/sinks
optional:
    FROM @host
    RUN --device=vendor.example/none=0 true
missing:
    FROM @host
    RUN --device=vendor.example/none=0,required true
hooked:
    FROM @host
    RUN --device=vendor.example/hooked true
";

struct Described(TestEnv);

impl Described {
    fn new() -> Self {
        let env = TestEnv::new();
        env.write("cdi/null.yaml", DESCRIPTION).write("cdi/hooked.json", HOOKED).write("Buildfile", TARGETS);
        env.write("config.toml", "[devices]\nfolders = [\"cdi\"]\n");
        Self(env)
    }

    fn rb(&self, args: &[&str]) -> Run {
        self.with(&[], args)
    }

    fn with(&self, variables: &[(&str, &str)], args: &[&str]) -> Run {
        let config = self.0.project().join("config.toml").display().to_string();
        self.0.rb_with(&[&[("RB_CONFIG", config.as_str())], variables].concat(), args)
    }
}

#[test]
fn a_step_has_the_devices_that_who_builds_allows() {
    let env = Described::new();
    let refused = env.rb(&["+one"]).expect(2);
    refused
        .says("the device `vendor.example/null=a`")
        .says("--allow-device=vendor.example/null=a")
        .says("Buildfile:4");
    env.rb(&["--allow-device=vendor.example/null=b", "+one"]).expect(2);
    env.rb(&["--allow-device=vendor.example/null=a", "+one"]).expect(0);
    assert_eq!(env.0.read("said"), "yes a\n");
    // A result that is there does not stand in for the permission.
    env.rb(&["+one"]).expect(2).says("which this build does not allow");
    for allowed in ["--allow-device", "--allow-device=sinks", "--allow-device=vendor.example/null"] {
        env.rb(&[allowed, "--expect-cached", "+one"]).expect(0);
    }
    env.with(&[("RB_ALLOW_DEVICE", "true")], &["+one"]).expect(0);
    env.with(&[("RB_ALLOW_DEVICE", "vendor.example/null=a,x")], &["+one"]).expect(0);
    env.rb(&["--allow-device", "+all"]).expect(0);
    // A project cannot allow it, only forbid it.
    env.0.write("rb.toml", "[capabilities]\ndevices = false\n");
    env.rb(&["--allow-device", "+one"]).expect(2).says("--device is not allowed in this project");
}

#[test]
fn names_alone_are_in_the_key() {
    let env = Described::new();
    env.rb(&["--allow-device", "+one"]).expect(0);
    env.0.write("cdi/null.yaml", DESCRIPTION.replace("SINK=a", "SINK=another"));
    env.rb(&["--allow-device", "--expect-cached", "+one"]).expect(0);
    // One that every build may have, as the machine says.
    env.0.write("cdi/null.yaml", DESCRIPTION.replace("class: sinks", "autoallow: \"true\""));
    env.rb(&["+one"]).expect(0);
}

#[test]
fn what_is_not_there_may_be_missing_unless_it_is_required() {
    let env = Described::new();
    env.rb(&["+optional"]).expect(0);
    env.rb(&["+missing"])
        .expect(3)
        .says("describes no device `vendor.example/none=0`")
        .says("`vendor.example/null=a`");
    env.0.write("cdi/broken.json", "{");
    env.rb(&["+missing"]).expect(3).says("broken.json is not read");
    env.rb(&["--allow-device", "+one"]).expect(0);
}

#[test]
fn no_program_of_a_description_is_run_by_us() {
    let env = Described::new();
    let run = env.rb(&["--allow-device", "+hooked"]).expect(3);
    run.says("the hook `createRuntime`, which runs /usr/bin/touch on this machine")
        .says("hooked.json")
        .says("--runtime=runc");
}

#[test]
fn another_runtime_starts_the_hooks_of_a_device() {
    let env = Described::new();
    if !crate::env::is_root() || std::process::Command::new("runc").arg("--version").output().is_err() {
        eprintln!("stepping aside: this needs root and runc");
        return;
    }
    let told = env.0.project().join("hooked").display().to_string();
    env.0.write("cdi/hooked.json", HOOKED.replace("/tmp/hooked", &told));
    env.rb(&["--allow-device", "+hooked"]).expect(3);
    env.rb(&["--runtime=runc", "+hooked"]).expect(2).says("--allow-device");
    assert!(!env.0.has("hooked"));
    env.rb(&["--runtime=runc", "--allow-device", "+hooked"]).expect(0);
    assert!(env.0.has("hooked"));
}
