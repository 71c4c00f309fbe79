//! A definition on its way: refused where only the bundled runtime can do it, and marked with the job that it belongs to.
//!
//! A daemon merges equal vertices of all that is under way, whoever asked for them. A folder of a client is another one for each client
//! and job, though its vertex is the same: so each is marked with the job, as BuildKit's own client does, and what depends on it gets
//! other digests there. So has an image that only this machine has: there it is one of a layout that the session lends. Nothing else is encoded
//! again.
//! **Invariant:** what the daemon says of a vertex is told under the digest that the frontend knows ([`Prepared::sent`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use rb_llb::extension::{HOST_SCHEME, LEFT_SCHEME, is_extension, pushes};
use rb_llb::{Definition, Edge, Graph, Op, SourceMapping, Vertex, attr};
use rb_oci::{Digest, Reference};

use crate::error::RemoteError;
use crate::resolve::LAYOUT_NAME;
use crate::session::Images;

/// What a folder of a client asks for that is marked.
const CAP_UNIQUE: &str = "source.local.unique";

/// What an image of a layout asks for.
const CAP_LAYOUT: &str = "source.ocilayout";

/// A definition on its way.
pub(crate) struct Prepared {
    pub(crate) graph: Graph,
    /// What is sent.
    pub(crate) bytes: Bytes,
    /// What each vertex is called at the daemon.
    pub(crate) sent: BTreeMap<Digest, Digest>,
    /// A command of it has effects elsewhere, and may run once.
    pub(crate) pushes: bool,
}

impl Prepared {
    /// Returns what stands for its tree: the daemon tells no keys of content.
    pub(crate) fn key(&self) -> Digest {
        self.graph.root().map_or_else(|| Digest::of([]), |edge| edge.vertex)
    }
}

/// The last op of a definition, which only names its root.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Head {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<Input>,
}

/// An input of an op.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Input {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) index: i64,
}

/// What a job changes of a definition on its way.
pub(crate) struct Way<'a> {
    /// What folders of the client are marked with.
    pub(crate) mark: &'a str,
    /// Nothing is looked up.
    pub(crate) no_cache: bool,
    /// Images of this machine that are lent, which definitions call by their names.
    pub(crate) images: &'a Images,
}

/// Verifies a definition, refuses what no other engine can do, marks folders, and says of images that are lent that they are.
pub(crate) fn prepare(definition: &Definition, way: &Way<'_>) -> Result<Prepared, RemoteError> {
    let Way { mark, no_cache, images } = way;
    let graph = definition.graph().map_err(|error| RemoteError::answer(rb_diag::chain(&error)))?;
    if let Some(vertex) = graph.vertices().find(|vertex| is_extension(&vertex.op)) {
        return Err(refused(&graph, vertex, "build it with --engine=here, on this machine"));
    }
    let mut sent: BTreeMap<Digest, Digest> = BTreeMap::new();
    let mut marked = Definition { sources: SourceMapping::default(), ..Definition::default() };
    for vertex in graph.vertices() {
        let mut meta = graph.meta(&vertex.digest).clone();
        meta.ignore_cache |= *no_cache;
        let mut op = vertex.op.clone();
        if let Op::Source(source) = &mut op
            && source.scheme().0 == "local"
            && ![attr::LOCAL_SESSION, attr::LOCAL_UNIQUE].iter().any(|name| source.attrs.contains_key(*name))
        {
            source.attrs.insert(attr::LOCAL_UNIQUE.to_owned(), (*mark).to_owned());
            meta.caps.insert(CAP_UNIQUE.to_owned(), true);
        }
        if let Op::Source(source) = &mut op
            && let ("docker-image", name) = source.scheme()
            && let Ok(name) = name.parse::<Reference>()
            && let Some((store, digest)) = images.lent_as(&name)
        {
            source.identifier = format!("oci-layout://{LAYOUT_NAME}@{digest}");
            source.attrs = [(attr::OCI_STORE.to_owned(), store)].into();
            meta.caps.insert(CAP_LAYOUT.to_owned(), true);
        }
        let inputs: Vec<Edge> = vertex.inputs.iter().map(|edge| renamed(edge, &sent)).collect();
        let bytes = if op == vertex.op && inputs == vertex.inputs {
            vertex.bytes.clone()
        } else {
            Vertex { op, inputs, ..vertex.clone() }.encode()
        };
        let digest = Digest::of(&bytes);
        sent.insert(vertex.digest, digest);
        marked.meta.insert(digest, meta);
        marked.ops.push(bytes);
    }
    if let Some(root) = graph.root() {
        let root = renamed(&root, &sent);
        let input = Input { digest: root.vertex.to_string(), index: i64::from(root.index) };
        marked.ops.push(Head { inputs: vec![input] }.encode_to_vec().into());
    }
    let pushes = graph.vertices().any(|vertex| pushes(graph.meta(&vertex.digest)));
    Ok(Prepared { graph, bytes: marked.to_bytes().into(), sent, pushes })
}

fn renamed(edge: &Edge, sent: &BTreeMap<Digest, Digest>) -> Edge {
    Edge { vertex: sent.get(&edge.vertex).copied().unwrap_or(edge.vertex), index: edge.index }
}

/// Refuses a step that only the bundled runtime can do, with its place.
pub(crate) fn refused(graph: &Graph, vertex: &Vertex, help: &'static str) -> RemoteError {
    let name = graph.name(vertex);
    let scheme = match &vertex.op {
        Op::Source(source) => source.scheme().0.to_owned(),
        Op::Exec(_) | Op::File(_) | Op::Build(_) | Op::Merge(_) | Op::Diff(_) => String::new(),
    };
    let what = match scheme.as_str() {
        HOST_SCHEME => "`FROM @host` shows the machine that rb runs on".to_owned(),
        LEFT_SCHEME => "TRY takes what the failed command left, which rb keeps".to_owned(),
        _ => format!("`{name}` is of the bundled runtime"),
    };
    let place = graph.location(&vertex.digest).map(|(file, range)| Box::new((file.clone(), range)));
    RemoteError::OnlyHere { vertex: vertex.digest, name, what, help, place }
}

#[cfg(test)]
mod tests {
    use rb_diag::{ErrorKind, SourceMap};
    use rb_llb::{CopyAction, NodeMeta, State};

    use super::*;

    fn source(identifier: &str) -> State {
        State::source(identifier, BTreeMap::new(), None, NodeMeta::named("a source"))
    }

    fn marshalled(state: &State) -> Definition {
        state.marshal(&SourceMap::default()).expect("marshals")
    }

    fn prepared(definition: &Definition, mark: &str, no_cache: bool) -> Result<Prepared, RemoteError> {
        prepare(definition, &Way { mark, no_cache, images: &Images::default() })
    }

    #[test]
    fn an_image_that_is_lent_is_one_of_a_layout() {
        let (images, own, other) = (Images::default(), Digest::of("own"), Digest::of("other"));
        let name: Reference = "made:1".parse().expect("a name");
        images.note(&name, "lent".to_owned(), own, own);
        let identifier = |text: &str| {
            let way = Way { mark: "job", no_cache: false, images: &images };
            let sent = prepare(&marshalled(&source(text)), &way).expect("any engine has it");
            let graph = Definition::from_bytes(&sent.bytes).expect("decodes").graph().expect("is a graph");
            let Op::Source(source) = &graph.vertices().next().expect("there is one").op else {
                panic!("a source")
            };
            (source.identifier.clone(), source.attrs.get(attr::OCI_STORE).cloned())
        };
        let layout = (format!("oci-layout://{LAYOUT_NAME}@{own}"), Some("lent".to_owned()));
        assert_eq!(identifier("docker-image://docker.io/library/made:1"), layout);
        assert_eq!(identifier(&format!("docker-image://docker.io/library/made:1@{own}")), layout);
        for text in [
            format!("docker-image://docker.io/library/made:1@{other}"),
            "docker-image://example.com/made:1".to_owned(),
        ] {
            assert_eq!(identifier(&text), (text.clone(), None));
        }
    }

    fn digests(sent: &Prepared) -> Vec<Digest> {
        let graph = Definition::from_bytes(&sent.bytes).expect("decodes").graph().expect("is a graph");
        graph.vertices().map(|vertex| vertex.digest).collect()
    }

    #[test]
    fn the_host_is_refused_by_name() {
        let error =
            prepared(&marshalled(&source("host://")), "job", false).err().expect("no other engine has it");
        assert!(error.to_string().contains("FROM @host") && error.kind() == ErrorKind::Input, "{error}");
    }

    #[test]
    fn folders_of_two_jobs_are_two_and_all_else_is_what_it_was() {
        let image = source("docker-image://example.com/a:1");
        let definition = marshalled(&image);
        let sent = prepared(&definition, "one", false).expect("any engine has it");
        let again = Definition::from_bytes(&sent.bytes).expect("decodes");
        assert_eq!(again.ops, definition.ops, "what has no folder is not encoded again, nor is its head");

        let copy = CopyAction { src: "/".into(), dest: "/".into(), ..CopyAction::default() };
        let definition =
            marshalled(&image.copy(&source("local://context"), copy, NodeMeta::named("COPY . .")));
        let [one, two] =
            ["one", "two"].map(|job| prepared(&definition, job, false).expect("any engine has it"));
        assert_eq!(digests(&one), digests(&prepared(&definition, "one", false).expect("any engine has it")));
        let same = digests(&one).iter().filter(|digest| digests(&two).contains(digest)).count();
        assert_eq!(same, 1, "the image alone");
        let sent = Definition::from_bytes(&one.bytes).expect("decodes").graph().expect("is a graph");
        for vertex in one.graph.vertices() {
            let there = sent.vertex(&one.sent[&vertex.digest]);
            assert_eq!(sent.name(there), one.graph.name(vertex));
            assert_eq!(std::mem::discriminant(&there.op), std::mem::discriminant(&vertex.op));
        }
        assert_eq!(sent.root().map(|edge| edge.vertex), one.sent.get(&one.key()).copied());
    }

    #[test]
    fn without_cache_every_vertex_says_so() {
        let sent = prepared(&marshalled(&source("docker-image://example.com/a:1")), "job", true)
            .expect("any engine has it");
        let definition = Definition::from_bytes(&sent.bytes).expect("decodes");
        assert!(
            !sent.sent.is_empty() && sent.sent.values().all(|digest| definition.meta[digest].ignore_cache)
        );
    }
}
