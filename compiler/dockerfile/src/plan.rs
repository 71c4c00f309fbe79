//! From options to images: the file is read, and each platform walked by itself ([`crate::walk`]).
//!
//! What is the same for two platforms comes out as the same operations. Findings are those of the first platform. What is wrong is
//! gathered, and listed once, in the order of the lines.

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, SourceMap};
use rb_frontend::Gateway;
use rb_oci::Platform;

use crate::checks::{Checks, Control};
use crate::contexts::{Context, Ignored, NamedContexts};
use crate::options::Options;
use crate::walk::{Outcome, PlannedImage, Walk};
use crate::{Finding, bases::KnownImages, codes, parse::parse_for};

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Planned {
    /// One image for each platform, in the order of the options.
    pub images: Vec<PlannedImage>,
    /// What the build checks found.
    pub findings: Vec<Finding>,
}

/// What the build checks say of a file, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the build checks found, as far as they came.
    pub findings: Vec<Finding>,
    /// Why the file cannot be built, if so.
    pub errors: Diagnostics,
}

/// Decides what a Dockerfile means.
///
/// # Errors
/// What is wrong with the file and with what it names, all at once, in the order of the lines.
pub async fn plan(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
) -> Result<Planned, Diagnostics> {
    let mut findings = Vec::new();
    let images = plan_telling(gateway, options, sources, &mut findings).await?;
    Ok(Planned { images, findings })
}

/// Decides the same, and gives what the build checks found, as far as they came, also where the file cannot be built.
///
/// # Errors
/// As [`plan`].
pub async fn plan_telling(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
    findings: &mut Vec<Finding>,
) -> Result<Vec<PlannedImage>, Diagnostics> {
    let outcomes = walk(gateway, options, sources, findings).await?;
    Ok(outcomes.into_iter().map(|outcome| outcome.image).collect())
}

/// Looks at a Dockerfile without building it: at the target and what it needs, or at all stages where none is named.
pub async fn check(gateway: &dyn Gateway, options: &Options, sources: &SourceMap) -> Checked {
    let options = Options { all_stages: options.target.is_none(), ..first_platform(options) };
    let mut findings = Vec::new();
    let errors = walk(gateway, &options, sources, &mut findings).await.err().unwrap_or_default();
    Checked { findings, errors }
}

/// Takes the first platform for all.
pub(crate) fn first_platform(options: &Options) -> Options {
    Options { platforms: options.platforms.iter().take(1).cloned().collect(), ..options.clone() }
}

/// Plans every platform.
pub(crate) async fn walk(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Outcome>, Diagnostics> {
    let mut context = Context::find(gateway, options).await.map_err(one)?;
    let texts = context.read(gateway, options, sources).await.map_err(one)?;
    let parsed = parse_for(&texts.dockerfile, &options.build_args);
    let (control, wrong) = Control::of(&parsed.dockerfile.directives, options.check.as_deref());
    let mut checks = Checks::new(control.clone());
    checks.add(None, parsed.findings.iter().cloned());
    if parsed.hides_stages {
        findings.extend(checks.into_findings());
        return Err(in_order(parsed.errors, parsed.unlisted));
    }
    let is_torn = !parsed.errors.is_empty();
    let file = parsed.dockerfile;
    let mut walk = Walk {
        gateway,
        options,
        sources,
        source: texts.dockerfile,
        file: &file,
        control,
        contexts: NamedContexts::new(gateway, options),
        images: KnownImages::new(),
        ignore: Some(options.ignore.clone().or(texts.ignore)),
        ignored: Ignored::default(),
        has_glanced: false,
        is_torn,
        hides_names: parsed.hides_names,
        tears_arguments: parsed.tears_arguments,
    };
    let platforms: Vec<Option<&Platform>> = match options.platforms.as_slice() {
        [] => vec![None],
        several => several.iter().map(Some).collect(),
    };
    let (mut outcomes, mut errors) = (Vec::new(), parsed.errors);
    errors.extend(wrong);
    for (number, platform) in platforms.into_iter().enumerate() {
        let mut checks = checks.clone();
        if number == 0 && is_torn {
            let mut asked_for = checks.clone();
            walk.check_defaults(platform, &mut asked_for);
            *findings = asked_for.into_findings();
        }
        outcomes.extend(walk.image(&mut context, platform, &mut checks).await);
        errors.append(&mut checks.take_errors());
        if number == 0 && !is_torn {
            *findings = checks.into_findings();
        }
    }
    if errors.is_empty() { Ok(outcomes) } else { Err(in_order(errors, parsed.unlisted)) }
}

/// How many errors are listed at once.
const MAX_LISTED: usize = 20;

/// Puts errors in the order of the lines, each once, and lists no more than one reads; `unlisted` is how many more there were from
/// the beginning. What the outside could not answer is
/// not told beside what is wrong in any case: the next build asks again.
fn in_order(mut errors: Diagnostics, unlisted: usize) -> Diagnostics {
    // They are counted anew.
    errors.retain(|error| error.code != codes::TOO_MANY_ERRORS);
    // A name that is nearly a stage's is told whatever became of the question.
    let is_meant = |error: &Diagnostic| error.code == codes::IMAGE && error.help.is_some();
    let is_known = |error: &Diagnostic| error.kind == ErrorKind::Input || is_meant(error);
    if errors.iter().any(|error| error.kind == ErrorKind::Input) {
        errors.retain(is_known);
        errors.iter_mut().for_each(|error| error.kind = ErrorKind::Input);
    }
    let place = |error: &Diagnostic| {
        error.labels.first().map_or((true, 0, 0), |label| (false, label.span.source.0, label.span.start))
    };
    // Platforms tell the same, one after the other.
    errors.sort_by(|one, other| place(one).cmp(&place(other)).then_with(|| one.message.cmp(&other.message)));
    errors.dedup();
    let more = errors.len().saturating_sub(MAX_LISTED) + unlisted;
    if more > 0 {
        errors.truncate(MAX_LISTED);
        let message =
            if more == 1 { "and 1 more error".to_owned() } else { format!("and {more} more errors") };
        errors.push(Diagnostic::error(codes::TOO_MANY_ERRORS, message).with_help("mend the first ones"));
    }
    errors
}

fn one(error: Diagnostic) -> Diagnostics {
    vec![error]
}
