//! A target of a bake file in the words of `rb build`.
//!
//! In: a resolved target. Out: flags and a context, which `rb build` reads as if they were typed; so a value is read in one place,
//! and what it cannot be is told in one way. What no flag says (`no-cache` of this target alone, contexts that are targets) is
//! left to the caller. Source: buildx, how it makes a request of a target.

use rb_bake::{Attest, CacheEntry, Export, Resources, Secret, Ssh, Target};

/// Returns the words; `inline` is where the text of its own Dockerfile lies, if it has one.
pub(super) fn words(target: &Target, inline: Option<&str>) -> Vec<String> {
    let mut words = Vec::new();
    let mut say = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    let context = target.context.as_deref().unwrap_or(".");
    if let Some(file) = inline.map(ToOwned::to_owned).or_else(|| dockerfile(target, context)) {
        say("file", &file);
    }
    target.args.iter().for_each(|(name, value)| say("build-arg", &format!("{name}={value}")));
    target.labels.iter().for_each(|(name, value)| say("label", &format!("{name}={value}")));
    for (name, addresses) in &target.extra_hosts {
        // docker's compose has several in one.
        addresses.split(',').for_each(|address| say("add-host", &format!("{name}={address}")));
    }
    for (name, place) in target.contexts.iter().filter(|(_, place)| !place.starts_with("target:")) {
        let place = place.strip_prefix("cwd://").unwrap_or(place);
        say("build-context", &format!("{name}={place}"));
    }
    let lists = [
        ("annotation", &target.annotations),
        ("tag", &target.tags),
        ("platform", &target.platforms),
        ("no-cache-filter", &target.no_cache_filter),
        ("ulimit", &target.ulimits),
    ];
    for (flag, list) in lists {
        list.iter().flatten().for_each(|value| say(flag, value));
    }
    // What is about folders and agents is allowed anyway.
    let entitlements = target.entitlements.iter().flatten();
    let is_ours =
        |word: &&String| ["network.", "security.", "device"].iter().any(|ours| word.starts_with(ours));
    entitlements.filter(is_ours).for_each(|word| say("allow", word));
    let singles = [
        ("target", &target.target),
        ("network", &target.network),
        ("shm-size", &target.shm_size),
        ("call", &target.call),
    ];
    for (flag, value) in singles {
        value.iter().for_each(|value| say(flag, value));
    }
    target.secret.iter().flatten().for_each(|entry| say("secret", &secret(entry)));
    target.ssh.iter().flatten().for_each(|entry| say("ssh", &ssh(entry)));
    target.attest.iter().flatten().for_each(|entry| say("attest", &attest(entry)));
    target.cache_from.iter().flatten().for_each(|entry| say("cache-from", &cache(entry)));
    target.cache_to.iter().flatten().for_each(|entry| say("cache-to", &cache(entry)));
    let written = target.output.iter().flatten().filter(|output| output.kind != "cacheonly");
    written.for_each(|entry| say("output", &output(entry)));
    target.resources.iter().flat_map(resources).for_each(|limit| say("resource", &limit));
    if target.pull == Some(true) {
        say("pull", "true");
    }
    words.extend(["--".to_owned(), context.to_owned()]);
    words
}

/// Returns where the Dockerfile is, as seen from here; nothing where it is looked for in the context.
fn dockerfile(target: &Target, context: &str) -> Option<String> {
    let file = target.dockerfile.as_deref().filter(|file| *file != "Dockerfile")?;
    if let Some(here) = file.strip_prefix("cwd://") {
        // Of a context elsewhere a relative path is one in it.
        return Some(std::path::absolute(here).map_or(here.to_owned(), |path| path.display().to_string()));
    }
    let is_elsewhere =
        context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/");
    let stays = is_elsewhere || file.contains("://") || file.starts_with('/');
    Some(if stays || context == "." { file.to_owned() } else { format!("{context}/{file}") })
}

/// Joins fields as CSV has them.
fn fields(fields: impl IntoIterator<Item = (String, String)>) -> String {
    let field = |(key, value): (String, String)| {
        let text = format!("{key}={value}");
        if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    fields.into_iter().map(field).collect::<Vec<_>>().join(",")
}

fn pair(key: &str, value: &str) -> Option<(String, String)> {
    (!value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

fn secret(Secret { id, src, env }: &Secret) -> String {
    fields([pair("id", id), pair("src", src), pair("env", env)].into_iter().flatten())
}

fn ssh(Ssh { id, paths }: &Ssh) -> String {
    let id = if id.is_empty() { "default" } else { id };
    if paths.is_empty() { id.to_owned() } else { format!("{id}={}", paths.join(",")) }
}

fn attest(Attest { kind, disabled, attributes }: &Attest) -> String {
    let disabled = disabled.then(|| ("disabled".to_owned(), "true".to_owned()));
    fields(pair("type", kind).into_iter().chain(disabled).chain(attributes.clone()))
}

fn cache(CacheEntry { kind, attributes }: &CacheEntry) -> String {
    fields(pair("type", kind).into_iter().chain(attributes.clone()))
}

fn output(Export { kind, destination, attributes }: &Export) -> String {
    fields(pair("type", kind).into_iter().chain(pair("dest", destination)).chain(attributes.clone()))
}

fn resources(resources: &Resources) -> Vec<String> {
    let Resources { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } =
        resources;
    let number = |value: &Option<i64>| value.map(|value| value.to_string());
    let limits = [
        ("memory", memory.clone()),
        ("memory-swap", memory_swap.clone()),
        ("cpu-shares", number(cpu_shares)),
        ("cpu-period", number(cpu_period)),
        ("cpu-quota", number(cpu_quota)),
        ("cpuset-cpus", cpuset_cpus.clone()),
        ("cpuset-mems", cpuset_mems.clone()),
    ];
    limits.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::DockerfileArgs;

    fn some(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_target_is_what_could_be_typed() {
        let attributes = [("name".to_owned(), "a,b".to_owned())].into();
        let output = Export { kind: "oci".to_owned(), destination: "x.tar".to_owned(), attributes };
        let target = Target {
            context: Some("app".to_owned()),
            dockerfile: Some("prod.Dockerfile".to_owned()),
            args: [("A".to_owned(), "1 = 2, 3".to_owned())].into(),
            contexts: [("lib", "target:lib"), ("data", "./data")]
                .map(|(name, place)| (name.to_owned(), place.to_owned()))
                .into(),
            platforms: some(&["linux/amd64", "linux/arm64"]),
            tags: some(&["x:1", "x:2"]),
            output: Some(vec![output]),
            entitlements: some(&["network.host", "fs.read=/x"]),
            secret: Some(vec![Secret { id: "t".to_owned(), src: "f".to_owned(), env: String::new() }]),
            no_cache: Some(true),
            ..Target::default()
        };
        let words = words(&target, None);
        assert_eq!(
            words,
            [
                "--file=app/prod.Dockerfile",
                "--build-arg=A=1 = 2, 3",
                "--build-context=data=./data",
                "--tag=x:1",
                "--tag=x:2",
                "--platform=linux/amd64",
                "--platform=linux/arm64",
                "--allow=network.host",
                "--secret=id=t,src=f",
                "--output=type=oci,dest=x.tar,\"name=a,b\"",
                "--",
                "app",
            ]
        );
        let args = DockerfileArgs::parse(words).expect("reads");
        assert_eq!((args.tag.len(), args.platform.len(), args.build_context.len()), (2, 2, 1));
        let wrong = Target { network: Some("moon".to_owned()), ..Target::default() };
        let told = DockerfileArgs::parse(super::words(&wrong, None)).expect_err("is no network");
        assert!(told.contains("moon") && told.contains("--network"), "{told}");
    }

    #[test]
    fn dockerfiles_lie_in_their_context() {
        let at = |context: &str, file: &str| {
            dockerfile(&Target { dockerfile: Some(file.to_owned()), ..Target::default() }, context)
        };
        assert_eq!(at("app", "Dockerfile"), None);
        assert_eq!(at(".", "a/x").as_deref(), Some("a/x"));
        assert_eq!(at("app", "/x").as_deref(), Some("/x"));
        assert_eq!(at("app", "../x").as_deref(), Some("app/../x"));
        assert_eq!(at("https://host/repo.git", "a/x").as_deref(), Some("a/x"));
        assert!(at("https://host/repo.git", "cwd://x").is_some_and(|path| path.starts_with('/')));
    }
}
