//! Files of settings of pack's: `builder.toml`, `package.toml`.
//!
//! In: a path. Out: what it says, or all that is wrong in it, each with its line and a caret.

use std::path::Path;

use rb_buildpacks::Target;
use rb_buildpacks::distribution::Fault;
use rb_diag::{Diagnostic, SourceMap, Span};
use rb_oci::Platform;

use crate::codes::PACK;
use crate::report::Failure;
use crate::world::read_regular;

/// Largest file that is read.
const LIMIT_BYTES: u64 = 1 << 20;

/// Reads a file.
pub(super) fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Vec<Fault>>) -> Result<T, Failure> {
    let shown = path.display().to_string();
    let bytes = read_regular(path, LIMIT_BYTES)
        .map_err(|error| Failure::input(format!("`{shown}` {}", rb_diag::chain(&error)), None))?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::input(format!("`{shown}` is not UTF-8"), None))?;
    parse(&text).map_err(|faults| {
        let sources = SourceMap::default();
        let source = sources.add(shown.clone(), text.as_str());
        let items = faults.into_iter().map(|fault| {
            let mut item = Diagnostic::error(PACK, format!("{shown}: {}", fault.message));
            if !fault.range.is_empty() {
                let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                let span =
                    Span { start: offset(fault.range.start), end: offset(fault.range.end), ..source.span() };
                item = item.with_label(span, "");
            }
            match fault.help {
                Some(help) => item.with_help(help),
                None => item,
            }
        });
        Failure::Diagnostics { items: items.collect(), sources }
    })
}

/// Returns the systems that a file names.
pub(super) fn platforms(targets: &[Target]) -> Vec<Platform> {
    let platform = |target: &Target| {
        let variant = (!target.variant.is_empty()).then(|| target.variant.clone());
        Platform { os: target.os.clone(), architecture: target.arch.clone(), variant }
    };
    targets.iter().filter(|target| !target.os.is_empty() && !target.arch.is_empty()).map(platform).collect()
}
