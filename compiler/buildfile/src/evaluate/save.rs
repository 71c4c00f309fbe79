//! SAVE ARTIFACT and SAVE IMAGE: what a target gives to others and to the user.
//!
//! Source: earthly-language section 4.

use rb_diag::Diagnostic;
use rb_frontend::{LocalOutput, SavedArtifact, SavedImage};
use rb_llb::State;
use rb_oci::Reference;
use rb_syntax::{SaveArtifact, SaveImage, Stmt, Word};

use super::copy::timestamp;
use super::frame::Frame;
use super::run::forbidden;
use super::{Evaluator, Fallible, trust};
use crate::lower::paths::OutsideError;
use crate::lower::{self, CopyFrom, CopyOptions, paths};
use crate::resolve::Resolved;
use crate::word::Escapes;
use crate::{codes, glob};

impl Evaluator<'_> {
    /// `SAVE ARTIFACT …`
    pub(super) async fn save_artifact(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        save: &SaveArtifact,
    ) -> Fallible<()> {
        if frame.locally.is_some() {
            return self.save_locally(frame, stmt, save).await;
        }
        let text = self.expand(frame, &save.source, Escapes::KeepPattern).await?;
        let source = paths::absolute(frame.cwd(), &text);
        let many = glob::is_pattern(&source);
        if source == "/" {
            return Err(Diagnostic::error(
                codes::BAD_COPY,
                "the root directory cannot be saved as an artifact",
            )
            .with_label(save.source.span, "")
            .with_help("name what is in it, or save `/*`"));
        }
        let name = match &save.destination {
            Some(word) => self.expand(frame, word, Escapes::Remove).await?,
            None => "./".to_owned(),
        };
        let path = match paths::absolute("/", &name) {
            dir if many => dir,
            dir if paths::names_directory(&name) => paths::absolute(&dir, paths::base_name(&source)),
            path => path,
        };
        let local = match &save.local {
            Some(word) => Some(self.local_output(frame, save, word, many).await?),
            None => None,
        };
        let dest = if many { paths::into_directory(&path) } else { path.clone() };
        // A directory that is there already takes what is in a second one of that name, not the second one itself.
        let there = frame.artifacts.iter().any(|saved| paths::is_within(&saved.path, &path));
        let options = CopyOptions {
            whole_directories: many || !there,
            if_exists: save.if_exists,
            follow_symlink: !save.symlink_no_follow,
            timestamp: timestamp(frame, save.keep_times),
            ..CopyOptions::default()
        };
        let from = [CopyFrom { state: frame.state.clone(), path: source, base: None }];
        let copy =
            |onto: &State, options: &CopyOptions| lower::copy(onto, &from, &dest, options, frame.meta(stmt));
        let alone = CopyOptions { whole_directories: true, ..options.clone() };
        let state = copy(&State::scratch(), &alone);
        frame.artifact_tree = copy(&frame.artifact_tree, &options);
        frame.artifacts.push(SavedArtifact {
            path,
            many,
            optional: save.if_exists,
            state,
            local,
            span: stmt.span,
        });
        Ok(())
    }

    async fn local_output(
        &self,
        frame: &Frame,
        save: &SaveArtifact,
        word: &Word,
        many: bool,
    ) -> Fallible<LocalOutput> {
        let text = self.expand(frame, word, Escapes::Remove).await?;
        let into = paths::names_directory(&text);
        if many && !into {
            let message = "AS LOCAL of a pattern needs a folder";
            return Err(Diagnostic::error(codes::BAD_COPY, message)
                .with_label(word.span, "one name for many files")
                .with_help(format!("write `{text}/`")));
        }
        let project = self.place_on_disk(frame);
        refuse_repository(&text, word)?;
        if self.request.options.strict && save.force && paths::inside(&text).is_err() {
            return Err(Diagnostic::error(
                codes::NOT_ALLOWED,
                "--force writes outside of the project's folder",
            )
            .with_label(word.span, "not allowed with `--strict`")
            .with_help("write below the project's folder, or build without `--strict` or `--ci`"));
        }
        if save.force && paths::inside(&text).is_err() {
            trust::check(frame, "SAVE ARTIFACT --force", word.span)?;
        }
        let path = match paths::inside(&text) {
            Ok(path) => project.join(&path).dir().to_owned(),
            Err(OutsideError::Absolute) if save.force => paths::absolute("/", &text),
            Err(OutsideError::Above) if save.force => project.join(&text).dir().to_owned(),
            Err(error) => {
                let message = format!("cannot write `{text}`: {error}");
                return Err(Diagnostic::error(codes::PATH_OUTSIDE, message)
                    .with_label(word.span, "")
                    .with_help("`SAVE ARTIFACT --force` may write anywhere"));
            }
        };
        Ok(LocalOutput { path, into })
    }

    /// `SAVE IMAGE …`
    pub(super) async fn save_image(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        save: &SaveImage,
    ) -> Fallible<()> {
        if frame.on_host {
            let message = "an image cannot be saved of a tree that lies on this machine's own files";
            return Err(Diagnostic::error(codes::HOST_IMAGE, message)
                .with_label(stmt.span, "comes from FROM @host")
                .with_help(
                    "SAVE ARTIFACT what was built, and COPY it into a target that starts with `FROM scratch`",
                ));
        }
        if frame.locally.is_some() {
            return Err(Diagnostic::error(codes::IN_LOCALLY, "SAVE IMAGE has no meaning in LOCALLY")
                .with_label(stmt.span, "there is no image")
                .with_help("begin anew with a FROM"));
        }
        if save.push && self.request.options.push && !self.config.capabilities.push {
            return Err(forbidden("SAVE IMAGE --push", "push", stmt.span));
        }
        let mut names = Vec::new();
        for word in &save.names {
            let name = self.expand(frame, word, Escapes::Remove).await?;
            if let Some(fault) = image_name_fault(&name) {
                return Err(Diagnostic::error(
                    codes::BAD_IMAGE,
                    format!("`{name}` is not the name of an image"),
                )
                .with_label(word.span, fault)
                .with_help("write `name`, `name:tag` or `registry/name:tag`, the name in small letters"));
            }
            names.push(name);
        }
        if names.is_empty() {
            self.warn(
                Diagnostic::warning(codes::UNNAMED_IMAGE, "SAVE IMAGE without a name saves nothing")
                    .with_label(stmt.span, "")
                    .with_help("give the image a name, or drop the line: FROM +target needs none"),
            );
            return Ok(());
        }
        let (state, config) = (frame.state.clone(), frame.config.clone());
        frame.images.push(SavedImage { names, push: save.push, state, config, span: stmt.span });
        Ok(())
    }
}

/// Refuses to write into a repository's own folder, whose files are commands that run later.
pub(super) fn refuse_repository(path: &str, word: &Word) -> Fallible<()> {
    if !path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return Ok(());
    }
    Err(Diagnostic::error(
        codes::PATH_OUTSIDE,
        format!("cannot write `{path}`: it lies in a repository's own folder"),
    )
    .with_label(word.span, "git runs what lies there")
    .with_help("write elsewhere, and put it there by hand"))
}

/// Says why an image may not be saved under a name; nothing if it may.
fn image_name_fault(text: &str) -> Option<String> {
    match text.parse::<Reference>() {
        Err(error) => Some(error.reason().to_owned()),
        Ok(reference) if reference.digest().is_some() => Some("its digest comes of what is in it".to_owned()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::image_name_fault;

    #[test]
    fn names_are_those_that_registries_take() {
        for name in [
            "app",
            "app:1",
            "a/b/c:v1.2_x",
            "localhost:5000/App/x".to_lowercase().as_str(),
            "Reg.example:5000/a",
        ] {
            assert_eq!(image_name_fault(name), None, "{name}");
        }
        let digest = format!("app@sha256:{}", "0".repeat(64));
        let long = "a".repeat(300);
        for name in [
            "",
            "UPPER:x",
            "foo:b@d",
            "a b",
            "a//b",
            "-a",
            "a:",
            "a/:x",
            "a:.x",
            "../x",
            "localhost:99999/x",
            &digest,
            &long,
        ] {
            assert!(image_name_fault(name).is_some(), "{name}");
        }
    }
}
