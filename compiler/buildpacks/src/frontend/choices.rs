//! Choices: which order is tried, and upon which base, given what the builder says and what the user chose.
//!
//! In: the builder's order and names of bases, and a [`PackRequest`]. Out: one order; one name. What the user names takes the place of
//! the builder's; what is said to come before and after lies around each group. Source: what pack does.

use rb_oci::Reference;

use super::PackRequest;
use super::error::FrontendError;
use super::gate::Gate;
use super::modules::{Candidates, Chosen};
use crate::builder::Builder;
use crate::labels::RunImageNames;
use crate::{ModuleKey, ModuleKind, Order, OrderElement, OrderFile, OrderGroup, RunFile};

/// Returns the names of the base in the order in which they are tried, and the names that are recorded.
pub(super) fn base_names(
    builder: &Builder,
    request: &PackRequest,
) -> Result<(Vec<String>, RunFile), FrontendError> {
    let file = RunFile { images: builder.run_images() };
    if let Some(name) = &request.run_image {
        return Ok((vec![name.clone()], file));
    }
    let Some(first) = file.images.first() else {
        return Err(FrontendError::NoRunImage(request.builder.clone()));
    };
    let preferred = request.run_mirrors.get(&first.image).cloned().unwrap_or_default();
    Ok((best_first(first, preferred, request.target.as_ref()), file))
}

/// Returns the names of a base as they are tried: those on the target's registry, then those that are preferred, then its own.
fn best_first(names: &RunImageNames, preferred: Vec<String>, target: Option<&Reference>) -> Vec<String> {
    let all = names.clone().preferring(preferred);
    match target {
        Some(target) => all.best_first(target).into_iter().map(ToOwned::to_owned).collect(),
        None => std::iter::once(all.image).chain(all.mirrors).collect(),
    }
}

/// Returns the order that is tried: the builder's, or what the user chose.
pub(super) async fn order(
    gate: Gate<'_>,
    candidates: &mut Candidates,
    of_builder: &OrderFile,
    request: &PackRequest,
) -> Result<OrderFile, FrontendError> {
    let mut side = Vec::new();
    for choices in [&request.pre, &request.buildpacks, &request.post] {
        let mut groups: Order = vec![OrderGroup::default()];
        for choice in choices {
            groups = match candidates.choose(gate, choice, ModuleKind::Buildpack, &request.platform).await? {
                Chosen::One(key) => with(groups, &[OrderGroup { group: vec![element(key)] }]),
                Chosen::Builder => with(groups, &of_builder.order),
            };
        }
        side.push(groups);
    }
    let [pre, own, post] = [0, 1, 2].map(|at| std::mem::take(&mut side[at]));
    let own = if request.buildpacks.is_empty() { of_builder.order.clone() } else { own };
    let mut extensions = OrderGroup::default();
    for choice in &request.extensions {
        match candidates.choose(gate, choice, ModuleKind::Extension, &request.platform).await? {
            // As pack has it: who is named later goes first.
            Chosen::One(key) => extensions.group.insert(0, element(key)),
            Chosen::Builder => {
                let reason =
                    "`from=builder` names buildpacks: its extensions take part unless others are named";
                return Err(FrontendError::Choice(reason.to_owned()));
            }
        }
    }
    let order_extensions = match request.extensions.is_empty() {
        true => of_builder.order_extensions.clone(),
        false => vec![extensions],
    };
    Ok(OrderFile { order: with(with(pre, &own), &post), order_extensions })
}

/// Lays groups behind each of others.
fn with(groups: Order, behind: &[OrderGroup]) -> Order {
    let one = |group: &OrderGroup| {
        let group = group.group.clone();
        move |more: &OrderGroup| OrderGroup { group: [group.clone(), more.group.clone()].concat() }
    };
    groups.iter().flat_map(|group| behind.iter().map(one(group)).collect::<Vec<_>>()).collect()
}

fn element(key: ModuleKey) -> OrderElement {
    OrderElement { id: key.id, version: key.version, ..OrderElement::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ids: &[&str]) -> OrderGroup {
        OrderGroup { group: ids.iter().map(|id| element(ModuleKey::buildpack(*id, "1"))).collect() }
    }

    #[test]
    fn which_base_is_tried_first() {
        let names = RunImageNames { image: "run".to_owned(), mirrors: vec!["a.example.com/run".to_owned()] };
        let of = |preferred: &[&str], target: Option<&str>| {
            let target = target.map(|target| target.parse().expect("a name"));
            best_first(&names, preferred.iter().map(|&name| name.to_owned()).collect(), target.as_ref())
        };
        assert_eq!(of(&[], None), ["run", "a.example.com/run"]);
        assert_eq!(of(&["b.example.com/run"], None)[0], "b.example.com/run");
        assert_eq!(of(&["b.example.com/run"], Some("a.example.com/app"))[0], "a.example.com/run");
        let names = of(&["b.example.com/run", "a.example.com/own"], Some("a.example.com/app"));
        assert_eq!(names, ["a.example.com/own", "a.example.com/run", "b.example.com/run", "run"]);
    }

    #[test]
    fn groups_behind_groups() {
        let ids = |order: Order| -> Vec<String> {
            order.iter().map(|group| group.group.iter().map(|one| one.id.as_str()).collect()).collect()
        };
        let builder = [group(&["a"]), group(&["b", "c"])];
        assert_eq!(ids(with(vec![OrderGroup::default()], &builder)), ["a", "bc"]);
        assert_eq!(ids(with(with(vec![group(&["x"])], &builder), &[group(&["y"])])), ["xay", "xbcy"]);
        assert!(with(Vec::new(), &builder).is_empty());
    }
}
