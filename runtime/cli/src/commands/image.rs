//! `rb image`: the images of the store, and those of registries and archives.

mod files;
mod transfer;

use rb_engine::{EngineError, ImageDetails, Place};
use rb_oci::{Descriptor, Digest, Platform};
use rb_store::ImageRow;
use serde_json::{Value, json};

use super::pull;
use super::record::Asked;
use super::table::{table, utc};
use super::workbench::Workbench;
use crate::args::{ImageCommand, ImageInspectArgs, ImageLsArgs, ListFormat};
use crate::progress::human_bytes;
use crate::report::{self, Failure};
use crate::settings::Settings;
pub(super) use transfer::about;

/// Returns the word that a subcommand is called by.
fn word(command: &ImageCommand) -> &'static str {
    match command {
        ImageCommand::Ls(_) => "ls",
        ImageCommand::Inspect(_) => "inspect",
        ImageCommand::Tag { .. } => "tag",
        ImageCommand::Pull(_) => "pull",
        ImageCommand::Push(_) => "push",
        ImageCommand::Copy(_) => "copy",
        ImageCommand::Save(_) => "save",
        ImageCommand::Load(_) => "load",
        ImageCommand::Unpack { .. } => "unpack",
        ImageCommand::Rm { .. } => "rm",
    }
}

/// Does one of the subcommands.
pub(super) fn execute(settings: &Settings, command: &ImageCommand) -> Result<u8, Failure> {
    let bench = Workbench::open(settings, Asked::of("image", word(command)), None)?;
    let engine = &bench.engine;
    match command {
        ImageCommand::Ls(args) => list(engine.images()?, args)?,
        ImageCommand::Inspect(args) => inspect(settings, &bench, args)?,
        ImageCommand::Tag { image, name } => engine.tag_image(image, name)?,
        ImageCommand::Pull(args) => pull::pull(settings, &bench, args)?,
        ImageCommand::Push(args) => transfer::push(settings, &bench, args)?,
        ImageCommand::Copy(args) => transfer::copy(settings, &bench, args)?,
        ImageCommand::Save(args) => files::save(settings, &bench, args)?,
        ImageCommand::Load(args) => files::load(settings, &bench, args)?,
        ImageCommand::Unpack { platform, image, folder } => {
            files::unpack(settings, &bench, image, platform.as_ref(), folder)?;
        }
        ImageCommand::Rm { force, images } => {
            // One that is unknown does not keep the others.
            let mut failure = None;
            for name in images {
                match engine.remove_image(name, *force) {
                    Ok(names) => {
                        names.iter().try_for_each(|name| report::print(format!("{name}\n").as_bytes()))?;
                    }
                    Err(EngineError::NoSuchImage { .. }) if *force => {}
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
    }
    bench.close();
    Ok(0)
}

/// Lists images.
fn list(rows: Vec<ImageRow>, args: &ImageLsArgs) -> Result<(), Failure> {
    let mut patterns: Vec<&str> = args.pattern.iter().map(String::as_str).collect();
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("reference", pattern)) => patterns.push(pattern),
            _ => {
                let help = "there is `reference=PATTERN`, such as `reference=ghcr.io/team/*`".to_owned();
                return Err(Failure::input(format!("`--filter {filter}` is unknown"), Some(help)));
            }
        }
    }
    let fits = |row: &ImageRow| patterns.iter().all(|pattern| is_like(pattern, &row.name));
    let rows: Vec<ImageRow> = rows.into_iter().filter(fits).collect();
    let text = if args.quiet {
        rows.iter().map(|row| format!("{}\n", row.descriptor.digest())).collect()
    } else if args.json || args.format == ListFormat::Json {
        format!("{:#}\n", Value::Array(rows.iter().map(row_json).collect()))
    } else {
        row_table(&rows, args.digests)
    };
    report::print(text.as_bytes())
}

/// Says whether a name fits a pattern: `*` is any text without `/`, `?` any letter. Without a tag it fits all tags, and what
/// docker fills in may be there or not.
fn is_like(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix("docker.io/").unwrap_or(pattern);
    let pattern = pattern.strip_prefix("library/").unwrap_or(pattern);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let untagged = name[last..].find(':').map_or(name, |colon| &name[..last + colon]);
    matches(pattern.as_bytes(), name.as_bytes()) || matches(pattern.as_bytes(), untagged.as_bytes())
}

/// Matches without going back further than to the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while at < text.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(letter) if *letter == text[at] || (*letter == b'?' && text[at] != b'/') => {
                (at, of) = (at + 1, of + 1);
            }
            _ => match star {
                Some((begin, end)) if text[end] != b'/' => {
                    star = Some((begin, end + 1));
                    (at, of) = (end + 1, begin + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[of..].iter().all(|letter| *letter == b'*')
}

/// Looks into images, here or elsewhere.
fn inspect(settings: &Settings, bench: &Workbench, args: &ImageInspectArgs) -> Result<(), Failure> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let mut values = Vec::new();
    for name in &args.images {
        let text = match args.remote && !name.contains("://") {
            true => format!("docker://{name}"),
            false => name.clone(),
        };
        let place: Place = transfer::place(settings, &text)?;
        if args.raw {
            let raw = bench.run(async {
                bench.engine.raw_image(&place).await.map_err(|error| transfer::about(name, error))
            });
            report::print(&raw?)?;
            continue;
        }
        let details = bench.run(async {
            let found = bench.engine.details_of(&place, &platform).await;
            found.map_err(|error| transfer::about(name, error))
        });
        values.push(details_json(&details?)?);
    }
    if args.raw {
        return Ok(());
    }
    report::print(format!("{:#}\n", Value::Array(values)).as_bytes())
}

fn row_table(rows: &[ImageRow], whole: bool) -> String {
    let mut cells = vec![["NAME", "DIGEST", "CREATED (UTC)", "SIZE"].map(ToOwned::to_owned).to_vec()];
    for row in rows {
        let digest = row.descriptor.digest().to_string();
        let shown = match digest.parse::<Digest>() {
            Ok(digest) if !whole => digest.short(),
            _ => digest,
        };
        cells.push(vec![row.name.clone(), shown, utc(row.created_unix), human_bytes(row.size_bytes)]);
    }
    table(&cells, &[3])
}

fn row_json(row: &ImageRow) -> Value {
    json!({
        "name": row.name,
        "digest": row.descriptor.digest().to_string(),
        "created": utc(row.created_unix).replace(' ', "T") + "Z",
        "size_bytes": row.size_bytes,
    })
}

fn details_json(details: &ImageDetails) -> Result<Value, Failure> {
    let config = serde_json::to_value(&details.config)
        .map_err(|error| Failure::environment("the image's config cannot be shown", &error))?;
    let descriptor = |descriptor: &Descriptor| {
        json!({
            "mediaType": descriptor.media_type().to_string(),
            "digest": descriptor.digest().to_string(),
            "size": descriptor.size(),
        })
    };
    let mut value = json!({
        "names": details.names,
        "manifest": descriptor(&details.manifest),
        "config": config,
        "layers": details.layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    if let Some(index) = &details.index {
        value["index"] = descriptor(index);
        value["platforms"] = json!(details.platforms);
    }
    if !details.attestations.is_empty() {
        let attestation = |found: &Descriptor| {
            let mut told = descriptor(found);
            let kind = found.annotations().as_ref().and_then(|all| all.get("in-toto.io/predicate-type"));
            told["predicateType"] = json!(kind);
            told
        };
        value["attestations"] = details.attestations.iter().map(attestation).collect();
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, size_bytes: u64) -> ImageRow {
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(name).to_string(),
            "size": 400,
        });
        let descriptor = serde_json::from_value(descriptor).expect("a descriptor");
        ImageRow { name: name.to_owned(), descriptor, created_unix: 1_587_038_400, size_bytes }
    }

    #[test]
    fn patterns_of_names() {
        for (pattern, name, expected) in [
            ("app", "app:latest", true),
            ("app:1*", "app:1.2", true),
            ("ap?:*", "app:1", true),
            ("docker.io/library/app", "app:1", true),
            ("*", "team/app:1", false),
            ("*/app", "team/app:1", true),
            ("localhost:5000/*", "localhost:5000/app:1", true),
            ("localhost", "localhost:5000/app:1", false),
            ("ap", "app:1", false),
            ("**", "app:1", true),
            ("a*p*:*z", "app:1", false),
        ] {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn rows_for_people_and_for_programs() {
        let rows = [row("hello:latest", 16_200), row("registry.example.org/team/app:v1", 1_500_000_000)];
        insta::assert_snapshot!(row_table(&rows, false));
        assert!(row_table(&rows, true).contains(&Digest::of("hello:latest").to_string()));
        let value = row_json(&rows[0]);
        assert_eq!(value["created"], "2020-04-16T12:00:00Z");
        assert_eq!(value["size_bytes"], 16_200);
    }
}
