//! Whom a user specification means, by the passwd and group files of the image.
//!
//! A name or number before the colon, a name or number after it. Numbers need no entry. Without a group it is the
//! user's own (0 without an entry), and the groups that list the user are supplementary; with one there are none. The
//! group itself is always among the supplementary ones: what denies a group its access denies it to these, too.
//! Source: the behaviour of Docker's `USER` (Dockerfile reference) as runc resolves it; CVE-2022-36109.

use crate::error::ExecError;

/// A resolved user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, ascending; `gid` is one of them.
    pub(crate) groups: Vec<u32>,
    /// Home directory; `/` without an entry.
    pub(crate) home: String,
}

/// The largest id Linux hands out.
const MAX_ID: u32 = i32::MAX as u32;

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some(Passwd { name, uid: id(uid)?, gid: id(gid)?, home: fields.nth(1).unwrap_or_default() })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        Some(Group { name, gid: id(gid)?, members: fields.next().unwrap_or_default() })
    })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// Resolves `spec` by the texts of the two files, which are empty where the image has none.
pub(crate) fn resolve(spec: &str, passwd_text: &str, group_text: &str) -> Result<User, ExecError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user);
    let entry = passwd(passwd_text).find(|entry| entry.name == user || Some(entry.uid) == number);
    let (uid, own_gid, home) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home),
        (None, Some(number)) => (number, 0, ""),
        (None, None) => return Err(ExecError::UnknownUser { user: user.to_owned() }),
    };
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    if !group.is_empty() {
        let number = id(group);
        let entry = groups(group_text).find(|entry| entry.name == group || Some(entry.gid) == number);
        let unknown = || ExecError::UnknownGroup { group: group.to_owned() };
        let gid = entry.map(|entry| entry.gid).or(number).ok_or_else(unknown)?;
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let mut supplementary = vec![own_gid];
    if let Some(entry) = entry {
        let lists = |group: &Group<'_>| group.members.split(',').any(|member| member == entry.name);
        supplementary.extend(groups(group_text).filter(lists).map(|group| group.gid));
        supplementary.sort_unstable();
        supplementary.dedup();
    }
    Ok(User { uid, gid: own_gid, groups: supplementary, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n12:x:77:78::/twelve:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:app\napp:x:1001:\n";

    #[test]
    fn names_numbers_and_groups() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.into(),
            home: home.into(),
        };
        for (spec, expected) in [
            ("", user(0, 0, &[0, 10], "/root")),
            ("root", user(0, 0, &[0, 10], "/root")),
            ("app", user(1000, 1001, &[10, 50, 1001], "/home/app")),
            ("1000", user(1000, 1001, &[10, 50, 1001], "/home/app")),
            ("app:staff", user(1000, 50, &[50], "/home/app")),
            ("app:7", user(1000, 7, &[7], "/home/app")),
            ("1000:1000", user(1000, 1000, &[1000], "/home/app")),
            ("4242", user(4242, 0, &[0], "/")),
            ("4242:staff", user(4242, 50, &[50], "/")),
            ("12", user(77, 78, &[78], "/twelve")),
            (":staff", user(0, 50, &[50], "/root")),
        ] {
            assert_eq!(resolve(spec, PASSWD, GROUP).unwrap(), expected, "{spec}");
        }
        assert_eq!(resolve("", "", "").unwrap(), user(0, 0, &[0], "/"));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert!(
            matches!(resolve("nobody", PASSWD, GROUP), Err(ExecError::UnknownUser { user }) if user == "nobody")
        );
        assert!(
            matches!(resolve("app:none", PASSWD, GROUP), Err(ExecError::UnknownGroup { group }) if group == "none")
        );
        assert!(matches!(resolve("4294967295", "", ""), Err(ExecError::UnknownUser { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(spec in ".{0,20}", passwd in "[a-z0-9:\n]{0,80}", group in "[a-z0-9:,\n]{0,80}") {
            resolve(&spec, &passwd, &group).ok();
        }
    }
}
