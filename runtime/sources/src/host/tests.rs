//! A host of its own, with secrets in it.

use super::*;

fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, content: &str, mode: u32| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("folders");
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("modes");
    };
    write("usr/bin/cc", "", 0o755);
    write("var/lib/dpkg/status", "Package: gcc\n", 0o644);
    write(
        "etc/passwd",
        "root:x:0:0:Boss:/root:/bin/zsh\ndaemon:x:1:1:d:/usr/sbin:/x\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
        0o644,
    );
    write("etc/group", "root:x:0:ann\nann:x:1000:\n", 0o644);
    write("etc/shadow", "root:$6$secret:::::::\n", 0o640);
    write("etc/ssl/certs/ca.crt", "CERT", 0o644);
    write("etc/ssl/certs/hidden.key", "KEY", 0o600);
    write("etc/ssl/private/server.key", "KEY", 0o600);
    write("home/ann/.ssh/id", "KEY", 0o600);
    std::os::unix::fs::symlink("usr/bin", root.path().join("bin")).expect("links");
    root
}

#[test]
fn shows_tools_and_no_secrets() {
    let root = host();
    let base = inspect(root.path(), &[], &[], false).expect("inspects");
    assert_eq!(base.binds, [PathBuf::from("/usr")]);
    let shown = format!("{:?}", base.files);
    let text: String = base
        .files
        .iter()
        .filter_map(|file| match &file.content {
            HostContent::File { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            HostContent::Symlink(_) | HostContent::Directory(_) => None,
        })
        .collect();
    assert!(shown.contains("/etc/ssl/certs/ca.crt"), "{shown}");
    for secret in ["shadow", "private", "hidden", "home/ann"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(
        text.contains("root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"),
        "{text}"
    );
    assert!(!text.contains("ann") && !text.contains("Boss"), "{text}");
}

#[test]
fn digest_follows_packages_and_binds_but_not_people() {
    let root = host();
    let digest = |binds: &[PathBuf]| inspect(root.path(), binds, &[], false).expect("inspects").digest;
    let before = digest(&[]);
    fs::write(root.path().join("home/ann/.ssh/id"), "OTHER").expect("writes");
    assert_eq!(before, digest(&[]));
    fs::create_dir(root.path().join("opt")).expect("makes");
    assert_ne!(before, digest(&["/opt".into()]));
    fs::write(root.path().join("var/lib/dpkg/status"), "Package: gcc\nVersion: 2\n").expect("writes");
    assert_ne!(before, digest(&[]));
}

#[test]
fn private_binds_need_the_users_word() {
    let root = host();
    let binds = ["/home/ann".into()];
    assert!(matches!(inspect(root.path(), &binds, &[], false), Err(SourceError::Bind { .. })));
    assert!(inspect(root.path(), &binds, &["/home".into()], false).is_ok());
    for bad in ["/", "/usr/../etc", "usr"] {
        let refused = inspect(root.path(), &[bad.into()], &["/usr".into()], false);
        assert!(matches!(refused, Err(SourceError::Bind { .. })), "{bad}");
    }
}

#[test]
fn a_machine_without_packages_needs_a_fingerprint() {
    let root = host();
    fs::remove_file(root.path().join("var/lib/dpkg/status")).expect("removes");
    assert!(matches!(inspect(root.path(), &[], &[], false), Err(SourceError::NoPackageDatabase)));
    assert!(inspect(root.path(), &[], &[], true).is_ok());
}

/// All that is shown: paths, links and bytes.
fn shown(base: &HostBase) -> String {
    let mut shown = String::new();
    for file in &base.files {
        shown += &format!("{} ", file.path.display());
        match &file.content {
            HostContent::File { bytes, .. } => shown += &String::from_utf8_lossy(bytes),
            HostContent::Symlink(target) => shown += &format!("-> {}", target.display()),
            HostContent::Directory(mode) => shown += &format!("{mode:o}"),
        }
        shown.push('\n');
    }
    shown
}

#[test]
fn links_to_secrets_are_only_links() {
    use std::os::unix::fs::symlink;
    let root = host();
    let at = |path: &str| root.path().join(path);
    symlink(at("etc/shadow"), at("etc/ssl/certs/shadow.pem")).expect("links");
    symlink("/etc/shadow", at("etc/services")).expect("links");
    symlink("../home/ann", at("etc/java-17")).expect("links");
    // A whole folder of the list is a link to where not everyone may look.
    fs::create_dir_all(at("root/ssl-of-root/tls/certs")).expect("makes");
    fs::write(at("root/ssl-of-root/tls/certs/own.pem"), "MINE").expect("writes");
    symlink("../root/ssl-of-root", at("etc/pki")).expect("links");
    let shown = shown(&inspect(root.path(), &[], &[], false).expect("inspects"));
    assert!(shown.contains("/etc/services -> /etc/shadow\n"), "{shown}");
    assert!(shown.contains("/etc/java-17 -> ../home/ann\n"), "{shown}");
    assert_eq!(shown.matches("/etc/pki -> ../root/ssl-of-root\n").count(), 1, "{shown}");
    for secret in ["$6$", "KEY", "MINE"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn closed_folders_close_what_is_in_them() {
    let root = host();
    let close = |path: &str, mode: u32| {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).expect("modes");
    };
    let holds =
        || shown(&inspect(root.path(), &[], &[], false).expect("inspects")).contains("/etc/ssl/certs/ca.crt");
    assert!(holds());
    for (path, closed, open) in [("etc/ssl", 0o700, 0o711), ("etc/ssl/certs", 0o750, 0o755)] {
        close(path, closed);
        assert!(!holds(), "{path}");
        close(path, open);
        assert!(holds(), "{path}");
    }
}

#[test]
fn pipes_and_sockets_are_passed_over() {
    let root = host();
    let pipe = root.path().join("etc/ssl/certs/pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("makes");
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("etc/services")).expect("binds");
    let shown = shown(&inspect(root.path(), &[], &[], false).expect("inspects"));
    assert!(!shown.contains("pipe") && !shown.contains("services"), "{shown}");
}

#[test]
fn a_bind_is_judged_by_where_it_leads() {
    use std::os::unix::fs::symlink;
    let root = host();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("opt/real")).expect("makes");
    symlink("../home/ann", at("opt/home")).expect("links");
    symlink("..", at("opt/all")).expect("links");
    symlink("/etc", at("opt/etc")).expect("links");
    symlink("real", at("opt/alias")).expect("links");
    symlink("home/ann", at("sdk")).expect("links");
    let inspect = |bind: &str, allowed: &[PathBuf]| inspect(root.path(), &[bind.into()], allowed, false);
    for bad in ["/opt/home", "/opt/home/.ssh", "/opt/all", "/opt/all/home", "/opt/etc", "/sdk"] {
        assert!(matches!(inspect(bad, &[]), Err(SourceError::Bind { .. })), "{bad}");
    }
    assert!(inspect("/opt/alias", &[]).is_ok());
    assert!(inspect("/sdk", &["/sdk".into()]).is_ok());
    assert!(inspect("/sdk/.ssh", &["/sdk".into()]).is_ok());
    assert!(matches!(inspect("/opt/missing", &[]), Err(SourceError::Read { .. })));
}

#[test]
fn a_machine_without_accounts_has_root() {
    let root = host();
    fs::write(root.path().join("etc/passwd"), b"n\xff:x:5:5::/:/x\nshort\n+::::::\n").expect("writes");
    fs::remove_file(root.path().join("etc/group")).expect("removes");
    let shown = shown(&inspect(root.path(), &[], &[], false).expect("inspects"));
    assert!(shown.contains("/etc/group root:x:0:\n"), "{shown}");
    assert!(shown.contains("n\u{fffd}:x:5:5::/:/usr/sbin/nologin\n"), "{shown}");
    assert!(!shown.contains("short") && !shown.contains('+'), "{shown}");
}
