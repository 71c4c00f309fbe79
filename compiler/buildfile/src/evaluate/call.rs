//! Calls of targets: which keys a FROM, COPY or BUILD means.

use std::sync::Arc;

use rb_diag::{Diagnostic, Span};
use rb_frontend::{TargetKey, TargetRef};
use rb_oci::Platform;
use rb_syntax::{Call, Word};

use super::driver::Wish;
use super::frame::Frame;
use super::inputs::{self, Handed};
use super::{Evaluated, Evaluator, Fallible, internal};
use crate::codes;
use crate::resolve::{Meaning, Reference, Resolved, Via};
use crate::word::Escapes;

/// How many times one BUILD may call.
const MAX_COMBINATIONS: usize = 10_000;

/// Whether a call may name an argument twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matrix {
    /// BUILD: once for each combination of values.
    Allowed,
    /// FROM and COPY take one tree.
    Refused,
}

impl Evaluator<'_> {
    /// Returns the keys that some calls mean, in order: each once for each set of arguments and platform it names.
    pub(super) async fn wishes(
        &self,
        frame: &mut Frame,
        call: &Call<Resolved>,
        matrix: Matrix,
    ) -> Fallible<Vec<Wish>> {
        let (targets, via) = self.callees(frame, call, matrix).await?;
        let platforms = self.platforms(frame, &call.platforms).await?;
        let pass_args = call.pass_args || via.pass_args;
        let explicit = call.args.iter().map(|arg| arg.name.value.clone()).collect();
        let handed = Arc::new(Handed { explicit, pass_args });
        // Only BUILD carries outputs, and only from a target whose own are written.
        let loud = matrix == Matrix::Allowed && frame.loud;
        let mut wishes = Vec::new();
        for target in targets {
            let file = self.program.target_file(&target, Some(call.span)).await?;
            let sets = self.call_arguments(frame, &call.args, &file, &target, matrix).await?;
            if sets.len() * platforms.len() > MAX_COMBINATIONS {
                let message = format!("this BUILD calls {target} more than {MAX_COMBINATIONS} times");
                return Err(Diagnostic::error(codes::REPEATED_ARGUMENT, message)
                    .with_label(call.span, "every combination of its values is one call")
                    .with_help("take fewer values, or write several BUILDs"));
            }
            let allowed = call.allow_privileged || via.allow_privileged;
            let trusted = self.trusts(&frame.scope, &target.project, allowed);
            for platform in &platforms {
                for explicit in &sets {
                    let args = self.passed(frame, &file, &target.name, explicit.clone(), pass_args);
                    let (target, platform) = (target.clone(), platform.clone());
                    let key = TargetKey { target, args, platform, trusted };
                    let handed = Arc::clone(&handed);
                    wishes.push(Wish { key, at: Some(call.span), loud, handed });
                }
            }
        }
        Ok(wishes)
    }

    /// Evaluates what a call of one tree means.
    pub(super) async fn call_one(&self, frame: &mut Frame, call: &Call<Resolved>) -> Fallible<Evaluated> {
        let wishes = self.wishes(frame, call, Matrix::Refused).await?;
        let found = self.targets(wishes).await?.pop();
        let (evaluated, handed) =
            found.ok_or_else(|| internal("a call that names no argument twice gave no target"))?;
        inputs::note_reads(frame, &evaluated, &handed);
        let is_tried = frame.trying.is_some();
        frame.lack(&evaluated, is_tried)?;
        Ok(evaluated)
    }

    async fn callees(
        &self,
        frame: &Frame,
        call: &Call<Resolved>,
        matrix: Matrix,
    ) -> Fallible<(Vec<TargetRef>, Via)> {
        let meaning = match &call.target {
            Reference::Settled { target, via, .. } => Meaning::Target { target: target.clone(), via: *via },
            Reference::Pattern { pattern, .. } => Meaning::Pattern(pattern.clone()),
            Reference::Dynamic(word) => self.reference(frame, word).await?,
        };
        match meaning {
            Meaning::Target { target, via } => Ok((vec![target], via)),
            Meaning::Pattern(pattern) if matrix == Matrix::Allowed => {
                let via = pattern.via;
                Ok((self.program.expand_pattern(&pattern, call.span).await?, via))
            }
            Meaning::Pattern(_) => {
                Err(Diagnostic::error(codes::BAD_REFERENCE, "a pattern stands for many targets")
                    .with_label(call.span, "only one can be meant here")
                    .with_help("only BUILD and COPY take patterns; name one folder"))
            }
        }
    }

    /// Returns the platforms that a call names; where it names none what the caller was called for, whatever it
    /// stands on itself.
    async fn platforms(&self, frame: &Frame, words: &[Word]) -> Fallible<Vec<Platform>> {
        let mut platforms = Vec::new();
        for word in words {
            let platform = self.platform(frame, word).await?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        Ok(if platforms.is_empty() { vec![frame.key.platform.clone()] } else { platforms })
    }

    /// Reads a platform; an empty one is the target's own.
    pub(super) async fn platform(&self, frame: &Frame, word: &Word) -> Fallible<Platform> {
        let text = self.expand(frame, word, Escapes::Remove).await?;
        match text.as_str() {
            "" => Ok(frame.key.platform.clone()),
            "native" => Ok(self.request.native_platform.clone()),
            "user" => Ok(self.request.user_platform.clone()),
            text => text.parse().map_err(|_| bad_platform(text, word.span)),
        }
    }
}

fn bad_platform(text: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a platform"))
        .with_label(at, "")
        .with_help("write `os/architecture[/variant]`, such as `linux/amd64` or `linux/arm64`")
}
