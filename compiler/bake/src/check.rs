//! What can be said of a target without building it.

use std::collections::BTreeMap;

use rb_diag::Diagnostic;

use crate::Target;
use crate::codes;

/// Checks the forms of what a target says, and returns all that are wrong.
pub(crate) fn target(name: &str, target: &Target) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut refuse = |key: &str, why: String| {
        found.push(Diagnostic::error(codes::VALUE, format!("`{key}` of target `{name}`: {why}")));
    };
    for (key, path) in [("context", &target.context), ("dockerfile", &target.dockerfile)] {
        if path.as_deref() == Some("-") {
            refuse(key, "a bake file cannot take it from the standard input".to_owned());
        }
    }
    for platform in target.platforms.iter().flatten().filter(|platform| !is_platform(platform)) {
        refuse("platforms", format!("`{platform}` is no platform: write linux/amd64"));
    }
    for ulimit in target.ulimits.iter().flatten().filter(|ulimit| !is_ulimit(ulimit)) {
        refuse("ulimits", format!("`{ulimit}` is no limit: write nofile=1024:2048"));
    }
    if let Some(size) = target.shm_size.as_ref().filter(|size| !is_size(size)) {
        refuse("shm-size", format!("`{size}` is no size: write 64m"));
    }
    for annotation in target.annotations.iter().flatten() {
        if let Err(why) = annotated(annotation) {
            refuse("annotations", why);
        }
    }
    found
}

/// Tells of tags that several targets give to their images: one of them has it in the end.
pub(crate) fn shared_tags(targets: &BTreeMap<String, Target>) -> Vec<Diagnostic> {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, target) in targets.iter().filter(|(_, target)| !target.linked) {
        for tag in target.tags.iter().flatten() {
            let owners = owners.entry(tag).or_default();
            if owners.last() != Some(&name.as_str()) {
                owners.push(name);
            }
        }
    }
    let told = |(tag, owners): (&str, Vec<&str>)| {
        let names: Vec<String> = owners.iter().map(|name| format!("`{name}`")).collect();
        let message =
            format!("the tag `{tag}` is that of {}; the image of one of them will have it", names.join(", "));
        let help = "give each a tag of its own; platforms of one image are `platforms` of one target";
        Diagnostic::warning(codes::SHARED_TAG, message).with_help(help)
    };
    owners.into_iter().filter(|(_, owners)| owners.len() > 1).map(told).collect()
}

fn is_platform(platform: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let mut parts = platform.split('/');
    // An operating system may name its version: windows(10.0.17763).
    let system = parts.next().unwrap_or_default();
    let system = system.split_once('(').map_or(system, |(system, _)| system);
    part(system) && parts.clone().count() <= 2 && parts.all(part)
}

fn is_ulimit(ulimit: &str) -> bool {
    let Some((name, values)) = ulimit.split_once('=') else { return false };
    let values: Vec<Option<i64>> = values.split(':').map(|value| value.parse().ok()).collect();
    let known = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    known.contains(&name) && matches!(values.as_slice(), [Some(_)] | [Some(_), Some(_)])
}

fn is_size(size: &str) -> bool {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit = size[digits.len()..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    digits.parse::<f64>().is_ok_and(|size| size >= 0.0) && matches!(unit, "" | "k" | "m" | "g" | "t" | "p")
}

fn annotated(annotation: &str) -> Result<(), String> {
    let (key, _) =
        annotation.split_once('=').ok_or_else(|| format!("`{annotation}` is not of the form key=value"))?;
    let Some((kinds, _)) = key.split_once(':') else { return Ok(()) };
    for kind in kinds.split(',') {
        let kind = kind.split_once('[').map_or(kind, |(kind, _)| kind);
        if !matches!(kind, "index" | "index-descriptor" | "manifest" | "manifest-descriptor") {
            return Err(format!(
                "`{kind}` is no place of annotations: index, manifest, index-descriptor, manifest-descriptor"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_two_targets_is_told() {
        let target = |tags: &[&str], linked| Target {
            tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
            linked,
            ..Target::default()
        };
        let targets = BTreeMap::from([
            ("a".to_owned(), target(&["x:1", "x:1", "x:2"], false)),
            ("b".to_owned(), target(&["x:1"], false)),
            ("c".to_owned(), target(&["x:2"], true)),
        ]);
        let told: Vec<String> = shared_tags(&targets).into_iter().map(|warning| warning.message).collect();
        assert_eq!(told, ["the tag `x:1` is that of `a`, `b`; the image of one of them will have it"]);
    }

    #[test]
    fn forms_are_known() {
        assert!(
            is_platform("linux/arm/v7")
                && is_platform("local")
                && !is_platform("linux/")
                && !is_platform("a/b/c/d")
        );
        assert!(
            is_ulimit("nofile=1024")
                && is_ulimit("nproc=1:-1")
                && !is_ulimit("nofile")
                && !is_ulimit("files=1")
        );
        assert!(is_size("64m") && is_size("1.5GiB") && is_size("1024") && !is_size("m") && !is_size("64q"));
        assert!(
            annotated("manifest,index:a=b").is_ok()
                && annotated("a").is_err()
                && annotated("image:a=b").is_err()
        );
    }
}
