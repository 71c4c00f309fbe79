//! Ports of this machine that lead to a command.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rb_exec::{ExecError, ExitStatus, Forward, KillSwitch, Network, RootMount, Spec, run};

use crate::support::{Scratch, shell, stepping_aside, try_spec};

/// A port of the loopback that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn echoing(scratch: &Scratch, port: u16) -> Spec {
    shell(RootMount::directory(scratch.busybox("root")), &format!("exec nc -ll -p {port} -e cat"))
}

/// Says something and returns what came back; nothing while nobody answers.
fn echo(address: SocketAddr, said: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(said).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).ok()?;
    (!heard.is_empty()).then_some(heard)
}

fn forwarded(network: Network, port: u16) {
    let scratch = Scratch::new();
    let listen = free();
    let mut spec = echoing(&scratch, port);
    spec.network = network;
    spec.forwards = vec![Forward { listen, port }];
    let kill = KillSwitch::new();
    let talk = std::thread::spawn({
        let kill = kill.clone();
        move || {
            let said = vec![b'x'; 100_000];
            let begin = Instant::now();
            let mut heard = None;
            while heard.is_none() && begin.elapsed() < Duration::from_secs(20) {
                heard = echo(listen, &said);
                std::thread::sleep(Duration::from_millis(20));
            }
            // One that is open to the end does not hold the end up.
            let open = TcpStream::connect(listen);
            kill.kill();
            (heard == Some(said), open)
        }
    });
    let outcome = run(&spec, &kill, &mut |_, _| {}).unwrap();
    assert_eq!(outcome.status, ExitStatus::Signaled(9));
    let (heard, open) = talk.join().unwrap();
    assert!(heard);
    assert_eq!(open.unwrap().read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(TcpStream::connect(listen).is_err());
}

#[test]
fn a_port_leads_into_a_network_of_its_own() {
    if !stepping_aside() {
        forwarded(Network::None, 80);
    }
}

#[test]
fn a_port_leads_to_another_on_this_machines_network() {
    if !stepping_aside() {
        forwarded(Network::Host, free().port());
    }
}

#[test]
fn nothing_runs_where_a_port_is_taken() {
    if stepping_aside() {
        return;
    }
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let scratch = Scratch::new();
    let mut spec = shell(RootMount::directory(scratch.busybox("root")), "touch /ran");
    let listen = other.local_addr().unwrap();
    spec.forwards = vec![Forward { listen, port: 80 }];
    let error = try_spec(&spec).unwrap_err();
    assert!(matches!(error, ExecError::Port { address, .. } if address == listen), "{error}");
    assert!(!scratch.path().join("root/ran").exists());
}
