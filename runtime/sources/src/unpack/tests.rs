//! What names say; what layers become is seen from outside, in `tests/`.

use super::*;

#[test]
fn paths_stay_inside() {
    assert_eq!(inside(b"./a//b/."), Ok(PathBuf::from("a/b")));
    assert_eq!(inside(b"/etc/passwd"), Ok(PathBuf::from("etc/passwd")));
    assert_eq!(inside(b"//..a/b../..."), Ok(PathBuf::from("..a/b../...")));
    for bad in [b"../x".as_slice(), b"a/../../x", b"a/..", b"a\0b", &[b'a'; 4096]] {
        assert!(inside(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn whiteouts_are_told_from_files() {
    let says = |path: &str| whiteout(Path::new(path));
    assert_eq!(says("a/.wh.b"), Ok(Said::Gone("a/b".into())));
    assert_eq!(says(".wh..b"), Ok(Said::Gone(".b".into())));
    assert_eq!(says("a/.wh..wh..opq"), Ok(Said::Opaque("a".into())));
    assert_eq!(says(".wh..wh..opq"), Ok(Said::Opaque("".into())));
    for path in ["a/b", "", "a/.whb", "a.wh.b"] {
        assert_eq!(says(path), Ok(Said::There), "{path}");
    }
    for path in [".wh..wh.plnk", ".wh..wh.plnk/5", "a/.wh..wh.orph", ".wh..wh..opq/x"] {
        assert_eq!(says(path), Ok(Said::Nothing), "{path}");
    }
    for path in [".wh.", "a/.wh..", "a/.wh...", ".wh.a/b", ".wh.a/.wh.b"] {
        assert!(says(path).is_err(), "{path}");
    }
}
