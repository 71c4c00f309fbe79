//! Any bytes as a layer: reading its archive ends, within its limits, and says nothing that cannot be.
#![no_main]

use std::io::Read as _;

use libfuzzer_sys::fuzz_target;

#[path = "../../../runtime/sources/src"]
mod sources {
    #[allow(dead_code, reason = "it is the product's file, of which this uses a part")]
    #[rustfmt::skip] // It is formatted where it stands.
    pub(super) mod archive;
}

use sources::archive::{Archive, Limits, Member, MemberKind};

const LIMITS: Limits = Limits { entries: 64, content_bytes: 1 << 18, name_bytes: 1 << 13 };

fuzz_target!(|bytes: &[u8]| {
    let found = read(bytes);
    assert_eq!(found, read(bytes), "it reads differently the second time");
    let (mut names, mut content) = (0, 0);
    for (member, length) in &found {
        names += member.name.len() as u64;
        content += length;
        assert!(member.mode <= 0o7777);
        assert!(*length == 0 || member.kind == MemberKind::File, "{member:?} has content");
    }
    assert!(
        found.len() as u64 <= LIMITS.entries && names <= LIMITS.name_bytes && content <= LIMITS.content_bytes
    );
    // Headers with wrong sums end it at once: with right ones it gets further.
    read(&summed(bytes));
});

/// The entries before the end or the first fault, each with the length of its content.
fn read(bytes: &[u8]) -> Vec<(Member, u64)> {
    let mut archive = Archive::new(bytes, LIMITS);
    let mut found = Vec::new();
    while let Ok(Some(member)) = archive.next_member() {
        let length = std::io::copy(&mut (&mut archive).take(u64::MAX), &mut std::io::sink());
        assert_eq!(length.is_err(), archive.take_fault().is_some());
        let Ok(length) = length else { break };
        found.push((member, length));
    }
    found
}

/// Makes the sum of each block that could be a header right.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.as_chunks_mut::<512>().0.iter_mut().filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
