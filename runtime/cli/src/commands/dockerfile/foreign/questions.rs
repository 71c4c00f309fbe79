//! Questions that the frontend of an image answers: `--check`, `--call`.
//!
//! In: the question. Out: the answer as the frontend gives it, as text or as data; what it finds unusual is exit code 1, as with
//! BuildKit's own. One that knows no such question is told as that.
//! Source: BuildKit's `frontend/subrequests`; buildx, how it shows answers.

use std::collections::BTreeMap;

use rb_diag::ErrorKind;
use rb_remote::guest::Returned;

use super::Errand;
use crate::args::{CallChoice, CallFormat, Called};
use crate::commands::dockerfile::requests::Answer;
use crate::report::Failure;

/// What a client says it will ask for.
const CAPABILITY: &str = "moby.buildkit.frontend.subrequests";
/// What is asked for what is unusual.
const LINT: &str = "frontend.lint";

impl Errand<'_> {
    /// Puts the question of the order to the frontend of an image.
    pub(in crate::commands::dockerfile) async fn ask(&self, image: &str) -> Result<Answer, Failure> {
        let Called { method, format, .. } = self.order.called;
        let name = match method {
            CallChoice::Build | CallChoice::Check => LINT,
            CallChoice::Outline => "frontend.outline",
            CallChoice::Targets => "frontend.targets",
        };
        if format == CallFormat::Sarif {
            let help = Some("leave `format=sarif` away, or write `format=json`".to_owned());
            return Err(Failure::input(
                format!("the frontend `{image}` answers as text and as JSON alone"),
                help,
            ));
        }
        let asked = [("requestid", name), ("frontend.caps", CAPABILITY)];
        let asked: BTreeMap<String, String> =
            asked.into_iter().map(|(option, value)| (option.to_owned(), value.to_owned())).collect();
        let Returned { answers, .. } =
            self.run(image, asked).await.map_err(|failure| unknown(failure, image, name))?;
        let said = |key: &str| answers.get(key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let text = match format {
            CallFormat::Json => said("result.json"),
            CallFormat::Text | CallFormat::Sarif => said("result.txt").or_else(|| said("result.json")),
        };
        let mut text = text.ok_or_else(|| no_answer(image, name))?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if format == CallFormat::Text && name == LINT {
            text.insert_str(0, &heading(said("result.json").as_deref().unwrap_or_default()));
        }
        if format == CallFormat::Text {
            text.retain(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'));
        }
        let code = said("result.statuscode").and_then(|code| code.trim().parse::<u8>().ok());
        let wrong = said("result.json").filter(|_| name == LINT).and_then(|json| build_error(&json));
        let failure = wrong.map(|message| Failure::input(message, None));
        Ok(Answer { text, code: code.unwrap_or(0).min(1), failure })
    }
}

/// Says how much was found, as buildx does above what the frontend writes.
fn heading(json: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    match answer["warnings"].as_array().map_or(0, Vec::len) {
        0 if answer["buildError"].is_object() => String::new(),
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        more => format!("Check complete, {more} warnings have been found!\n"),
    }
}

/// What is wrong with the file: of that the text of an answer says nothing.
fn build_error(json: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(json).ok()?;
    let message = answer["buildError"]["message"].as_str()?;
    Some(message.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect())
}

/// Tells that a frontend answers no such question, if that is what it said.
fn unknown(failure: Failure, image: &str, name: &str) -> Failure {
    match &failure {
        // Words of BuildKit's own error, which has the name of the question behind them.
        Failure::Said { kind: ErrorKind::Input, message, .. }
            if message.contains("unsupported request") || message.contains("unknown request") =>
        {
            no_answer(image, name)
        }
        _ => failure,
    }
}

fn no_answer(image: &str, name: &str) -> Failure {
    let help = "only its own program knows the language of the file; `rb build` runs that".to_owned();
    Failure::input(format!("the frontend `{image}` does not answer `{name}`"), Some(help))
}
