//! `FROM BUILDPACKS --launcher`: the program that starts the app's processes.
//!
//! In: a word, a file of the project, or an artifact. Out: the launcher, looked at; nothing where it is the builder's.

use rb_buildpacks::frontend::{GivenLauncher, LAUNCHER_BYTES};
use rb_diag::Diagnostic;
use rb_oci::Platform;
use rb_syntax::FileSource;

use crate::codes;
use crate::evaluate::found::span_of;
use crate::evaluate::frame::Frame;
use crate::evaluate::{Evaluator, Fallible};
use crate::resolve::Resolved;
use crate::word::Escapes;

impl Evaluator<'_> {
    /// Returns the launcher that is asked for, unless it is the builder's.
    pub(super) async fn launcher(
        &self,
        frame: &mut Frame,
        source: &FileSource<Resolved>,
        platform: &Platform,
    ) -> Fallible<Option<GivenLauncher>> {
        let at = span_of(source);
        let refused = |why: String, help: &str| {
            Diagnostic::error(codes::BUILDPACKS, format!("--launcher: {why}"))
                .with_label(at, "")
                .with_help(help)
        };
        let word = match source {
            FileSource::Path(word) => self.expand(frame, word, Escapes::KeepPlus).await?,
            FileSource::Artifact { .. } => String::new(),
        };
        let taken = match word.as_str() {
            "builder" => return Ok(None),
            "rb" => {
                let own = self.world.workspace().launcher();
                let own = own.ok_or_else(|| {
                    let help = "name the file of one: `--launcher=FILE`, or take the builder's";
                    refused("this build of rb has no launcher with it".to_owned(), help)
                })?;
                GivenLauncher::own(own, platform)
            }
            _ => GivenLauncher::of_file(self.bytes_of(frame, source, LAUNCHER_BYTES).await?, platform),
        };
        taken.map(Some).map_err(|fault| refused(fault.to_string(), fault.help()))
    }
}
