//! `/etc/resolv.conf` of a sandbox: whom names are asked of.
//!
//! On this machine's network a command asks whom this machine asks, a resolver on its loopback included, so it sees this
//! machine's file as it is. On a network that leads outside alone it asks the router, which asks whom this machine asks;
//! where to look for short names, and how, is as on this machine.
//! Source: resolv.conf(5), systemd-resolved.service(8).

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;

/// This machine's file; where systemd-resolved keeps it, a link.
pub(crate) const FILE: &str = "/etc/resolv.conf";

/// A file that is longer holds no list of servers.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the content of a file for a command on this machine's network.
///
/// Where there is none, or a link leads nowhere, it is empty: then a resolver asks the loopback, on this machine and in
/// the sandbox alike, and not whom an image happens to name.
pub(crate) fn of_this_machine(file: &Path) -> io::Result<Vec<u8>> {
    let file = match std::fs::File::open(file) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// Returns the content of a file for a command that asks `server`, and otherwise as `own` says.
pub(crate) fn asking(server: IpAddr, own: &[u8]) -> Vec<u8> {
    let mut content = format!("nameserver {server}\n").into_bytes();
    for line in own.split_inclusive(|byte| *byte == b'\n') {
        let is_kept = |word: &&[u8]| line.trim_ascii_start().starts_with(word);
        if [&b"search"[..], b"domain", b"options", b"sortlist"].iter().any(is_kept) {
            content.extend(line);
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_are_others() {
        let own =
            b"# by hand\nnameserver 127.0.0.53\nsearch example.com\n\nnameserver ::1\noptions edns0 trust-ad";
        let text = asking("198.18.0.1".parse().unwrap(), own);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "nameserver 198.18.0.1\nsearch example.com\noptions edns0 trust-ad"
        );
    }

    #[test]
    fn no_file_and_a_link_to_nowhere_are_empty() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(of_this_machine(&at("none")).unwrap(), b"");
        std::os::unix::fs::symlink("gone/stub", at("dangling")).unwrap();
        assert_eq!(of_this_machine(&at("dangling")).unwrap(), b"");
        std::fs::write(at("stub"), "nameserver 127.0.0.53\n").unwrap();
        std::os::unix::fs::symlink("stub", at("link")).unwrap();
        assert_eq!(of_this_machine(&at("link")).unwrap(), b"nameserver 127.0.0.53\n");
        assert!(of_this_machine(dir.path()).is_err());
    }
}
