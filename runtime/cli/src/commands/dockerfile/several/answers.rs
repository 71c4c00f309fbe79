//! Questions about several Dockerfiles in place of a build.
//!
//! Of one the answer is that of `rb build`; of several each stands below its name, or in formats of programs under it.

use std::sync::Arc;

use rb_api::Course;
use rb_diag::SourceMap;
use rb_session::Session;
use serde_json::{Map, Value};

use super::make::{Ground, Told, plan_all, planning};
use super::names::Names;
use super::{All, Build};
use crate::args::CallFormat;
use crate::commands::build;
use crate::commands::dockerfile::foreign::Host;
use crate::commands::dockerfile::requests::{self, Answer};
use crate::commands::struck;
use crate::commands::workbench::Workbench;
use crate::progress::Progress;
use crate::report::{self, Failure};

/// Answers.
pub(super) fn answer(all: All, builds: &[Build], open: Option<Workbench>) -> Result<u8, Failure> {
    let All { title, settings, session, .. } = all;
    let bench = super::bench(open, &settings, "check", &title)?;
    let mut progress = Progress::start(settings.display, &title);
    let session: Arc<dyn Session> = Arc::new(session);
    let answered = bench.run(async {
        let given = struck::of_arguments(builds.iter().map(|build| &build.order.options));
        let events = struck::sink(given, bench.heard(progress.sink()));
        let (engine, heard) = (Arc::clone(&bench.engine), Arc::clone(&events));
        let host = Host { engine, events: heard, only_looks: false };
        let job = build::open_job(&settings, &bench, session, events, Course::Stop);
        let (sources, names) = (SourceMap::default(), Names::default());
        let ground = Ground { job: &job, host: &host, sources: &sources, names: &names };
        let is_context =
            |at: &usize| builds.iter().any(|build| build.links.iter().any(|link| link.part == *at));
        let contexts: Vec<usize> = (0..builds.len()).filter(is_context).collect();
        let mut findings = Told::default();
        let planned = plan_all(builds, &contexts, ground, &mut findings).await?;
        let mut answers = Vec::new();
        for build in builds.iter().filter(|build| !build.is_context) {
            let planning = planning(builds, build, &planned, ground);
            let asked = requests::ask(&build.order, &planning).await;
            answers.push((build, asked.map_err(|failure| failure.of_part(&build.name))?));
        }
        Ok(answers)
    });
    progress.finish();
    bench.close();
    let answers = answered?;
    report::print(shown(&answers).as_bytes())?;
    let code = answers.iter().map(|(_, answer)| answer.code).max().unwrap_or(0);
    let failed = |(build, answer): (&Build, Answer)| Some(answer.failure?.of_part(&build.name));
    let failures: Vec<Failure> = answers.into_iter().filter_map(failed).collect();
    if failures.is_empty() { Ok(code) } else { Err(Failure::several(failures)) }
}

fn shown(answers: &[(&Build, Answer)]) -> String {
    if let [(_, answer)] = answers {
        return answer.text.clone();
    }
    let is_text = |(build, _): &(&Build, Answer)| build.order.called.format == CallFormat::Text;
    if answers.iter().all(is_text) {
        let one = |(build, answer): &(&Build, Answer)| {
            let Build { name, description, .. } = build;
            let heading =
                if description.is_empty() { format!("{name}\n") } else { format!("{name}: {description}\n") };
            format!("{heading}{}", answer.text)
        };
        return answers.iter().map(one).collect::<Vec<_>>().join("\n");
    }
    let value = |(build, answer): &(&Build, Answer)| {
        let value = answer.text.parse().unwrap_or_else(|_| Value::String(answer.text.clone()));
        (build.name.clone(), value)
    };
    format!("{:#}\n", Value::Object(answers.iter().map(value).collect::<Map<_, _>>()))
}
