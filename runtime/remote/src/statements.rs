//! What a daemon says of images beside them: where they came from, as it knows that itself.
//!
//! In: what a job is asked to have said ([`Attest`]). Out: BuildKit's own words for it, or a refusal of what it cannot say of a build whose
//! frontend is here.

use std::collections::BTreeMap;

use rb_api::{Attached, Attest, Detail, Export, Provenance, ProvenanceVersion};

use crate::error::RemoteError;

/// Returns what is said of the images of an export, by their roots.
pub(crate) fn said<'a>(export: &Export, attests: &'a BTreeMap<usize, Attest>) -> Option<&'a Provenance> {
    let is_wanted = export.format().is_some_and(|format| format.attached != Attached::Nowhere);
    // All images of a build are spoken of alike.
    let roots = export.images().iter().map(|image| image.root).filter(|_| is_wanted);
    roots.filter_map(|root| attests.get(&root)?.provenance.as_ref()).next()
}

/// Refuses to have said what the daemon cannot say.
pub(crate) fn check(exports: &[Export], attests: &BTreeMap<usize, Attest>) -> Result<(), RemoteError> {
    if attests.values().any(|attest| attest.scan.is_some()) {
        return Err(RemoteError::scans());
    }
    for export in exports.iter().filter(|export| export.images().is_empty()) {
        let provenance = |root: &usize| attests.get(root)?.provenance.as_ref();
        if export.roots().iter().filter_map(provenance).any(|provenance| !provenance.inline_only) {
            return Err(RemoteError::beside_files());
        }
    }
    Ok(())
}

/// Says to the daemon what it is to say of where an image came from: in CSV, as BuildKit's clients do. What it was asked for it
/// knows itself.
pub(crate) fn provenance(wish: &Provenance) -> String {
    let Provenance {
        version,
        detail,
        builder_id,
        is_reproducible,
        inline_only,
        file_name,
        complete_materials,
        asked: _,
    } = wish;
    let mut fields = vec![
        match detail {
            Detail::Min => "mode=min".to_owned(),
            Detail::Max => "mode=max".to_owned(),
        },
        match version {
            ProvenanceVersion::V02 => "version=v0.2".to_owned(),
            ProvenanceVersion::V1 => "version=v1".to_owned(),
        },
        format!("filename={file_name}"),
    ];
    if !builder_id.is_empty() {
        fields.push(format!("builder-id={builder_id}"));
    }
    for (name, is_set) in [
        ("reproducible", is_reproducible),
        ("inline-only", inline_only),
        ("complete-materials", complete_materials),
    ] {
        fields.extend(is_set.then(|| format!("{name}=true")));
    }
    let quoted = |field: &String| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_told_in_csv() {
        let wish = Provenance {
            version: ProvenanceVersion::V02,
            detail: Detail::Min,
            builder_id: "https://ci/a,\"b\"".to_owned(),
            is_reproducible: true,
            inline_only: false,
            file_name: "provenance.json".to_owned(),
            complete_materials: false,
            asked: Default::default(),
        };
        assert_eq!(
            provenance(&wish),
            "mode=min,version=v0.2,filename=provenance.json,\"builder-id=https://ci/a,\"\"b\"\"\",reproducible=true"
        );
    }
}
