//! Flags that RUN, IF and FOR share: how a command runs.

use rb_diag::{Diagnostic, Spanned};

use super::text::{settled, split_pair};
use super::{Reader, is_identifier, mount};
use crate::flags::Flags;
use crate::report::shown;
use crate::{StepFlags, Word, codes};

impl Reader<'_> {
    /// Reads and checks them; values that variables are part of are checked once those are known.
    pub(crate) fn step_flags(&mut self, flags: &Flags) -> StepFlags {
        let mounts = flags.values("mount");
        for word in &mounts {
            mount::check(word, self.edition, self.report);
        }
        let secrets = flags.values("secret");
        for word in &secrets {
            self.check_secret(word);
        }
        StepFlags {
            privileged: flags.place("privileged"),
            ssh: flags.place("ssh"),
            no_cache: flags.toggle("no-cache"),
            mounts,
            secrets,
            env: flags.values("env").into_iter().filter_map(|word| self.env_name(word)).collect(),
        }
    }

    /// Warns of `--secret VAR=id` where no shell could read VAR.
    fn check_secret(&mut self, word: &Word) {
        let (name, id) = split_pair(word);
        let Some(text) = settled(&name.raw).filter(|text| !text.is_empty() && !is_identifier(text)) else {
            return;
        };
        let diagnostic = if id.is_some() {
            let message = format!("`{}` is no name that a shell can read", shown(text));
            Diagnostic::warning(codes::SECRET_NAME, message)
                .with_help("names hold letters, digits and `_`, and start with no digit")
        } else {
            let message = format!("no shell can read a variable `{}`", shown(text));
            Diagnostic::warning(codes::SECRET_NAME, message)
                .with_help(format!("name it: `--secret NAME={}`", shown(text)))
        };
        self.report.push(diagnostic.with_label(name.span, ""));
    }

    fn env_name(&mut self, word: Word) -> Option<Spanned<String>> {
        let name = Spanned::new(word.raw, word.span);
        if is_identifier(&name.value) {
            return Some(name);
        }
        let value = name.value.split_once('=').map(|(name, _)| name).filter(|name| is_identifier(name));
        let help = value.map(|value| {
            format!("it names an argument that has a value: `ARG {}`, `--env={0}`", shown(value))
        });
        self.bad_name(&name, help);
        None
    }
}
