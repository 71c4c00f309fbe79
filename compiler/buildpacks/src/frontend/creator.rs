//! The builder's own lifecycle: its `creator` makes the whole image in one step.
//!
//! In: a [`Ground`]. Out: [`Created`], whose layers are blobs of the layout that the step left, and whose config is the lifecycle's.
//! The base stands in that layout by its config alone, as the lifecycle takes it: no byte of its layers is read or written, and the
//! image is put together upon the base itself.
//!
//! What it kept lies in a cache mount, as for other steps a hint that is in no key: its own cache, and the layout of its last image,
//! whose launch layers it uses again.
//! **Invariant:** the layers are those that the config names, in its order; a digest proves each.
//! Source: platform spec, "creator"; the lifecycle's layouts, which it calls experimental.

use rb_frontend::Gateway;
use rb_llb::{CacheSharing, ExecBuilder, NodeMeta, State};
use rb_oci::{Digest, ImageConfig, LayerPart, Reference};
use serde::Deserialize;
use serde_json::json;

use super::error::FrontendError;
use super::gate::{Folder, Gate};
use super::ground::Ground;
use super::scripts::TOOLS;
use super::steps::{APP, HINT, LAYERS, PLATFORM, SEED, Site, at, whole};
use super::{PackRequest, Teller, Told};
use crate::ModuleKind;
use crate::decode::FILE_BYTES;
use crate::distribution::order_text;
use crate::environment::{LIFECYCLE_FOLDER, Variables};
use crate::labels::{LIFECYCLE_METADATA, RunImageNames};

/// Where images lie as layouts.
const LAYOUT: &str = "/layout";
/// What the image is called in there, whatever it will be called: so its name is in no key.
const MADE: &str = "app:made";
/// The same for the image of the last time.
const PREVIOUS: &str = "previous:kept";
/// Where files for the creator lie.
const GIVEN: &str = "/cnb/given";
/// What its hint is called among those of buildpacks; no id has a blank.
const OWN_HINT: &str = "the creator";
/// How many layers an image may have.
const MOST_LAYERS: usize = 1000;

/// Brings back the last image, runs the creator, and keeps what it made.
const CREATE: &str = r#"hint=/cnb/hint
made=$1
previous=$2
shift 2
tool mkdir -p "$hint/cache" || exit 1
if [ -d "$hint/previous" ]; then
  tool mkdir -p "${previous%/*}" && tool cp -a "$hint/previous" "$previous" || exit 1
fi
"$@" || exit $?
keep() {
  wipe "$hint/new" && tool cp -a "$made" "$hint/new" && wipe "$hint/previous" && tool mv "$hint/new" "$hint/previous"
}
keep || { wipe "$hint/new" "$hint/previous"; echo "nothing is kept for the next build" >&2; }
wipe "$previous""#;

/// Empties its cache.
const FORGET: &str = r#"wipe /cnb/hint/cache /cnb/hint/new /cnb/hint/previous"#;

/// An image that the builder's lifecycle has made.
pub struct Created {
    /// The base; its layers come first, as they are.
    pub base: State,
    /// The config of the base.
    pub base_config: ImageConfig,
    /// The layers above, lowest first: what history says of each, and where it lies.
    pub layers: Vec<(String, LayerPart<State>)>,
    /// Makes the config.
    pub config: CreatedConfig,
    /// The tree with bills of materials in `/layers/sbom`, if there are any.
    pub sboms: Option<State>,
    /// The base, by its digest.
    pub run_image: String,
}

/// The config that the lifecycle made.
#[derive(Clone, Debug)]
pub struct CreatedConfig {
    config: ImageConfig,
    /// Where the base lay in the step.
    place: String,
    /// The base, by its digest.
    reference: String,
}

impl CreatedConfig {
    /// Returns the config, if it is that of these layers: those of the base, and those above.
    ///
    /// # Errors
    /// How it differs, for people.
    pub fn finish(&self, base: &[Digest], own: &[Digest]) -> Result<ImageConfig, String> {
        let mut config = self.config.clone();
        if config.rootfs.diff_ids != [base, own].concat() {
            return Err("the builder's lifecycle names other layers than it has made".to_owned());
        }
        // Where the base lay in the step says nothing to anybody.
        if let Some(label) = config.config.labels.get_mut(LIFECYCLE_METADATA) {
            *label = with_reference(label, &self.place, &self.reference);
        }
        Ok(config)
    }
}

/// Has the builder's lifecycle make the image. `made_at` are the seconds since 1970 that it is to say, if any.
pub async fn create(
    gateway: &dyn Gateway,
    request: &PackRequest,
    made_at: Option<u64>,
    tell: Teller<'_>,
) -> Result<Created, FrontendError> {
    let gate = Gate(gateway);
    tell(Told::Analyzing);
    let ground = Ground::survey(gate, request).await?;
    if !ground.order.order_extensions.is_empty() {
        let reason = "the builder's own lifecycle applies no extensions, which need steps as root: leave \
                      `--lifecycle=builder` out, or take a builder without extensions";
        return Err(FrontendError::Choice(reason.to_owned()));
    }
    ground.create(gate, request, made_at, tell).await
}

impl Ground {
    async fn create(
        mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        made_at: Option<u64>,
        tell: Teller<'_>,
    ) -> Result<Created, FrontendError> {
        let programs = Folder::new(self.builder_tree.clone(), LIFECYCLE_FOLDER);
        if !gate.exists(&programs, "creator").await? {
            let image = self.builder_image.clone();
            return Err(FrontendError::Lacks { image, path: "/cnb/lifecycle/creator" });
        }
        let run_image = place_of(&self.base.name)?;
        let stands = StandIn::of(&self.base.config)?;
        let layout = stands.files(&self.site, &run_image);
        let order = [(&self.order.order, ModuleKind::Buildpack)];
        // Those that the user brings are read, so that each lies where the order looks for it.
        let keys: Vec<_> = self.candidates.reach(gate, &order).await?.into_keys().collect();
        let of_builder = self.builder_tree.digest().ok();
        let mut brought = Vec::new();
        for key in &keys {
            let candidate = self.candidates.get(key)?;
            if candidate.place.state.digest().ok() != of_builder {
                brought.push((candidate.folder(), candidate.place.clone()));
            }
        }
        if request.afresh {
            gate.list(&Folder::new(self.site.forget_created(), "/")).await?;
        }
        let has_layers = gate.exists(&Folder::new(self.builder_tree.clone(), "/"), "layers").await?;
        let layers = if has_layers { self.builder_tree.clone() } else { self.site.empty(LAYERS) };
        let mut files = vec![
            ("order.toml", order_text(&self.order.order, &Vec::new())),
            ("run.toml", run_text(&self.run_file.images)),
        ];
        let own_system = request.without_system && self.platform.system_buildpacks();
        if own_system {
            files.push(("system.toml", String::new()));
        }
        let words = self.words(request, own_system);
        let variables = self.variables(request, made_at);
        let files = files.iter().fold(State::scratch().files(), |all, (name, text)| {
            all.mkfile(self.site.file(&format!("/{name}"), text.as_str()))
        });
        let given = files.finish(NodeMeta::named("[internal] make files for the lifecycle"));
        let text = format!("{TOOLS}{CREATE}");
        let (made, previous) = (layout_of(MADE)?, layout_of(PREVIOUS)?);
        let first = [text.as_str(), "sh", made.as_str(), previous.as_str()];
        let words: Vec<&str> = first.into_iter().chain(words.iter().map(String::as_str)).collect();
        let site = &self.site;
        let exec = ExecBuilder::new(&self.builder_tree, site.meta(&words, &variables))
            .tmpfs("/tmp", 0)
            .mount(PLATFORM, &site.platform_tree(), whole(true))
            .mount(&site.workspace, &self.app, at(APP, false))
            .mount(LAYERS, &layers, at(LAYERS, false))
            .mount(LAYOUT, &layout, at(LAYOUT, false))
            .mount(GIVEN, &given, whole(true));
        let exec = brought
            .iter()
            .fold(exec, |exec, (path, folder)| exec.mount(path, &folder.state, at(&folder.path, true)));
        let exec = site.with_volumes(exec);
        let exec = site.created_hint(exec);
        let step = site.finish(exec, format!("create the image with the lifecycle of {}", request.builder));
        let tree = |path: &str| step.mount(path).unwrap_or_default();
        let place = Folder::new(tree(LAYOUT), made);
        let (config, blobs) = read(gate, &place, self.base.config.rootfs.diff_ids.len()).await?;
        tell(Told::Exporting);
        let lines: Vec<String> = config
            .history
            .iter()
            .filter(|line| !line.empty_layer)
            .map(|line| line.created_by.clone().unwrap_or_default())
            .collect();
        let unnamed = lines.len() != config.rootfs.diff_ids.len();
        let above = self.base.config.rootfs.diff_ids.len();
        let layers = blobs.into_iter().enumerate().map(|(index, blob)| {
            let line = lines.get(above + index).filter(|_| !unnamed).cloned();
            let from = place.below(&format!("blobs/sha256/{}", blob.hex())).path;
            let part = LayerPart::Packed { tree: place.state.clone(), from };
            (line.unwrap_or_else(|| format!("layer {}", index + 1)), part)
        });
        let layers: Vec<_> = layers.collect();
        let of_layers = Folder::new(tree(LAYERS), LAYERS);
        let sboms = gate.exists(&of_layers, "sbom").await?;
        let (place, reference) = (format!("{LAYOUT}/{run_image}"), self.base.reference.clone());
        Ok(Created {
            base: self.base.tree,
            base_config: self.base.config,
            layers,
            config: CreatedConfig { config, place, reference },
            sboms: sboms.then_some(of_layers.state),
            run_image: self.base.reference,
        })
    }

    /// Returns what the creator is told.
    fn words(&self, request: &PackRequest, own_system: bool) -> Vec<String> {
        let site = &self.site;
        let program = format!("{LIFECYCLE_FOLDER}/creator");
        let mut words: Vec<String> = [&program, "-layout", "-no-color"].map(str::to_owned).into();
        let mut say = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        say("-layout-dir", LAYOUT);
        say("-app", &site.workspace);
        say("-layers", LAYERS);
        say("-platform", PLATFORM);
        say("-order", &format!("{GIVEN}/order.toml"));
        say("-run", &format!("{GIVEN}/run.toml"));
        say("-run-image", &self.base.name);
        say("-previous-image", PREVIOUS);
        say("-cache-dir", &format!("{HINT}/cache"));
        say("-uid", &site.user.0.to_string());
        say("-gid", &site.user.1.to_string());
        if own_system {
            say("-system", &format!("{GIVEN}/system.toml"));
        }
        if !request.process.is_empty() {
            say("-process-type", &request.process);
        }
        words.push(MADE.to_owned());
        words
    }

    /// Returns the variables of the creator: those of the builder, and what it is told by them.
    fn variables(&self, request: &PackRequest, made_at: Option<u64>) -> Variables {
        let pairs = self.site.container.iter().filter_map(|variable| variable.split_once('='));
        let mut all: Variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        set("CNB_PLATFORM_API", self.platform.to_string());
        set("CNB_EXPERIMENTAL_MODE", "quiet".to_owned());
        if !request.execution_environment.is_empty() {
            set("CNB_EXEC_ENV", request.execution_environment.clone());
        }
        if let Some(seconds) = made_at {
            set("SOURCE_DATE_EPOCH", seconds.to_string());
        }
        all
    }
}

impl Site {
    fn created_hint(&self, exec: ExecBuilder) -> ExecBuilder {
        exec.cache_at(HINT, &self.empty(SEED), SEED, self.hint_of(OWN_HINT), CacheSharing::Locked)
    }

    /// Forgets what the creator kept.
    fn forget_created(&self) -> State {
        let which = Variables::from([("CNB_KEEPS_IN".to_owned(), self.hint_of(OWN_HINT))]);
        let exec = ExecBuilder::new(&self.root, self.tending(&[&format!("{TOOLS}{FORGET}"), "sh"], &which));
        let exec = self.created_hint(exec).network(rb_llb::NetworkMode::None);
        self.finish(exec, "forget what the lifecycle kept".to_owned()).root()
    }
}

/// An image that is there by its config alone.
struct StandIn {
    config: String,
    manifest: String,
    /// Digest of the manifest.
    digest: Digest,
}

impl StandIn {
    fn of(config: &ImageConfig) -> Result<Self, FrontendError> {
        // Who looks for the layers finds none, and does without.
        let layers: Vec<String> =
            config.rootfs.diff_ids.iter().map(|diff_id| format!("stands for {diff_id}\n")).collect();
        let text = serde_json::to_string(config).map_err(|error| wrong(&error.to_string()))?;
        let about = |kind: &str, text: &str| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": Digest::of(text).to_string(),
                "size": text.len(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": about("config.v1+json", &text),
            "layers": layers.iter().map(|layer| about("layer.v1.tar", layer)).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string();
        Ok(Self { config: text, digest: Digest::of(&manifest), manifest })
    }

    /// Lays it down as a layout.
    fn files(&self, site: &Site, place: &str) -> State {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": self.digest.to_string(),
                "size": self.manifest.len(),
            }],
        });
        let blobs = [&self.config, &self.manifest]
            .into_iter()
            .map(|text| (format!("blobs/sha256/{}", Digest::of(text).hex()), text.clone()));
        let all: std::collections::BTreeMap<String, String> = blobs
            .chain([
                ("index.json".to_owned(), index.to_string()),
                ("oci-layout".to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string()),
            ])
            .collect();
        // All folders are the user's: images are written beside this one.
        let place = format!("{LAYOUT}/{place}");
        let above = place.match_indices('/').skip(1).map(|(end, _)| place[..end].to_owned());
        let own = ["", "/blobs", "/blobs/sha256"].map(|below| format!("{place}{below}"));
        let files =
            above.chain(own).fold(State::scratch().files(), |all, path| all.mkdir(site.folder(&path)));
        let files = all.iter().fold(files, |all, (name, text)| {
            all.mkfile(site.file(&format!("{place}/{name}"), text.as_str()))
        });
        files.finish(NodeMeta::named("[internal] lay down the config of the run image"))
    }
}

/// The parts of an index and a manifest that count here.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Named>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Named,
    layers: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: Digest,
}

/// Reads what the creator left: the config, and the blobs above those of the base.
async fn read(
    gate: Gate<'_>,
    place: &Folder,
    base: usize,
) -> Result<(ImageConfig, Vec<Digest>), FrontendError> {
    if !gate.exists(place, "index.json").await? {
        return Err(wrong("there is no image"));
    }
    let index: Index = parse(&gate.read(place, "index.json").await?)?;
    let [only] = index.manifests.as_slice() else {
        return Err(wrong("its layout holds not one image"));
    };
    let manifest: Manifest = parse(&blob(gate, place, &only.digest).await?)?;
    let config: ImageConfig = parse(&blob(gate, place, &manifest.config.digest).await?)?;
    let layers = manifest.layers.len();
    if layers > MOST_LAYERS {
        return Err(FrontendError::TooMany { what: "the image".to_owned(), most: MOST_LAYERS, of: "layers" });
    }
    if layers < base || layers != config.rootfs.diff_ids.len() {
        return Err(wrong(&format!(
            "its manifest has {layers} layers, its config {}, and the base {base}",
            config.rootfs.diff_ids.len()
        )));
    }
    Ok((config, manifest.layers.into_iter().skip(base).map(|layer| layer.digest).collect()))
}

async fn blob(gate: Gate<'_>, place: &Folder, digest: &Digest) -> Result<Vec<u8>, FrontendError> {
    let bytes = gate.read(place, &format!("blobs/sha256/{}", digest.hex())).await?;
    match Digest::of(&bytes) == *digest {
        true => Ok(bytes),
        false => Err(wrong(&format!("blob {digest} is another, or larger than {FILE_BYTES} bytes"))),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, FrontendError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))
}

fn wrong(reason: &str) -> FrontendError {
    FrontendError::Choice(format!("what the builder's own lifecycle left cannot be used: {reason}"))
}

/// Returns where the lifecycle looks for an image below the folder of layouts.
fn place_of(name: &str) -> Result<String, FrontendError> {
    let reference: Reference =
        name.parse().map_err(|error: rb_oci::ReferenceError| wrong(&error.to_string()))?;
    let repository = reference.repository();
    let host = match repository.host() {
        "docker.io" => "index.docker.io",
        other => other,
    };
    let last = match reference.digest() {
        Some(digest) => digest.to_string().replacen(':', "/", 1),
        None => reference.tag().unwrap_or("latest").to_owned(),
    };
    Ok(format!("{host}/{}/{last}", repository.path()))
}

fn layout_of(name: &str) -> Result<String, FrontendError> {
    Ok(format!("{LAYOUT}/{}", place_of(name)?))
}

/// Returns `run.toml`.
fn run_text(images: &[RunImageNames]) -> String {
    let text = |text: &String| toml::Value::String(text.clone()).to_string();
    let one = |names: &RunImageNames| {
        let mirrors: Vec<String> = names.mirrors.iter().map(text).collect();
        format!("[[images]]\nimage = {}\nmirrors = [{}]\n", text(&names.image), mirrors.join(", "))
    };
    images.iter().map(one).collect()
}

/// Names the base in a label by what it is called outside: the lifecycle names it by its place, and by a digest of its own. How all
/// else is written stays.
fn with_reference(label: &str, place: &str, reference: &str) -> String {
    let begin = format!("\"reference\":\"{place}@sha256:");
    let Some((before, rest)) = label.split_once(&begin) else { return label.to_owned() };
    let Some((_, after)) = rest.split_once('"') else { return label.to_owned() };
    format!("{before}\"reference\":{}{after}", serde_json::Value::String(reference.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_lifecycle_looks_for_images() {
        for (name, place) in [
            ("run:1", "index.docker.io/library/run/1"),
            ("me/run", "index.docker.io/me/run/latest"),
            ("registry.example.com:5000/a/b:c", "registry.example.com:5000/a/b/c"),
        ] {
            assert_eq!(place_of(name).expect("a name"), place);
        }
        let digest = Digest::of("x");
        let name = format!("example.com/run@{digest}");
        assert_eq!(place_of(&name).expect("a name"), format!("example.com/run/sha256/{}", digest.hex()));
        assert!(place_of("not a name").is_err());
    }

    #[test]
    fn a_config_is_of_its_layers_alone() {
        let [one, two] = ["1", "2"].map(Digest::of);
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![one, two];
        config.config.labels.insert(
            LIFECYCLE_METADATA.to_owned(),
            r#"{"runImage":{"reference":"/layout/run@sha256:12","image":"/layout/run@sha256:12"}}"#
                .to_owned(),
        );
        let made =
            CreatedConfig { config, place: "/layout/run".to_owned(), reference: "run@\"1\"".to_owned() };
        let finished = made.finish(&[one], &[two]).expect("is it");
        assert_eq!(
            finished.config.labels[LIFECYCLE_METADATA],
            r#"{"runImage":{"reference":"run@\"1\"","image":"/layout/run@sha256:12"}}"#
        );
        for label in ["", "{}", r#""reference":"/layout/run@sha256:1"#, r#"{"reference":"/other@sha256:1"}"#]
        {
            assert_eq!(with_reference(label, "/layout/run", "x"), label);
        }
        assert!(made.finish(&[one], &[one]).is_err() && made.finish(&[], &[two]).is_err());
    }
}
