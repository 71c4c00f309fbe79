//! `rb pack detect`: which buildpacks would build an app, and with `--explain` why.

use std::sync::Arc;

use rb_api::Course;
use rb_buildpacks::frontend::{self, FrontendError};
use rb_diag::SourceMap;
use rb_oci::Platform;
use rb_session::LocalSession;

use super::order::Order;
use super::{build, config, names, phases};
use crate::args::PackDetect;
use crate::commands::build::open_job;
use crate::commands::gateway::{BuildGateway, Settling};
use crate::commands::record::Asked;
use crate::commands::workbench::Workbench;
use crate::environment::Environment;
use crate::progress::Progress;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// Detects, and prints the group: an id and a version per line; or all that was tried.
pub(super) fn execute(
    environment: &Environment,
    settings: &Settings,
    args: &PackDetect,
) -> Result<u8, Failure> {
    let platform = match settings.platforms.as_slice() {
        [] => Platform::host(),
        [one] => one.clone(),
        _ => {
            let help = Some("name one: `--platform OS/ARCH`".to_owned());
            return Err(Failure::input("who would build an app is told for one platform at a time", help));
        }
    };
    let lent = (&platform, LocalSession::default());
    let order = Order::read(settings, &config::read(environment)?, &args.choices, &[], lent)?;
    build::warn(&order.settings, order.warnings.iter());
    let settings = &order.settings;
    let bench = Workbench::open(settings, Asked::of("build", "pack detect"), Some(&order.folder))?;
    let mut progress = Progress::start(settings.display, "pack detect");
    let done = bench.run(async {
        let session = Arc::new(order.session.clone());
        let job = open_job(settings, &bench, session, bench.heard(progress.sink()), Course::Stop);
        let sources = SourceMap::default();
        let gateway = BuildGateway::new(job, sources.clone(), settings.cwd.clone(), Settling::Nothing);
        let tell = |told| phases::tell(&progress, settings.display, &told);
        match frontend::detect_only(&gateway, &order.request, &tell).await {
            Ok(chosen) => Ok(Ok(chosen)),
            // What was tried is the answer, where it is asked for.
            Err(FrontendError::Detect { error, explanation, outputs }) if args.explain => {
                Ok(Err((error, explanation, outputs)))
            }
            Err(error) => Err(phases::failed(error, &gateway, &sources, settings.display)),
        }
    });
    progress.finish();
    let builder = &order.request.builder;
    let done = done.map_err(|failure| names::with_meant(failure, &bench, builder, &platform));
    bench.close();
    match done? {
        Ok(chosen) if args.explain => {
            report::print(
                format!(
                    "{}{}",
                    phases::cleaned(&chosen.explanation.to_string()),
                    phases::outputs(&chosen.outputs)
                )
                .as_bytes(),
            )?;
            Ok(0)
        }
        Ok(chosen) => {
            let lines: String = chosen
                .group
                .extensions
                .iter()
                .chain(&chosen.group.buildpacks)
                .map(|one| format!("{} {}\n", one.id, one.version))
                .collect();
            report::print(lines.as_bytes())?;
            Ok(0)
        }
        Err((error, explanation, outputs)) => {
            report::print(
                format!("{}{}", phases::cleaned(&explanation.to_string()), phases::outputs(&outputs))
                    .as_bytes(),
            )?;
            let kind = error.exit().kind();
            let help = Some("`-b ID` names the buildpacks yourself".to_owned());
            Err(Failure::Said { kind, message: error.to_string(), help })
        }
    }
}
