//! `RUN`: what commands see.

use rb_llb::{MountKind, NetworkMode, Op};

use crate::bench::Bench;

fn exec(bench: &Bench) -> rb_llb::ExecOp {
    let graph = bench.outcome().graph();
    let mut commands = graph.vertices().filter_map(|vertex| match &vertex.op {
        Op::Exec(exec) => Some(exec.clone()),
        _ => None,
    });
    commands.next_back().expect("something runs")
}

#[test]
fn secrets_are_files_or_variables() {
    let file = "FROM a\nRUN --mount=type=secret,id=t,env=TOKEN --mount=type=secret,target=/k/key,mode=0440,uid=7,required --mount=type=secret,source=s curl $TOKEN";
    let bench = Bench::of(file);
    let exec = exec(&bench);
    assert_eq!(exec.secret_env.len(), 1);
    assert_eq!((exec.secret_env[0].id.as_str(), exec.secret_env[0].name.as_str()), ("t", "TOKEN"));
    let files: Vec<(String, String, u32, u32, bool)> = exec
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Secret(secret) => {
                Some((mount.dest.clone(), secret.id.clone(), secret.mode, secret.uid, secret.optional))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        files,
        [
            ("/k/key".to_owned(), "key".to_owned(), 0o440, 7, false),
            ("/run/secrets/s".to_owned(), "s".to_owned(), 0o400, 0, true),
        ]
    );
    // What is shown does not hold what a step would say of itself either.
    assert!(bench.outcome().names()[1].ends_with("curl ****"));
}

#[test]
fn agents_have_a_socket() {
    let exec = exec(&Bench::of("FROM a\nRUN --mount=type=ssh --mount=type=ssh,id=k,target=/s,required x"));
    let agents: Vec<(&str, &str, bool)> = exec
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Ssh(agent) => Some((mount.dest.as_str(), agent.id.as_str(), agent.optional)),
            _ => None,
        })
        .collect();
    assert_eq!(agents, [("/run/buildkit/ssh_agent.0", "", true), ("/s", "k", false)]);
    assert!(exec.meta.env.contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned()));
}

#[test]
fn mounts_have_variables_and_lie_in_the_working_folder() {
    let file = "FROM a AS src\nFROM a\nARG T=cache S=sub\nWORKDIR /w\nRUN --mount=type=$T,target=c,id=i,from=src,source=$S,sharing=private --mount=target=b,rw x";
    let bench = Bench::of(file).option("build-arg:BUILDKIT_CACHE_MOUNT_NS", "ns");
    let exec = exec(&bench);
    let [_, bind, cache] = exec.mounts.as_slice() else { panic!("{:?}", exec.mounts) };
    assert_eq!((bind.dest.as_str(), bind.readonly, bind.output), ("/w/b", false, None));
    assert_eq!((cache.dest.as_str(), cache.selector.as_str()), ("/w/c", "/sub"));
    assert!(
        matches!(&cache.kind, MountKind::Cache { id, sharing: rb_llb::CacheSharing::Private } if id == "ns/i")
    );
}

#[test]
fn a_build_sets_what_all_commands_see() {
    let bench = Bench::of("FROM a\nRUN --network=default x")
        .option("add-hosts", "db=10.0.0.1")
        .option("build-arg:BUILDKIT_SANDBOX_HOSTNAME", "h")
        .option("force-network-mode", "host")
        .option("memory", "1000");
    let exec = exec(&bench);
    assert_eq!((exec.meta.hostname.as_str(), exec.meta.extra_hosts[0].ip.as_str()), ("h", "10.0.0.1"));
    assert_eq!(exec.network, NetworkMode::Host);
    let graph = bench.outcome().graph();
    let limits = graph.vertices().filter_map(|vertex| graph.meta(&vertex.digest).linux_resources.clone());
    assert_eq!(limits.map(|limits| limits.memory_bytes).collect::<Vec<_>>(), [1000]);
}

#[test]
fn several_heredocs_are_given_to_the_shell_as_they_stand() {
    let exec = exec(&Bench::of("FROM a\nRUN cat <<-X 3<<Y\n\tone\n\tX\ntwo\nY\n"));
    assert_eq!(exec.meta.args[2], "cat <<-X 3<<Y\n\tone\nX\ntwo\nY");
    let exec = exec_of_shell();
    assert_eq!(exec.meta.args, ["/bin/bash", "-ec", "echo a\n"]);
}

fn exec_of_shell() -> rb_llb::ExecOp {
    exec(&Bench::of("FROM a\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN <<-EOF\n\techo a\nEOF\n"))
}

#[test]
fn devices_are_optional_unless_they_are_required() {
    let exec = exec(&Bench::of("FROM a\nRUN --device=v.com/gpu=all --device=name=v.com/x,required x"));
    let devices: Vec<(&str, bool)> =
        exec.cdi_devices.iter().map(|device| (device.name.as_str(), device.optional)).collect();
    assert_eq!(devices, [("v.com/gpu=all", true), ("v.com/x", false)]);
}
