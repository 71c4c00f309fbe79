//! `GIT CLONE [--branch=…] [--keep-ts] address directory`

use super::Reader;
use crate::flags::{tables, take_flags};
use crate::{GitClone, Word};

impl Reader<'_> {
    pub(crate) fn git_clone(&mut self, mut words: Vec<Word>) -> Option<GitClone> {
        let table = &tables::GIT_CLONE;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        let mut words = words.into_iter();
        let (Some(url), Some(destination)) = (words.next(), words.next()) else {
            let example = "`GIT CLONE https://example.com/team/app.git app`";
            self.missing("`GIT CLONE` needs an address and a directory", example);
            return None;
        };
        self.nothing_more(table, &words.collect::<Vec<_>>());
        let (branch, keep_times) = (flags.value("branch"), flags.is_on("keep-ts"));
        Some(GitClone { branch, keep_times, url, destination })
    }
}
