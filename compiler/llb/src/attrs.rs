//! Names of source attributes, and how their values are written.

/// Names of attributes of a [`crate::SourceOp`] and [`crate::BuildOp`], as BuildKit reads them.
pub mod attr {
    /// `docker-image`: `default`, `pull` or `local`.
    pub const IMAGE_RESOLVE_MODE: &str = "image.resolvemode";
    /// `docker-image`: `internal` hides it from the history.
    pub const IMAGE_RECORD_TYPE: &str = "image.recordtype";
    /// `docker-image`: how many layers to take.
    pub const IMAGE_LAYER_LIMIT: &str = "image.layerlimit";
    /// `docker-image`: digest that must come.
    pub const IMAGE_CHECKSUM: &str = "image.checksum";
    /// `oci-layout`: session that has the store.
    pub const OCI_SESSION: &str = "oci.session";
    /// `oci-layout`: name of the store.
    pub const OCI_STORE: &str = "oci.store";
    /// `oci-layout`: how many layers to take.
    pub const OCI_LAYER_LIMIT: &str = "oci.layerlimit";
    /// `local`: session that has the directory.
    pub const LOCAL_SESSION: &str = "local.session";
    /// `local`: makes one build's source differ from another's.
    pub const LOCAL_UNIQUE: &str = "local.unique";
    /// `local`: JSON list of patterns to take.
    pub const LOCAL_INCLUDE_PATTERNS: &str = "local.includepattern";
    /// `local`: JSON list of patterns to leave out.
    pub const LOCAL_EXCLUDE_PATTERNS: &str = "local.excludepatterns";
    /// `local`: JSON list of paths whose symlinks are followed.
    pub const LOCAL_FOLLOW_PATHS: &str = "local.followpaths";
    /// `local`: what may share a copy on the engine's side.
    pub const LOCAL_SHARED_KEY_HINT: &str = "local.sharedkeyhint";
    /// `local`: `none` or `metadata`.
    pub const LOCAL_DIFFER: &str = "local.differ";
    /// `local`: `true` takes names and modes only.
    pub const LOCAL_METADATA_TRANSFER: &str = "local.metadatatransfer";
    /// `local`: JSON list of patterns whose content is taken all the same.
    pub const LOCAL_METADATA_TRANSFER_EXCLUDE: &str = "local.metadatatransferexclude";
    /// `git`: `true` keeps `.git`.
    pub const GIT_KEEP_DIR: &str = "git.keepgitdir";
    /// `git`: the address as given.
    pub const GIT_FULL_URL: &str = "git.fullurl";
    /// `git`: secret with a whole authorization header.
    pub const GIT_AUTH_HEADER_SECRET: &str = "git.authheadersecret";
    /// `git`: secret with a token.
    pub const GIT_AUTH_TOKEN_SECRET: &str = "git.authtokensecret";
    /// `git`: lines of known_hosts.
    pub const GIT_KNOWN_SSH_HOSTS: &str = "git.knownsshhosts";
    /// `git`: id of the ssh agent.
    pub const GIT_MOUNT_SSH_SOCK: &str = "git.mountsshsock";
    /// `git`: commit that must come.
    pub const GIT_CHECKSUM: &str = "git.checksum";
    /// `git`: `true` leaves submodules out.
    pub const GIT_SKIP_SUBMODULES: &str = "git.skipsubmodules";
    /// `git`: `checkout` or `commit`.
    pub const GIT_MTIME: &str = "git.mtime";
    /// `git`: `true` fetches the checksum itself.
    pub const GIT_FETCH_BY_COMMIT: &str = "git.fetchbycommit";
    /// `git`: where a bundle lies.
    pub const GIT_BUNDLE: &str = "git.bundle";
    /// `git`: `true` gives a bundle.
    pub const GIT_CHECKOUT_BUNDLE: &str = "git.checkoutbundle";
    /// Prefix of `git` attributes about signatures.
    pub const GIT_SIGNATURE_PREFIX: &str = "git.sig.";
    /// `git`: keys of OpenPGP or ssh, of which one must have signed.
    pub const GIT_SIGNATURE_KEYS: &str = "git.sig.pubkey";
    /// `git`: `true` refuses a key that has expired since.
    pub const GIT_SIGNATURE_REJECT_EXPIRED: &str = "git.sig.rejectexpired";
    /// `git`: `true` takes a signed tag only.
    pub const GIT_SIGNATURE_REQUIRE_TAG: &str = "git.sig.requiresignedtag";
    /// `git`: `true` takes a signed commit only.
    pub const GIT_SIGNATURE_IGNORE_TAG: &str = "git.sig.ignoresignedtag";
    /// `http`: digest that must come.
    pub const HTTP_CHECKSUM: &str = "http.checksum";
    /// `http`: name of the file.
    pub const HTTP_FILENAME: &str = "http.filename";
    /// `http`: permission bits, octal.
    pub const HTTP_PERM: &str = "http.perm";
    /// `http`: owner.
    pub const HTTP_UID: &str = "http.uid";
    /// `http`: group.
    pub const HTTP_GID: &str = "http.gid";
    /// `http`: secret with a whole authorization header.
    pub const HTTP_AUTH_HEADER_SECRET: &str = "http.authheadersecret";
    /// Prefix of `http` attributes that are headers.
    pub const HTTP_HEADER_PREFIX: &str = "http.header.";
    /// Prefix of `http` attributes about signatures.
    pub const HTTP_SIGNATURE_PREFIX: &str = "http.sig.";
    /// `http`: armored OpenPGP keys, of which one must have signed.
    pub const HTTP_SIGNATURE_KEYS: &str = "http.sig.pubkey";
    /// `http`: armored OpenPGP signature, apart from what it is over.
    pub const HTTP_SIGNATURE: &str = "http.sig.signature";
    /// Build op: name of the file with the definition.
    pub const LLB_DEFINITION_FILENAME: &str = "llbbuild.filename";
}

/// Writes a list as Go's `encoding/json` does, for attributes that hold one: it also escapes `<`, `>`, `&`
/// and the two line separators of Unicode.
pub fn json_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push('"');
        for letter in item.as_ref().chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(letter)));
                }
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::json_list;

    #[test]
    fn writes_lists_as_go_does() {
        assert_eq!(json_list(["**/*.go"]), r#"["**/*.go"]"#);
        assert_eq!(json_list(Vec::<String>::new()), "[]");
        assert_eq!(
            json_list(["a\"b\\", "<&>\u{1}\n\u{2028}ü"]),
            "[\"a\\\"b\\\\\",\"\\u003c\\u0026\\u003e\\u0001\\n\\u2028ü\"]"
        );
    }

    #[test]
    fn what_it_writes_is_json() {
        let items = ["a\"b\\", "<&>\u{1}\n\u{2028}ü\u{8}\u{c}"];
        let read: Vec<String> = serde_json::from_str(&json_list(items)).unwrap();
        assert_eq!(read, items);
    }
}
