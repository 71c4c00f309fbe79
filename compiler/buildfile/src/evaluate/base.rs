//! FROM: what a recipe starts from.

use std::collections::BTreeSet;

use rb_diag::Diagnostic;
use rb_frontend::{ImageLocation, ImageRequest};
use rb_llb::{NodeMeta, State};
use rb_oci::{ImageConfig, Platform, RootFs};
use rb_syntax::{Base, Call, FromStmt, Stmt, Word};

use super::frame::Frame;
use super::{Evaluator, Fallible, trust, world_error};
use crate::codes;
use crate::lower::{self, DEFAULT_PATH};
use crate::resolve::{Reference, Resolved, dividing_plus};
use crate::word::Escapes;

pub(super) const OCI_LAYOUT: &str = "oci-layout:";

impl Evaluator<'_> {
    /// `FROM …`
    pub(super) async fn from(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        from: &FromStmt<Resolved>,
    ) -> Fallible<()> {
        let platform = match &from.platform {
            Some(word) => self.platform(frame, word).await?,
            None => frame.key.platform.clone(),
        };
        match &from.base {
            Base::Scratch => base_of_scratch(frame, platform),
            Base::Image(word) => return self.base_of_word(frame, stmt, word, platform).await,
            Base::Host { binds, fingerprints } => {
                self.base_of_host(frame, stmt, binds, fingerprints, platform).await?;
            }
            Base::Dockerfile(from) => return self.base_of_dockerfile(frame, stmt, from, platform).await,
            Base::Buildpacks(from) => return self.base_of_buildpacks(frame, stmt, from, platform).await,
            Base::Target(call) => {
                let call = Call { platforms: from.platform.iter().cloned().collect(), ..call.clone() };
                let callee = self.call_one(frame, &call).await?;
                frame.start_from(&callee);
            }
        }
        Ok(())
    }

    /// What a word names is known only once its variables are filled in.
    async fn base_of_word(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        word: &Word,
        platform: Platform,
    ) -> Fallible<()> {
        let text = self.expand(frame, word, Escapes::KeepPlus).await?;
        match text.as_str() {
            "scratch" => base_of_scratch(frame, platform),
            "@host" => self.base_of_host(frame, stmt, &[], &[], platform).await?,
            reference if dividing_plus(reference).is_some() => {
                let call = Call::bare(Reference::Dynamic(word.clone()), word.span);
                let callee = self.call_one(frame, &call).await?;
                frame.start_from(&callee);
            }
            name => self.base_of_image(frame, stmt, word, name, platform).await?,
        }
        Ok(())
    }

    async fn base_of_image(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        word: &Word,
        name: &str,
        platform: Platform,
    ) -> Fallible<()> {
        let (state, config) = self.image_of(frame, word, name, &platform, frame.meta(stmt)).await?;
        frame.start(state, config, false);
        frame.platform = platform;
        Ok(())
    }

    /// Returns an image by its name.
    pub(super) async fn image_of(
        &self,
        frame: &Frame,
        word: &Word,
        name: &str,
        platform: &Platform,
        meta: NodeMeta,
    ) -> Fallible<(State, ImageConfig)> {
        let location = match name.strip_prefix(OCI_LAYOUT) {
            Some(place) => layout(frame, word, place)?,
            None if name.is_empty() || name.contains(char::is_whitespace) => {
                return Err(Diagnostic::error(
                    codes::BAD_IMAGE,
                    format!("`{name}` is not the name of an image"),
                )
                .with_label(word.span, "")
                .with_help(
                    "write `FROM scratch`, `FROM oci-layout:./folder:tag`, `FROM +target` or `FROM @host`",
                ));
            }
            None => ImageLocation::Registry(self.registry_name(name)),
        };
        let request = ImageRequest { location, platform: platform.clone() };
        let image = self.world.gateway().resolve_image(&request).await;
        let image = image.map_err(|error| world_error(codes::IMAGE, &error, word.span))?;
        let state = lower::image(&image, platform, meta);
        // What the exporter makes anew: which layers there are, and when the image was made.
        Ok((state, ImageConfig { rootfs: RootFs::default(), created: None, ..image.config }))
    }

    /// Returns the name that an image has where a registry is named for all that name none.
    pub(super) fn registry_name(&self, name: &str) -> String {
        match &self.config.default_registry {
            Some(host) if !rb_oci::names_host(name) => format!("{host}/{name}"),
            Some(_) | None => name.to_owned(),
        }
    }

    async fn base_of_host(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        binds: &[Word],
        fingerprints: &[Word],
        platform: Platform,
    ) -> Fallible<()> {
        trust::check(frame, "FROM @host", stmt.span)?;
        let mut paths = BTreeSet::new();
        for word in binds {
            let path = self.expand(frame, word, Escapes::Remove).await?;
            paths.insert(host_path(word, &path)?);
        }
        let mut commands = BTreeSet::new();
        for word in fingerprints {
            commands.insert(self.expand(frame, word, Escapes::Remove).await?);
        }
        let state = lower::host(&paths, &commands, &platform, frame.meta(stmt));
        let mut config = ImageConfig::scratch(&platform);
        config.config.set_env("PATH", DEFAULT_PATH);
        frame.start(state, config, true);
        frame.platform = platform;
        Ok(())
    }
}

fn base_of_scratch(frame: &mut Frame, platform: Platform) {
    let config = ImageConfig::scratch(&platform);
    frame.start(State::scratch(), config, false);
    frame.platform = platform;
}

/// Reads `./path[:tag]`.
fn layout(frame: &Frame, word: &Word, place: &str) -> Fallible<ImageLocation> {
    let name_at = place.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match place[name_at..].find(':') {
        Some(colon) => (&place[..name_at + colon], Some(&place[name_at + colon + 1..])),
        None => (place, None),
    };
    let refuse = |message: &str, help: &str| {
        Diagnostic::error(codes::BAD_IMAGE, message).with_label(word.span, "").with_help(help)
    };
    if path.is_empty() || tag == Some("") {
        return Err(refuse(
            "an OCI layout is named by its folder",
            "write `oci-layout:./folder` or `oci-layout:./folder:tag`",
        ));
    }
    if path.starts_with('/') {
        let help = "a build must mean the same on every machine: write a path relative to this file";
        return Err(refuse("the path of an OCI layout is absolute", help));
    }
    let project = frame.key.target.project.clone();
    if project.repository().is_some() {
        let help = "name an image of a registry; only the user's own tree holds layouts";
        return Err(refuse("a repository elsewhere has no OCI layouts", help));
    }
    Ok(ImageLocation::OciLayout { project, path: path.to_owned(), tag: tag.map(str::to_owned) })
}

/// Checks and normalises a path of the host.
fn host_path(word: &Word, path: &str) -> Fallible<String> {
    let refuse = |message: String, help: &str| {
        Err(Diagnostic::error(codes::HOST_BIND, message).with_label(word.span, "").with_help(help))
    };
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return refuse(
            format!("`{path}` is not an absolute path without `..`"),
            "what a bind shows must not depend on where the build is started",
        );
    }
    match lower::paths::absolute("/", path) {
        path if path == "/" => refuse(
            "the whole host cannot be shown".to_owned(),
            "bind only the folders that the tools lie in; /usr and what belongs to it are there already",
        ),
        path => Ok(path),
    }
}
