use rb_oci::Digest;

use super::*;

/// Archives of one entry each, as Go's archive/tar (1.26) wrote them.
#[test]
fn as_go_writes_them() {
    let long = format!("/{}/{}", "d".repeat(90), "n".repeat(60));
    let none = "n".repeat(120);
    let cases: [(GoEntry, &str); 10] = [
        (
            GoEntry::new("/cnb/buildpacks/a_b", GoKind::Directory, 0o755),
            "40a55e497d2e76272b19f9d74e5af18833cf475f3a281ff6153fb59501bd87e0",
        ),
        (
            GoEntry::new("/cnb/order.toml", GoKind::File(5), 0o644),
            "88bdc3be122bb269801e32be5e7e0cb9b86dc071e0ea41af51f93c5e92e15bbd",
        ),
        (
            GoEntry::new("/lifecycle", GoKind::Symlink("/cnb/lifecycle".into()), 0o644),
            "41216758942da62046d9f6f702a4d892e7961b0f0a55a02c8717dcbaa774e80a",
        ),
        (
            GoEntry::new("/x/b", GoKind::HardLink("/x/a".into()), 0o755),
            "f730f8f347afba3c1ee26318fe00f8da3f595b8b3958b7e402e0a227ab95dfd8",
        ),
        (
            GoEntry::new("/layers", GoKind::Directory, 0o755).owned(1000, 1001),
            "7313eed56c7c30987bdf97b25ebbec3f67257552792a5d4052d07f9630a04de0",
        ),
        (
            GoEntry::new(&long, GoKind::File(0), 0o644),
            "7f69e7b71698c1fd942945fc621b0fe992a361f094b6f49f6395122d1d0d782e",
        ),
        (
            GoEntry::new(format!("/{none}"), GoKind::File(5), 0o644),
            "30a3cb9587d27de5f6222947482474c6994f41a6c166431fd8028a2b8b68b493",
        ),
        (
            GoEntry::new("/café", GoKind::File(5), 0o644),
            "01368604817ea6255042efe566a2132c073f8c7c9aeb55c1b703158da567bfe5",
        ),
        (
            GoEntry::new(&long, GoKind::Symlink(none.into()), 0o777),
            "a9dd1702a22db1f1615b50c4db777c874a85f4d6ebc9e8368ed33546504530e5",
        ),
        (
            GoEntry::new("/big", GoKind::Directory, 0o755).owned(3_000_000, 1),
            "56c5d3073999e4a296799eff00644ff5b2af1754bc43d633e8ce0d8a6088789b",
        ),
    ];
    for (entry, expected) in cases {
        let mut tar = GoTar::new(Vec::new());
        let content = if entry.kind == GoKind::File(5) { &b"hello"[..] } else { b"" };
        tar.file(&entry, &mut &content[..]).expect("writes");
        let digest = Digest::of(tar.finish().expect("ends"));
        assert_eq!(digest.hex(), expected, "{}", entry.path.display());
    }
}

#[test]
fn what_no_archive_holds() {
    let mut tar = GoTar::new(Vec::new());
    let old = GoEntry { modified: -1, ..GoEntry::new("/a", GoKind::Directory, 0o755) };
    assert!(matches!(tar.entry(&old), Err(ExportError::Unrepresentable { .. })));
    assert!(matches!(
        tar.entry(&GoEntry::new("/a\0b", GoKind::Directory, 0o755)),
        Err(ExportError::Unrepresentable { .. })
    ));
    let short = GoEntry::new("/a", GoKind::File(5), 0o644);
    assert!(matches!(tar.file(&short, &mut &b"hi"[..]), Err(ExportError::Changed { .. })));
}
