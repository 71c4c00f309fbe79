//! Very many sandboxes at once: none fails, and nothing stays. `RB_CROWD` says how many.

use std::sync::mpsc::{Sender, channel};

use rb_exec::{
    Bind, ExecError, ExitStatus, ExtraMount, KillSwitch, Limits, Member, Network, NetworkError, RootMount,
    Router, Spec, Upper, run,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::counts::{Counts, alone, crowd, descriptors, remove_groups};
use crate::networks::{in_a_world, root};
use crate::support::{Scratch, shell, stepping_aside, try_spec};

/// What becomes of a sandbox.
enum Event {
    /// It waits for the gate.
    Ready,
    /// It ended so, and said so.
    Ended(usize, Result<ExitStatus, String>, String),
}

/// Sandboxes over one base, which meet at one gate.
struct Crowd<'a> {
    scratch: &'a Scratch,
    base: std::path::PathBuf,
    /// The control group above those of some of them, if there can be any.
    groups: Option<String>,
}

impl Crowd<'_> {
    /// Each has a layer of its own. Of three, one has no network, one says nothing in its own, and one reaches outside; of
    /// five, one has a control group.
    fn spec(&self, number: usize, router: &Router) -> Result<Spec, NetworkError> {
        let name = |kind: &str| self.scratch.directory(&format!("{kind}{number}"));
        let root = RootMount::overlay(
            vec![self.base.clone()],
            Some(Upper { upper: name("upper"), work: name("work") }),
        );
        let asks = match number % 3 {
            2 if number.is_multiple_of(2) => format!("head -c {number} /dev/zero | nc 192.0.2.2 80; "),
            2 => format!("head -c {number} /dev/zero | nc 2001:db8::2 80; "),
            _ => String::new(),
        };
        let script = format!("{asks}echo {number} > /result; echo ready; : < /meet/gate; cat /result");
        let mut spec = shell(root, &script);
        spec.network = if number.is_multiple_of(3) { Network::None } else { Network::Member(router.join()?) };
        let meet = self.scratch.path().join("meet");
        spec.mounts.push(ExtraMount::Bind(Bind {
            source: meet,
            target: "/meet".to_owned(),
            readonly: true,
            ..Bind::default()
        }));
        if number.is_multiple_of(5) {
            spec.limits.pids = self.groups.is_some().then_some(100);
            spec.cgroup_parent = self.groups.clone();
        }
        Ok(spec)
    }

    /// Runs one; says when it waits, and how it ended.
    fn run(&self, number: usize, router: &Router, tell: &Sender<Event>) {
        let (mut said, mut is_ready) = (String::new(), false);
        let mut log = |_, bytes: &[u8]| {
            said.push_str(&String::from_utf8_lossy(bytes));
            if said.contains("ready\n") && !std::mem::replace(&mut is_ready, true) {
                tell.send(Event::Ready).unwrap();
            }
        };
        let spec = self.spec(number, router).map_err(|error| format!("{error:?}"));
        let ran = spec.and_then(|spec| {
            let ran = run(&spec, &KillSwitch::new(), &mut log);
            ran.map(|ran| ran.status).map_err(|error| format!("{error:?}"))
        });
        tell.send(Event::Ended(number, ran, said)).unwrap();
    }
}

fn said_by(number: usize) -> String {
    let asked = if number % 3 == 2 { format!("outside {number}\n") } else { String::new() };
    format!("{asked}ready\n{number}\n")
}

fn all_at_once(count: usize) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    in_a_world(true, move || {
        let scratch = Scratch::new();
        let base = root(&scratch);
        let meet = scratch.directory("meet");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let gate = meet.join("gate");
        rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let groups = scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        // What is made once and kept is made by this.
        let mut limited = shell(RootMount::shared(&base), "true");
        limited.limits = Limits { pids: Some(100), ..Limits::default() };
        limited.cgroup_parent = Some(groups.clone());
        let has_groups = match try_spec(&limited) {
            Err(error @ ExecError::Cgroup { .. }) => {
                eprintln!("without control groups: {error}");
                false
            }
            other => other.map(|_| true).unwrap(),
        };
        let of_all = Crowd { scratch: &scratch, base, groups: has_groups.then(|| groups.clone()) };
        let before = Counts::now(&groups);
        let router = Router::start().unwrap();
        let (tell, told) = channel();
        let (mut ready, mut ended) = (0, Vec::new());
        std::thread::scope(|scope| {
            for number in 0..count {
                let (tell, router, of_all) = (tell.clone(), &router, &of_all);
                scope.spawn(move || of_all.run(number, router, &tell));
            }
            // One that ends before is told below; the others need not wait for it.
            while ready + ended.len() < count {
                match told.recv().unwrap() {
                    Event::Ready => ready += 1,
                    Event::Ended(number, ran, said) => ended.push((number, ran, said)),
                }
            }
            if ended.is_empty() {
                let now = Counts::now(&groups);
                for kind in ["net", "mnt", "pid", "ipc", "uts"] {
                    assert!(now.of_kind(kind) > count, "{kind}: {}", now.of_kind(kind));
                }
                if has_groups {
                    assert_eq!(now.groups.len() - before.groups.len(), count.div_ceil(5));
                }
                let each = descriptors("self") / count;
                assert!(each < 20, "each sandbox that runs holds {each} descriptors");
            }
            // Open for as long as anybody may come.
            let open = std::fs::File::options().read(true).write(true).open(&gate).unwrap();
            while ended.len() < count {
                if let Event::Ended(number, ran, said) = told.recv().unwrap() {
                    ended.push((number, ran, said));
                }
            }
            drop(open);
        });
        let is_well = |number, ran: &Result<_, _>, said: &str| {
            *ran == Ok(ExitStatus::Exited(0)) && said == said_by(number)
        };
        let failures: Vec<_> =
            ended.iter().filter(|(number, ran, said)| !is_well(*number, ran, said)).collect();
        assert!(failures.is_empty(), "{failures:?}");
        drop(router);
        before.wait_for(&groups, || assert!(try_spec(&limited).is_ok()));
        remove_groups(&groups);
    });
}

#[test]
fn a_crowd_of_sandboxes_leaves_nothing() {
    if stepping_aside() {
        return;
    }
    alone("many::a_crowd_of_sandboxes_leaves_nothing", || all_at_once(crowd()));
}

/// Runs a script in a network; returns which network that was.
fn network_of(member: Member, script: &str, insecure: bool) -> (String, Vec<std::net::IpAddr>) {
    let scratch = Scratch::new();
    let mut spec =
        shell(RootMount::directory(root(&scratch)), &format!("{script}; readlink /proc/self/ns/net"));
    let addresses = member.addresses();
    (spec.network, spec.insecure) = (Network::Member(member), insecure);
    let ran = try_spec(&spec).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(0), "{ran:?}");
    (ran.stdout.lines().last().unwrap().to_owned(), addresses)
}

#[test]
fn a_network_in_which_nothing_was_said_is_given_again_and_no_other() {
    if stepping_aside() {
        return;
    }
    for v6 in [false, true] {
        in_a_world(v6, || {
            // One is asked for after the other: what comes back is looked at before the next is given.
            let router = Router::start().unwrap();
            let ask = |script: &str| network_of(router.join().unwrap(), script, false);
            let silent = ask("true");
            assert_eq!(ask("nc -l -p 1 & kill $!; ip addr"), silent, "to listen is to say nothing");
            assert_eq!(ask("nc 192.0.2.2 80 < /dev/null"), silent);
            let second = ask("true");
            assert_ne!(second.1, silent.1, "somebody was outside");
            assert_eq!(ask("nc 127.0.0.1 1 < /dev/null; true"), second);
            let third = ask("nslookup -type=a any.test 192.0.2.2");
            assert!(![&silent.1, &second.1].contains(&&third.1), "somebody spoke to himself");
            let fourth = network_of(router.join().unwrap(), "ip link set lo down", true);
            assert!(![&silent.1, &second.1, &third.1].contains(&&fourth.1), "somebody sent a datagram");
            let fifth = ask("ip link");
            assert!(
                ![&silent.1, &second.1, &third.1, &fourth.1].contains(&&fifth.1),
                "somebody could change it"
            );
            // Two who have one at the same time have two.
            let both = [router.join().unwrap(), router.join().unwrap()];
            assert_ne!(both[0].addresses(), both[1].addresses());
        });
    }
}
