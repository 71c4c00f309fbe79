//! What is seen of the memory that a command takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rb_exec::{MemoryMeter, RootMount};

use crate::support::{Scratch, output, shell, stepping_aside};

const MB: u64 = 1 << 20;

/// Runs a script and returns the most memory that was seen.
fn peak(scratch: &Scratch, script: &str) -> u64 {
    let base = scratch.path().join("base");
    let base = if base.exists() { base } else { scratch.busybox("base") };
    let mut spec = shell(RootMount::overlay(vec![base], Some(scratch.upper())), script);
    let seen = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&seen);
    spec.memory = Some(MemoryMeter::new(move |bytes| {
        assert!(heard.swap(bytes, Ordering::SeqCst) < bytes, "only what is more is told");
    }));
    output(&spec);
    seen.load(Ordering::SeqCst)
}

#[test]
fn what_the_processes_of_a_command_have_together_is_seen() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    // Until it is executed, the first process is a copy of this one.
    let own = std::hint::black_box(vec![1_u8; 200 << 20]);
    let small = peak(&scratch, "sleep 1");
    assert!(own.iter().step_by(4096).all(|byte| *byte == 1));
    drop(own);
    assert!((1..20 * MB).contains(&small), "{small}");
    let holds = "dd if=/dev/zero bs=30M count=1 2>/dev/null | (sleep 2; cat >/dev/null)";
    let two = peak(&scratch, &format!("({holds}) & ({holds}) & wait"));
    assert!((60 * MB..110 * MB).contains(&two), "{two}");
    // What lies in files is the kernel's to drop.
    let files = peak(
        &scratch,
        "dd if=/dev/zero of=/big bs=1M count=60 2>/dev/null; cat /big /big >/dev/null; sleep 1; rm /big",
    );
    assert!((1..30 * MB).contains(&files), "{files}");
}

#[test]
fn what_several_processes_share_counts_once() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = "x=0123456789abcdef; i=0; while [ $i -lt 20 ]; do x=$x$x; i=$((i+1)); done; \
                  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (sleep 2; true) & done; wait";
    let shared = peak(&scratch, script);
    // Thirteen have it all.
    assert!((16 * MB..13 * 16 * MB).contains(&shared), "{shared}");
}

#[test]
fn without_a_meter_nobody_hears() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = RootMount::overlay(vec![scratch.busybox("base")], Some(scratch.upper()));
    let mut spec = shell(root, "echo fine");
    assert!(spec.memory.is_none());
    // One that ends before anybody looks, and one that speaks without end meanwhile.
    spec.memory = Some(MemoryMeter::new(|_| {}));
    assert_eq!(output(&spec), "fine\n");
    spec.args = crate::support::words(&["/bin/sh", "-c", "yes | head -n 300000"]);
    assert_eq!(output(&spec).len(), 600_000);
}
