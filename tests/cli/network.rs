//! Networks of steps: outside by default, and not this machine; this machine's for those who were allowed it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::env::{TestEnv, Who, is_root};

/// A service of this machine, on all its addresses, which says `here` to everybody; and one of its addresses that is no
/// loopback, if it has any.
fn service() -> (u16, Option<SocketAddr>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("has one").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connects");
            stream.write_all(b"here\n").expect("writes");
            stream.shutdown(std::net::Shutdown::Write).ok();
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    // Nothing is sent: this asks which address would be used.
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    let connected = own.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| own.local_addr());
    (port, connected.ok().map(|address| (address.ip(), port).into()))
}

/// Targets that ask whoever listens at `127.0.0.1` and `own`, with and without this machine's network.
fn asking(who: Who, port: u16, own: Option<SocketAddr>) -> Option<TestEnv> {
    let env = TestEnv::of(who);
    if !env.busybox_layout("base") {
        return None;
    }
    let own = own.map_or(Ipv4Addr::LOCALHOST.to_string(), |own| own.ip().to_string());
    let target = |name: &str, options: &str| {
        format!(
            "{name}:\n    FROM oci-layout:./base:test\n    RUN {options} for to in 127.0.0.1 {own} 198.18.0.1; do \
             busybox nc $to {port} < /dev/null || echo not at $to; done > /said 2>&1; cat /etc/resolv.conf >> /said\n    \
             SAVE ARTIFACT /said AS LOCAL said-{name}\n"
        )
    };
    let text = format!("VERSION 1\n{}{}", target("step", ""), target("host", "--network=host"));
    env.write("Buildfile", text);
    env.hand_over();
    Some(env)
}

#[test]
fn a_step_does_not_reach_services_of_this_machine() {
    steps_do_not(Who::Tester);
    if is_root() {
        steps_do_not(Who::SingleId);
    }
}

fn steps_do_not(who: Who) {
    let (port, own) = service();
    let Some(env) = asking(who, port, own) else { return };
    env.rb(["+step"]).expect(0);
    let said = env.read("said-step");
    assert!(said.contains("not at 127.0.0.1\n") && said.contains("not at 198.18.0.1\n"), "{said}");
    assert!(!said.contains("here\n") && said.contains("nameserver 198.18.0.1\n"), "{said}");
    // Asking for this machine's is refused, before anything is looked up or run.
    let refused = env.rb(["+host"]).expect(2).says("this machine's network").says("--allow-host-network");
    refused.says("Buildfile:");
    env.rb(["--allow-host-network", "+host"]).expect(0);
    assert!(env.read("said-host").starts_with("here\n"), "{}", env.read("said-host"));
    env.rb(["+host"]).expect(2);
    // To whoever was told that all steps have it: the key does not change, so the answer is asked anew.
    env.rb(["--step-network=host", "--no-cache", "+step"]).expect(0);
    assert!(env.read("said-step").starts_with("here\n"), "{}", env.read("said-step"));
    env.rb(["--step-network=host", "+host"]).expect(0);
    env.rb_with(&[("RB_ALLOW_HOST_NETWORK", "true")], ["+host"]).expect(0);
    env.rb_with(&[("RB_STEP_NETWORK", "host")], ["+host"]).expect(0);
    env.rb_with(&[("RB_STEP_NETWORK", "hots")], ["+host"]).expect(2).says("RB_STEP_NETWORK");
}

#[test]
fn a_program_has_the_network_it_was_given() {
    let (port, _) = service();
    let Some(env) = asking(Who::Tester, port, None) else { return };
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    SAVE IMAGE asking:latest\n");
    env.rb(["+t"]).expect(0);
    let script = format!("busybox nc 127.0.0.1 {port} < /dev/null");
    assert_eq!(env.rb(["run", "asking", "sh", "-c", &script]).expect(0).stdout, "here\n");
    for network in ["sandbox", "none"] {
        let run = env.rb(["run", &format!("--network={network}"), "asking", "sh", "-c", &script]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    }
}

#[test]
fn doctor_and_config_tell_of_it() {
    let env = TestEnv::new();
    let told = env.rb(["doctor"]).expect(0).stdout;
    assert!(
        told.contains("network of steps") && told.contains("leads outside and not to this machine"),
        "{told}"
    );
    env.write("config.toml", "[network]\nsteps = \"host\"\n");
    let file = env.project().join("config.toml").display().to_string();
    let with = [("RB_CONFIG", file.as_str())];
    assert_eq!(env.rb_with(&with, ["config", "network.steps"]).expect(0).stdout, "host\n");
    env.write("config.toml", "[network]\nsteps = \"hots\"\n");
    env.rb_with(&with, ["config"]).expect(2).says("hots");
}
