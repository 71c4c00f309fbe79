//! Secrets: where they are seen, and where nothing of them is.

use rb_api::SolveError;
use rb_diag::ErrorKind;
use rb_llb::{ExecMeta, ExecOp, MountKind, SecretEnv, SecretMount, State};
use rb_session::Secret;

use super::{Kit, files, mount, step};

const VALUE: &str = "swordfish-8c1b";

fn file(id: &str, mode: u32, optional: bool) -> MountKind {
    MountKind::Secret(SecretMount { id: id.to_owned(), uid: 7, gid: 8, mode, optional })
}

fn variable(id: &str, name: &str, optional: bool) -> SecretEnv {
    SecretEnv { id: id.to_owned(), name: name.to_owned(), optional }
}

fn kit() -> Option<Kit> {
    let mut kit = Kit::new()?;
    kit.session = kit.session.with_secret("key", Secret::new(format!("{VALUE}\n")));
    Some(kit)
}

#[test]
fn a_step_sees_its_secrets_and_nothing_stays() {
    let Some(kit) = kit() else { return };
    let mounts = vec![
        (mount("/run/secrets/key", file("key", 0, false)), State::scratch()),
        (mount("/etc/open", file("key", 0o444, false)), State::scratch()),
        (mount("/run/secrets/none", file("none", 0, true)), State::scratch()),
    ];
    let script = format!(
        "cd /run/secrets; test \"$(cat key)\" = {VALUE}; test \"${{KEY%?}}\" = \"$(cat /etc/open)\"; test -z \"${{NONE-unset}}\"; \
         test ! -e none; stat -c '%a %u %g' key /etc/open > /out/said; grep -c ' /run/secrets/key ' /proc/mounts >> /out/said; \
         ! (echo x > key) 2>/dev/null; echo \"so $KEY.\"; printf %.5s \"$KEY\"; sleep 0.1; printf %s \"${{KEY#?????}}\"; cat key >&2; echo end"
    )
    .replace(VALUE, "swordfish-8c\"1b\""); // The definition does not hold it either.
    let secret_env = vec![variable("key", "KEY", false), variable("none", "NONE", true)];
    let meta = ExecMeta { env: vec!["KEY=shadowed".to_owned()], ..ExecMeta::default() };
    let (out, root) = step(&script, mounts, ExecOp { secret_env, meta, ..ExecOp::default() });
    assert_eq!(kit.said(&out), "400 7 8\n444 7 8\n1\n");
    let logs = kit.logs();
    assert!(logs.contains("so ***\n.") || logs.contains("so ***."), "{logs}");
    assert!(logs.contains("end") && !logs.contains(VALUE), "{logs}");
    // The places they were mounted on are gone.
    kit.solve(&[root]);
    for path in ["out/0/run/secrets", "out/0/etc/open"] {
        assert!(!kit.dir.join(path).exists(), "{path}");
    }
    let found = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes())
    };
    let all = files(&kit.dir);
    assert!(all.len() > 5, "{all:?}");
    assert_eq!(all.iter().filter(|path| found(path)).collect::<Vec<_>>(), Vec::<&std::path::PathBuf>::new());
}

#[test]
fn a_secret_of_roots_needs_no_other_ids() {
    let Some(kit) = kit() else { return };
    let own = MountKind::Secret(SecretMount { id: "key".to_owned(), ..SecretMount::default() });
    let script = "stat -c '%a %u %g' /s > /out/said; test -s /s";
    let (out, root) = step(script, vec![(mount("/s", own), State::scratch())], ExecOp::default());
    assert_eq!(kit.said(&out), "400 0 0\n");
    kit.solve(&[root]);
    assert!(!kit.dir.join("out/0/s").exists());
}

#[test]
fn the_value_is_not_in_the_key_and_not_in_errors() {
    let Some(mut kit) = kit() else { return };
    let op = || ExecOp { secret_env: vec![variable("key", "KEY", false)], ..ExecOp::default() };
    let (out, _) = step("echo done > /out/said", vec![], op());
    assert_eq!(kit.solve(std::slice::from_ref(&out)), 1);
    kit.session = kit.session.clone().with_secret("key", Secret::new("another"));
    assert_eq!(kit.solve(&[out]), 0);
    kit.session = kit.session.clone().with_secret("key", Secret::new(VALUE));
    let error = kit.try_solve(&[step("echo \"it is $KEY\"; exit 3", vec![], op()).0]).unwrap_err();
    let SolveError::Vertex { log_tail, .. } = &error else { panic!("{error:?}") };
    assert_eq!(log_tail.last().map(String::as_str), Some("it is ***"));
    assert!(!format!("{error:?}").contains(VALUE));
}

#[test]
fn a_secret_that_is_not_there_is_asked_for_by_name() {
    let Some(kit) = kit() else { return };
    let missing = mount("/s", file("token", 0, false));
    let as_file = step("true", vec![(missing, State::scratch())], ExecOp::default()).0;
    let secret_env = vec![variable("token", "TOKEN", false)];
    let as_variable = step("true", vec![], ExecOp { secret_env, ..ExecOp::default() }).0;
    for state in [as_file, as_variable] {
        let error = kit.try_solve(&[state]).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Input));
        let SolveError::Vertex { message, help, .. } = error else { panic!() };
        assert!(message.contains("`token`"), "{message}");
        assert!(help.is_some_and(|help| help.contains("--secret token=value")));
    }
}
