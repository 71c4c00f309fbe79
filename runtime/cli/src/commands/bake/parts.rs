//! From targets of a plan to parts of one build: contexts before those who take them, and nothing that nobody allowed.

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
    check_allowed(&targets, &bake.allow)?;
    let mut parts = Vec::with_capacity(targets.len());
    for name in in_order(&targets) {
        let Some(target) = targets.get(&name) else { continue };
        let dockerfile = match &target.dockerfile_inline {
            Some(text) => Some(written(inline, &name, text)?),
            None => None,
        };
        let wrong = |what: String| Failure::input(format!("`{name}`: {what}"), None);
        if target.policy.as_ref().is_some_and(|policy| !policy.is_empty()) {
            return Err(wrong("`policy`: this version of rb knows no policies".to_owned()));
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

/// What buildx asks for and no build here needs to be allowed.
const FREE: [&str; 3] = ["fs", "ssh", "image"];

/// Refuses what targets ask for and the command line does not allow.
fn check_allowed(targets: &BTreeMap<String, Target>, allowed: &[String]) -> Result<(), Failure> {
    let is_free = |word: &str| FREE.contains(&word.split(['.', '=']).next().unwrap_or_default());
    let is_known = |word: &str| {
        is_free(word)
            || matches!(word, "network.host" | "security.insecure" | "device" | "buildx.local.delete")
            || word.starts_with("device=")
    };
    if let Some(word) = allowed.iter().find(|word| !is_known(word)) {
        let help = "network.host, security.insecure and device[=NAME] can be allowed".to_owned();
        return Err(Failure::input(format!("--allow {word}: there is no such thing"), Some(help)));
    }
    let is_allowed = |word: &str| {
        is_free(word)
            || allowed.iter().any(|allowed| allowed == word)
            || (word.starts_with("device=") && allowed.iter().any(|allowed| allowed == "device"))
    };
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, target) in targets {
        let of_network = (target.network.as_deref() == Some("host")).then(|| "network.host".to_owned());
        let asked: BTreeSet<String> =
            target.entitlements.iter().flatten().cloned().chain(of_network).collect();
        for word in asked.into_iter().filter(|word| !is_allowed(word)) {
            missing.entry(word).or_default().push(name);
        }
    }
    let Some((word, names)) = missing.first_key_value() else { return Ok(()) };
    let flags: Vec<String> = missing.keys().map(|word| format!("--allow {word}")).collect();
    let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let help = format!("if that is meant: `rb bake {} …`", flags.join(" "));
    Err(Failure::input(format!("{names} asks for {word}, which is not allowed"), Some(help)))
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

    #[test]
    fn what_is_asked_for_has_to_be_allowed() {
        let mut targets = targets(&[("a", &[]), ("b", &[])]);
        let all = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for target in targets.values_mut() {
            target.entitlements = all(&["security.insecure", "device=gpu"]);
        }
        let check = |allowed: &[&str]| {
            let allowed = all(allowed).unwrap_or_default();
            check_allowed(&targets, &allowed).map_err(|failure| failure.message())
        };
        assert_eq!(check(&["security.insecure", "device", "fs.read=/x", "ssh"]), Ok(()));
        let told = check(&["device=gpu"]).expect_err("is not allowed");
        assert_eq!(told, "`a`, `b` asks for security.insecure, which is not allowed");
        check(&["fly"]).expect_err("is unknown");
    }
}
