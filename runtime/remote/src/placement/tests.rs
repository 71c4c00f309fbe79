use std::collections::BTreeMap;

use proptest::prelude::*;
use rb_diag::SourceMap;
use rb_llb::{CopyAction, Definition, ExecBuilder, ExecMeta, NodeMeta, State};

use super::*;

pub(super) fn node(name: &str) -> Candidate {
    Candidate {
        name: name.to_owned(),
        platforms: None,
        weight: NonZeroU32::MIN,
        load: 0,
        is_drained: false,
        is_up: true,
    }
}

fn nodes(count: usize) -> Vec<Candidate> {
    (0..count).map(|number| node(&format!("n{number}"))).collect()
}

pub(super) fn prefix(name: &str) -> Prefix {
    Prefix { digest: Digest::of(name), name: name.to_owned() }
}

fn of(ground: &str, first: &str) -> Keys {
    Keys { ground: Some(prefix(ground)), first: Some(prefix(first)) }
}

fn first(nodes: &[Candidate], keys: &Keys) -> String {
    let ranking = rank(nodes, &BTreeSet::new(), keys);
    nodes[ranking.ranked[0].node].name.clone()
}

fn platforms(text: &[&str]) -> BTreeSet<Platform> {
    text.iter().map(|text| text.parse().expect("a platform")).collect()
}

proptest! {
    #[test]
    fn each_node_that_may_build_is_ranked_once_and_the_first_has_room(
        some in prop::collection::vec((0_usize..20, 1_u32..8, any::<bool>(), any::<bool>(), 0_usize..3), 1..40),
        key in any::<u64>(),
    ) {
        let known = [None, Some(platforms(&["linux/amd64"])), Some(platforms(&["linux/amd64", "linux/arm64"]))];
        let nodes: Vec<Candidate> = some.iter().enumerate().map(|(number, (load, weight, drained, up, kind))| Candidate {
            load: *load,
            weight: NonZeroU32::new(*weight).expect("is not 0"),
            is_drained: *drained,
            is_up: *up,
            platforms: known[*kind].clone(),
            ..node(&format!("n{number}"))
        }).collect();
        let wanted = platforms(&["linux/arm64"]);
        let keys = of(&format!("g{}", key % 7), &key.to_string());
        let ranking = rank(&nodes, &wanted, &keys);
        let mut seen: Vec<usize> = ranking.ranked.iter().map(|ranked| ranked.node).collect();
        prop_assert_eq!(&ranking, &rank(&nodes, &wanted, &keys));
        for at in &seen {
            prop_assert!(!nodes[*at].is_drained);
            prop_assert!(nodes[*at].platforms.as_ref().is_none_or(|own| own.is_superset(&wanted)));
        }
        if let Some(best) = ranking.ranked.first() {
            let is_good = |why: &Why| !matches!(why, Why::Full | Why::Silent);
            let any_good = ranking.ranked.iter().any(|ranked| is_good(&ranked.why));
            prop_assert_eq!(is_good(&best.why), any_good);
            // Somebody always has less than 1.25 times its part.
            let any_up = ranking.ranked.iter().any(|ranked| nodes[ranked.node].is_up);
            let all_up = ranking.ranked.iter().all(|ranked| nodes[ranked.node].is_up);
            prop_assert!(!all_up || any_good);
            prop_assert!(!any_up || best.why != Why::Silent);
        }
        seen.extend(ranking.left_out.iter().map(|(at, _)| *at));
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..nodes.len()).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_a_list_says_nothing(count in 1_usize..30, key in any::<u64>(), turn in 0_usize..30) {
        let keys = of("ground", &key.to_string());
        let own = nodes(count);
        let mut turned = own.clone();
        turned.rotate_left(turn % count);
        prop_assert_eq!(first(&own, &keys), first(&turned, &keys));
    }
}

#[test]
fn a_node_that_goes_moves_little_and_what_it_had_goes_to_many() {
    let all = nodes(50);
    let mut without = all.clone();
    without[7].is_drained = true;
    let (mut moved, mut strays, mut takers) = (0, 0, BTreeSet::new());
    for number in 0..2_000 {
        let keys = of(&format!("ground {}", number % 100), &format!("first {number}"));
        let (before, after) = (first(&all, &keys), first(&without, &keys));
        if before != after {
            moved += 1;
            takers.insert(after);
            strays += usize::from(before != "n7");
        }
    }
    // 1 of 50 is 40 of 2,000.
    assert!((10..200).contains(&moved), "{moved}");
    assert!(strays < 100, "{strays} that were not there");
    assert!(takers.len() > 3, "{takers:?}");
}

#[test]
fn a_ground_lies_on_few_nodes_and_weights_count() {
    let mut all = nodes(25);
    let used: BTreeSet<String> =
        (0..500).map(|number| first(&all, &of("base", &number.to_string()))).collect();
    assert_eq!(used.len(), 5);
    all[3].weight = NonZeroU32::new(5).expect("is not 0");
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..4_000 {
        *count.entry(first(&all, &of(&format!("g{number}"), &number.to_string()))).or_default() += 1;
    }
    // 5 of 29 are 690 of 4,000 by one choice; of √n it is chosen among more often, and then it wins more often.
    let others = count.iter().filter(|(name, _)| *name != "n3").map(|(_, count)| *count);
    let (least, most) = (others.clone().min().unwrap_or_default(), others.max().unwrap_or_default());
    assert!(count["n3"] > 3 * most && least > 60, "{count:?}");
}

#[test]
fn who_is_full_comes_behind_and_says_so() {
    let mut all = nodes(3);
    let keys = of("base", "step");
    let best = first(&all, &keys);
    let at = all.iter().position(|node| node.name == best).expect("is one of them");
    all[at].load = 4;
    let ranking = rank(&all, &BTreeSet::new(), &keys);
    // 1.25 × 5 / 3, rounded up.
    assert_eq!(ranking.ranked[0].why, Why::Room { full: at, load: (4, 3) });
    assert_eq!(ranking.ranked[2], Ranked { node: at, why: Why::Full });
    all[at].is_up = false;
    let ranking = rank(&all, &BTreeSet::new(), &keys);
    assert_eq!(ranking.ranked[2], Ranked { node: at, why: Why::Silent });
    all[at].is_drained = true;
    assert_eq!(rank(&all, &BTreeSet::new(), &keys).left_out, [(at, LeftOut::Drained)]);
    all[at] = Candidate { platforms: Some(platforms(&["linux/amd64"])), ..node(&best) };
    let lacking = rank(&all, &platforms(&["linux/amd64", "linux/arm64"]), &keys).left_out;
    assert_eq!(lacking, [(at, LeftOut::Lacks(vec!["linux/arm64".parse().expect("a platform")]))]);
}

fn exec(name: &str, root: &State) -> State {
    let meta = ExecMeta { args: vec![name.to_owned()], cwd: "/".into(), ..ExecMeta::default() };
    ExecBuilder::new(root, meta).finish(None, NodeMeta::named(name)).root()
}

fn source(identifier: &str) -> State {
    State::source(identifier, BTreeMap::new(), None, NodeMeta::named(identifier))
}

fn with_files(state: &State) -> State {
    let copy = CopyAction { src: "/".into(), dest: "/".into(), ..CopyAction::default() };
    state.copy(&source("local://context"), copy, NodeMeta::named("COPY"))
}

fn names(state: &State) -> (Option<String>, Option<String>) {
    let definition: Definition = state.marshal(&SourceMap::default()).expect("marshals");
    let graph = definition.graph().expect("is a graph");
    let keys = keys(&[&graph]);
    (keys.ground.map(|prefix| prefix.name), keys.first.map(|prefix| prefix.name))
}

#[test]
fn the_ground_is_what_no_file_of_the_client_is_in() {
    let some = |text: &str| Some(text.to_owned());
    let base = source("docker-image://docker.io/library/base:1");
    let tools = exec("install tools", &base);
    let deps = exec("install dependencies", &with_files(&tools));
    let app = exec("make", &with_files(&deps));
    assert_eq!(names(&app), (some("install tools"), some("install dependencies")));
    assert_eq!(names(&with_files(&tools)), (some("install tools"), some("COPY")));
    assert_eq!(names(&with_files(&base)).0, some("docker-image://docker.io/library/base:1"));
    assert_eq!(names(&tools), (some("install tools"), some("install tools")));
    assert_eq!(names(&exec("make", &with_files(&State::scratch()))), (None, some("make")));
    assert_eq!(keys(&[]), Keys::default());
    // What is written behind the first step moves nothing.
    let other = exec("make another", &with_files(&deps));
    assert_eq!(names(&other), names(&app));
}
