//! Who this process is: user namespace, mapped ids, subordinate ids.
//!
//! Source: user_namespaces(7), subuid(5).

use std::path::{Path, PathBuf};

use crate::error::ExecError;

/// A line of `uid_map` or `gid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// Parses a map; what cannot be understood is left out.
pub(crate) fn parse_map(text: &str) -> Vec<Extent> {
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (inside, outside) = (number(words.next())?, number(words.next())?);
            Some(Extent { inside, outside, count: number(words.next())? })
        })
        .collect()
}

/// Reads a map of this process: `uid_map` or `gid_map`.
pub(crate) fn map(file: &str) -> Vec<Extent> {
    parse_map(&std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default())
}

/// The inode of the first user namespace (`PROC_USER_INIT_INO` of linux/proc_ns.h).
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Whether this process is in a user namespace other than the first. If `/proc` does not tell, it is taken to be, since
/// what is asked of the kernel then is possible in both.
pub(crate) fn in_user_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/user").map_or(true, |stat| stat.st_ino != FIRST_USER_NAMESPACE)
}

/// Whether `id` exists in a map.
pub(crate) fn is_mapped(map: &[Extent], id: u32) -> bool {
    map.iter().any(|extent| id.checked_sub(extent.inside).is_some_and(|offset| offset < extent.count))
}

/// What to do about an id that is not there.
pub(crate) const MORE_IDS: &str = "this user namespace does not have it; subordinate ids (/etc/subuid, /etc/subgid and the \
    newuidmap program) give more";

/// Tells whether both ids exist here; `UnmappedId` if not.
pub(crate) fn owner_exists(uid: u32, gid: u32) -> Result<(), ExecError> {
    for (what, id, file) in [("user", uid, "uid_map"), ("group", gid, "gid_map")] {
        if !is_mapped(&map(file), id) {
            return Err(ExecError::UnmappedId { what, id, remedy: MORE_IDS });
        }
    }
    Ok(())
}

/// Whether this namespace forbids setgroups(2).
pub(crate) fn setgroups_denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Returns the ids of `/etc/subuid` or `/etc/subgid` that belong to a user, given by number or name: (first, count).
pub(crate) fn subordinate(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let mine = owner.parse() == Ok(uid) || name == Some(owner);
            let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (mine && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
        })
        .collect()
}

/// Returns the name of a user of this machine, by `/etc/passwd`.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Finds a program of shadow where distributions keep it below `root`.
pub(crate) fn find_mapper(root: &Path, name: &str) -> Option<PathBuf> {
    ["usr/bin", "bin", "usr/local/bin", "usr/sbin", "run/wrappers/bin"]
        .into_iter()
        .map(|directory| root.join(directory).join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let map = parse_map("         0       1000          1\n         1     100000      65536\n");
        assert!(is_mapped(&map, 0) && is_mapped(&map, 65536) && !is_mapped(&map, 65537));
        assert!(parse_map("nonsense\n1 2\n").is_empty());
    }

    #[test]
    fn subordinate_ids_by_name_and_number() {
        let text = "ann:100000:65536\n1001:200000:1000\nbob:x:1\nann:400000:0\nann:4294967290:100\n# no\n";
        assert_eq!(subordinate(text, 1000, Some("ann")), [(100_000, 65536)]);
        assert_eq!(subordinate(text, 1001, None), [(200_000, 1000)]);
        assert!(subordinate(text, 7, Some("bob")).is_empty());
        assert_eq!(user_name("root:x:0:0::/:\nann:x:1000:1000::/home/ann:/bin/sh", 1000), Some("ann"));
    }
}
