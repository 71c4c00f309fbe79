//! `rb image push`, `rb image copy`: images to other places.
//!
//! stdout gets what the image is there (`NAME@sha256:…`, or JSON); stderr, what it took.

use rb_api::PushedImage;
use rb_engine::{Copied, EngineError, Place, PlaceError, Platforms};
use rb_oci::{MediaTypes, Platform, Reference};
use serde_json::{Value, json};

use super::super::run::Shown;
use super::super::workbench::Workbench;
use crate::args::{ImageCopyArgs, ImagePushArgs, TypesChoice};
use crate::report::summary::{pushed_json, pushed_line};
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Pushes an image of the store.
pub(super) fn push(settings: &Settings, bench: &Workbench, args: &ImagePushArgs) -> Result<(), Failure> {
    let own = std::slice::from_ref(&args.image);
    let names = if args.names.is_empty() { own } else { &args.names[..] };
    let to = names.iter().map(|name| target(name, args)).collect::<Result<Vec<_>, _>>()?;
    let platforms = platforms(args.platform.as_ref(), args.all_platforms, Platforms::All);
    let shown = Shown::default();
    let events = shown.sink(settings.display, &format!("push {}", args.image));
    let pushed =
        bench.run(async { Ok(bench.engine.push_image(&args.image, &to, &platforms, &events).await) });
    shown.finish();
    tell(settings, args.json, &pushed?.map_err(|error| about(&args.image, error))?)
}

/// Reads a name to push to: `docker://` may stand before it, as elsewhere.
fn target(name: &str, args: &ImagePushArgs) -> Result<Reference, Failure> {
    let bare = name.strip_prefix("docker://").unwrap_or(name);
    let help = args.names.is_empty().then(|| {
        let image = &args.image;
        format!("name where it goes: `rb image push {image} REGISTRY/NAME:TAG`")
    });
    bare.parse().map_err(|error: rb_oci::ReferenceError| Failure::input(error.to_string(), help))
}

/// Copies an image from anywhere to anywhere.
pub(super) fn copy(settings: &Settings, bench: &Workbench, args: &ImageCopyArgs) -> Result<(), Failure> {
    let from = place(settings, &args.from)?;
    let to = place(settings, &args.to)?;
    let is_stream = |place: &Place| matches!(place, Place::Archive { file, .. } if file.as_os_str() == "-");
    if is_stream(&to) && report::is_terminal() {
        let help = "send it to a file or a program".to_owned();
        return Err(Failure::input("`-` (standard output) is a terminal", Some(help)));
    }
    // An index of the store was kept whole on purpose; of others' there may be a dozen platforms that nobody wants.
    let otherwise = match &from {
        Place::Store(_) => Platforms::All,
        Place::Registry(_) | Place::Layout { .. } | Place::Archive { .. } => {
            Platforms::Nearest(Platform::host())
        }
    };
    let platforms = platforms(args.platform.as_ref(), args.all, otherwise);
    let shown = Shown::default();
    let events = shown.sink(settings.display, &format!("copy {}", args.from));
    let types = args.format.map(|choice| match choice {
        TypesChoice::Oci => MediaTypes::Oci,
        TypesChoice::Docker => MediaTypes::Docker,
    });
    let copied =
        bench.run(async { Ok(bench.engine.copy_image(&from, &to, &platforms, types, &events).await) });
    shown.finish();
    let Copied { digest, pushed, is_dockers } = copied?.map_err(|error| about(&args.from, error))?;
    let is_layout = matches!(to, Place::Layout { .. });
    if is_dockers && is_layout && types.is_none() && settings.display.mode != ProgressMode::Quiet {
        let hint = "is of Docker's media types, which umoci does not read in a layout: `--format oci` translates them";
        report::tell(&format!("{} {hint}\n", args.from));
    }
    if is_stream(&to) {
        // The archive is all there is on stdout.
        if settings.display.mode != ProgressMode::Quiet {
            report::tell(&format!("{digest}\n"));
        }
        return Ok(());
    }
    if !pushed.is_empty() {
        return tell(settings, args.json, &pushed);
    }
    if args.json {
        let value = json!({ "name": args.to, "digest": digest.to_string() });
        return report::print(format!("{value:#}\n").as_bytes());
    }
    report::print(format!("{digest}\n").as_bytes())
}

fn platforms(named: Option<&Platform>, all: bool, otherwise: Platforms) -> Platforms {
    match named {
        _ if all => Platforms::All,
        Some(platform) => Platforms::One(platform.clone()),
        None => otherwise,
    }
}

/// Reads a place; paths are those of the working directory.
pub(super) fn place(settings: &Settings, text: &str) -> Result<Place, Failure> {
    let place: Place = text.parse().map_err(|error: PlaceError| Failure::input(error.to_string(), None))?;
    Ok(match place {
        Place::Layout { folder, name } => Place::Layout { folder: settings.cwd.join(folder), name },
        Place::Archive { file, name } if file.as_os_str() != "-" => {
            Place::Archive { file: settings.cwd.join(file), name }
        }
        place @ (Place::Store(_) | Place::Registry(_) | Place::Archive { .. }) => place,
    })
}

/// Tells what was pushed.
fn tell(settings: &Settings, json: bool, pushed: &[PushedImage]) -> Result<(), Failure> {
    if json {
        let values = pushed.iter().map(pushed_json).collect();
        return report::print(format!("{:#}\n", Value::Array(values)).as_bytes());
    }
    for image in pushed {
        if settings.display.mode != ProgressMode::Quiet {
            report::tell(&format!("{}\n", pushed_line(image)));
        }
        let name = image.name.split('@').next().unwrap_or_default();
        report::print(format!("{name}@{}\n", image.digest).as_bytes())?;
    }
    Ok(())
}

/// Says which image of a registry could not be looked at.
pub(in crate::commands) fn about(name: &str, error: EngineError) -> Failure {
    let failure = Failure::from(error);
    match failure {
        Failure::Said { kind, message, help } if !message.contains(name) => {
            Failure::Said { kind, message: format!("{name}: {message}"), help }
        }
        failure => failure,
    }
}
