//! What a build would fetch: layers of images that are not here, and sources whose size nobody tells beforehand.
//!
//! In: the outlook of each vertex, and how they work on each other. Out: [`Pulls`]. An image is fetched by whom its files concern:
//! a step that would run, one that has to read them to be known, and what is written of the image itself. A layer counts once,
//! however many images have it.

use std::collections::{BTreeMap, BTreeSet};

use rb_api::{Fate, Outlook};
use rb_oci::Digest;

use super::super::record::document::Document;
use super::schedule::Span;

/// What would be fetched, or may.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pulls(pub(super) Vec<Pull>);

/// One source of which something is not here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pull {
    pub(super) name: String,
    /// It would be fetched; otherwise that depends on what comes of steps.
    pub(super) is_sure: bool,
    /// Its layers with their sizes in bytes; none where the source does not tell.
    pub(super) layers: Option<BTreeMap<Digest, u64>>,
}

impl Pull {
    /// Returns how many bytes that is.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.layers.as_ref().map(|layers| layers.values().fold(0, |sum: u64, size| sum.saturating_add(*size)))
    }
}

impl Pulls {
    /// Finds what would be fetched; `written` are the vertices of which something is written.
    pub(super) fn of(outlooks: &[Outlook], document: &Document, written: &BTreeSet<Digest>) -> Self {
        let readers = Readers::of(outlooks, document);
        let pull = |outlook: &Outlook| {
            let (name, vertex) = (outlook.name.clone(), &outlook.vertex);
            match &outlook.fate {
                _ if !readers.sources.contains(vertex) => None,
                Fate::Runs(_) | Fate::Unknown { after: None } => {
                    Some(Pull { name, is_sure: true, layers: None })
                }
                _ if outlook.absent.is_empty() => None,
                _ => {
                    let is_sure = readers.sure.contains(vertex) || written.contains(vertex);
                    let is_read = is_sure || readers.perhaps.contains(vertex);
                    is_read.then(|| Pull { name, is_sure, layers: Some(outlook.absent.clone()) })
                }
            }
        };
        Self(outlooks.iter().filter_map(pull).collect())
    }

    /// Adds up the bytes.
    pub(super) fn bytes(&self) -> Span {
        let sum = |fits: fn(&Pull) -> bool| {
            let fitting = self.0.iter().filter(|pull| fits(pull));
            let layers: BTreeMap<&Digest, u64> = fitting
                .filter_map(|pull| pull.layers.as_ref())
                .flatten()
                .map(|(digest, size)| (digest, *size))
                .collect();
            layers.into_values().fold(0, u64::saturating_add)
        };
        Span { least: sum(|pull| pull.is_sure), most: sum(|_| true) }
    }

    /// Returns those that do not tell their size.
    pub(super) fn untold(&self) -> impl Iterator<Item = &Pull> {
        self.0.iter().filter(|pull| pull.layers.is_none())
    }
}

/// The sources, and which of them something reads that would be made or may.
#[derive(Default)]
struct Readers {
    sources: BTreeSet<Digest>,
    sure: BTreeSet<Digest>,
    perhaps: BTreeSet<Digest>,
}

impl Readers {
    fn of(outlooks: &[Outlook], document: &Document) -> Self {
        let fates: BTreeMap<&Digest, &Outlook> =
            outlooks.iter().map(|outlook| (&outlook.vertex, outlook)).collect();
        let mut readers = Self::default();
        // Of each vertex the sources that show through it: those below what a frontend adds, but not below what is made.
        let mut shown: Vec<BTreeSet<Digest>> = Vec::with_capacity(document.steps.len());
        for (at, step) in document.steps.iter().enumerate() {
            let inputs = step.inputs.iter().filter_map(|(input, _)| input.filter(|input| *input < at));
            let below: BTreeSet<Digest> = inputs.flat_map(|input| shown[input].iter().copied()).collect();
            let Some(outlook) = fates.get(&step.vertex) else {
                shown.push(below);
                continue;
            };
            if step.inputs.is_empty() && !outlook.step {
                readers.sources.insert(step.vertex);
                shown.push([step.vertex].into());
                continue;
            }
            shown.push(match &outlook.fate {
                // What has to read an image to be known does that first.
                Fate::Runs(_) | Fate::Unknown { after: None } => {
                    readers.sure.extend(below);
                    BTreeSet::new()
                }
                Fate::Unknown { after: Some(_) } => {
                    readers.perhaps.extend(below);
                    BTreeSet::new()
                }
                Fate::Cached(_) | Fate::NotNeeded | Fate::Fails(_) if outlook.step => BTreeSet::new(),
                Fate::Cached(_) | Fate::NotNeeded | Fate::Fails(_) => below,
            });
        }
        readers
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use rb_api::{CacheKey, CacheVerdict, Miss};

    use super::super::super::record::document::{RecordStep, Verdict};
    use super::*;

    fn runs() -> Fate {
        Fate::Runs(CacheVerdict { miss: Miss::NeverSeen, text: "never built before".to_owned() })
    }

    fn after(name: &str) -> Fate {
        Fate::Unknown { after: Some(name.to_owned()) }
    }

    fn here() -> Fate {
        Fate::Cached(CacheKey::Fast)
    }

    /// Layers with their sizes.
    type Layers<'a> = &'a [(&'a str, u64)];

    /// A vertex by its name, with what it works on, and layers that are not here; those that begin with `FROM` or `GIT` are sources.
    type Vertex<'a> = (&'a str, &'a [usize], Fate, Layers<'a>);

    fn of(vertices: &[Vertex<'_>], written: &[&str]) -> Pulls {
        let mut document = Document::default();
        let mut outlooks = Vec::new();
        for (name, inputs, fate, absent) in vertices {
            let vertex = Digest::of(name);
            let is_step = !name.starts_with("FROM") && !name.starts_with("GIT");
            let mut step = RecordStep::of(*name, vertex, Verdict::Ran);
            step.step = is_step;
            step.inputs = inputs.iter().map(|input| (Some(*input), 0)).collect();
            document.steps.push(step);
            let absent = absent.iter().map(|(layer, size)| (Digest::of(layer), *size)).collect();
            outlooks.push(Outlook {
                vertex,
                name: (*name).to_owned(),
                step: is_step,
                fate: fate.clone(),
                absent,
            });
        }
        Pulls::of(&outlooks, &document, &written.iter().map(Digest::of).collect())
    }

    fn span(least: u64, most: u64) -> Span {
        Span { least, most }
    }

    #[test]
    fn an_image_is_fetched_for_whom_its_files_concern() {
        let (below, other): (Layers<'_>, Layers<'_>) = (&[("a", 10), ("b", 5)], &[("b", 5), ("c", 100)]);
        let base: Vertex<'_> = ("FROM base", &[], here(), below);
        assert_eq!(of(&[base.clone(), ("RUN x", &[0], runs(), &[])], &[]).bytes(), span(15, 15));
        assert_eq!(
            of(&[base.clone(), ("RUN x", &[0], Fate::Unknown { after: None }, &[])], &[]).bytes(),
            span(15, 15)
        );
        assert_eq!(of(&[base.clone(), ("RUN x", &[0], after("RUN y"), &[])], &[]).bytes(), span(0, 15));
        // What was made upon it is here, and so is what that stands on.
        let upon: [Vertex<'_>; 3] =
            [base.clone(), ("RUN x", &[0], here(), &[]), ("RUN y", &[1], runs(), &[])];
        assert_eq!(of(&upon, &[]), Pulls::default());
        // Nobody reads it, or it is written as it is.
        assert_eq!(of(from_ref(&base), &[]), Pulls::default());
        assert_eq!(of(from_ref(&base), &["FROM base"]).bytes(), span(15, 15));
        // A layer of two images comes once.
        let two: [Vertex<'_>; 4] = [
            base,
            ("FROM other", &[], here(), other),
            ("RUN x", &[0], runs(), &[]),
            ("RUN y", &[1], after("RUN x"), &[]),
        ];
        let told = of(&two, &[]);
        assert_eq!(told.bytes(), span(15, 115));
        assert_eq!(
            told.0.iter().map(|pull| (pull.is_sure, pull.bytes())).collect::<Vec<_>>(),
            [(true, Some(15)), (false, Some(105))]
        );
    }

    #[test]
    fn what_does_not_tell_its_size_is_told_as_such() {
        let told = of(&[("GIT CLONE x", &[], runs(), &[]), ("COPY x", &[0], after("GIT CLONE x"), &[])], &[]);
        assert_eq!(told.bytes(), span(0, 0));
        assert_eq!(told.untold().map(|pull| pull.name.as_str()).collect::<Vec<_>>(), ["GIT CLONE x"]);
    }

    #[test]
    fn sizes_that_lie_do_not_overflow() {
        let base: Vertex<'_> = ("FROM base", &[], here(), &[("a", u64::MAX), ("b", 1)]);
        let told = of(&[base, ("RUN x", &[0], runs(), &[])], &[]);
        assert_eq!((told.bytes(), told.0[0].bytes()), (span(u64::MAX, u64::MAX), Some(u64::MAX)));
    }
}
