//! `rb image save`, `load`, `unpack`: images as files, and files as images.
//!
//! In: names and paths, `-` for the standard streams. Out: files; on stdout what was loaded, unless an archive goes there.

use std::path::Path;
use std::sync::Arc;

use rb_engine::{EngineError, LocalEngine, SaveFormat};
use rb_oci::Platform;
use serde_json::{Value, json};

use super::super::run::Shown;
use super::super::workbench::Workbench;
use crate::args::{ImageLoadArgs, ImageSaveArgs, SaveChoice};
use crate::progress::human_bytes;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Saves images.
pub(super) fn save(settings: &Settings, bench: &Workbench, args: &ImageSaveArgs) -> Result<(), Failure> {
    let format = match args.format {
        SaveChoice::OciArchive | SaveChoice::DockerArchive => SaveFormat::OciTar,
        SaveChoice::OciDir => SaveFormat::OciDirectory,
    };
    let images = args.images.clone();
    if args.output.as_os_str() == "-" {
        if format == SaveFormat::OciDirectory {
            let help = "name a folder, or leave `--format` out".to_owned();
            return Err(Failure::input("`-o -` (standard output) takes an archive, no folder", Some(help)));
        }
        if report::is_terminal() {
            let help = "send it to a file or a program".to_owned();
            return Err(Failure::input("`-o -` (standard output) is a terminal", Some(help)));
        }
        return on_thread(bench, move |engine| engine.stream_image(&images, std::io::stdout().lock()));
    }
    let output = settings.cwd.join(&args.output);
    on_thread(bench, move |engine| engine.save_image(&images, format, &output))
}

/// Loads images.
pub(super) fn load(settings: &Settings, bench: &Workbench, args: &ImageLoadArgs) -> Result<(), Failure> {
    let (input, name) = (args.input.clone(), args.name.clone());
    let path = settings.cwd.join(&input);
    let is_stdin = input.as_os_str() == "-";
    if is_stdin && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let help = "name an archive with `-i FILE`, or send one".to_owned();
        return Err(Failure::input("standard input is a terminal", Some(help)));
    }
    if !is_stdin && !path.exists() {
        return Err(Failure::input(format!("`{}` does not exist", input.display()), None));
    }
    let loaded = on_thread(bench, move |engine| {
        if is_stdin {
            engine.load_stream(std::io::stdin().lock(), name.as_deref())
        } else {
            engine.load_archive(&path, name.as_deref())
        }
    })?;
    if args.json {
        let value =
            |image: &rb_engine::Loaded| json!({"names": image.names, "digest": image.digest.to_string()});
        let values = loaded.iter().map(value).collect();
        return report::print(format!("{:#}\n", Value::Array(values)).as_bytes());
    }
    for image in &loaded {
        for name in &image.names {
            report::print(format!("{name}\n").as_bytes())?;
        }
        if image.names.is_empty() {
            report::print(format!("{}\n", image.digest).as_bytes())?;
            if settings.display.mode != ProgressMode::Quiet {
                let hint = "the archive gives it no name: `rb image tag` does, or `--name`";
                report::tell(&format!("{}: {hint}\n", image.digest));
            }
        }
    }
    Ok(())
}

/// Writes the files of an image.
pub(super) fn unpack(
    settings: &Settings,
    bench: &Workbench,
    image: &str,
    platform: Option<&Platform>,
    folder: &Path,
) -> Result<(), Failure> {
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let destination = settings.cwd.join(folder);
    let shown = Shown::default();
    let events = shown.sink(settings.display, &format!("unpack {image}"));
    let written =
        bench.run(async { Ok(bench.engine.unpack_image(image, &platform, &destination, &events).await?) });
    shown.finish();
    let written = written?;
    if settings.display.mode != ProgressMode::Quiet {
        let (count, size) = (written.written, human_bytes(written.size_bytes));
        report::tell(&format!("wrote {} ({count} entries, {size})\n", folder.display()));
    }
    Ok(())
}

/// Does what waits for a disk, so that a signal ends it.
fn on_thread<T: Send + 'static>(
    bench: &Workbench,
    work: impl FnOnce(&LocalEngine) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, Failure> {
    let engine = Arc::clone(&bench.engine);
    bench.run(async {
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(Failure::environment("a thread died", &error)),
        }
    })
}
