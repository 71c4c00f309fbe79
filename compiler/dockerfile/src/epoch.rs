//! `SOURCE_DATE_EPOCH`: when everything is said to have been made.
//!
//! A number counts seconds since 1970. `context` is when the commit was made that the build context is; the name of a further
//! context, or of a stage that is one ADD upon nothing, stands for the commit of that repository. Of a file of the web it is when its
//! server says that it was changed, or else the time of the newest file in the archive that it is. A folder of the client and an
//! image have no such moment, and then there is none.
//! Source: BuildKit's `frontend/dockerfile/dockerfile2llb`, how it resolves the value.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Span};
use rb_frontend::{Answer, Gateway, Query};
use rb_llb::{NodeMeta, State};

use crate::arguments::{self, GlobalArguments};
use crate::contexts::{Context, NamedContexts, internal, is_web, remote_file, remote_path, unpacked};
use crate::environment::Environment;
use crate::failure::{self, Fallible};
use crate::git_reference::GitReference;
use crate::words::Lexer;
use crate::{Instruction, Stage, Transfer, TransferSource, codes};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// What the value may name.
pub(crate) struct Moments<'a> {
    pub(crate) gateway: &'a dyn Gateway,
    pub(crate) context: &'a Context,
    pub(crate) contexts: &'a NamedContexts<'a>,
    pub(crate) stages: &'a [Stage],
    pub(crate) lexer: Lexer,
}

impl Moments<'_> {
    /// Finds the moment, and puts the number in the place of what names it.
    pub(crate) async fn settle(
        &self,
        given: &mut BTreeMap<String, String>,
        arguments: &mut GlobalArguments,
    ) -> Fallible<Option<i64>> {
        let wanted = given.get(NAME).map(String::as_str).or(arguments.values.value(NAME));
        let epoch = match wanted.unwrap_or_default() {
            "" => return Ok(None),
            text => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => self.named(text, given, &arguments.values).await?,
            },
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

    async fn named(
        &self,
        name: &str,
        given: &BTreeMap<String, String>,
        values: &Environment,
    ) -> Fallible<Option<i64>> {
        if name == "context" {
            return match &self.context.repository {
                Some(repository) => self.of_commit(repository).await,
                None => match &self.context.web {
                    Some(address) => self.of_web(address).await,
                    None => Ok(None),
                },
            };
        }
        if let Some(source) = self.contexts.source(name) {
            return self.of_address(source).await;
        }
        let stage = self.stages.iter().find(|stage| {
            stage.name.as_ref().is_some_and(|(_, known)| known.value.eq_ignore_ascii_case(name))
        });
        let stage = stage.ok_or_else(|| unknown(name))?;
        let (source, span) = self.added(stage, given, values)?;
        let found = self.of_address(&source).await;
        match found.map_err(|error| error.with_label(span, ""))? {
            Some(moment) => Ok(Some(moment)),
            None if is_web(&source) => Ok(None),
            None => Err(unfit(span, "its source is neither a repository nor a file of the web")),
        }
    }

    /// Returns what the one ADD of a stage adds.
    fn added(
        &self,
        stage: &Stage,
        given: &BTreeMap<String, String>,
        values: &Environment,
    ) -> Fallible<(String, Span)> {
        let mut values = values.clone();
        values.remove(NAME);
        let expand = |text: &str, span: Span, values: &Environment| {
            let expanded = self.lexer.expand(text, values);
            expanded.map(|expanded| expanded.text).map_err(|error| arguments::expansion(&error, span))
        };
        if expand(&stage.base.value, stage.base.span, &values)? != "scratch" {
            return Err(unfit(stage.span, "it does not start FROM scratch"));
        }
        let mut found: Option<(String, Span)> = None;
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Arg(definitions) => {
                    for definition in definitions {
                        let name = &definition.name.value;
                        match (given.get(name), &definition.default) {
                            (Some(value), _) => values.set(name, value),
                            (None, Some(default)) => {
                                let value = expand(&default.value, default.span, &values)?;
                                values.set(name, &value);
                            }
                            (None, None) => {}
                        }
                    }
                }
                Instruction::Add(Transfer { sources, .. }) => {
                    let [TransferSource::Path(source)] = sources.as_slice() else {
                        return Err(unfit(step.span, "ADD has more than one source, or a heredoc"));
                    };
                    if found.is_some() {
                        return Err(unfit(step.span, "it has more than one ADD"));
                    }
                    found = Some((expand(&source.value, source.span, &values)?, step.span));
                }
                _ => return Err(unfit(step.span, "it has an instruction that is neither ARG nor ADD")),
            }
        }
        found.ok_or_else(|| unfit(stage.span, "it has no ADD"))
    }

    async fn of_address(&self, address: &str) -> Fallible<Option<i64>> {
        let wrong = |message: String| Diagnostic::error(codes::CONTEXT, message);
        match GitReference::parse_context(address).map_err(wrong)? {
            Some(repository) => self.of_commit(&repository).await,
            None if is_web(address) => self.of_web(address).await,
            None => Ok(None),
        }
    }

    /// Asks when a file was changed, and of an archive without such a time for its newest file.
    async fn of_web(&self, address: &str) -> Fallible<Option<i64>> {
        let file = remote_file(address, NodeMeta::named(internal("when a file of the web was changed")));
        let newest = async |state: &State, path: String| {
            let answer = self.gateway.query(state, Query::Newest { path }).await;
            match answer.map_err(|error| failure::world(codes::CONTEXT, &error, None))? {
                Answer::Moment(moment) => Ok(moment),
                _ => Ok(None),
            }
        };
        match newest(&file, remote_path()).await? {
            Some(moment) => Ok(Some(moment)),
            None => newest(&unpacked(&file), "/".to_owned()).await,
        }
    }

    async fn of_commit(&self, repository: &GitReference) -> Fallible<Option<i64>> {
        let facts = self.gateway.resolve_repository(&repository.request(&repository.remote)).await;
        let facts = facts.map_err(|error| failure::world(codes::CONTEXT, &error, None))?;
        Ok(facts.commit_timestamp.parse().ok())
    }
}

fn unknown(value: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_OPTION, format!("invalid SOURCE_DATE_EPOCH: {value}")).with_help(
        "write seconds since 1970, `context` for the time of the context, or the name of a further context or a stage",
    )
}

fn unfit(at: Span, reason: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_OPTION, format!("SOURCE_DATE_EPOCH cannot be that of this stage: {reason}"))
        .with_label(at, "")
        .with_help("a stage that has a time is FROM scratch and one ADD of a repository or a file of the web")
}
