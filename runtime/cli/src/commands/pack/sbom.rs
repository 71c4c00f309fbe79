//! `rb pack sbom download`: the bills of materials of an app's image.
//!
//! In: the name of an image. Out: the files of the one layer that holds them, below a folder; of an image in a registry only that
//! layer is fetched. **Invariant:** nothing is written outside of that folder, and links are not made.
//! Source: platform spec, "Software-Bill-of-Materials".

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rb_buildpacks::labels::{LIFECYCLE_METADATA, LifecycleMetadata};
use rb_engine::Place;
use rb_oci::Platform;
use rb_sources::packed::PackedKind;

use super::super::image::about;
use super::super::record::Asked;
use super::super::workbench::Workbench;
use super::images::reference;
use super::modules::{Content, EntryError, each};
use crate::args::PackSbomDownload;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// Writes the bills of materials of an image.
pub(super) fn download(settings: &Settings, args: &PackSbomDownload) -> Result<u8, Failure> {
    let bench = Workbench::open(settings, Asked::of("pack", format!("sbom {}", args.image)), None)?;
    let place = match args.remote {
        true => Place::Registry(reference(&args.image)?),
        false => Place::Store(args.image.clone()),
    };
    if !args.remote && !bench.engine.has_image(&args.image)? {
        let help = format!("of an image in a registry: `rb pack sbom download --remote {}`", args.image);
        return Err(Failure::input(format!("there is no image `{}` in the store", args.image), Some(help)));
    }
    let details = bench.run(async {
        let taken = bench.engine.take_image(&place, &Platform::host()).await;
        taken.map_err(|error| about(&args.image, error))
    })?;
    let none = || Failure::input(format!("`{}` has no bills of materials", args.image), None);
    let label = details.config.config.labels.get(LIFECYCLE_METADATA).ok_or_else(none)?;
    let metadata =
        LifecycleMetadata::parse(label).map_err(|error| Failure::input(error.to_string(), None))?;
    let sha = metadata.sbom.map(|layer| layer.sha).filter(|sha| !sha.is_empty()).ok_or_else(none)?;
    let at = details.config.rootfs.diff_ids.iter().position(|diff_id| diff_id.to_string() == sha);
    let layer = at.and_then(|at| details.layers.get(at).cloned().zip(details.config.rootfs.diff_ids.get(at)));
    let (layer, diff_id) = layer.ok_or_else(|| {
        Failure::input(format!("`{}` says that `{sha}` has them, and has no such layer", args.image), None)
    })?;
    let folder = settings.cwd.join(&args.output_dir);
    let mut written = Vec::new();
    let content = Content::Layer { layer: Box::new(layer), diff_id: *diff_id };
    each(&bench, &content, &mut |entry, bytes| {
        match entry.kind {
            PackedKind::Directory => {}
            PackedKind::File(_) => {
                write(&folder, &entry.path, bytes)?;
                written.push(folder.join(&entry.path));
            }
            PackedKind::Symlink(_) | PackedKind::HardLink(_) => {
                let reason =
                    format!("`{}` is a link, and bills of materials have none", entry.path.display());
                return Err(EntryError::Refused(reason));
            }
        }
        Ok(())
    })?;
    for path in &written {
        report::print(format!("{}\n", path.display()).as_bytes())?;
    }
    bench.close();
    Ok(0)
}

/// Writes a file below a folder. A link on its way, whoever made it, is not followed.
fn write(folder: &Path, path: &Path, bytes: &mut dyn io::Read) -> io::Result<()> {
    let mut place = folder.to_owned();
    fs::create_dir_all(&place)?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&place)?,
            Err(error) => return Err(error),
        }
    }
    let place = folder.join(path);
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    io::copy(bytes, &mut File::create_new(&place)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_not_followed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (folder, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&elsewhere).expect("makes it");
        write(&folder, Path::new("layers/sbom/x.json"), &mut &b"{}"[..]).expect("writes");
        assert_eq!(fs::read(folder.join("layers/sbom/x.json")).expect("is there"), b"{}");
        std::os::unix::fs::symlink(&elsewhere, folder.join("out")).expect("links");
        assert!(write(&folder, Path::new("out/x"), &mut &b"{}"[..]).is_err());
        std::os::unix::fs::symlink(elsewhere.join("y"), folder.join("y")).expect("links");
        write(&folder, Path::new("y"), &mut &b"{}"[..]).expect("in its place");
        assert!(fs::read_dir(&elsewhere).expect("reads").next().is_none());
    }
}
