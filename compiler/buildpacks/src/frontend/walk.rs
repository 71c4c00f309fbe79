//! The walk: images → candidates → detection → extended images → one build after the other → the image.

use rb_diag::SourceMap;
use rb_frontend::Gateway;
use rb_llb::State;

use super::error::FrontendError;
use super::gate::Gate;
use super::ground::Ground;
use super::image::AppImage;
use super::previous::Previous;
use super::{PackRequest, Teller, Told};
use crate::explain::{Explanation, GroupEnd, Verdict};
use crate::{Group, ModuleKey, ModuleKind, Plan};

/// What detection chose.
#[derive(Debug)]
pub struct Chosen {
    /// Who takes part.
    pub group: Group,
    /// What they ask of one another.
    pub plan: Plan,
    /// Everything that was tried.
    pub explanation: Explanation,
    /// What those wrote that were asked, in the order of their names.
    pub outputs: Vec<(ModuleKey, String)>,
    /// What those left that ran to be asked, by what their steps are called: for caches of other machines.
    pub answers: Vec<(String, State)>,
}

/// What is to be made.
pub struct Planned {
    /// The image.
    pub image: AppImage,
    /// Steps that keep layers for the next build.
    pub keeps: Vec<(String, State)>,
    /// How it came to the group.
    pub chosen: Chosen,
    /// The base, by its digest.
    pub run_image: String,
}

/// Decides what an app's image is made of. Detections and buildpacks run on the way. `previous` is the image whose layers are used
/// again where buildpacks speak of them and nothing else is kept: it is in no key. `sources` takes the texts that extensions generate.
pub async fn plan(
    gateway: &dyn Gateway,
    (request, previous): (&PackRequest, Option<&Previous>),
    sources: &SourceMap,
    tell: Teller<'_>,
) -> Result<Planned, FrontendError> {
    let gate = Gate(gateway);
    tell(Told::Analyzing);
    let mut ground = Ground::survey(gate, request).await?;
    let mut chosen = ground.detect(gate, request, tell, false).await?;
    ground.extend(gate, request, sources, tell, &mut chosen).await?;
    ground.build(gate, (request, previous), tell, chosen).await
}

/// Detects, and goes no further.
pub async fn detect_only(
    gateway: &dyn Gateway,
    request: &PackRequest,
    tell: Teller<'_>,
) -> Result<Chosen, FrontendError> {
    let gate = Gate(gateway);
    tell(Told::Analyzing);
    Ground::survey(gate, request).await?.detect(gate, request, tell, true).await
}

impl Chosen {
    /// Tells who was asked, and how it ended for each of the group that counts: the last that was tried.
    pub fn members(&self) -> Vec<(ModuleKey, bool)> {
        let chosen =
            |key: &ModuleKey| self.group.buildpacks.iter().any(|one| one.key(ModuleKind::Buildpack) == *key);
        let of = |end: &GroupEnd| matches!(end, GroupEnd::Chosen { .. });
        let group = self.explanation.groups.iter().find(|group| of(&group.end));
        let members = group.into_iter().flat_map(|group| &group.members);
        members
            .map(|one| (one.module.clone(), one.verdict == Verdict::Passed && chosen(&one.module)))
            .collect()
    }
}
