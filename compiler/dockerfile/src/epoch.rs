//! `SOURCE_DATE_EPOCH`: when everything is said to have been made.
//!
//! A number counts seconds since 1970. `context` is when the commit was made that the build context is; a folder of the
//! client has no such moment, and then there is none.

use std::collections::BTreeMap;

use rb_diag::Diagnostic;
use rb_frontend::Gateway;

use crate::arguments::GlobalArguments;
use crate::codes;
use crate::contexts::Context;
use crate::failure::{self, Fallible};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// Finds the moment, and puts the number in the place of what names it.
pub(crate) async fn settle(
    gateway: &dyn Gateway,
    context: &Context,
    given: &mut BTreeMap<String, String>,
    arguments: &mut GlobalArguments,
) -> Fallible<Option<i64>> {
    let wanted = given.get(NAME).map(String::as_str).or(arguments.values.value(NAME));
    let epoch = match wanted.unwrap_or_default() {
        "" => return Ok(None),
        "context" => of_context(gateway, context).await?,
        number => Some(number.parse().map_err(|_| unknown(number))?),
    };
    let text = epoch.map(|epoch: i64| epoch.to_string());
    let was_given = given.remove(NAME).is_some();
    match &text {
        Some(text) => {
            if was_given {
                given.insert(NAME.to_owned(), text.clone());
            }
            if arguments.values.value(NAME).is_some() {
                arguments.values.set(NAME, text);
            }
        }
        None => arguments.values.remove(NAME),
    }
    Ok(epoch)
}

async fn of_context(gateway: &dyn Gateway, context: &Context) -> Fallible<Option<i64>> {
    let Some(repository) = &context.repository else { return Ok(None) };
    let facts = gateway.resolve_repository(&repository.request(&repository.remote)).await;
    let facts = facts.map_err(|error| failure::world(codes::CONTEXT, &error, None))?;
    Ok(facts.commit_timestamp.parse().ok())
}

fn unknown(value: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_OPTION, format!("invalid SOURCE_DATE_EPOCH: {value}"))
        .with_help("write seconds since 1970, or `context` for the time of the context's commit")
}
