//! `rb.toml` at the workspace's root: what a project sets for every build of it.
//!
//! In: a `Workspace`. Out: a [`ProjectConfig`]; without the file all defaults, with a wrong one all its errors.
//! ```toml
//! platforms = ["linux/amd64", "linux/arm64"]
//! default-registry = "registry.example.com"
//!
//! [capabilities]
//! privileged = false
//! ```
//! **Invariant:** a project can only take away: what the user does not allow stays forbidden whatever stands here. How
//! registries are reached (TLS, mirrors, credentials) is the user's alone: a stranger's project has no say in it.
//! Places are told in the message, as `rb.toml:line:column`.

use rb_diag::{Diagnostic, Diagnostics, Findings};
use rb_frontend::{ProjectRef, Workspace, WorldError};
use rb_oci::Platform;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{OUTSIDE_HELP, codes};

/// Name of the file.
const FILE: &str = "rb.toml";

/// What a project sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectConfig {
    /// What targets are built for where nobody names a platform; empty means the engine's own.
    pub platforms: Vec<Platform>,
    /// What builds of the project may do.
    pub capabilities: Capabilities,
    /// The registry that images without a host come from; Docker's own where none is set.
    pub default_registry: Option<String>,
}

/// What builds of a project may do. All is true where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Capabilities {
    /// `RUN --privileged`
    pub privileged: bool,
    /// LOCALLY
    pub locally: bool,
    /// `RUN --network=host`
    pub host_network: bool,
    /// `RUN --device`
    pub devices: bool,
    /// `SAVE IMAGE --push`, `RUN --push`
    pub push: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { privileged: true, locally: true, host_network: true, devices: true, push: true }
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Written {
    platforms: Vec<Spanned<String>>,
    capabilities: Capabilities,
    default_registry: Option<Spanned<String>>,
}

/// Keys of the file and of `[capabilities]`.
const KEYS: [&str; 3] = ["platforms", "capabilities", "default-registry"];
const CAPABILITIES_KEYS: [&str; 5] = ["privileged", "locally", "host-network", "devices", "push"];

/// Help for what a project cannot say.
const OF_THE_USER: &str =
    "how registries are reached is up to who builds: `[registry.\"HOST\"]` in ~/.config/rb/config.toml";

/// Reads the project's settings.
pub async fn load(workspace: &dyn Workspace) -> Result<ProjectConfig, Diagnostics> {
    let root = ProjectRef::Local { dir: String::new() };
    let bytes = match workspace.read(&root, FILE).await {
        Ok(bytes) => bytes,
        Err(WorldError::NotFound { .. }) => return Ok(ProjectConfig::default()),
        Err(error @ (WorldError::Failed { .. } | WorldError::Step { .. })) => {
            return Err(vec![
                Diagnostic::error(codes::BAD_CONFIG, error.to_string())
                    .with_kind(error.kind())
                    .with_help(OUTSIDE_HELP),
            ]);
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let message = format!("{FILE} is not UTF-8: byte {at} belongs to no character");
            Err(vec![Diagnostic::error(codes::BAD_CONFIG, message).with_help("write it in UTF-8")])
        }
    }
}

fn parse(text: &str) -> Result<ProjectConfig, Diagnostics> {
    let mut reader = Reader { findings: Findings::new(FILE, text) };
    match DeTable::parse(text) {
        Ok(table) => reader.check_tables(table.get_ref()),
        Err(error) => {
            reader.refuse(&error);
            return Err(reader.findings.into_diagnostics());
        }
    }
    let config = match toml::from_str::<Written>(text) {
        Ok(written) => reader.config(written),
        Err(error) => {
            reader.refuse(&error);
            ProjectConfig::default()
        }
    };
    if reader.findings.is_empty() { Ok(config) } else { Err(reader.findings.into_diagnostics()) }
}

/// What was found in the text so far.
struct Reader {
    findings: Findings,
}

impl Reader {
    fn refuse(&mut self, error: &toml::de::Error) {
        self.findings.refuse(codes::BAD_CONFIG, &error.span().unwrap_or_default(), error.message());
    }

    /// Looks for keys that mean nothing.
    fn check_tables(&mut self, table: &DeTable<'_>) {
        self.check_keys(table, &KEYS, "");
        for (key, value) in table {
            let DeValue::Table(inner) = value.get_ref() else { continue };
            if key.get_ref() == "capabilities" {
                self.check_keys(inner, &CAPABILITIES_KEYS, " in [capabilities]");
            }
        }
    }

    fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str], place: &str) {
        let keys = table.keys().map(|key| (key.get_ref().as_ref(), key.span()));
        // For what other builders have in a project's file.
        let help = |name: &str| matches!(name, "registry" | "registries").then_some(OF_THE_USER);
        self.findings.check_keys(codes::UNKNOWN_KEY, keys, known, place, help);
    }

    fn config(&mut self, written: Written) -> ProjectConfig {
        let Written { platforms, capabilities, default_registry } = written;
        let mut config = ProjectConfig { capabilities, ..ProjectConfig::default() };
        for platform in platforms {
            match platform.get_ref().parse() {
                Ok(platform) => config.platforms.push(platform),
                Err(error) => {
                    let help = "write `os/architecture[/variant]`, such as `linux/arm64`";
                    self.findings.add(codes::BAD_CONFIG, &platform.span(), &format!("{error}"), help);
                }
            }
        }
        default_registry.iter().for_each(|host| self.check_host(host));
        config.default_registry = default_registry.map(Spanned::into_inner);
        config
    }

    /// Checks that a text is a registry's host, as it stands before an image's name.
    fn check_host(&mut self, host: &Spanned<String>) {
        let text = host.get_ref();
        let trouble = match text.as_str() {
            "" => "it is empty",
            text if text.contains("://") => "it has a scheme",
            text if text.contains(char::is_whitespace) => "it has a space",
            _ => return,
        };
        let message = format!("`{text}` is not a registry: {trouble}");
        let help = "write the host alone, such as `registry.example.com:5000`";
        self.findings.add(codes::BAD_CONFIG, &host.span(), &message, help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Vec<(&'static str, String, Option<String>)> {
        let errors = parse(text).expect_err(text);
        errors.into_iter().map(|error| (error.code, error.message, error.help)).collect()
    }

    #[test]
    fn all_settings_are_read_and_what_is_not_said_is_the_default() {
        let text = "platforms = ['linux/amd64', \"linux/arm/v7\"]\ndefault-registry = 'r.example'\n\
                    [capabilities]\nhost-network = false\n";
        let config = parse(text).expect("is well formed");
        assert_eq!(
            config.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["linux/amd64", "linux/arm/v7"]
        );
        assert_eq!(config.default_registry.as_deref(), Some("r.example"));
        assert_eq!(config.capabilities, Capabilities { host_network: false, ..Capabilities::default() });
        assert_eq!(parse(""), Ok(ProjectConfig::default()));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_a_near_one() {
        let text = "platfroms = []\n[capabilities]\nhost_network = true\n[registries.x]\ninsecure = true\n";
        let told = |place: &str, name: &str, help: &str| {
            (codes::UNKNOWN_KEY, format!("rb.toml:{place}: there is no key `{name}"), Some(help.to_owned()))
        };
        for (found, expected) in refused(text).iter().zip([
            told("1:1", "platfroms`", "did you mean `platforms`?"),
            told("3:1", "host_network` in [capabilities]", "did you mean `host-network`?"),
            told("4:2", "registries`", OF_THE_USER),
        ]) {
            assert_eq!(found, &expected);
        }
        assert_eq!(refused(text).len(), 3);
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place() {
        for (text, start) in [
            ("platforms = [", "rb.toml:1:"),
            ("platforms = 'linux/amd64'", "rb.toml:1:13: this is a list, not a text"),
            ("\n[capabilities]\npush = 'no'", "rb.toml:3:8: this is `true` or `false`, not a text"),
            ("platforms = ['linux/amd64', 'amd64']", "rb.toml:1:29: `amd64` is not a platform"),
            (
                "default-registry = 'https://r'",
                "rb.toml:1:20: `https://r` is not a registry: it has a scheme",
            ),
            ("default-registry = ''", "rb.toml:1:20: `` is not a registry: it is empty"),
            ("push = 1\npush = 2", "rb.toml:2:1"),
        ] {
            let errors = refused(text);
            let (code, message, _) = errors.last().expect("has an error");
            assert!(*code == codes::BAD_CONFIG && message.starts_with(start), "{text}: {errors:?}");
        }
    }
}
