//! What follows a build: images handed to Docker and its like, and files that tell other programs what was made.
//!
//! In: what the engine wrote, and `--load`, `--metadata-file`, `--iidfile`. Out: those files, each whole or not at all, and a
//! line for what was handed over. Source: docker buildx build reference, "--metadata-file", "--iidfile".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_api::{ExportResult, SolveResult};
use rb_engine::{LoadPlaces, LoadReport, LoadedImage, Loader};
use rb_exec::KillSwitch;
use rb_oci::{Descriptor, Platform};
use serde_json::{Map, Value, json};

use super::workbench::Workbench;
use crate::args::{LoadChoice, OutputOptions};
use crate::environment::Environment;
use crate::output_spec::OutputSpec;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};
use crate::world::normalise;

/// What was handed over.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// To whom, and how much; nothing where nobody asked for it.
    report: Option<LoadReport>,
    /// What the user should know of the outputs.
    notes: Vec<String>,
}

/// Refuses files that cannot be written, before anything is built.
pub(super) fn check_files(settings: &Settings, output: &OutputOptions) -> Result<(), Failure> {
    check_stdout(settings, output)?;
    let mut places: Vec<(String, PathBuf)> = output
        .output
        .iter()
        .filter_map(OutputSpec::file)
        .map(|dest| (format!("-o dest={}", dest.display()), normalise(&settings.cwd.join(dest))))
        .collect();
    for (option, path) in [("--metadata-file", &output.metadata_file), ("--iidfile", &output.iidfile)] {
        let Some(path) = path.as_ref().filter(|path| !is_stdout(path)) else { continue };
        let place = settings.cwd.join(path);
        let own = format!("{option} {}", path.display());
        if let Some((other, _)) = places.iter().find(|(_, taken)| *taken == normalise(&place)) {
            let help = Some("give each a file of its own".to_owned());
            return Err(Failure::input(format!("`{own}` and `{other}` name one file"), help));
        }
        places.push((own, normalise(&place)));
        let refused = |what: String, help: &str| {
            Err(Failure::input(format!("{option} {}: {what}", path.display()), Some(help.to_owned())))
        };
        match place.parent() {
            _ if place.is_dir() => return refused("it is a folder".to_owned(), "name a file in it"),
            Some(folder) if !folder.is_dir() => {
                let help = format!("make it: `mkdir -p {}`", folder.display());
                return refused("its folder does not exist".to_owned(), &help);
            }
            // A file that is renamed to `/dev/null` would take its place, for everybody.
            _ if place.metadata().is_ok_and(|found| !found.is_file()) => {
                return refused("it is a device, pipe or socket".to_owned(), "name a file");
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Tells whether a file of ours is standard output.
fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Refuses that two things go to standard output, of which neither could be read.
fn check_stdout(settings: &Settings, output: &OutputOptions) -> Result<(), Failure> {
    let files = [("--metadata-file -", &output.metadata_file), ("--iidfile -", &output.iidfile)];
    let is_there = |path: &Option<PathBuf>| path.as_deref().is_some_and(is_stdout);
    let mut there: Vec<&str> =
        files.iter().filter(|(_, path)| is_there(path)).map(|(option, _)| *option).collect();
    if there.is_empty() {
        return Ok(());
    }
    let archive = output.output.iter().any(OutputSpec::is_stdout);
    there.extend(archive.then_some("-o dest=-"));
    there.extend((settings.display.mode == ProgressMode::Quiet && !archive).then_some("--quiet"));
    match there.as_slice() {
        [one, other, ..] => Err(Failure::input(
            format!("`{one}` and `{other}` both write to standard output"),
            Some("give one of them a file; progress goes to stderr, `2>/dev/null` hides it".to_owned()),
        )),
        [_] | [] => Ok(()),
    }
}

/// Hands images over: with `--load` all that were saved, else those at `loads`, places among the last `count` results. Of an
/// index that is the image for this machine.
pub(super) async fn load(
    bench: &Workbench,
    output: &OutputOptions,
    result: &SolveResult,
    (count, loads): (usize, &[usize]),
    mut notes: Vec<String>,
) -> Result<Loaded, Failure> {
    let first = result.exports.len().saturating_sub(count);
    let mut images: Vec<LoadedImage> = Vec::new();
    for (place, export) in result.exports.iter().enumerate() {
        let ExportResult::Image { names, descriptor, platforms, destination: None, .. } = export else {
            continue;
        };
        let is_named = place >= first && loads.contains(&(place - first));
        if !is_named && output.load.is_none() {
            continue;
        }
        let descriptor = match platforms.as_slice() {
            [] => descriptor.clone(),
            all => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                let host = Platform::host();
                notes.push(format!("{}: of {}, {host} alone is loaded", names.join(", "), all.join(", ")));
                bench.engine.image_for(descriptor, &host)?
            }
        };
        match images.iter_mut().find(|image| image.descriptor.digest() == descriptor.digest()) {
            Some(image) => {
                image.names.extend(names.iter().cloned());
                image.names.sort();
                image.names.dedup();
            }
            None => images.push(LoadedImage { names: names.clone(), descriptor }),
        }
    }
    if images.is_empty() {
        return match output.load {
            None => Ok(Loaded { report: None, notes }),
            Some(_) => Err(Failure::input(
                "--load: the build saves no image",
                Some(
                    "`SAVE IMAGE NAME` in the target gives one; `-o type=docker,name=NAME` loads any target"
                        .to_owned(),
                ),
            )),
        };
    }
    let loader = match output.load {
        None | Some(LoadChoice::Auto) => None,
        Some(LoadChoice::Docker) => Some(Loader::Docker),
        Some(LoadChoice::Podman) => Some(Loader::Podman),
        Some(LoadChoice::Containerd) => Some(Loader::Containerd),
    };
    let places = load_places(loader);
    let kill = KillSwitch::new();
    // Dropping the future, as a signal does, ends what was started.
    let _guard = KillOnDrop(kill.clone());
    let (engine, outside) = (Arc::clone(&bench.engine), Arc::clone(&bench.outside));
    let task = tokio::task::spawn_blocking(move || engine.hand_over(&images, &places, &outside, &kill));
    match task.await {
        Ok(done) => Ok(Loaded { report: Some(done?), notes }),
        Err(error) => Err(Failure::environment("a thread that loads images died", &error)),
    }
}

/// Returns where to look for who keeps images.
fn load_places(loader: Option<Loader>) -> LoadPlaces {
    let text = |name| Environment::pass_on(name).and_then(|value| value.into_string().ok());
    LoadPlaces {
        loader,
        docker_host: super::docker::host(),
        runtime_directory: text("XDG_RUNTIME_DIR").map(Into::into),
        containerd_address: text("CONTAINERD_ADDRESS").filter(|address| !address.is_empty()),
    }
}

/// Tells whether a Docker can be handed images.
pub(super) fn has_docker() -> bool {
    load_places(None).has_docker()
}

struct KillOnDrop(KillSwitch);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Tells what was handed over.
pub(super) fn tell(settings: &Settings, Loaded { report, notes }: Loaded) {
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        notes.iter().for_each(|note| report::tell(&format!("  {note}\n")));
    }
    let Some(LoadReport { loader, layers }) = report else { return };
    let name = loader.name();
    match settings.display.mode {
        ProgressMode::Plain | ProgressMode::Live => report::tell(&match layers {
            Some((sent, there)) => {
                format!("  loaded into {name}: layers sent {sent}, there before {there}\n")
            }
            None => format!("  loaded into {name}\n"),
        }),
        ProgressMode::Json => {
            let (sent, there) = layers.unzip();
            let line = json!({"event": "loaded", "into": name, "layers_sent": sent, "layers_there": there});
            report::tell(&format!("{line}\n"));
        }
        ProgressMode::RawJson | ProgressMode::Quiet => {}
    }
}

/// Writes what other programs are to know; `more` is what the metadata file says beside images.
pub(super) fn write_files(
    settings: &Settings,
    output: &OutputOptions,
    result: &SolveResult,
    more: Map<String, Value>,
) -> Result<(), Failure> {
    if let Some(path) = &output.metadata_file {
        let mut told = told_of(&result.exports);
        told.extend(more);
        let text = format!("{:#}\n", Value::Object(told));
        write(settings, path, &text)?;
    }
    if let Some(path) = &output.iidfile {
        let Some(ExportResult::Image { config, digest, .. }) =
            result.exports.iter().rev().find(|export| matches!(export, ExportResult::Image { .. }))
        else {
            let help = "`SAVE IMAGE NAME` in the target gives one, `-o type=image,name=NAME` makes one of any target";
            return Err(Failure::input("--iidfile: the build makes no image", Some(help.to_owned())));
        };
        // An index has no config; as buildx, its own digest then.
        let id = config.unwrap_or(*digest).to_string();
        write(settings, path, &if is_stdout(path) { format!("{id}\n") } else { id })?;
    }
    Ok(())
}

/// Writes of several builds what other programs are to know of each, by its name, and `more` beside them.
pub(super) fn write_metadata<'a>(
    settings: &Settings,
    path: &Path,
    builds: impl IntoIterator<Item = (&'a str, &'a [ExportResult], Map<String, Value>)>,
    more: Map<String, Value>,
) -> Result<(), Failure> {
    let told = |(name, exports, more): (&str, &[ExportResult], _)| {
        let mut told = told_of(exports);
        told.extend(more);
        (name.to_owned(), told.into())
    };
    let told: Map<String, Value> = builds.into_iter().map(told).chain(more).collect();
    write(settings, path, &format!("{:#}\n", Value::Object(told)))
}

/// Returns what is told of one build. Flat, as others write it, is the image that was asked for: what a target BUILDs comes
/// before its own.
fn told_of(exports: &[ExportResult]) -> Map<String, Value> {
    let images: Vec<Map<String, Value>> = exports.iter().filter_map(metadata).collect();
    let mut all = images.last().cloned().unwrap_or_default();
    all.remove("destination");
    all.insert("rb.images".to_owned(), images.into_iter().map(Value::Object).collect());
    all
}

/// Returns what is known of an image, by the names that buildx uses.
fn metadata(export: &ExportResult) -> Option<Map<String, Value>> {
    let ExportResult::Image { names, digest, descriptor, config, platforms: _, size_bytes: _, destination } =
        export
    else {
        return None;
    };
    let mut map = Map::new();
    if let Some(config) = config {
        map.insert("containerimage.config.digest".to_owned(), config.to_string().into());
    }
    map.insert("containerimage.descriptor".to_owned(), described(descriptor));
    map.insert("containerimage.digest".to_owned(), digest.to_string().into());
    if !names.is_empty() {
        map.insert("image.name".to_owned(), names.join(",").into());
    }
    if let Some(destination) = destination {
        map.insert("destination".to_owned(), destination.display().to_string().into());
    }
    Some(map)
}

fn described(descriptor: &Descriptor) -> Value {
    let mut value = json!({
        "mediaType": descriptor.media_type().to_string(),
        "digest": descriptor.digest().to_string(),
        "size": descriptor.size(),
    });
    if let Some(annotations) = descriptor.annotations() {
        // A map of JSON is sorted.
        value["annotations"] =
            annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>().into();
    }
    value
}

/// Writes a text where it is to go: to a file, or to standard output.
fn write(settings: &Settings, path: &Path, text: &str) -> Result<(), Failure> {
    match is_stdout(path) {
        true => report::print(text.as_bytes()),
        false => write_whole(&settings.cwd.join(path), text.as_bytes()),
    }
}

/// Writes a file beside its place and renames it: that which a symlink leads to, and the symlink stays.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::environment(&format!("cannot write {}", path.display()), &error);
    // What is not there yet leads nowhere.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = target.as_path();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.rb-{}", std::process::id()));
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // Best effort: the error that is told is the one that made it useless.
        std::fs::remove_file(&beside).ok();
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;

    use super::*;

    #[test]
    fn an_image_is_told_of_in_the_words_of_buildx() {
        let digest = Digest::of("manifest");
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7,
            "annotations": {"b": "2", "a": "1"},
        });
        let export = ExportResult::Image {
            names: vec!["a:1".to_owned(), "b:2".to_owned()],
            digest,
            descriptor: serde_json::from_value(descriptor.clone()).expect("a descriptor"),
            config: Some(Digest::of("config")),
            platforms: Vec::new(),
            size_bytes: 9,
            destination: Some("-".into()),
        };
        let told = Value::Object(metadata(&export).expect("an image"));
        assert_eq!(
            told,
            json!({
                "containerimage.config.digest": Digest::of("config"),
                "containerimage.descriptor": descriptor,
                "containerimage.digest": digest,
                "image.name": "a:1,b:2",
                "destination": "-",
            })
        );
        let tar = ExportResult::Tar { destination: "-".into(), size_bytes: 1 };
        assert_eq!(metadata(&tar), None);
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_whole(&dir.path().join("meta.json"), b"{}").expect("writes");
        std::fs::create_dir(dir.path().join("taken")).expect("makes");
        write_whole(&dir.path().join("taken"), b"{}").expect_err("is a folder");
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .expect("lists")
            .map(|entry| entry.expect("lists").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["meta.json", "taken"]);
    }

    #[test]
    fn a_link_to_a_file_stays_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "before").expect("writes");
        std::os::unix::fs::symlink("file", at("link")).expect("links");
        write_whole(&at("link"), b"after").expect("writes");
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read(at("file")).expect("reads"), b"after");
    }
}
