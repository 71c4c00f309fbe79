//! Questions about a Dockerfile in place of a build: `--check`, `--call`.
//!
//! Answers are data and go to stdout. Of checks the exit code is 1 where something was found, as with buildx; what is wrong with
//! the file is told as in any build, and in the formats of programs it is part of the answer, too.

use rb_api::Course;
use rb_dockerfile::Checked;
use rb_dockerfile::checks::report::Report;
use serde::Serialize;

use super::order::Order;
use super::planning::Planning;
use crate::args::{CallChoice, CallFormat};
use crate::commands::record::Asked;
use crate::commands::workbench::Workbench;
use crate::progress::Progress;
use crate::report::{self, Failure};

/// An answer: what goes to stdout, and what is wrong beside it.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) code: u8,
    pub(super) failure: Option<Failure>,
}

/// Answers.
pub(super) fn answer(order: &Order) -> Result<u8, Failure> {
    let bench =
        Workbench::open(&order.settings, Asked::of("check", &order.title), order.lent.folder.as_deref())?;
    let mut progress = Progress::start(order.settings.display, &order.shown);
    let answered =
        bench.run(async { ask(order, &Planning::start(order, &bench, &progress, Course::Stop)).await });
    progress.finish();
    bench.close();
    let Answer { text, code, failure } = answered?;
    report::print(text.as_bytes())?;
    let code = if order.called.ignore_status { 0 } else { code };
    failure.map_or(Ok(code), Err)
}

/// Asks the frontend.
pub(super) async fn ask(order: &Order, planning: &Planning<'_>) -> Result<Answer, Failure> {
    planning.prepare().await?;
    let options = planning.options()?;
    let (gateway, sources, format) = (&planning.gateway, &planning.sources, order.called.format);
    let wrong = match order.called.method {
        CallChoice::Build | CallChoice::Check => {
            let found = rb_dockerfile::check(gateway, &options, sources).await;
            return match planning.foreign(&found.errors) {
                Some(image) => planning.errand(&planning.inputs()).ask(&image).await,
                None => Ok(checked(planning, found, format)),
            };
        }
        CallChoice::Outline => match rb_dockerfile::outline(gateway, &options, sources).await {
            Ok(outline) => return Ok(told(outline.text(), &outline, format)),
            Err(items) => items,
        },
        CallChoice::Targets => match rb_dockerfile::targets(gateway, &options, sources).await {
            Ok(targets) => return Ok(told(targets.text(), &targets, format)),
            Err(items) => items,
        },
    };
    // Another language is its own frontend's to answer for.
    match planning.foreign(&wrong) {
        Some(image) => planning.errand(&planning.inputs()).ask(&image).await,
        None => Err(planning.failed(wrong)),
    }
}

/// Returns an answer in the format that was asked for.
fn told(text: String, value: &impl Serialize, format: CallFormat) -> Answer {
    let text = match format {
        CallFormat::Text | CallFormat::Sarif => text,
        CallFormat::Json => {
            format!("{}\n", serde_json::to_string_pretty(value).expect("its keys are text"))
        }
    };
    Answer { text, code: 0, failure: None }
}

/// Tells what is unusual: in the stages that the target needs, or, where none is named, in all.
fn checked(planning: &Planning<'_>, checked: Checked, format: CallFormat) -> Answer {
    let Checked { findings, errors } = checked;
    let report = Report { findings: &findings, errors: &errors, sources: &planning.sources };
    let text = match format {
        // That nothing was found would say too much.
        CallFormat::Text if findings.is_empty() && !errors.is_empty() => String::new(),
        CallFormat::Text => report.text(),
        CallFormat::Json => report.json(),
        CallFormat::Sarif => report.sarif(),
    };
    let code = u8::from(!report.is_clean());
    let failure = (!errors.is_empty()).then(|| planning.failed(errors));
    Answer { text, code, failure }
}
