//! From what is asked for to what is built: groups, inheritance, `--set`, and contexts that are other targets.
//!
//! In: a [`Config`], names or patterns of targets, changes. Out: [`Plan`]: each target with all it inherits, also those that
//! are built only because another one names them as a context; these export nothing.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostic, Diagnostics};
use rb_path::{Dialect, Glob, clean};

use crate::check;
use crate::config::Config;
use crate::remote::is_remote;
use crate::target::{Change, unique};
use crate::{Export, Plan, Target, codes};

/// What is set in each target: by the key, and the name behind its dot.
type Changes = BTreeMap<String, BTreeMap<(String, Option<String>), Change>>;

/// Resolves what is asked for.
pub(crate) fn resolve(
    config: &Config,
    wanted: &[String],
    set: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
    base: Option<&dyn Fn(&str) -> String>,
) -> Result<Plan, Diagnostics> {
    let default = ["default".to_owned()];
    let wanted = if wanted.is_empty() { &default } else { wanted };
    let (mut names, mut faults) = (Vec::new(), Diagnostics::new());
    for name in wanted {
        // The names of services may hold dots, those of targets may not.
        match matching(config, &name.replace('.', "_")) {
            Ok(found) => names.extend(found),
            Err(why) => faults.push(why),
        }
    }
    let names = unique(names);
    let changes = changes(config, set, environment).unwrap_or_else(|why| {
        faults.push(why);
        Changes::new()
    });
    let resolver = Resolver { config, changes };
    let mut plan = Plan::default();
    for name in &names {
        let (targets, groups) = match expand(config, name, &mut Vec::new()) {
            Ok(found) => found,
            Err(why) => {
                faults.push(why);
                continue;
            }
        };
        for target in unique(targets) {
            match resolver.target(&target) {
                Ok(resolved) => drop(plan.targets.insert(target, resolved)),
                Err(why) => faults.push(why),
            }
        }
        for group in groups {
            if let Some(known) = config.group(&group) {
                plan.groups.insert(group, known.clone());
            }
        }
    }
    for name in &names {
        if name == "default" && plan.groups.contains_key("default") {
            continue;
        }
        plan.groups.entry("default".to_owned()).or_default().targets.push(name.clone());
    }
    if let Some(group) = plan.groups.get_mut("default") {
        group.targets = unique(std::mem::take(&mut group.targets));
        group.targets.sort();
    }
    // What is wrong with a target is so for all that need it, and is told once.
    if faults.is_empty() {
        let names = plan.targets.keys().cloned().collect::<Vec<_>>();
        let mut link = |name: &String| resolver.link(name, &mut plan.targets, &mut Vec::new());
        faults.extend(names.iter().find_map(|name| link(name).err()));
    }
    for (name, target) in &mut plan.targets {
        target.context = target.context.take().map(|context| local(&context, base));
        if base.is_some() {
            target.contexts.values_mut().for_each(|context| *context = local(context, base));
        }
        faults.extend(check::target(name, target));
    }
    faults.dedup();
    if faults.is_empty() { Ok(plan) } else { Err(faults) }
}

/// Returns the path of a context as it is meant by who runs this.
fn local(context: &str, base: Option<&dyn Fn(&str) -> String>) -> String {
    match (context.strip_prefix("cwd://"), base) {
        (Some(path), _) => clean(path),
        (None, _) if is_remote(context) || context.contains("://") || context.starts_with("target:") => {
            context.to_owned()
        }
        (None, Some(base)) => base(&clean(context)),
        (None, None) => clean(context),
    }
}

fn refused(code: &'static str, message: String) -> Diagnostic {
    Diagnostic::error(code, message)
}

/// Returns the groups and targets that a pattern means; what is no pattern means itself.
fn matching(config: &Config, pattern: &str) -> Result<Vec<String>, Diagnostic> {
    if !pattern.contains(['*', '?', '[', ']']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let fits = fits(pattern);
    let names = config.groups.iter().map(|(name, _)| name).chain(config.targets.iter().map(|(name, _)| name));
    let names: Vec<_> = names.filter(|name| fits(name)).cloned().collect();
    if names.is_empty() { Err(unknown(config, pattern)) } else { Ok(names) }
}

/// Returns what tells whether a name fits a pattern; none fits one that does not read.
fn fits(pattern: &str) -> impl Fn(&str) -> bool + use<> {
    let glob = Glob::new(pattern, Dialect::Go).ok();
    move |name| glob.as_ref().is_some_and(|glob| glob.matches(name.as_bytes()))
}

/// Says that a target is not there.
fn unknown(config: &Config, name: &str) -> Diagnostic {
    let names = config.groups.iter().map(|(name, _)| name).chain(config.targets.iter().map(|(name, _)| name));
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    let fault = refused(codes::NO_SUCH_TARGET, format!("there is no target `{name}`"));
    match rb_diag::nearest(name, names.iter().copied()) {
        Some(near) => fault.with_nearest(Some(near)),
        None if names.is_empty() => fault.with_help("the files have no targets"),
        None => fault.with_help(format!("there are: {}", names.into_iter().collect::<Vec<_>>().join(", "))),
    }
}

/// Returns the targets behind a name, and the groups on the way; `above` are the groups it is in.
fn expand(
    config: &Config,
    name: &str,
    above: &mut Vec<String>,
) -> Result<(Vec<String>, Vec<String>), Diagnostic> {
    let Some(group) = config.group(name) else { return Ok((vec![name.to_owned()], Vec::new())) };
    if above.iter().any(|above| above == name) {
        // A target may have the name of the group it is in.
        if config.target(name).is_some() {
            return Ok((vec![name.to_owned()], Vec::new()));
        }
        return Err(refused(codes::CYCLE, format!("the group `{name}` holds itself")));
    }
    above.push(name.to_owned());
    let (mut targets, mut groups) = (Vec::new(), vec![name.to_owned()]);
    for member in &group.targets {
        let (more, inner) = expand(config, member, above)?;
        targets.extend(more);
        groups.extend(inner);
    }
    above.pop();
    Ok((unique(targets), unique(groups)))
}

/// Reads what is set.
fn changes(
    config: &Config,
    set: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Changes, Diagnostic> {
    let mut changes = Changes::new();
    for text in set {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text.as_str(), None),
        };
        // Without its value, which may be one that nobody is to see.
        let shown = key;
        let wrong = |why: String| refused(codes::SET, format!("--set {shown}: {why}"));
        let (key, append) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
        let mut parts = key.splitn(3, '.');
        let (Some(pattern), Some(field)) = (parts.next(), parts.next()) else {
            return Err(wrong("it is not of the form target.key=value".to_owned()));
        };
        let name = parts.next();
        if value.is_none() && field != "args" {
            return Err(wrong("it is not of the form target.key=value".to_owned()));
        }
        let targets: Vec<String> = if config.target(pattern).is_some() {
            vec![pattern.to_owned()]
        } else {
            let fits = fits(pattern);
            config.targets.iter().map(|(name, _)| name.clone()).filter(|name| fits(name)).collect()
        };
        if targets.is_empty() {
            return Err(unknown(config, pattern).with_trail(format!("for --set {shown}")));
        }
        for target in targets {
            let key = (field.to_owned(), name.map(str::to_owned));
            let of_target = changes.entry(target).or_default();
            let mut change = of_target.get(&key).cloned().unwrap_or_default();
            if change.add(field, name, value, append, environment).map_err(wrong)? {
                of_target.insert(key, change);
            }
        }
    }
    Ok(changes)
}

struct Resolver<'c> {
    config: &'c Config,
    changes: Changes,
}

impl Resolver<'_> {
    /// Returns a target with all it inherits and what is set.
    fn target(&self, name: &str) -> Result<Target, Diagnostic> {
        let mut target = self.inherited(name, &mut BTreeMap::new())?.unwrap_or_default();
        target.inherits.clear();
        target.context.get_or_insert_with(|| ".".to_owned());
        if target.dockerfile.as_ref().is_none_or(String::is_empty) {
            target.dockerfile = Some("Dockerfile".to_owned());
        }
        Ok(target)
    }

    /// Returns a target laid over those it inherits from; `None` within itself.
    fn inherited(
        &self,
        name: &str,
        seen: &mut BTreeMap<String, Option<Target>>,
    ) -> Result<Option<Target>, Diagnostic> {
        if let Some(known) = seen.get(name) {
            return Ok(known.clone());
        }
        let own = self.config.target(name).ok_or_else(|| unknown(self.config, name))?;
        seen.insert(name.to_owned(), None);
        let mut target = Target::default();
        for parent in &own.inherits {
            let parent = self
                .inherited(parent, seen)
                .map_err(|why| why.with_trail(format!("inherited by `{name}`")))?;
            if let Some(parent) = parent {
                target.merge(&parent);
            }
        }
        target.merge(own);
        for ((key, part), change) in self.changes.get(name).into_iter().flatten() {
            target.set(key, part.as_deref(), change).map_err(|why| {
                let part = part.as_ref().map(|part| format!(".{part}")).unwrap_or_default();
                refused(codes::SET, format!("--set {name}.{key}{part}: {why}"))
            })?;
        }
        target.normalize();
        seen.insert(name.to_owned(), Some(target.clone()));
        Ok(Some(target))
    }

    /// Adds the targets that are contexts of a target, and what these may do.
    fn link(
        &self,
        name: &str,
        targets: &mut BTreeMap<String, Target>,
        above: &mut Vec<String>,
    ) -> Result<(), Diagnostic> {
        above.push(name.to_owned());
        let Some(target) = targets.get(name).cloned() else { return Ok(()) };
        for context in target.contexts.values() {
            let Some(linked) = context.strip_prefix("target:") else { continue };
            if above.iter().any(|above| above == linked) {
                let circle = above.iter().map(String::as_str).chain([linked]).collect::<Vec<_>>().join(" → ");
                return Err(refused(
                    codes::CYCLE,
                    format!("a target cannot be a context of itself: {circle}"),
                ));
            }
            if !targets.contains_key(linked) {
                let mut made =
                    self.target(linked).map_err(|why| why.with_trail(format!("a context of `{name}`")))?;
                made.output = Some(vec![Export { kind: "cacheonly".to_owned(), ..Export::default() }]);
                made.linked = true;
                targets.insert(linked.to_owned(), made);
            }
            self.link(linked, targets, above)?;
            let other = targets.get(linked).cloned().unwrap_or_default();
            let (mine, theirs) = (
                target.platforms.as_deref().unwrap_or_default(),
                other.platforms.as_deref().unwrap_or_default(),
            );
            if mine.len() > 1 && theirs.len() > 1 && !mine.iter().all(|platform| theirs.contains(platform)) {
                let message = format!(
                    "`{linked}` cannot be a context of `{name}`: it is not built for all of {}",
                    mine.join(", ")
                );
                return Err(refused(codes::PLATFORMS, message)
                    .with_help(format!("it is built for {}", theirs.join(", "))));
            }
            if let (Some(target), Some(more)) = (targets.get_mut(name), other.entitlements) {
                let mut all = target.entitlements.take().unwrap_or_default();
                all.extend(more);
                target.entitlements = Some(unique(all));
            }
        }
        above.pop();
        Ok(())
    }
}
