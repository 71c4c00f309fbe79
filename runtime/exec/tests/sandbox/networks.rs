//! Networks that lead outside and not to this machine: a small world of networks made by the test, in which one is "this
//! machine" and one is outside.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rb_exec::{ExitStatus, KillSwitch, Network, RootMount, Router, Spec, run};

use crate::support::{Scratch, example, example_within, install_busybox, shell, stepping_aside, try_spec};

/// Whoever listens on "this machine" says so.
const HERE: &str = "here";
/// As does whoever listens outside.
const OUTSIDE: &str = "outside";

/// Does `work` on a "machine" of its own, in a thread: 192.0.2.1, 203.0.113.1, 2001:db8::1, and a way out by 192.0.2.2 and
/// 2001:db8::2, where somebody is. On the one as on the other TCP port 80 says where it is, and UDP port 53 knows where
/// all names are: at 192.0.2.53 on this machine (on its loopback alone), at 192.0.2.54 outside.
pub(crate) fn in_a_world(v6: bool, work: impl FnOnce() + Send + 'static) {
    let machine = std::thread::spawn(move || {
        rb_sys::network::enter_new_network().unwrap();
        let (to_machine, from_outside) = channel();
        std::thread::spawn(move || {
            rb_sys::network::enter_new_network().unwrap();
            to_machine.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            let wait = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().contains("out0");
            while !wait() {
                std::thread::sleep(Duration::from_millis(5));
            }
            ip("link set lo up");
            ip("addr add 192.0.2.2/24 dev out0");
            if v6 {
                ip("addr add 2001:db8::2/64 dev out0 nodad");
            }
            ip("link set out0 up");
            serve(OUTSIDE, "0.0.0.0:53", [192, 0, 2, 54]);
            to_machine.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            // A network without a process or descriptor is gone; the servers are threads of it.
        });
        let outside = from_outside.recv().unwrap();
        ip("link set lo up");
        ip(&format!("link add in0 type veth peer name out0 netns {outside}"));
        ip("addr add 192.0.2.1/24 dev in0");
        ip("addr add 203.0.113.1/32 dev lo");
        ip("link set in0 up");
        ip("route add default via 192.0.2.2");
        if v6 {
            ip("addr add 2001:db8::1/64 dev in0 nodad");
            ip("-6 route add default via 2001:db8::2");
        }
        from_outside.recv().unwrap();
        serve(HERE, "127.0.0.1:53", [192, 0, 2, 53]);
        // The kernel takes note of a link that is up, and of addresses on it, some time later.
        let is_settled =
            |said: &str| !said.contains("linkdown") && (!v6 || said.contains("local 2001:db8::1 "));
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut before = interfaces();
        while !is_settled(&before) {
            assert!(Instant::now() < deadline, "{before}");
            std::thread::sleep(Duration::from_millis(20));
            before = interfaces();
        }
        work();
        assert_eq!(interfaces(), before, "something stayed on this machine");
    });
    if let Err(panic) = machine.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the package iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Names of interfaces, routes and addresses of the thread's network.
fn interfaces() -> String {
    let said = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Without what the kernel makes by itself, and after a while: addresses of the link, ways to many, states.
    let routes = said(&["-o", "route", "show", "table", "all"]) + &nft();
    let routes = routes.lines().filter(|line| !line.contains("fe80::") && !line.starts_with("multicast"));
    let links = said(&["-o", "-br", "link"]);
    let links = links.lines().filter_map(|line| line.split_whitespace().next());
    links.chain(routes).map(|line| format!("{line}\n")).collect()
}

fn nft() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().expect("the package nftables");
    String::from_utf8(output.stdout).unwrap()
}

fn serve(says: &'static str, names_at: &str, address: [u8; 4]) {
    // By both versions of the protocol, if there is the other.
    let listener = TcpListener::bind("[::]:80").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // All that is said is counted before the answer: it comes whole.
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).unwrap();
                writeln!(stream, "{says} {}", heard.len()).unwrap();
            });
        }
    });
    let names = UdpSocket::bind(names_at).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        loop {
            let (length, asker) = names.recv_from(&mut question).unwrap();
            names.send_to(&answer(&question[..length], address), asker).unwrap();
        }
    });
}

/// Answers a question for an address of version 4; of any other kind there is none.
fn answer(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_v4 = question[end - 4..end - 2] == [0, 1];
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if is_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address);
    }
    answer
}

/// A root with what asks in networks.
pub(crate) fn root(scratch: &Scratch) -> PathBuf {
    let root = scratch.directory("root");
    install_busybox(&root);
    for applet in ["nslookup", "ping", "timeout", "cut", "tail"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    root
}

/// Asks everybody, a line each: what was said, or how it failed.
const ASK: &str = r#"
ask() { said=$(printf '%s' "$3" | timeout 20 nc $1 $2 2>&1); echo "$1 $2: $?" $said; }
ask 192.0.2.2 80 hello
ask 192.0.2.2 81
ask 192.0.2.77 80
ask 192.0.2.1 80
ask 203.0.113.1 80
ask 127.0.0.1 80
ask 198.18.0.1 80
ask 198.18.0.1 1
ask 2001:db8::2 80 hello
ask 2001:db8::1 80
ask ::1 80
name() { said=$(timeout 20 nslookup -type=a $* 2>&1 | tail -n 2); echo "$*:" $said; }
name any.test
name any.test 192.0.2.2
timeout 2 nslookup -type=a any.test 192.0.2.1 > /dev/null 2>&1 || echo no names here
ping -c 1 -W 1 192.0.2.2 > /dev/null 2>&1 || echo no ping
cat /etc/resolv.conf
"#;

/// What they say.
fn told(v6: bool) -> String {
    let refused = |to: &str| {
        format!("{to}: 1 nc: can't connect to remote host ({}): Connection refused\n", address(to))
    };
    let mut told = "192.0.2.2 80: 0 outside 5\n".to_owned();
    told += &refused("192.0.2.2 81");
    told += "192.0.2.77 80: 1 nc: can't connect to remote host (192.0.2.77): No route to host\n";
    for to in ["192.0.2.1 80", "203.0.113.1 80", "127.0.0.1 80", "198.18.0.1 80", "198.18.0.1 1"] {
        told += &refused(to);
    }
    let of_v6 = |to: &str, trouble: &str| format!("{to}: 1 nc: can't connect to remote host: {trouble}\n");
    if v6 {
        told += "2001:db8::2 80: 0 outside 5\n";
        told += &of_v6("2001:db8::1 80", "Connection refused");
    } else {
        told += &of_v6("2001:db8::2 80", "Network is unreachable");
        told += &of_v6("2001:db8::1 80", "Network is unreachable");
    }
    told += &of_v6("::1 80", "Connection refused");
    told += "any.test: Address: 192.0.2.53\n";
    told += "any.test 192.0.2.2: Address: 192.0.2.54\n";
    told += "no names here\nno ping\nnameserver 198.18.0.1\nsearch test\n";
    told
}

fn address(to: &str) -> &str {
    to.split_once(' ').map_or(to, |(address, _)| address)
}

/// Runs a script in a sandbox of the example's, on a machine whose resolver is on its loopback, as root or as another user.
fn sandboxed(scratch: &Scratch, user: Option<u32>, script: &str) -> Output {
    let resolver = scratch.path().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\nsearch test\n").unwrap();
    let program = example_within(scratch);
    let own = "mount --bind \"$0\" $(readlink -f /etc/resolv.conf) && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", own]).arg(resolver);
    if let Some(user) = user {
        let owned =
            Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(scratch.path()).status();
        assert!(owned.unwrap().success());
        let user = user.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    }
    let root = scratch.path().join("root");
    command.arg(program).arg("--outside").arg(root).args(["/bin/sh", "-c", script]).output().unwrap()
}

fn asks(v6: bool, user: Option<u32>) {
    if stepping_aside() {
        return;
    }
    in_a_world(v6, move || {
        let scratch = Scratch::new();
        root(&scratch);
        let output = sandboxed(&scratch, user, ASK);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            told(v6),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn root_reaches_outside_and_not_this_machine() {
    asks(true, None);
}

#[test]
fn a_user_reaches_outside_and_not_this_machine() {
    asks(true, Some(61002));
}

#[test]
fn without_a_way_by_version_6_there_is_none_inside() {
    asks(false, None);
}

#[test]
fn one_that_is_killed_leaves_nothing() {
    if stepping_aside() {
        return;
    }
    in_a_world(true, || {
        let scratch = Scratch::new();
        let before = interfaces();
        let mut child = Command::new(example())
            .arg("--outside")
            .arg(root(&scratch))
            .args(["/bin/sh", "-c", "readlink /proc/self/ns/net; nc 192.0.2.2 80 > /dev/null < /dev/zero"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut network = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut network).unwrap();
        let network = network.trim();
        assert!(network.starts_with("net:["), "{network}");
        let routers = threads_of(child.id());
        assert!(!users_of(network).is_empty());
        // Nothing is seen of it while it runs, either.
        assert_eq!(interfaces(), before);
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        for network in routers.iter().map(String::as_str).chain([network]) {
            while !users_of(network).is_empty() {
                assert!(Instant::now() < deadline, "{:?} outlived it", users_of(network));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
}

/// The network of a process's threads that are not in this thread's.
fn threads_of(process: u32) -> BTreeSet<String> {
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let networks = threads.filter_map(|thread| std::fs::read_link(thread.path().join("ns/net")).ok());
    let others: BTreeSet<String> =
        networks.filter(|network| *network != own).map(|network| network.display().to_string()).collect();
    assert_eq!(others.len(), 1, "the threads of the router");
    others
}

/// Processes in a network.
fn users_of(network: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let is_in = |path: &std::path::Path| {
        std::fs::read_link(path.join("ns/net")).is_ok_and(|own| own.display().to_string() == network)
    };
    let tasks =
        processes.flat_map(|process| std::fs::read_dir(process.path().join("task")).into_iter().flatten());
    tasks
        .flatten()
        .map(|task| task.path())
        .filter(|path| is_in(path))
        .map(|path| path.display().to_string())
        .collect()
}

/// Ends a sandbox when the test is over, however it ends.
struct Ending<'a>(&'a KillSwitch);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn says(spec: &Spec) -> String {
    let ran = try_spec(spec).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(0), "{ran:?}");
    ran.stdout
}

#[test]
fn a_hundred_at_once_reach_outside_and_not_each_other() {
    if stepping_aside() {
        return;
    }
    in_a_world(true, || {
        let scratch = Scratch::new();
        let root = root(&scratch);
        let router = Router::start().unwrap();
        let first = router.join().unwrap();
        let address = first.addresses()[0];
        let mut listening = shell(RootMount::shared(&root), "nc -ll -p 80 -e echo neighbour");
        listening.network = Network::Member(first.clone());
        let kill = KillSwitch::new();
        std::thread::scope(|scope| {
            let _ending = Ending(&kill);
            scope.spawn(|| run(&listening, &kill, &mut |_, _| {}).unwrap());
            let steps: Vec<_> = (0..100usize)
                .map(|number| {
                    let (router, root) = (&router, &root);
                    scope.spawn(move || {
                        let member = router.join().unwrap();
                        let own = member.addresses();
                        let script = format!(
                            "nc {address} 80 < /dev/null && exit 1; head -c {number} /dev/zero | nc 192.0.2.2 80; \
                                head -c {number} /dev/zero | nc 2001:db8::2 80"
                        );
                        let mut spec = shell(RootMount::shared(root), &script);
                        spec.network = Network::Member(member);
                        (says(&spec), own)
                    })
                })
                .collect();
            let mut addresses = BTreeSet::new();
            for (number, step) in steps.into_iter().enumerate() {
                let (said, own) = step.join().unwrap();
                assert_eq!(said, format!("outside {number}\noutside {number}\n"));
                addresses.extend(own);
            }
            // Numbers that were given back are not given again so soon.
            assert_eq!(addresses.len(), 200);
        });
    });
}

#[test]
fn those_who_share_a_network_find_each_other_and_nobody_else_does() {
    if stepping_aside() {
        return;
    }
    in_a_world(true, || {
        let scratch = Scratch::new();
        let root = root(&scratch);
        let router = Router::start().unwrap();
        let (shared, other) = (router.shared().unwrap(), router.shared().unwrap());
        let database = shared.join(Some("db")).unwrap();
        let addresses = database.addresses();
        let (address, address_v6) = (addresses[0], addresses[1]);
        let mut listening = shell(RootMount::shared(&root), "nc -ll -p 5432 -e echo rows");
        listening.network = Network::Member(database);
        let kill = KillSwitch::new();
        std::thread::scope(|scope| {
            let _ending = Ending(&kill);
            scope.spawn(|| run(&listening, &kill, &mut |_, _| {}).unwrap());
            let ask = |network: Network, script: &str| {
                let mut spec = shell(RootMount::shared(&root), script);
                spec.network = network;
                says(&spec)
            };
            let client = || Network::Member(shared.join(None).unwrap());
            // As soon as it listens, which may take a while.
            let script = "for try in $(yes | head -n 100); do timeout 5 nc DB 5432 < /dev/null 2> /dev/null && break; sleep 0.1; done; echo x | nc 192.0.2.2 80";
            assert_eq!(ask(client(), script), "rows\noutside 2\n");
            let by_address = format!("nc {address} 5432 < /dev/null; nc {address_v6} 5432 < /dev/null");
            assert_eq!(ask(client(), &by_address), "rows\nrows\n");
            let script = format!(
                "nc {address} 5432 < /dev/null 2>&1 || nc {address_v6} 5432 < /dev/null 2>&1 || \
                    nslookup -type=a db 198.18.0.1 | tail -n 2"
            );
            let elsewhere = Network::Member(other.join(Some("client")).unwrap());
            for network in [elsewhere, Network::Member(router.join().unwrap())] {
                let said = ask(network, &script);
                assert!(!said.contains("rows") && !said.contains(&format!("Address: {address}")), "{said}");
            }
        });
    });
}

#[test]
fn a_port_of_this_machine_leads_to_a_member() {
    if stepping_aside() {
        return;
    }
    in_a_world(false, || {
        let scratch = Scratch::new();
        let mut spec = shell(RootMount::directory(root(&scratch)), "nc -ll -p 7000 -e echo inside");
        spec.network = Network::Member(Router::start().unwrap().join().unwrap());
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        spec.forwards = vec![rb_exec::Forward { listen, port: 7000 }];
        let kill = KillSwitch::new();
        std::thread::scope(|scope| {
            let (spec, kill) = (&spec, &kill);
            let _ending = Ending(kill);
            scope.spawn(move || run(spec, kill, &mut |_, _| {}).unwrap());
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut said = String::new();
            while said.is_empty() {
                assert!(Instant::now() < deadline);
                if let Ok(mut stream) = std::net::TcpStream::connect(listen) {
                    // Closed at once as long as nobody listens inside.
                    stream.read_to_string(&mut said).ok();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(said, "inside\n");
        });
    });
}
