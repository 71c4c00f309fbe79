//! Options of a mount with the values that their variables have.

use rb_diag::{Diagnostic, Span, nearest};
use rb_llb::CacheSharing;

use super::super::Work;
use crate::{RunMount, codes, go};

const KINDS: [&str; 5] = ["bind", "cache", "secret", "ssh", "tmpfs"];
const SHARINGS: [&str; 3] = ["locked", "private", "shared"];

/// What kind of mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// All that a mount can say of itself; what is empty or none was not said.
#[derive(Clone, Debug, Default)]
pub(super) struct MountOptions {
    pub(super) kind: Kind,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) readonly: Option<bool>,
    pub(super) size_bytes: i64,
    pub(super) id: Option<String>,
    pub(super) sharing: Option<CacheSharing>,
    pub(super) required: bool,
    pub(super) env: Option<String>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl Work<'_> {
    /// Fills variables in, and reads what came of it. What is wrong is kept, each option's own.
    pub(super) fn mount_options(&mut self, mount: &RunMount) -> MountOptions {
        let mut options = MountOptions::default();
        for (key, value) in &mount.options {
            let Some(value) = value else {
                options.switch(&key.value, true);
                continue;
            };
            let Some(text) = self.heard_word(value) else { continue };
            self.heard(options.set(&key.value, text).map_err(|wrong| wrong.diagnostic(value.span)));
        }
        options
    }
}

impl MountOptions {
    /// Sets an option that is on or off; tells whether there is one of that name.
    fn switch(&mut self, key: &str, on: bool) -> bool {
        match key {
            "ro" | "readonly" => self.readonly = Some(on),
            "rw" | "readwrite" => self.readonly = Some(!on),
            "required" => self.required = on,
            _ => return false,
        }
        true
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), Wrong> {
        let wrong = |message: String| Wrong { message, near: None };
        match key {
            "type" => self.kind = kind(&value)?,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = Some(value),
            "env" => self.env = Some(value),
            "sharing" => self.sharing = Some(sharing(&value)?),
            "size" => {
                let size = go::parse_size(&value);
                self.size_bytes = size.ok_or_else(|| wrong(format!("invalid value for {key}: {value}")))?;
            }
            "mode" => {
                let mode = u32::from_str_radix(&value, 8);
                self.mode = Some(mode.map_err(|_| wrong(format!("invalid value {value} for mode")))?);
            }
            "uid" | "gid" => {
                let id = value.parse().map_err(|_| wrong(format!("invalid value {value} for {key}")))?;
                *(if key == "uid" { &mut self.uid } else { &mut self.gid }) = Some(id);
            }
            // Stages have been told apart by it before.
            "from" => {}
            key => {
                let on = go::parse_bool(&value);
                let on = on.ok_or_else(|| wrong(format!("invalid value for {key}: {value}")))?;
                if !self.switch(key, on) {
                    return Err(wrong(format!("unexpected key '{key}'")));
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a value.
struct Wrong {
    message: String,
    near: Option<&'static str>,
}

impl Wrong {
    fn diagnostic(self, at: Span) -> Diagnostic {
        Diagnostic::error(codes::BAD_MOUNT, self.message).with_label(at, "").with_nearest(self.near)
    }
}

fn kind(text: &str) -> Result<Kind, Wrong> {
    match text.to_lowercase().as_str() {
        "bind" => Ok(Kind::Bind),
        "cache" => Ok(Kind::Cache),
        "tmpfs" => Ok(Kind::Tmpfs),
        "secret" => Ok(Kind::Secret),
        "ssh" => Ok(Kind::Ssh),
        _ => Err(Wrong {
            message: format!("unsupported mount type {}", go::quote(text)),
            near: nearest(text, KINDS),
        }),
    }
}

fn sharing(text: &str) -> Result<CacheSharing, Wrong> {
    match text.to_lowercase().as_str() {
        "shared" => Ok(CacheSharing::Shared),
        "private" => Ok(CacheSharing::Private),
        "locked" => Ok(CacheSharing::Locked),
        _ => Err(Wrong {
            message: format!("unsupported sharing value {}", go::quote(text)),
            near: nearest(text, SHARINGS),
        }),
    }
}
