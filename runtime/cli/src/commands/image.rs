//! `rb image`: the images of the store.

use rb_engine::{ImageDetails, SaveFormat};
use rb_oci::{Descriptor, Digest};
use rb_store::ImageRow;
use serde_json::{Value, json};

use super::table::{table, utc};
use super::workbench::Workbench;
use crate::args::{ImageCommand, ListFormat, SaveChoice};
use crate::progress::human_bytes;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// Does one of the subcommands.
pub(super) fn execute(settings: &Settings, command: &ImageCommand) -> Result<u8, Failure> {
    if let ImageCommand::Save { output, .. } = command
        && output.as_os_str() == "-"
    {
        return Err(Failure::input("`-o -` (standard output) is not supported: name a file", None));
    }
    let bench = Workbench::open(settings, None)?;
    let engine = &bench.engine;
    match command {
        ImageCommand::Ls { json, format, quiet } => {
            let rows = engine.images()?;
            let text = if *quiet {
                rows.iter().map(|row| format!("{}\n", row.descriptor.digest())).collect()
            } else if *json || *format == ListFormat::Json {
                format!("{:#}\n", Value::Array(rows.iter().map(row_json).collect()))
            } else {
                row_table(&rows)
            };
            report::print(text.as_bytes())?;
        }
        ImageCommand::Inspect { images } => {
            let details =
                images.iter().map(|name| engine.inspect_image(name)).collect::<Result<Vec<_>, _>>()?;
            let values = details.iter().map(details_json).collect::<Result<Vec<_>, _>>()?;
            report::print(format!("{:#}\n", Value::Array(values)).as_bytes())?;
        }
        ImageCommand::Save { output, format, images } => {
            let format = match format {
                SaveChoice::OciArchive => SaveFormat::OciTar,
                SaveChoice::OciDir => SaveFormat::OciDirectory,
            };
            engine.save_image(images, format, &settings.cwd.join(output))?;
        }
        ImageCommand::Rm { images } => {
            // One that is unknown does not keep the others.
            let mut failure = None;
            for name in images {
                match engine.remove_image(name) {
                    Ok(()) => report::print(format!("{name}\n").as_bytes())?,
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

fn row_table(rows: &[ImageRow]) -> String {
    let mut cells = vec![["NAME", "DIGEST", "CREATED (UTC)", "SIZE"].map(ToOwned::to_owned).to_vec()];
    for row in rows {
        let digest = row.descriptor.digest().to_string();
        let short = digest.parse::<Digest>().map_or(digest, |digest| digest.short());
        cells.push(vec![row.name.clone(), short, utc(row.created_unix), human_bytes(row.size_bytes)]);
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
    Ok(json!({
        "names": details.names,
        "manifest": descriptor(&details.manifest),
        "config": config,
        "layers": details.layers.iter().map(descriptor).collect::<Vec<_>>(),
    }))
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
    fn rows_for_people_and_for_programs() {
        let rows = [row("hello:latest", 16_200), row("registry.example.org/team/app:v1", 1_500_000_000)];
        insta::assert_snapshot!(row_table(&rows));
        let value = row_json(&rows[0]);
        assert_eq!(value["created"], "2020-04-16T12:00:00Z");
        assert_eq!(value["size_bytes"], 16_200);
    }
}
