//! GIT CLONE: a repository elsewhere into a recipe's filesystem.
//!
//! The commit that a branch or tag stands for is asked for by the engine, when the build gets there. Source:
//! earthly-language section 4, GIT CLONE.

use rb_diag::Diagnostic;
use rb_syntax::{GitClone, Stmt};

use super::copy::{default_owner, timestamp};
use super::frame::{Frame, Layer};
use super::{Evaluator, Fallible};
use crate::codes;
use crate::lower::{self, CopyFrom, CopyOptions, paths};
use crate::resolve::Resolved;
use crate::word::Escapes;

impl Evaluator<'_> {
    /// `GIT CLONE …`
    pub(super) async fn git_clone(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        clone: &GitClone,
    ) -> Fallible<()> {
        if frame.locally.is_some() {
            return Err(Diagnostic::error(codes::IN_LOCALLY, "GIT CLONE has no meaning in LOCALLY")
                .with_label(stmt.span, "there is no filesystem that it could go into")
                .with_help("write `RUN git clone …`, or begin anew with a FROM"));
        }
        let GitClone { branch, keep_times, url, destination } = clone;
        let url = self.expand(frame, url, Escapes::Remove).await?;
        let branch = match branch {
            Some(branch) => self.expand(frame, branch, Escapes::Remove).await?,
            None => String::new(),
        };
        let text = self.expand(frame, destination, Escapes::Remove).await?;
        let dest = paths::into_directory(&paths::absolute(frame.cwd(), &text));
        let url = self.world.workspace().git_address(&url);
        let repository = lower::repository(&url, &branch, frame.meta(stmt));
        let from = CopyFrom { state: repository, path: "/".to_owned(), base: None };
        let options = CopyOptions {
            owner: Some(default_owner(frame)),
            timestamp: timestamp(frame, *keep_times),
            ..CopyOptions::default()
        };
        frame.state = lower::copy(&frame.state, &[from], &dest, &options, frame.meta(stmt));
        frame.remember(stmt, Layer::One);
        Ok(())
    }
}
