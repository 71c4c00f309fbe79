//! `rb completion SHELL`: the script by which a shell asks `rb` what a word may become.

use clap::CommandFactory;

use crate::args::{Args, CompletionArgs};
use crate::complete::Shell;
use crate::report::{self, Failure};

/// Prints it. Shells that [`crate::complete`] does not serve get what clap makes of the table: commands and options.
pub(super) fn execute(completion: &CompletionArgs) -> Result<u8, Failure> {
    let script = match Shell::of(completion.shell) {
        Some(shell) => shell.script().as_bytes().to_vec(),
        None => {
            let mut script = Vec::new();
            clap_complete::generate(completion.shell, &mut Args::command(), "rb", &mut script);
            script
        }
    };
    report::print(&script).map(|()| 0)
}
