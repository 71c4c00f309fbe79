//! Roots by overlayfs and by copies: the same trees under the same keys, in stores of their own and in one.

use std::collections::BTreeSet;

use rb_engine::Snapshotter;
use rb_llb::{ExecMeta, ExecOp, Mount, MountKind, NetworkMode, NodeMeta, State};

use super::{Kit, host, mount, step};

/// A step in which the host's programs change `tree`, which lies at `/w`.
fn change(tree: &State, script: &str) -> State {
    let args = ["/bin/sh", "-uc", script].map(ToOwned::to_owned).to_vec();
    let root = Mount { dest: "/".to_owned(), input: Some(0), readonly: true, ..Mount::default() };
    let input = (!tree.is_scratch()).then_some(1);
    let changed = Mount { dest: "/w".to_owned(), input, output: Some(0), ..Mount::default() };
    let meta = ExecMeta { args, cwd: "/w".to_owned(), ..ExecMeta::default() };
    let op = ExecOp { meta, mounts: vec![root, changed], network: NetworkMode::None, ..ExecOp::default() };
    let inputs = [Some(host()), input.map(|_| tree.clone())].into_iter().flatten().collect();
    State::exec(inputs, op, None, NodeMeta::named(script)).mount("/w").expect("is an output")
}

/// Numbers that look random and are always the same (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn path(&mut self) -> &'static str {
        const PATHS: [&str; 8] = ["a", "b", "c", "d", "d/e", "d/f", "g/h", "g/h/i"];
        PATHS[self.below(8) as usize]
    }

    /// A change, which may be one that fails, as commands do. No name of a file with several is written to: overlayfs
    /// would part it from the others, which no other file system does.
    fn operation(&mut self, number: u64) -> String {
        let (one, other) = (self.path(), self.path());
        let (number, small) = (number.to_string(), self.below(8));
        let done = match self.below(12) {
            0 | 1 => format!(
                "mkdir -p \"$(dirname {one})\" && test ! -d {one} && rm -f {one} && echo {number} > {one}"
            ),
            2 => format!("rm -rf {one}"),
            3 => format!("rm -rf {one} && mkdir -p {one} && echo {number} > {one}/new"),
            4 => format!("test -e {one} && chmod 07{small}5 {one}"),
            5 => format!("chown -h {small}:{number} {one}"),
            6 => format!("test ! -d {one} && ln -sfn target{small} {one}"),
            7 => format!("mkdir -p {one}"),
            8 => format!("mv -T {one} {other}"),
            9 => format!(
                "test -f {one} && test ! -L {one} && test ! -e {other} && test ! -L {other} && cp {one} {other}"
            ),
            10 => format!("test -f {one} && test ! -L {one} && truncate -s {small}0000 {one}"),
            _ => format!(
                "mkdir -p links && echo {number} > links/{number} && ln links/{number} links/{number}x"
            ),
        };
        format!("{{ {done}; }} 2>/dev/null || :")
    }
}

/// Builds a tree in one way, in a store of its own, and returns the keys of all trees that were made for it.
fn keys(tree: &State, snapshotter: Snapshotter) -> Option<BTreeSet<[u8; 32]>> {
    let mut kit = Kit::new()?;
    kit.snapshotter = snapshotter;
    kit.solve(std::slice::from_ref(tree));
    let rows = kit.open(1).store().snapshots().expect("lists");
    Some(rows.into_iter().filter_map(|row| row.content_key).collect())
}

#[test]
fn commands_leave_the_same_trees_by_overlayfs_and_by_copies() {
    for seed in 1..=2 {
        let mut dice = Dice(seed);
        let mut tree = State::scratch();
        for number in 0..4 {
            let operations: Vec<String> = (0..12).map(|at| dice.operation(number * 100 + at)).collect();
            tree = change(&tree, &operations.join("\n"));
        }
        let Some(mounted) = keys(&tree, Snapshotter::Overlayfs) else { return };
        let copied = keys(&tree, Snapshotter::Native).expect("as before");
        assert!(mounted.len() > 4, "each step changes something: {}", mounted.len());
        assert_eq!(mounted, copied, "seed {seed}");
    }
}

#[test]
fn what_one_way_made_the_other_finds_shows_and_goes_on_with() {
    let Some(mut kit) = Kit::new() else { return };
    let first = change(&State::scratch(), "mkdir d && echo 1 > d/a && echo 1 > b");
    let second = change(&first, "echo 2 > d/c && rm b");
    let ways = [Snapshotter::Overlayfs, Snapshotter::Native];
    for (way, then) in ways.into_iter().zip(ways.into_iter().rev()) {
        kit.snapshotter = way;
        let made = [second.clone(), change(&second, &format!("echo {way:?} > by"))];
        kit.solve(&made);
        kit.snapshotter = then;
        assert_eq!(kit.solve(&made), 0, "{then:?} finds what {way:?} made");
        let seen = Mount { readonly: true, ..mount("/in", MountKind::Bind) };
        let part = Mount { selector: "/d".to_owned(), ..Mount { dest: "/part".to_owned(), ..seen.clone() } };
        let [_, last] = &made;
        let script = "cat /in/d/* /in/by /part/c > /out/said; ls /in >> /out/said; ! touch /in/x 2>/dev/null";
        let (out, _) = step(script, vec![(seen, last.clone()), (part, last.clone())], ExecOp::default());
        assert_eq!(kit.said(&out), format!("1\n2\n{way:?}\n2\nby\nd\n"), "{then:?}");
        let more = change(last, "echo 3 > d/a; cat d/* by");
        kit.solve(&[more]);
    }
}
