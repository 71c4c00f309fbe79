//! `rb bake`: files, the command line and the environment together.

use crate::env::TestEnv;

const FILE: &str = r#"
variable "TAG" {
  default = "latest"
  description = "of the image"
}
group "default" { targets = ["app", "lib"] }
target "app" { tags = ["app:${TAG}"] }
target "lib" { contxt = "x" }
"#;

#[test]
fn a_plan_is_printed_as_json() {
    let env = TestEnv::new();
    env.write("docker-bake.hcl", FILE);
    env.write("docker-bake.override.hcl", "target \"lib\" { no-cache = true }\n");
    let run = env.rb(["bake", "--print", "--set", "lib.args.A=1", "--var", "TAG=v2"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).expect("stdout is JSON");
    assert_eq!(plan["group"]["default"]["targets"], serde_json::json!(["app", "lib"]));
    assert_eq!(plan["target"]["app"]["tags"], serde_json::json!(["app:v2"]));
    assert_eq!(plan["target"]["lib"]["args"]["A"], "1");
    assert_eq!(plan["target"]["lib"]["no-cache"], true);
    run.says("did you mean `context`?");
    // The environment counts where --var does not, and named files are the only ones.
    let run = env.rb_with(&[("TAG", "env")], ["bake", "-f", "docker-bake.hcl", "--print", "app"]).expect(0);
    assert!(run.stdout.contains("app:env") && !run.stdout.contains("no-cache"), "{}", run.stdout);
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    let env = TestEnv::new();
    env.write("docker-bake.hcl", "target \"default\" {\n  tags = [TGA]\n}\nvariable \"TAG\" {}\n");
    env.rb(["bake", "--print"]).expect(2).says("docker-bake.hcl:2").says("did you mean `TAG`?");
    env.rb(["bake", "--print", "-f", "nope.hcl"]).expect(3).says("`nope.hcl` cannot be read");
    env.rb_with(&[("BUILDX_BAKE_FILE_RELATIVE_PATHS", "1")], ["bake", "--print"])
        .expect(2)
        .says("is not supported");
    env.write("twice.yaml", "services:\n  a.b:\n    build: .\n  a_b:\n    build: .\n");
    env.rb(["bake", "--print", "-f", "twice.yaml"]).expect(2).says("two services are the target `a_b`");
}

#[test]
fn targets_and_variables_are_listed() {
    let env = TestEnv::new();
    env.write("docker-bake.hcl", FILE);
    let run = env.rb(["bake", "--list", "variables"]).expect(0);
    assert_eq!(run.stdout, "VARIABLE  TYPE  VALUE   DESCRIPTION\nTAG             latest  of the image\n");
    let run = env.rb(["bake", "--list", "targets"]).expect(0);
    assert_eq!(run.stdout, "TARGET   DESCRIPTION\napp\ndefault  app, lib\nlib\n");
}

#[test]
fn all_that_is_wrong_with_targets_is_told_at_once() {
    let env = TestEnv::new();
    env.write(
        "docker-bake.hcl",
        "target \"app\" {\n  platforms = [\"linux amd64\"]\n  shm-size = \"much\"\n}\ntarget \"web\" { ulimits = [\"x\"] }\n",
    );
    let run = env.rb(["bake", "--print", "app", "web", "wbe", "ap"]).expect(2);
    run.says("`platforms` of target `app`")
        .says("`shm-size` of target `app`")
        .says("`ulimits` of target `web`");
    let run = env.rb(["bake", "--print", "wbe", "ap"]).expect(2);
    run.says("did you mean `web`?").says("did you mean `app`?");
}

#[test]
fn all_dockerfiles_that_are_wrong_are_told_at_once() {
    let env = TestEnv::new();
    let targets = "target \"a\" { dockerfile = \"a\" }\ntarget \"b\" { dockerfile = \"b\" }\n";
    env.write("docker-bake.hcl", format!("group \"default\" {{ targets = [\"a\", \"b\"] }}\n{targets}"));
    env.write("a", "FROM scratch\nEXPOSE x\n").write("b", "FROM scratch\nSTOPSIGNAL x\n");
    env.rb(["bake"]).expect(2).says("invalid containerPort: x").says("invalid signal: x");
}
