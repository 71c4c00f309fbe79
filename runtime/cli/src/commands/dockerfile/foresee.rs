//! What a build of a Dockerfile would run: for `rb plan`, `rb why`, `--dry-run` and `--expect-cached`.
//!
//! The Dockerfile is planned on a job that only looks, and the cache is asked what the rest would do, as for targets of a
//! Buildfile ([`crate::commands::foresight`]). A context of the web that has to be unpacked first, and is not yet, ends the look
//! there.
//! **Invariant:** nothing runs, and nothing is written or pushed, unless all was found.

use rb_api::{Course, Root, SolveRequest};

use super::order::Order;
use super::planning::Planning;
use super::wanted;
use crate::commands::elsewhere;
use crate::commands::exports::Asked as Wants;
use crate::commands::foresight::{self, Foresight, Heard};
use crate::commands::plan;
use crate::commands::record::Listener;
use crate::commands::workbench::Workbench;
use crate::progress::Progress;
use crate::report::Failure;
use crate::settings::{Display, ProgressMode};

/// `--dry-run`: the page of `rb plan`.
pub(super) fn show(order: &Order) -> Result<u8, Failure> {
    plan::of_dockerfile(order, order.settings.display.mode == ProgressMode::Json)
}

/// Looks at what the build would do, and why.
pub(in crate::commands) fn look(order: &Order, command: &'static str) -> Result<(Foresight, Heard), Failure> {
    elsewhere::looks_here(&order.settings)?;
    let bench = Workbench::open(&order.settings, order.asked(command), Some(order.workspace()))?;
    let quiet = Display { mode: ProgressMode::Quiet, ..order.settings.display };
    let mut progress = Progress::start(quiet, &order.shown);
    let listener = Listener::default();
    let seen = bench.run(async {
        let events = listener.sink(progress.sink());
        let planning = Planning::start_heard(order, &bench, events, Course::Look);
        foresee(order, &planning).await.map(|(seen, _)| seen)
    });
    progress.finish();
    bench.close();
    let (mut seen, heard) = (seen?, listener.document());
    seen.explain(&order.settings.state_directory, order.workspace(), &order.names(), &heard)?;
    Ok((seen, heard))
}

/// `--expect-cached`: returns what is to be written, if no step has to run for it; else says of each why it would.
pub(super) async fn cached(
    order: &Order,
    planning: &Planning<'_>,
    bench: &Workbench,
) -> Result<Wants, Failure> {
    let (mut seen, wants) = foresee(order, planning).await?;
    let heard = bench.heard_so_far();
    seen.explain(&order.settings.state_directory, order.workspace(), &order.names(), &heard)?;
    let definitions: Vec<_> =
        wants.iter().flat_map(|wants| &wants.request.roots).map(|root| root.definition.clone()).collect();
    match foresight::unfound(seen, &definitions, &planning.sources) {
        Some(failure) => Err(failure),
        None => Ok(wants.expect("what stops a look is not found")),
    }
}

/// Has the frontend decide the graph, and asks the cache what solving it would do. What is to be written is known where the look
/// came to its end.
async fn foresee(order: &Order, planning: &Planning<'_>) -> Result<(Foresight, Option<Wants>), Failure> {
    let (wants, stopped) = match planning.foresee().await? {
        Ok(images) => {
            let ready = planning.ready(&images).await?;
            (Some(wanted(order, images, &ready, &planning.sources)?), Vec::new())
        }
        Err(stopped) => (None, stopped),
    };
    let request = match &wants {
        Some(wants) => wants.request.clone(),
        None => {
            let root = |definition| Root { label: order.title.clone(), definition };
            let roots = planning.gateway.unanswered().into_iter().map(root).collect();
            SolveRequest { roots, ..SolveRequest::default() }
        }
    };
    let seen = foresight::ask(planning.job.as_ref(), request, stopped).await?;
    Ok((seen, wants))
}
