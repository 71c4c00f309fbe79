//! What a finished build tells: what ran, what was there already, what was written where.

use std::path::Path;
use std::time::Duration;

use rb_api::{CacheWritten, ExportResult, PushedImage, SolveResult, Summary};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::fancy::visible;
use crate::progress::{human_bytes, human_duration};

/// Returns the lines for stderr, the summary first. Of a build in which something failed it is not said that there was
/// nothing to do.
pub(crate) fn text(title: &str, result: &SolveResult, failed: bool, elapsed: Duration, cwd: &Path) -> String {
    let headline = headline(&visible(title), &result.summary, failed, elapsed);
    let caches: String = result.caches.iter().map(|cache| format!("  {}\n", cache_line(cache))).collect();
    format!("{headline}\n{}{caches}", written(&result.exports, &result.pushed, cwd))
}

/// Returns the lines of what a build wrote and pushed before it failed, which stays; nothing where there was nothing.
pub(crate) fn before_failure(exports: &[ExportResult], pushed: &[PushedImage], cwd: &Path) -> String {
    match written(exports, pushed, cwd) {
        lines if lines.is_empty() => lines,
        lines => format!("done before the failure:\n{lines}"),
    }
}

/// Returns the same for programs.
pub(crate) fn before_failure_json(exports: &[ExportResult], pushed: &[PushedImage]) -> String {
    if exports.is_empty() && pushed.is_empty() {
        return String::new();
    }
    let line = json!({
        "event": "before_failure", "exports": exports.iter().map(export_json).collect::<Vec<_>>(),
        "pushed": pushed.iter().map(pushed_json).collect::<Vec<_>>(),
    });
    format!("{line}\n")
}

fn written(exports: &[ExportResult], pushed: &[PushedImage], cwd: &Path) -> String {
    let exports = exports.iter().filter_map(|export| export_line(export, cwd));
    let lines = exports.map(|line| visible(&line)).chain(pushed.iter().map(pushed_line));
    lines.map(|line| format!("  {line}\n")).collect()
}

/// Breaks lines that a terminal of so many columns would break anywhere at the gaps between their parts.
pub(crate) fn folded(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let indent = if line.starts_with("  ") { "  " } else { "" };
        let mut used = 0;
        for (at, part) in line.trim_start().split("  ").enumerate() {
            let needs = part.width();
            if at > 0 && used + 2 + needs > columns {
                out.push_str("\n    ");
                used = 4;
            } else {
                let gap = if at == 0 { indent } else { "  " };
                out.push_str(gap);
                used += gap.len();
            }
            out.push_str(part);
            used += needs;
        }
        out.push('\n');
    }
    out
}

/// Returns the line for images that are marked `--push` in a build without it.
pub(crate) fn not_pushed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("  not pushed: {}; give --push\n", visible(&names.join(", "))),
    }
}

/// Returns the lines for steps that are marked `--push` in a build without it.
pub(crate) fn not_run(steps: &[String]) -> String {
    steps.iter().map(|step| format!("  not run: {}; give --push\n", visible(step))).collect()
}

/// Returns the summary line.
fn headline(title: &str, summary: &Summary, failed: bool, elapsed: Duration) -> String {
    let elapsed = human_duration(elapsed);
    let there = summary.cached + summary.skipped;
    match (summary.executed, there) {
        (0, 0) => format!("built {title} in {elapsed}: no steps"),
        (0, there) if failed => format!("built {title} in {elapsed}: 0 steps run, {there} cached"),
        (0, 1) => format!("nothing to do: the one step is cached ({elapsed})"),
        (0, there) => format!("nothing to do: all {there} steps cached ({elapsed})"),
        (1, there) => format!("built {title} in {elapsed}: 1 step run, {there} cached"),
        (executed, there) => format!("built {title} in {elapsed}: {executed} steps run, {there} cached"),
    }
}

/// Returns a path as the user says it.
pub(crate) fn place(path: &Path, cwd: &Path) -> String {
    match path.strip_prefix(cwd) {
        Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
        Ok(inside) => inside.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

fn export_line(export: &ExportResult, cwd: &Path) -> Option<String> {
    let at = |path: &Path| place(path, cwd);
    match export {
        ExportResult::Image { names, destination: None, .. } if names.is_empty() => None,
        ExportResult::Image { names, digest, size_bytes, destination, platforms, .. } => {
            let mut line = "image".to_owned();
            if !names.is_empty() {
                line = format!("{line} {}", names.join(", "));
            }
            if let Some(destination) = destination {
                line = format!("{line} -> {}", at(destination));
            }
            line = format!("{line}  {digest}  {}", human_bytes(*size_bytes));
            if !platforms.is_empty() {
                let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
                line = format!("{line}  ({})", platforms.join(", "));
            }
            Some(line)
        }
        ExportResult::Local { destination, written, total } => Some(match (written, total) {
            (_, 0) => format!("{} left as it was: nothing was there to write", at(destination)),
            (0, _) => format!("{} is up to date", at(destination)),
            (_, 1) => format!("wrote {}", at(destination)),
            (written, total) => format!("wrote {} ({written} of {total} entries)", at(destination)),
        }),
        ExportResult::Tar { destination, size_bytes } => {
            Some(format!("wrote {} ({})", at(destination), human_bytes(*size_bytes)))
        }
    }
}

/// Tells whether something was written to the client's stream.
pub(crate) fn is_streamed(result: &SolveResult) -> bool {
    let is_stream = |path: &Path| path.as_os_str() == "-";
    result.exports.iter().any(|export| match export {
        ExportResult::Image { destination, .. } => destination.as_deref().is_some_and(is_stream),
        ExportResult::Local { .. } => false,
        ExportResult::Tar { destination, .. } => is_stream(destination),
    })
}

/// Returns the line of a name that was pushed.
pub(crate) fn pushed_line(image: &PushedImage) -> String {
    let PushedImage { name, digest, sent, sent_bytes, mounted, existed } = image;
    let blobs = |count: usize| if count == 1 { "1 blob".to_owned() } else { format!("{count} blobs") };
    let mut parts = Vec::new();
    if *sent > 0 {
        parts.push(format!("{} sent, {}", blobs(*sent), human_bytes(*sent_bytes)));
    }
    if *mounted > 0 {
        parts.push(format!("{} taken over from another repository", blobs(*mounted)));
    }
    if *existed > 0 || parts.is_empty() {
        parts.push(format!("{} were there", blobs(*existed)));
    }
    let name = name.split('@').next().unwrap_or_default();
    visible(&format!("pushed {name}  {digest}  ({})", parts.join("; ")))
}

/// Returns the same for programs.
pub(crate) fn pushed_json(image: &PushedImage) -> Value {
    let PushedImage { name, digest, sent, sent_bytes, mounted, existed } = image;
    json!({
        "name": name, "digest": digest.to_string(), "sent": sent, "sent_bytes": sent_bytes, "mounted": mounted,
        "existed": existed,
    })
}

/// Returns the line of a cache that was written, or was to be.
fn cache_line(cache: &CacheWritten) -> String {
    let CacheWritten { place, digest: _, holds, failed } = cache;
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    visible(&match (failed, holds) {
        (Some(why), _) => format!("cache  {place}  not written: {why}"),
        (None, Some((records, layers))) => {
            format!("cache  {place}  {} in {}", count(*records, "result"), count(*layers, "layer"))
        }
        (None, None) => format!("cache  {place}  written"),
    })
}

fn cache_json(cache: &CacheWritten) -> Value {
    let CacheWritten { place, digest, holds, failed } = cache;
    let (records, layers) = holds.unzip();
    json!({
        "place": place, "digest": digest.map(|digest| digest.to_string()), "results": records, "layers": layers,
        "failed": failed,
    })
}

/// Returns the digests of the images, one a line, for `--quiet`.
pub(crate) fn digests(result: &SolveResult) -> String {
    let mut digests = Vec::new();
    for export in &result.exports {
        if let ExportResult::Image { digest, .. } = export
            && !digests.contains(digest)
        {
            digests.push(*digest);
        }
    }
    digests.iter().map(|digest| format!("{digest}\n")).collect()
}

/// Returns one line of JSON.
pub(crate) fn json(title: &str, result: &SolveResult, elapsed: Duration) -> String {
    let exports: Vec<Value> = result.exports.iter().map(export_json).collect();
    let Summary { executed, cached, skipped } = result.summary;
    let line = json!({
        "event": "summary", "target": title, "duration_ms": elapsed.as_millis() as u64,
        "executed": executed, "cached": cached, "skipped": skipped, "exports": exports,
        "pushed": result.pushed.iter().map(pushed_json).collect::<Vec<_>>(),
        "caches": result.caches.iter().map(cache_json).collect::<Vec<_>>(),
    });
    format!("{line}\n")
}

fn export_json(export: &ExportResult) -> Value {
    match export {
        ExportResult::Image { names, digest, size_bytes, destination, platforms, descriptor: _, config } => {
            json!({
                "type": "image", "names": names, "digest": digest.to_string(),
                "config": config.map(|config| config.to_string()), "size_bytes": size_bytes,
                "platforms": platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "destination": destination.as_ref().map(|path| path.display().to_string()),
            })
        }
        ExportResult::Local { destination, written, total } => json!({
            "type": "local", "destination": destination.display().to_string(), "found": *total > 0,
            "written": written, "total": total,
        }),
        ExportResult::Tar { destination, size_bytes } => json!({
            "type": "tar", "destination": destination.display().to_string(), "size_bytes": size_bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rb_oci::Digest;

    use super::*;

    fn result(executed: usize, cached: usize, skipped: usize, exports: Vec<ExportResult>) -> SolveResult {
        SolveResult {
            roots: Vec::new(),
            exports,
            pushed: Vec::new(),
            caches: Vec::new(),
            summary: Summary { executed, cached, skipped },
        }
    }

    fn first(executed: usize, cached: usize, skipped: usize) -> String {
        let text = text(
            "+app",
            &result(executed, cached, skipped, Vec::new()),
            false,
            Duration::from_millis(840),
            Path::new("/w"),
        );
        text.trim_end().to_owned()
    }

    #[test]
    fn what_ran_and_what_was_there() {
        assert_eq!(first(3, 0, 0), "built +app in 0.8s: 3 steps run, 0 cached");
        assert_eq!(first(1, 2, 4), "built +app in 0.8s: 1 step run, 6 cached");
        assert_eq!(first(0, 1, 2), "nothing to do: all 3 steps cached (0.8s)");
        assert_eq!(first(0, 1, 0), "nothing to do: the one step is cached (0.8s)");
        assert_eq!(first(0, 0, 0), "built +app in 0.8s: no steps");
        let failed = result(0, 2, 0, Vec::new());
        let told = text("1 of 2 targets", &failed, true, Duration::from_millis(840), Path::new("/w"));
        assert_eq!(told, "built 1 of 2 targets in 0.8s: 0 steps run, 2 cached\n");
    }

    #[test]
    fn long_lines_break_at_their_gaps() {
        let digest = Digest::of("image");
        let text =
            format!("built +app in 1s: 3 steps run, 0 cached\n  image app:latest  {digest}  16.2 kB\n");
        assert_eq!(folded(&text, 200), text);
        let at_80 = format!(
            "built +app in 1s: 3 steps run, 0 cached\n  image app:latest\n    {digest}\n    16.2 kB\n"
        );
        assert_eq!(folded(&text, 80), at_80);
    }

    #[test]
    fn what_was_written() {
        let image = |names: &[&str], destination: Option<&str>| ExportResult::Image {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            digest: Digest::of("image"),
            descriptor: serde_json::from_value(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": Digest::of("image"),
                "size": 400,
            }))
            .expect("a descriptor"),
            config: Some(Digest::of("config")),
            platforms: Vec::new(),
            size_bytes: 16_200,
            destination: destination.map(PathBuf::from),
        };
        let local = |written, total| ExportResult::Local { destination: "/w/out/app".into(), written, total };
        let result = result(
            1,
            0,
            0,
            vec![
                image(&["app:latest", "app:v1"], None),
                image(&[], None),
                image(&[], Some("/elsewhere/app.tar")),
                local(1, 1),
                local(2, 7),
                local(0, 7),
                local(0, 0),
                ExportResult::Tar { destination: "/w/fs.tar".into(), size_bytes: 512 },
            ],
        );
        insta::assert_snapshot!(text("+app", &result, false, Duration::from_secs(61), Path::new("/w")), @r"
        built +app in 1m01s: 1 step run, 0 cached
          image app:latest, app:v1  sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d  16.2 kB
          image -> /elsewhere/app.tar  sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d  16.2 kB
          wrote out/app
          wrote out/app (2 of 7 entries)
          out/app is up to date
          out/app left as it was: nothing was there to write
          wrote fs.tar (512 B)
        ");
        assert_eq!(digests(&result), format!("{}\n", Digest::of("image")));
        let line: Value =
            serde_json::from_str(&json("+app", &result, Duration::from_secs(61))).expect("JSON");
        assert_eq!(line["exports"].as_array().map(Vec::len), Some(8));
        assert_eq!(
            (&line["exports"][5]["found"], &line["exports"][6]["found"]),
            (&json!(true), &json!(false))
        );
    }
}
