//! Which Docker is meant: that of DOCKER_HOST, else that of the context that is in use.
//!
//! Source: docker's command line reference, "Environment variables"; how its contexts are kept on the disk.

use std::path::{Path, PathBuf};

use rb_oci::Digest;
use serde_json::Value;

use crate::environment::Environment;

/// The context that needs no file: the usual socket.
const DEFAULT: &str = "default";

/// Returns the address of the Docker that `docker` itself talks to; none is the usual socket.
pub(in crate::commands) fn host() -> Option<String> {
    text("DOCKER_HOST").or_else(|| of_context(&config_folder()?, text("DOCKER_CONTEXT")))
}

/// Returns the folder of docker's settings.
pub(super) fn config_folder() -> Option<PathBuf> {
    let named = text("DOCKER_CONFIG").map(PathBuf::from);
    named.or_else(|| text("HOME").map(|home| Path::new(&home).join(".docker")))
}

fn text(name: &str) -> Option<String> {
    Environment::pass_on(name)?.into_string().ok().filter(|text| !text.is_empty())
}

/// Returns the address that a context stands for: the one that is named, else the one in use.
fn of_context(folder: &Path, named: Option<String>) -> Option<String> {
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    let in_use = || Some(read(folder.join("config.json"))?["currentContext"].as_str()?.to_owned());
    let name = named.or_else(in_use).filter(|name| !name.is_empty() && name != DEFAULT)?;
    let context = read(folder.join("contexts/meta").join(Digest::of(&name).hex()).join("meta.json"))?;
    Some(context["Endpoints"]["docker"]["Host"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_addresses() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: Option<&str>| of_context(dir.path(), name.map(ToOwned::to_owned));
        assert_eq!(at(None), None);
        let meta = dir.path().join("contexts/meta").join(Digest::of("mine").hex());
        std::fs::create_dir_all(&meta).expect("makes");
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"unix:///x.sock"}}}"#)
            .expect("writes");
        assert_eq!(at(Some("mine")).as_deref(), Some("unix:///x.sock"));
        assert_eq!((at(None), at(Some("other")), at(Some("default"))), (None, None, None));
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"mine"}"#).expect("writes");
        assert_eq!(at(None).as_deref(), Some("unix:///x.sock"));
        assert_eq!(at(Some("default")), None);
    }
}
