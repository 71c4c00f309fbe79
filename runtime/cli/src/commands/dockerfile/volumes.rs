//! `--volume HOST:CONTAINER[:ro]`: folders and files of this machine that every RUN sees.
//!
//! buildah mounts them; here they are lent as a context is, and shown as a bind mount of it. So what they hold is in the keys of the
//! steps, and what steps change in them is forgotten. `.dockerignore` says nothing of them. What lies neither where the command was
//! given nor in the context has to be allowed. **Invariant:** a path counts by where it leads.
//! Source: buildah-build(1), "--volume"; buildx, its entitlement `fs.read`.

use std::path::{Path, PathBuf};

use rb_dockerfile::Volume;

use super::context::Lent;
use crate::args::{Allowed, DockerfileArgs, StepVolume};
use crate::report::Failure;

/// Lends them.
pub(super) fn lend(lent: &mut Lent, cwd: &Path, args: &DockerfileArgs) -> Result<Vec<Volume>, Failure> {
    let real = |path: &Path| std::fs::canonicalize(cwd.join(path)).ok();
    let allowed = args.allow.iter().filter_map(|allowed| match allowed {
        Allowed::Read(path) => real(path),
        Allowed::NetworkHost | Allowed::SecurityInsecure | Allowed::Device(_) | Allowed::LocalDelete => None,
    });
    let free: Vec<PathBuf> = allowed.chain(real(cwd)).chain(lent.folder.clone()).collect();
    let one = |(number, volume): (usize, &StepVolume)| {
        let StepVolume { host, target, readonly, is_kept: _ } = volume;
        let shown = format!("{}:{target}", host.display());
        let wrong = |what: String, help: Option<String>| {
            Err(Failure::input(format!("--volume {shown}: {what}"), help))
        };
        let Some(place) = real(host) else { return wrong(format!("there is no `{}`", host.display()), None) };
        if !free.iter().any(|folder| place.starts_with(folder)) {
            let help = format!("if that is meant: --allow fs.read={}", host.display());
            return wrong(
                "it lies neither here nor in the context, and is not allowed".to_owned(),
                Some(help),
            );
        }
        let (folder, path) =
            match (place.is_dir(), place.parent(), place.file_name().and_then(|name| name.to_str())) {
                (true, ..) => (place.clone(), "/".to_owned()),
                (false, Some(folder), Some(name)) if place.is_file() => {
                    (folder.to_owned(), format!("/{name}"))
                }
                _ => return wrong("it is neither a folder nor a file".to_owned(), None),
            };
        let name = format!("volume-{number}");
        lent.lend(&name, folder);
        Ok(Volume {
            lent: name,
            path,
            target: target.clone(),
            readonly: *readonly,
            shown: host.display().to_string(),
        })
    };
    args.volume.iter().enumerate().map(one).collect()
}
