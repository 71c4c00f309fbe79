//! Owners by name: who is `www-data` in this tree?
//!
//! Source: passwd(5), group(5); BuildKit's rule that a user given by number has the same number as group.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use crate::error::{Context as _, Result, SnapshotError};
use crate::view::{Follow, View};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Returns user and group of `owner`: `name[:group]` or `uid[:gid]`, in any mixture, with names looked up in the tree's
/// /etc/passwd and /etc/group.
///
/// Without a group, a name has its group from /etc/passwd, and a number is its own group. `BadOwner` if it is none of
/// that, `UnknownOwner` if a name is not listed (BuildKit takes root then).
pub fn resolve_owner(view: &View, owner: &str) -> Result<(u32, u32)> {
    let bad = || SnapshotError::BadOwner { owner: owner.to_owned() };
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, (!group.is_empty()).then_some(group)),
        None => (owner, None),
    };
    if group.is_some_and(|group| group.contains(':')) || owner.contains(['\n', '\0']) {
        return Err(bad());
    }
    let (uid, own_group) = match user {
        "" if group.is_some() => (0, 0),
        "" => return Err(bad()),
        user => match number(user, owner)? {
            Some(number) => (number, number),
            None => find(view, PASSWD, "user", user, |fields| {
                Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
            })?,
        },
    };
    let gid = match group {
        None => own_group,
        Some(group) => match number(group, owner)? {
            Some(number) => number,
            None => find(view, GROUP, "group", group, |fields| fields.get(2)?.parse().ok())?,
        },
    };
    Ok((uid, gid))
}

/// A text of digits is a number, and must be one the kernel knows; any other is a name.
fn number(text: &str, owner: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        // The largest number means "leave as it is" to chown.
        Ok(number) if number != u32::MAX => Ok(Some(number)),
        _ => Err(SnapshotError::BadOwner { owner: owner.to_owned() }),
    }
}

/// Returns what `take` makes of the first line of `file` that begins with `name`.
fn find<T>(
    view: &View,
    file: &'static str,
    what: &'static str,
    name: &str,
    take: impl Fn(&[&str]) -> Option<T>,
) -> Result<T> {
    let unknown = || SnapshotError::UnknownOwner { what, name: name.to_owned(), file };
    let entry = view.lookup(file, Follow::Yes)?.ok_or_else(unknown)?;
    let mut reader = BufReader::new(view.open(&entry)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).or_else(|error| match error.kind() {
            io::ErrorKind::Interrupted => Ok(1),
            _ => Err(error),
        });
        if count.within("read", Path::new(file))? == 0 {
            return Err(unknown());
        }
        let text = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        if fields.first() == Some(&name)
            && let Some(found) = take(&fields)
        {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let etc = tree.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:44::/:/bin/false\nn\u{fc}:x:5:6::/:\n";
        std::fs::write(etc.join("passwd.real"), passwd).unwrap();
        std::os::unix::fs::symlink("/etc/passwd.real", etc.join("passwd")).unwrap();
        std::fs::write(etc.join("group"), "root:x:0:\nstaff:x:50:web\n").unwrap();
        let view = View::new(vec![tree.path().to_owned()]);
        for (owner, expected) in [
            ("web", (33, 44)),
            ("web:staff", (33, 50)),
            ("web:7", (33, 7)),
            ("12", (12, 12)),
            ("12:34", (12, 34)),
            ("12:staff", (12, 50)),
            (":staff", (0, 50)),
            ("root:", (0, 0)),
            ("nü", (5, 6)),
        ] {
            assert_eq!(resolve_owner(&view, owner).unwrap(), expected, "{owner}");
        }
        for owner in ["", ":", "1:2:3", "99999999999", "4294967295"] {
            assert!(matches!(resolve_owner(&view, owner), Err(SnapshotError::BadOwner { .. })), "{owner}");
        }
        for owner in ["nobody", "web:nobody", "broken"] {
            assert!(
                matches!(resolve_owner(&view, owner), Err(SnapshotError::UnknownOwner { .. })),
                "{owner}"
            );
        }
        let empty = View::new(Vec::new());
        assert!(matches!(resolve_owner(&empty, "web"), Err(SnapshotError::UnknownOwner { .. })));
    }
}
