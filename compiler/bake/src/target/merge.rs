//! What becomes of two targets that are laid over one another.

use std::collections::BTreeMap;

use super::{Attest, CacheEntry, Export, Secret, Ssh, Target};

impl Target {
    /// Lays another target over this one: maps and some lists grow, everything else is replaced if the other has it.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self {
            description,
            inherits,
            annotations,
            attest,
            context,
            contexts,
            dockerfile,
            dockerfile_inline,
            args,
            labels,
            tags,
            cache_from,
            cache_to,
            target,
            secret,
            ssh,
            platforms,
            output,
            pull,
            no_cache,
            network,
            no_cache_filter,
            shm_size,
            ulimits,
            resources,
            call,
            entitlements,
            extra_hosts,
            policy,
            linked: _,
        } = other;
        if !description.is_empty() {
            self.description.clone_from(description);
        }
        self.inherits.extend(inherits.iter().cloned());
        let extend = |map: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>| {
            map.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        };
        extend(&mut self.contexts, contexts);
        extend(&mut self.args, args);
        extend(&mut self.labels, labels);
        extend(&mut self.extra_hosts, extra_hosts);
        replace(&mut self.context, context);
        replace(&mut self.dockerfile, dockerfile);
        replace(&mut self.dockerfile_inline, dockerfile_inline);
        replace(&mut self.tags, tags);
        replace(&mut self.cache_to, cache_to);
        replace(&mut self.target, target);
        replace(&mut self.platforms, platforms);
        replace(&mut self.output, output);
        replace(&mut self.pull, pull);
        replace(&mut self.no_cache, no_cache);
        replace(&mut self.network, network);
        replace(&mut self.shm_size, shm_size);
        replace(&mut self.call, call);
        append(&mut self.annotations, annotations);
        append(&mut self.no_cache_filter, no_cache_filter);
        append(&mut self.ulimits, ulimits);
        append(&mut self.entitlements, entitlements);
        append(&mut self.policy, policy);
        append(&mut self.attest, attest);
        append(&mut self.secret, secret);
        append(&mut self.ssh, ssh);
        append(&mut self.cache_from, cache_from);
        self.deduplicate();
        if let Some(resources) = resources {
            self.resources.get_or_insert_default().merge(resources.clone());
        }
    }

    /// Takes out of lists of things with names what stands there twice.
    pub(crate) fn deduplicate(&mut self) {
        last_of_each(&mut self.attest, |attest: &Attest| attest.kind.clone());
        last_of_each(&mut self.secret, |secret: &Secret| secret.id.clone());
        last_of_each(&mut self.ssh, |ssh: &Ssh| ssh.id.clone());
        each_once::<CacheEntry>(&mut self.cache_from);
    }

    /// Brings everything to its final form: nothing twice, nothing empty.
    pub(crate) fn normalize(&mut self) {
        self.deduplicate();
        each_once::<CacheEntry>(&mut self.cache_to);
        each_once::<Export>(&mut self.output);
        if self.network.as_deref() == Some("host") {
            self.entitlements.get_or_insert_default().push("network.host".to_owned());
        }
        let lists = [
            &mut self.annotations,
            &mut self.tags,
            &mut self.platforms,
            &mut self.no_cache_filter,
            &mut self.ulimits,
            &mut self.entitlements,
        ];
        for list in lists.into_iter().flatten() {
            *list = unique(std::mem::take(list).into_iter().filter(|text| !text.is_empty()));
        }
        self.contexts.retain(|_, context| !context.is_empty());
    }
}

fn replace<T: Clone>(mine: &mut Option<T>, other: &Option<T>) {
    if other.is_some() {
        mine.clone_from(other);
    }
}

fn append<T: Clone>(mine: &mut Option<Vec<T>>, other: &Option<Vec<T>>) {
    if let Some(other) = other {
        mine.get_or_insert_default().extend(other.iter().cloned());
    }
}

/// Returns each text once, in the order of their first places.
pub(crate) fn unique(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept
}

/// Keeps of those of one name the last, at the place of the first.
fn last_of_each<T>(list: &mut Option<Vec<T>>, name: fn(&T) -> String) {
    let Some(list) = list else { return };
    let mut kept: Vec<T> = Vec::new();
    for entry in list.drain(..) {
        match kept.iter_mut().find(|known| name(known) == name(&entry)) {
            Some(known) => *known = entry,
            None => kept.push(entry),
        }
    }
    *list = kept;
}

/// Keeps each entry once. The order of what follows a repetition is buildx's: the last takes the place of what goes.
fn each_once<T: PartialEq>(list: &mut Option<Vec<T>>) {
    let Some(list) = list else { return };
    for at in (0..list.len().saturating_sub(1)).rev() {
        let again = (at + 1..list.len()).find(|other| list[*other] == list[at]);
        if let Some(again) = again {
            list.swap_remove(again);
        }
    }
}
