//! Man pages: `rb-image-push.1` for each command, `rb-environment.7` for each topic.
//!
//! In: clap's table and the topics. Out: texts in roff, by the names of their files. They are the same wherever they are made.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::TOPICS;
use crate::args::Args;

/// What stands at the foot of each.
const SOURCE: &str = concat!("rb ", env!("CARGO_PKG_VERSION"));

/// Returns the pages, each with its place below the folder of man pages.
pub(crate) fn pages() -> Vec<(String, String)> {
    let mut table = Args::command();
    table.build();
    let mut pages = Vec::new();
    command(&table, &mut pages);
    for topic in TOPICS {
        let mut page = Roff::new();
        page.control("TH", [format!("rb-{}", topic.name).as_str(), "7", "", SOURCE, ""]);
        page.control("SH", ["NAME"]);
        page.text([roman(format!("rb-{} - {}", topic.name, topic.about))]);
        page.control("SH", ["DESCRIPTION"]);
        page.control("nf", []);
        for line in topic.text().lines() {
            page.text([roman(line)]);
        }
        page.control("fi", []);
        pages.push((format!("man7/rb-{}.7", topic.name), page.render()));
    }
    pages
}

fn command(command_of: &Command, pages: &mut Vec<(String, String)>) {
    // What clap makes for `rb image help` repeats all the others.
    let shown = |known: &&Command| {
        !known.is_hide_set() && (known.get_name() != "help" || command_of.get_name() == "rb")
    };
    command_of.get_subcommands().filter(shown).for_each(|known| command(known, pages));
    let page = Man::new(command_of.clone()).source(SOURCE);
    let mut text = Vec::new();
    page.render(&mut text).expect("writing to memory does not fail");
    pages.push((format!("man1/{}", page.get_filename()), String::from_utf8_lossy(&text).into_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_topic_has_a_page() {
        let pages = pages();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in
            ["man1/rb.1", "man1/rb-run.1", "man1/rb-image-push.1", "man1/rb-help.1", "man7/rb-config.7"]
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("image-help")), "{names:?}");
        let push = &pages.iter().find(|(name, _)| name == "man1/rb-image-push.1").expect("is there").1;
        let environment =
            &pages.iter().find(|(name, _)| name == "man7/rb-environment.7").expect("is there").1;
        // A line that begins with a dot is no command of roff's.
        assert!(environment.contains("\n\\&.env, a file beside you"), "{environment}");
        assert!(push.contains(".TH rb-image-push 1") && push.contains("all\\-platforms"), "{push}");
    }
}
