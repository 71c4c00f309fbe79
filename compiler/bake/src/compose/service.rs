//! One service of a compose file as a target.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Spanned};
use rb_path::clean;

use super::{Around, dotenv, refused};
use crate::Target;
use crate::config::is_name;
use crate::node::{Node, Said};
use crate::remote::is_remote;
use crate::target::{Attest, Entry as _, Secret, Ssh, canonical_attest, parse_cache, parse_each, unique};

type Told<T> = Result<T, Diagnostic>;

/// What `build` of a service may say.
const KEYS: &[&str] = &[
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

/// Returns the target a service stands for, with its name; `None` of one that is not built.
pub(super) fn target(
    name: &Spanned<String>,
    service: &Node,
    secrets: Option<&Node>,
    around: &Around<'_>,
) -> Told<Option<(String, Target)>> {
    let Some(build) = service.get("build").filter(|build| !build.is_null()) else { return Ok(None) };
    let target_name = name.value.replace('.', "_");
    if !is_name(&target_name) {
        return Err(refused(
            format!("the service `{}` cannot be the name of a target", name.value),
            name.span,
        ));
    }
    let short = Node::new(
        build.span,
        Said::Map(vec![(Spanned::new("context".to_owned(), build.span), build.clone())]),
    );
    let build = match &build.said {
        Said::Map(_) => build,
        Said::Text(_) => &short,
        _ => {
            return Err(refused(format!("`build` is a path or a mapping, not {}", build.kind()), build.span));
        }
    };
    for (key, _) in build.entries().iter().filter(|(key, _)| !key.value.starts_with("x-")) {
        if !KEYS.contains(&key.value.as_str()) {
            let near = rb_diag::nearest(&key.value, KEYS.iter().copied());
            return Err(refused(format!("`build` has no `{}`", key.value), key.span).with_nearest(near));
        }
    }
    let mut target = from_build(build, service, secrets, around)?;
    if let Some(more) = build.get("x-bake").filter(|more| !more.is_null()) {
        extend(&mut target, more)?;
    }
    if target.tags.as_ref().is_none_or(Vec::is_empty) {
        target.tags = text(service, "image")?.map(|image| vec![image]);
    }
    Ok(Some((target_name, target)))
}

fn from_build(build: &Node, service: &Node, secrets: Option<&Node>, around: &Around<'_>) -> Told<Target> {
    let args = pairs(build, "args")?;
    // Only an argument without a value needs to know what the service is run with.
    let environment = if args.iter().any(|(_, value)| value.is_none()) {
        environment(service, around)?
    } else {
        BTreeMap::new()
    };
    let value = |(name, value): (String, Option<String>)| {
        let value = value.or_else(|| environment.get(&name).cloned()).or_else(|| around.variable(&name))?;
        Some((name, value))
    };
    let labels = pairs(build, "labels")?.into_iter().map(|(name, value)| (name, value.unwrap_or_default()));
    let context = text(build, "context")?.map(|path| local(&path));
    let flag = |name: &str| truth(build, name).map(|flag| flag.filter(|flag| *flag));
    Ok(Target {
        context: context.filter(|context| !context.is_empty()),
        contexts: contexts(pairs(build, "additional_contexts")?),
        dockerfile: text(build, "dockerfile")?.filter(|path| !path.is_empty()),
        dockerfile_inline: text(build, "dockerfile_inline")?,
        args: args.into_iter().filter_map(value).collect(),
        labels: labels.collect(),
        tags: texts(build, "tags")?.map(unique),
        cache_from: parsed(build, "cache_from", parse_cache)?,
        cache_to: parsed(build, "cache_to", parse_cache)?,
        target: text(build, "target")?,
        secret: service_secrets(build, secrets)?,
        ssh: keys(build)?,
        platforms: texts(build, "platforms")?.map(unique),
        pull: flag("pull")?,
        no_cache: flag("no_cache")?,
        no_cache_filter: texts(build, "no_cache_filter")?,
        network: text(build, "network")?,
        shm_size: size(build)?,
        ulimits: ulimits(build)?,
        extra_hosts: hosts(build)?,
        entitlements: entitlements(build)?,
        attest: attests(build)?,
        ..Target::default()
    })
}

/// Adds what stands below `x-bake`.
fn extend(target: &mut Target, more: &Node) -> Told<()> {
    const KEYS: &[&str] = &[
        "tags",
        "cache-from",
        "cache-to",
        "secret",
        "ssh",
        "platforms",
        "output",
        "pull",
        "no-cache",
        "no-cache-filter",
        "contexts",
    ];
    for (key, _) in more.entries() {
        if !KEYS.contains(&key.value.as_str()) {
            let near = rb_diag::nearest(&key.value, KEYS.iter().copied());
            return Err(refused(format!("`x-bake` has no `{}`", key.value), key.span).with_nearest(near));
        }
    }
    let add = |list: &mut Option<Vec<String>>, name: &str| -> Told<()> {
        if let Some(words) = words(more, name)? {
            *list = Some(unique(list.take().into_iter().flatten().chain(words)));
        }
        Ok(())
    };
    add(&mut target.tags, "tags")?;
    add(&mut target.platforms, "platforms")?;
    add(&mut target.no_cache_filter, "no-cache-filter")?;
    put(&mut target.cache_from, parsed_words(more, "cache-from", parse_cache)?);
    put(&mut target.cache_to, parsed_words(more, "cache-to", parse_cache)?);
    put(&mut target.secret, parsed_words(more, "secret", parse_each)?);
    put(&mut target.ssh, parsed_words(more, "ssh", parse_each)?);
    put(&mut target.output, parsed_words(more, "output", parse_each)?);
    target.deduplicate();
    if let Some(ssh) = &mut target.ssh {
        ssh.sort();
    }
    target.pull = truth(more, "pull")?.or(target.pull);
    target.no_cache = truth(more, "no-cache")?.or(target.no_cache);
    for (name, context) in contexts(pairs(more, "contexts")?) {
        target.contexts.entry(name).or_insert(context);
    }
    Ok(())
}

fn put<T>(list: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
    if let Some(more) = more {
        list.get_or_insert_default().extend(more);
    }
}

/// Returns what a service is run with, from `env_file` and `environment`.
fn environment(service: &Node, around: &Around<'_>) -> Told<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    if let Some(files) = service.get("env_file") {
        let single = [files.clone()];
        let files = if let Said::List(files) = &files.said { files.as_slice() } else { &single };
        for file in files {
            let (path, required) = match &file.said {
                Said::Map(_) => (text(file, "path")?, truth(file, "required")?.unwrap_or(true)),
                _ => (file.scalar(), true),
            };
            let path = path.ok_or_else(|| refused("`env_file` names files", file.span))?;
            match around.read(&path, file.span)? {
                Some(text) => {
                    let lookup = |name: &str| around.variable(name);
                    let more = dotenv::parse(&text, &lookup);
                    all.extend(more.map_err(|why| refused(format!("{path}: {why}"), file.span))?);
                }
                None if required => return Err(refused(format!("there is no file `{path}`"), file.span)),
                None => {}
            }
        }
    }
    for (name, value) in pairs(service, "environment")? {
        if let Some(value) = value.or_else(|| around.variable(&name)) {
            all.insert(name, value);
        }
    }
    Ok(all)
}

fn wrong(node: &Node, name: &str, wanted: &str) -> Diagnostic {
    refused(format!("`{name}` has to be {wanted}, not {}", node.kind()), node.span)
}

fn text(node: &Node, name: &str) -> Told<Option<String>> {
    match node.get(name) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => value.scalar().map(Some).ok_or_else(|| wrong(value, name, "a text")),
    }
}

fn truth(node: &Node, name: &str) -> Told<Option<bool>> {
    match node.get(name) {
        None => Ok(None),
        Some(Node { said: Said::Null, .. }) => Ok(None),
        Some(Node { said: Said::Bool(value), .. }) => Ok(Some(*value)),
        Some(value) => match value.scalar().as_deref().and_then(crate::fields::truth) {
            Some(flag) => Ok(Some(flag)),
            None => Err(wrong(value, name, "true or false")),
        },
    }
}

/// Reads a list of texts; one text is a list of one.
fn texts(node: &Node, name: &str) -> Told<Option<Vec<String>>> {
    let Some(value) = node.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    match &value.said {
        Said::List(nodes) => {
            let text = |node: &Node| node.scalar().ok_or_else(|| wrong(node, name, "a list of texts"));
            nodes.iter().map(text).collect::<Told<_>>().map(Some)
        }
        _ => value.scalar().map(|text| Some(vec![text])).ok_or_else(|| wrong(value, name, "a list of texts")),
    }
}

/// Reads a list of texts, or one text of several words.
fn words(node: &Node, name: &str) -> Told<Option<Vec<String>>> {
    let single = node.get(name).is_some_and(|value| value.elements().is_empty());
    let words = texts(node, name)?;
    Ok(words.map(|words| {
        let split = |text: &String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if single { words.iter().flat_map(split).collect() } else { words }
    }))
}

type Parse<T> = fn(&[String]) -> Result<Vec<T>, String>;

fn parsed<T>(node: &Node, name: &str, parse: Parse<T>) -> Told<Option<Vec<T>>> {
    let span = node.get(name).map_or(node.span, |value| value.span);
    let texts = texts(node, name)?;
    texts.map(|texts| parse(&texts).map_err(|why| refused(format!("`{name}`: {why}"), span))).transpose()
}

fn parsed_words<T>(node: &Node, name: &str, parse: Parse<T>) -> Told<Option<Vec<T>>> {
    let span = node.get(name).map_or(node.span, |value| value.span);
    let words = words(node, name)?;
    words.map(|words| parse(&words).map_err(|why| refused(format!("`{name}`: {why}"), span))).transpose()
}

/// Reads a mapping, or a list of `NAME=value`; a name alone has no value. The last of a name counts.
fn pairs(node: &Node, name: &str) -> Told<Vec<(String, Option<String>)>> {
    let Some(value) = node.get(name).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let mut made: Vec<(String, Option<String>)> = Vec::new();
    let mut put = |key: String, value: Option<String>| match made.iter_mut().find(|(known, _)| *known == key)
    {
        Some((_, known)) => *known = value,
        None => made.push((key, value)),
    };
    match &value.said {
        Said::Map(entries) => {
            for (key, value) in entries {
                if value.is_null() {
                    put(key.value.clone(), None);
                } else {
                    put(
                        key.value.clone(),
                        Some(value.scalar().ok_or_else(|| wrong(value, &key.value, "a text"))?),
                    );
                }
            }
        }
        Said::List(nodes) => {
            for node in nodes {
                let text = node.scalar().ok_or_else(|| wrong(node, name, "a list of NAME=value"))?;
                match text.split_once('=') {
                    Some((key, value)) => put(key.to_owned(), Some(value.to_owned())),
                    None => put(text, None),
                }
            }
        }
        _ => return Err(wrong(value, name, "a mapping or a list of NAME=value")),
    }
    Ok(made)
}

/// Returns the shortest form of a path of this machine; what is elsewhere stays as it is.
fn local(path: &str) -> String {
    let elsewhere = path.contains("://") || path.starts_with("service:") || path.starts_with("target:");
    if path.is_empty() || elsewhere || is_remote(path) { path.to_owned() } else { clean(path) }
}

/// Returns contexts by name; another service is another target.
fn contexts(pairs: Vec<(String, Option<String>)>) -> BTreeMap<String, String> {
    let context = |(name, value): (String, Option<String>)| {
        let value = value.unwrap_or_default();
        let linked = value.strip_prefix("service:").or_else(|| value.strip_prefix("target:"));
        let value = linked.map_or_else(|| local(&value), |name| format!("target:{}", name.replace('.', "_")));
        (name, value)
    };
    pairs.into_iter().map(context).collect()
}

fn service_secrets(build: &Node, declared: Option<&Node>) -> Told<Option<Vec<Secret>>> {
    let Some(used) = build.get("secrets").filter(|used| !used.is_null()) else { return Ok(None) };
    let mut secrets = Vec::new();
    for node in used.elements() {
        let id = match &node.said {
            Said::Map(_) => text(node, "source")?,
            _ => node.scalar(),
        };
        let id = id.ok_or_else(|| refused("a secret is named", node.span))?;
        let declared = declared.and_then(|declared| declared.get(&id));
        let declared = declared.ok_or_else(|| {
            refused(format!("there is no secret `{id}`"), node.span)
                .with_help("declare it below `secrets` of the file")
        })?;
        if truth(declared, "external")?.unwrap_or(false) {
            return Err(refused(
                format!("the secret `{id}` is external, so a build does not know it"),
                node.span,
            ));
        }
        secrets.push(Secret {
            src: text(declared, "file")?.map(|path| local(&path)).unwrap_or_default(),
            env: text(declared, "environment")?.unwrap_or_default(),
            id,
        });
    }
    Ok(Some(secrets))
}

fn keys(build: &Node) -> Told<Option<Vec<Ssh>>> {
    if build.get("ssh").is_none_or(Node::is_null) {
        return Ok(None);
    }
    let key = |(id, path): (String, Option<String>)| Ssh {
        id,
        paths: path.map(|path| local(&path)).into_iter().collect(),
    };
    let mut keys: Vec<_> = pairs(build, "ssh")?.into_iter().map(key).collect();
    keys.sort();
    Ok(Some(keys))
}

fn attests(build: &Node) -> Told<Option<Vec<Attest>>> {
    let mut attests = Vec::new();
    for kind in ["sbom", "provenance"] {
        if let Some(said) = text(build, kind)?.filter(|said| !said.is_empty()) {
            let span = build.get(kind).map_or(build.span, |node| node.span);
            let attest = Attest::from_text(&canonical_attest(kind, &said));
            attests.push(attest.map_err(|why| refused(format!("`{kind}`: {why}"), span))?);
        }
    }
    Ok((!attests.is_empty()).then_some(attests))
}

fn entitlements(build: &Node) -> Told<Option<Vec<String>>> {
    let mut all = texts(build, "entitlements")?;
    if truth(build, "privileged")?.unwrap_or(false) {
        all.get_or_insert_default().push("security.insecure".to_owned());
    }
    Ok(all)
}

fn hosts(build: &Node) -> Told<BTreeMap<String, String>> {
    let Some(value) = build.get("extra_hosts").filter(|value| !value.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |host: &str, address: &str| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        hosts.entry(host.to_owned()).or_default().push(address.to_owned());
    };
    for (host, value) in value.entries() {
        let single = [value.clone()];
        let addresses = if let Said::List(nodes) = &value.said { nodes.as_slice() } else { &single };
        for address in addresses {
            put(&host.value, &address.scalar().ok_or_else(|| wrong(address, "extra_hosts", "an address"))?);
        }
    }
    for node in value.elements() {
        let text = node.scalar().ok_or_else(|| wrong(node, "extra_hosts", "a list of HOST=ADDRESS"))?;
        let (host, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .ok_or_else(|| refused(format!("`{text}` is not of the form HOST=ADDRESS"), node.span))?;
        put(host, address);
    }
    Ok(hosts.into_iter().map(|(host, addresses)| (host, addresses.join(","))).collect())
}

fn ulimits(build: &Node) -> Told<Option<Vec<String>>> {
    let Some(value) = build.get("ulimits").filter(|value| !value.is_null()) else { return Ok(None) };
    let mut limits = Vec::new();
    for (name, value) in value.entries() {
        let (soft, hard) = match &value.said {
            Said::Map(_) => (text(value, "soft")?, text(value, "hard")?),
            _ => (value.scalar(), value.scalar()),
        };
        let (Some(soft), Some(hard)) = (soft, hard) else {
            return Err(wrong(value, &name.value, "a number, or `soft` and `hard`"));
        };
        limits.push(format!("{}={soft}:{hard}", name.value));
    }
    limits.sort();
    Ok(Some(limits))
}

/// Reads a size, and returns it in the largest unit that it is one of.
fn size(build: &Node) -> Told<Option<String>> {
    let Some(said) = text(build, "shm_size")? else { return Ok(None) };
    let span = build.get("shm_size").map_or(build.span, |node| node.span);
    let digits = said.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit = said[digits.len()..].trim().to_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refused(format!("`{said}` is no size: write 64m"), span)),
    };
    let number: f64 = digits.parse().map_err(|_| refused(format!("`{said}` is no size: write 64m"), span))?;
    let mut size = (number * 1024_f64.powi(power)).trunc();
    if size <= 0.0 {
        return Ok(None);
    }
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter().peekable();
    while size >= 1024.0 && units.len() > 1 {
        size /= 1024.0;
        units.next();
    }
    // Four digits are kept, as sizes are shown everywhere.
    let places = 3_usize.saturating_sub(size.log10().floor().max(0.0) as usize);
    let shown = format!("{size:.places$}");
    let shown = if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { &shown };
    Ok(units.next().map(|unit| format!("{shown}{unit}")))
}
