//! WAIT: at its END everything below it has happened.
//!
//! The steps of the recipe so far and of every target it BUILDs have run, and their outputs are written, in the order
//! of the text. Own outputs of a target that was reached by FROM or COPY are left for the BUILD that may come to it; but what is
//! saved of one that has failed is written, as none can.
//! Source: earthly-language section 4, WAIT; 8.4, 8.5.

use rb_diag::Span;
use rb_frontend::{Effect, PlannedOutput};
use rb_syntax::Stmt;

use super::frame::Frame;
use super::plan::{self, OutputId};
use super::{Evaluator, Fallible, world_error};
use crate::codes;
use crate::resolve::Resolved;

impl Evaluator<'_> {
    /// `WAIT … END`
    pub(super) async fn wait(&self, frame: &mut Frame, at: Span, body: &[Stmt<Resolved>]) -> Fallible<()> {
        let (images, artifacts, builds) = (frame.images.len(), frame.artifacts.len(), frame.builds.len());
        frame.waiting += 1;
        self.body(frame, body).await?;
        frame.waiting -= 1;
        let label = frame.key.to_string();
        let mut effects = Vec::new();
        let mut names = plan::ImageNames::default();
        let mut done: Vec<OutputId> = Vec::new();
        let settled = self.settled.lock().expect("no holder of this lock panics").clone();
        for target in plan::callees_first(frame.builds.get(builds..).unwrap_or_default()) {
            let outputs = plan::outputs(target, &mut names)?;
            for (label, state) in outputs.roots {
                effects.push(Effect::Make { label, state });
            }
            for (id, output) in
                outputs.outputs.into_iter().filter(|(id, _)| frame.loud && !settled.contains(id))
            {
                effects.push(Effect::Write(output));
                done.push(id);
            }
        }
        if !frame.state.is_scratch() && frame.locally.is_none() {
            effects.push(Effect::Make { label: label.clone(), state: frame.state.clone() });
        }
        for (at, image) in frame.images.iter().enumerate().skip(images).filter(|_| frame.loud) {
            if names.add(image)? {
                effects
                    .push(Effect::Write(PlannedOutput::Image { label: label.clone(), image: image.clone() }));
            }
            done.push(OutputId::image(&frame.key, at));
        }
        for (at, artifact) in frame.artifacts.iter().enumerate().skip(artifacts) {
            if artifact.local.is_none() || !(frame.loud || frame.rescuing) {
                effects.push(Effect::Make { label: label.clone(), state: artifact.state.clone() });
                continue;
            }
            let artifact = artifact.clone();
            effects.push(Effect::Write(PlannedOutput::Artifact { label: label.clone(), artifact }));
            done.push(OutputId::artifact(&frame.key, at));
        }
        if effects.is_empty() {
            return Ok(());
        }
        let settle = self.world.gateway().settle(&effects).await;
        settle.map_err(|error| world_error(codes::EFFECT, &error, at))?;
        self.settled.lock().expect("no holder of this lock panics").extend(done);
        Ok(())
    }
}
