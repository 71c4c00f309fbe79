//! FROM BUILDPACKS: an app that buildpacks build, to go on from.
//!
//! In: a statement. Out: the filesystem and the config of the app's image. `asked` and `launcher` settle what is asked for, and
//! `rb_buildpacks` decides who builds, with questions to the engine: its steps are those of `rb pack build`, so what one of the
//! two has made is known to the other. What buildpacks want to find again is kept once all of them have built.
//! **Invariant:** what is kept is in no key; the app is lent as it is, with the modes of its files.

mod asked;
mod launcher;
mod named;

use rb_buildpacks::frontend::{self, FrontendError, Told};
use rb_diag::{Diagnostic, Span};
use rb_frontend::{Effect, Gateway as _};
use rb_oci::{ImageConfig, Platform, RootFs};
use rb_syntax::{FromBuildpacks, Stmt};

use super::frame::Frame;
use super::owner::{OwnGateway, Owner};
use super::{Evaluator, Fallible, world_error};
use crate::codes;
use crate::resolve::Resolved;
use asked::{Asked, Places};

/// How many lines of what was tried are told.
const LINES: usize = 200;

impl Evaluator<'_> {
    /// `FROM BUILDPACKS …`
    pub(super) async fn base_of_buildpacks(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        from: &FromBuildpacks<Resolved>,
        platform: Platform,
    ) -> Fallible<()> {
        let Asked { request, places, kept } = self.asked_of_buildpacks(frame, stmt, from, &platform).await?;
        let owner = Owner::of(frame, kept);
        let gateway = OwnGateway { owner: &owner, gateway: self.world.gateway() };
        let tell = |told: Told| {
            if let Told::Warning(line) = told {
                let warning = Diagnostic::warning(codes::BUILDPACKS, line).with_label(stmt.span, "");
                self.warn(warning.with_help("what a buildpack does is for its authors to change"));
            }
        };
        let planned =
            frontend::plan(&gateway, (&request, None), self.world.workspace().sources(), &tell).await;
        let planned = planned.map_err(|error| told(&error, &places))?;
        let keep = |(_, state)| Effect::Make { label: owner.label.clone(), state: owner.own(&state) };
        let keeps: Vec<Effect> = planned.keeps.into_iter().map(keep).collect();
        if !keeps.is_empty() {
            let settled = gateway.settle(&keeps).await;
            settled.map_err(|error| world_error(codes::EFFECT, &error, stmt.span))?;
        }
        let made = planned.image.tree(&platform, Some(stmt.span));
        let (state, config) = made.map_err(|error| told(&error.into(), &places))?;
        // What the exporter makes anew: which layers there are, and when the image was made.
        let config = ImageConfig { rootfs: RootFs::default(), created: None, ..config };
        frame.start(owner.own(&state), config, false);
        frame.platform = platform;
        Ok(())
    }
}

/// Says why an app cannot be built, at what is to be changed.
fn told(error: &FrontendError, places: &Places) -> Diagnostic {
    let found = |code, at: Span, label: &str| {
        let help =
            error.help().unwrap_or_else(|| "`rb pack detect` and `rb pack build` say more of it".to_owned());
        Diagnostic::error(code, error.to_string())
            .with_kind(error.kind())
            .with_label(at, label)
            .with_help(help)
    };
    let of_builder = |label| found(codes::NO_BUILDER, places.builder, label);
    match error {
        FrontendError::World(error) => world_error(codes::BUILDPACKS, error, places.statement),
        FrontendError::Detect { error: _, explanation, outputs } => {
            let mut lines: Vec<String> = explanation.to_string().lines().map(str::to_owned).collect();
            for (module, output) in outputs {
                lines.push(format!("output of {module}:"));
                lines.extend(output.lines().map(|line| format!("  {line}")));
            }
            if lines.len() > LINES {
                let more = lines.len() - LINES;
                lines.truncate(LINES);
                lines.push(format!("… and {more} more lines"));
            }
            let error = found(codes::DETECTION, places.app, "this app").with_help(
                "`--buildpack=ID` names the buildpacks yourself; what each of them looks for stands in its documentation",
            );
            lines.into_iter().fold(error, Diagnostic::with_trail)
        }
        FrontendError::Builder { .. } | FrontendError::Api(_) | FrontendError::Lacks { .. } => {
            of_builder("cannot build it")
        }
        FrontendError::Platform { .. } => of_builder("names an image of another system"),
        FrontendError::NoRunImage(_) => of_builder("names none"),
        FrontendError::Generated { .. } => of_builder("has this extension"),
        FrontendError::Extension { errors, .. } => {
            let first = errors.iter().next().cloned();
            let first = first.unwrap_or_else(|| of_builder("has this extension"));
            first.with_trail(error.to_string())
        }
        FrontendError::NoModule { id, .. } => {
            found(codes::BUILDPACKS, places.of_buildpack(id), "no such one")
        }
        FrontendError::Package { image, .. } => {
            found(codes::BUILDPACKS, places.of_buildpack(image), "no package")
        }
        FrontendError::Module { place, .. } => found(codes::BUILDPACKS, places.of_buildpack(place), ""),
        FrontendError::Choice(message) => found(codes::BUILDPACKS, places.of_buildpack(message), ""),
        FrontendError::Decode(_)
        | FrontendError::OnItsBase { .. }
        | FrontendError::Output { .. }
        | FrontendError::Reuse { .. }
        | FrontendError::Slice(_)
        | FrontendError::Export(_)
        | FrontendError::Json(_)
        | FrontendError::Plan(_)
        | FrontendError::TooMany { .. } => found(codes::BUILDPACKS, places.statement, ""),
    }
}
