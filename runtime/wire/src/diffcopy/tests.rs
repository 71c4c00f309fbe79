//! Both ends against one another, and against an end that lies.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tonic::Status;

use super::*;
use crate::files::packet::Type;
use crate::files::{Packet, Stat};

type Tree = BTreeMap<String, Vec<u8>>;

struct Memory(Tree);

impl Files for Memory {
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + Send>> {
        let content = self.0.get(&entry.path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(content.clone())))
    }
}

#[derive(Default)]
struct Kept {
    open: BTreeMap<usize, Vec<u8>>,
    whole: BTreeMap<usize, Vec<u8>>,
}

impl Sink for Kept {
    fn write(&mut self, place: usize, piece: &[u8]) -> io::Result<()> {
        self.open.entry(place).or_default().extend_from_slice(piece);
        Ok(())
    }

    fn end(&mut self, place: usize) -> io::Result<()> {
        let content = self.open.remove(&place).unwrap_or_default();
        assert!(self.whole.insert(place, content).is_none(), "a file ends once");
        Ok(())
    }
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.to_owned(), kind, mode: 0o644, uid: 0, gid: 0, modified_ns: 7 }
}

/// Lists a tree: folders of paths are there without being named.
fn entries(tree: &Tree) -> Vec<Entry> {
    let mut list: BTreeMap<String, Kind> = BTreeMap::new();
    for (path, content) in tree {
        for (at, _) in path.match_indices('/') {
            list.insert(path[..at].to_owned(), Kind::Directory);
        }
        list.entry(path.clone()).or_insert(Kind::File { size_bytes: content.len() as u64 });
    }
    let mut entries: Vec<_> = list.into_iter().map(|(path, kind)| entry(&path, kind)).collect();
    entries.sort_by(|left, right| compare(&left.path, &right.path));
    entries
}

fn received(
    receiver: mpsc::Receiver<Packet>,
) -> impl futures_util::Stream<Item = Result<Packet, Status>> + Unpin + Send {
    Box::pin(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|packet| (Ok(packet), receiver))
    }))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads")
}

/// Sends a tree and fetches what fits; returns the list, what came and what was sent.
fn exchange(tree: &Tree, fits: impl Fn(usize) -> bool) -> (Vec<Entry>, BTreeMap<usize, Vec<u8>>, Sent) {
    runtime().block_on(async {
        let (to_receiver, from_sender) = mpsc::channel(8);
        let (to_sender, from_receiver) = mpsc::channel(8);
        let sending =
            send(entries(tree).into(), Arc::new(Memory(tree.clone())), received(from_receiver), to_receiver);
        let receiving = async move {
            let mut receiver = Receiver::new(received(from_sender), to_sender);
            let list = receiver.index(Limits::default()).await?;
            let wanted: Vec<usize> = (0..list.len()).filter(|place| fits(*place)).collect();
            let kept = receiver.fetch(&list, &wanted, Kept::default()).await?;
            assert!(kept.open.is_empty());
            Ok((list, kept.whole))
        };
        let (sent, (list, whole)) = tokio::try_join!(sending, receiving).expect("both ends agree");
        (list, whole, sent)
    })
}

fn trees() -> impl Strategy<Value = Tree> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a.b"), Just("a-b"), Just("ü"), Just(" ")];
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (65_530_usize..131_080).prop_map(|length| vec![b'x'; length])
    ];
    prop::collection::btree_map(path, content, 0..12).prop_map(|tree: Tree| {
        // What is a folder of another is no file.
        let is_folder = |path: &String| tree.keys().any(|other| other.starts_with(&format!("{path}/")));
        tree.iter()
            .filter(|(path, _)| !is_folder(path))
            .map(|(path, content)| (path.clone(), content.clone()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_that_is_sent_is_the_tree_that_comes(tree in trees()) {
        let (list, whole, _) = exchange(&tree, |_| true);
        prop_assert_eq!(&list, &entries(&tree));
        let came: Tree = list
            .iter()
            .enumerate()
            .filter(|(_, entry)| matches!(entry.kind, Kind::File { .. }))
            .map(|(place, entry)| (entry.path.clone(), whole.get(&place).cloned().unwrap_or_default()))
            .collect();
        prop_assert_eq!(came, tree);
    }

    #[test]
    fn only_what_is_asked_for_is_sent(tree in trees(), odd: bool) {
        let (list, whole, sent) = exchange(&tree, |place| (place % 2 == 1) == odd);
        let wanted: Vec<_> = (0..list.len())
            .filter(|place| (place % 2 == 1) == odd)
            .filter(|place| matches!(list[*place].kind, Kind::File { size_bytes } if size_bytes > 0))
            .collect();
        prop_assert_eq!(whole.keys().copied().collect::<Vec<_>>(), wanted.clone());
        prop_assert_eq!(sent.files, wanted.len() as u64);
        prop_assert_eq!(sent.bytes, whole.values().map(|content| content.len() as u64).sum::<u64>());
    }

    #[test]
    fn no_list_leads_out(paths in prop::collection::vec("[a./\\x00]{0,6}", 0..8), modes in prop::collection::vec(any::<u32>(), 8)) {
        let stats = paths.iter().zip(modes).map(|(path, mode)| Stat { path: path.clone(), mode, linkname: "a".into(), ..Stat::default() });
        let packets: Vec<_> = stats.map(Some).chain([None]).map(stat).collect();
        if let Ok(list) = runtime().block_on(listed(packets)) {
            for (place, entry) in list.iter().enumerate() {
                prop_assert!(entry.path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{:?}", entry.path);
                if let Some((parent, _)) = entry.path.rsplit_once('/') {
                    prop_assert!(list[..place].iter().any(|above| above.path == parent && above.kind == Kind::Directory));
                }
            }
        }
    }

    #[test]
    fn packets_of_any_kind_harm_nothing(
        packets in prop::collection::vec((0_i32..6, 0_u32..4, prop::collection::vec(any::<u8>(), 0..4)), 0..12)
    ) {
        let packet = |(kind, id, data): (i32, u32, Vec<u8>)| Packet { r#type: kind, id, data: data.into(), stat: None };
        let packets: Vec<_> = packets.into_iter().map(packet).collect();
        let file = entry("a", Kind::File { size_bytes: 3 });
        let answer = |packets: Vec<Packet>| {
            let (outgoing, mut heard) = mpsc::channel(8);
            let drain = async move { while heard.recv().await.is_some() {} };
            (stream::iter(packets.into_iter().map(Ok)), outgoing, drain)
        };
        runtime().block_on(async {
            let (incoming, outgoing, drain) = answer(packets.clone());
            let list = [file.clone()];
            let fetched = Receiver::new(incoming, outgoing).fetch(&list, &[0], Kept::default());
            if let (Ok(kept), ()) = tokio::join!(fetched, drain) {
                assert_eq!(kept.whole[&0].len(), 3, "what comes is as long as was told");
            }
            let (incoming, outgoing, drain) = answer(packets);
            let memory = Arc::new(Memory([("a".to_owned(), b"abc".to_vec())].into()));
            let (sent, ()) = tokio::join!(send([file].into(), memory, incoming, outgoing), drain);
            assert!(sent.is_err() || sent.is_ok_and(|sent| sent.files <= 1));
        });
    }
}

fn stat(stat: Option<Stat>) -> Packet {
    Packet { r#type: Type::Stat.into(), stat, ..Packet::default() }
}

async fn listed(packets: Vec<Packet>) -> Result<Vec<Entry>, DiffCopyError> {
    let (outgoing, _kept) = mpsc::channel(8);
    Receiver::new(stream::iter(packets.into_iter().map(Ok)), outgoing)
        .index(Limits { entries: 100, path_bytes: 10_000 })
        .await
}

#[test]
fn lists_that_lie_are_refused_by_name() {
    let directory = |path: &str| entry(path, Kind::Directory);
    let link = |path: &str, target: &str| entry(path, Kind::Symlink { target: target.to_owned() });
    let file = |path: &str| entry(path, Kind::File { size_bytes: 1 });
    let other_name = |path: &str, to: &str| entry(path, Kind::HardLink { to: to.to_owned() });
    for (list, reason) in [
        (vec![file("../a")], "leads elsewhere"),
        (vec![directory("a"), file("a/../b")], "leads elsewhere"),
        (vec![file("/etc/passwd")], "without a name"),
        (vec![file("a//b")], "without a name"),
        (vec![file("")], "without a name"),
        (vec![file("a\0b")], "NUL"),
        (vec![file(&"n".repeat(256))], "too long"),
        (vec![link("a", "/etc"), file("a/passwd")], "its folder was not told, or is none"),
        (vec![file("a"), file("a/b")], "its folder was not told, or is none"),
        (vec![file("a/b")], "its folder was not told, or is none"),
        (vec![directory("a"), directory("b"), file("a/b")], "out of order"),
        (vec![file("a"), file("a")], "out of order"),
        (vec![other_name("a", "/etc/passwd")], "was not told"),
        (vec![link("a", "x"), other_name("b", "a")], "was not told"),
        (vec![link("a", "")], "no link can point"),
    ] {
        let packets = list.iter().map(|entry| stat(Some(entry.to_stat()))).chain([stat(None)]).collect();
        let error = runtime().block_on(listed(packets)).expect_err(reason);
        // An empty target is on the wire that of a link that has none.
        assert!(
            matches!(error, DiffCopyError::Entry { .. }) && error.to_string().contains(reason),
            "{error} {list:?}"
        );
    }
    let many: Vec<_> = (0..101).map(|number| stat(Some(file(&format!("{number:03}")).to_stat()))).collect();
    assert!(matches!(runtime().block_on(listed(many)), Err(DiffCopyError::TooMany { limit: 100, .. })));
}

#[test]
fn content_that_lies_is_refused_by_name() {
    let list = [entry("a", Kind::File { size_bytes: 3 }), entry("b", Kind::File { size_bytes: 3 })];
    let data =
        |id, data: &'static [u8]| Packet { r#type: Type::Data.into(), id, data: data.into(), stat: None };
    let fin = Packet { r#type: Type::Fin.into(), ..Packet::default() };
    let failed = Packet { r#type: Type::Err.into(), data: "no disk".into(), ..Packet::default() };
    for (packets, reason) in [
        (vec![data(1, b"abc")], "not asked for (file 1)"),
        (vec![data(7, b"abc")], "not asked for (file 7)"),
        (vec![data(0, b"abcd")], "longer than was told"),
        (vec![data(0, b"ab"), data(0, b"")], "shorter than was told"),
        (vec![data(0, b"abc"), data(0, b""), data(0, b"")], "something came after the last file"),
        (vec![data(0, b"abc"), fin.clone()], "something other than content"),
        (vec![failed], "the other side gave up: no disk"),
        (vec![data(0, b"abc")], "ended before all was sent"),
        (vec![data(0, b"abc"), data(0, b"")], "ended before all was sent"),
    ] {
        let (outgoing, _kept) = mpsc::channel(8);
        let receiver = Receiver::new(stream::iter(packets.into_iter().map(Ok)), outgoing);
        let error = runtime().block_on(receiver.fetch(&list, &[0], Kept::default())).err().expect(reason);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn requests_that_lie_are_refused_by_name() {
    let list: Arc<[Entry]> = [entry("a", Kind::Directory), entry("b", Kind::File { size_bytes: 3 })].into();
    let ask = |id| Packet { r#type: Type::Req.into(), id, ..Packet::default() };
    for (packets, reason) in [
        (vec![ask(2)], "not told (file 2)"),
        (vec![ask(0)], "what is no file"),
        (vec![ask(1), ask(1)], "twice"),
        (vec![stat(None)], "does not tell of one"),
        (vec![], "ended before all was sent"),
    ] {
        let memory = Arc::new(Memory([("b".to_owned(), b"abc".to_vec())].into()));
        let (outgoing, mut kept) = mpsc::channel(64);
        let incoming = stream::iter(packets.into_iter().map(Ok));
        let error =
            runtime().block_on(send(Arc::clone(&list), memory, incoming, outgoing)).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
        let told = std::iter::from_fn(|| kept.try_recv().ok()).any(|packet| packet.r#type() == Type::Err);
        assert!(told, "the other side hears of it");
    }
}

#[test]
fn a_file_that_changed_is_not_sent_as_if_it_were_whole() {
    for content in [b"ab".as_slice(), b"abcd", b""] {
        let list: Arc<[Entry]> = [entry("b", Kind::File { size_bytes: 3 })].into();
        let memory = Arc::new(Memory([("b".to_owned(), content.to_vec())].into()));
        let (outgoing, _kept) = mpsc::channel(64);
        let ask = Packet { r#type: Type::Req.into(), ..Packet::default() };
        let incoming = Box::pin(stream::once(async { Ok(ask) }).chain(stream::pending()));
        let error = runtime().block_on(send(list, memory, incoming, outgoing)).expect_err("changed");
        assert!(matches!(&error, DiffCopyError::Changed { path } if path == "b"), "{error}");
    }
}
