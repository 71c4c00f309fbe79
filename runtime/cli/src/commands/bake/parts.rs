//! From targets of a plan to parts of one build: contexts before those who take them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rb_bake::Target;

use super::words::words;
use crate::args::{BakeArgs, DockerfileArgs};
use crate::commands::dockerfile::several::Part;
use crate::report::Failure;

/// Makes the parts; texts of Dockerfiles that stand in bake files are written below `inline`.
pub(super) fn of(
    targets: BTreeMap<String, Target>,
    bake: &BakeArgs,
    inline: &Path,
) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::with_capacity(targets.len());
    for name in in_order(&targets) {
        let Some(target) = targets.get(&name) else { continue };
        let dockerfile = match &target.dockerfile_inline {
            Some(text) => Some(written(inline, &name, text)?),
            None => None,
        };
        let wrong = |what: String| Failure::input(format!("`{name}`: {what}"), None);
        if target.policy.iter().flatten().any(|policy| !policy.disabled) {
            return Err(wrong("`policy`: this version of rb applies no policies".to_owned()));
        }
        let args = DockerfileArgs::parse(words(target, dockerfile.as_deref())).map_err(wrong)?;
        let is_discarded = |outputs: &Vec<rb_bake::Export>| {
            !outputs.is_empty() && outputs.iter().all(|output| output.kind == "cacheonly")
        };
        let nowhere = target.linked || target.output.as_ref().is_some_and(is_discarded);
        let links = links(target).map(|(context, to)| (context.to_owned(), to.to_owned())).collect();
        parts.push(Part {
            name,
            description: target.description.clone(),
            args: DockerfileArgs { nowhere, default_load: bake.default_load, ..args },
            links,
            is_context: target.linked,
            no_cache: target.no_cache == Some(true),
        });
    }
    Ok(parts)
}

/// Returns the contexts that are targets: their names, and those targets.
fn links(target: &Target) -> impl Iterator<Item = (&str, &str)> {
    target.contexts.iter().filter_map(|(name, place)| Some((name.as_str(), place.strip_prefix("target:")?)))
}

/// Returns names in an order in which contexts come first. No context leads back to itself: the plan was checked.
fn in_order(targets: &BTreeMap<String, Target>) -> Vec<String> {
    fn visit(
        name: &str,
        targets: &BTreeMap<String, Target>,
        seen: &mut BTreeSet<String>,
        out: &mut Vec<String>,
    ) {
        let Some(target) = targets.get(name) else { return };
        if seen.insert(name.to_owned()) {
            links(target).for_each(|(_, to)| visit(to, targets, seen, out));
            out.push(name.to_owned());
        }
    }
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    targets.keys().for_each(|name| visit(name, targets, &mut seen, &mut out));
    out
}

fn written(folder: &Path, name: &str, text: &str) -> Result<String, Failure> {
    // By the name that messages show.
    let folder = folder.join(name);
    let path = folder.join("Dockerfile");
    let done = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    done.map_err(|error| {
        Failure::environment(&format!("the Dockerfile of `{name}` cannot be kept"), &error)
    })?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(all: &[(&str, &[&str])]) -> BTreeMap<String, Target> {
        let target = |contexts: &[&str]| Target {
            contexts: contexts.iter().map(|to| ((*to).to_owned(), format!("target:{to}"))).collect(),
            ..Target::default()
        };
        all.iter().map(|(name, contexts)| ((*name).to_owned(), target(contexts))).collect()
    }

    #[test]
    fn contexts_come_first() {
        let targets = targets(&[("a", &["c"]), ("b", &[]), ("c", &["d", "b"]), ("d", &[])]);
        let order = in_order(&targets);
        let at = |name: &str| order.iter().position(|known| known == name).expect("is there");
        assert!(at("d") < at("c") && at("b") < at("c") && at("c") < at("a") && order.len() == 4, "{order:?}");
    }
}
