//! The keys of `config.toml`: the one list that checking, `rb config`, `rb help config`, completion and the reference are
//! made of.

/// A key of `config.toml`.
pub(crate) struct Key {
    /// Table it stands in; empty at the top, and [`REGISTRY`] for one named after a host.
    pub(crate) table: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// What is written for it.
    pub(crate) kind: &'static str,
    /// What holds if nobody says.
    pub(crate) default: &'static str,
    /// What it is for, in a line.
    pub(crate) meaning: &'static str,
    /// A variable of the environment that says it too.
    pub(crate) variable: Option<&'static str>,
    /// An option that says it too.
    pub(crate) option: Option<&'static str>,
    /// A line of an example.
    pub(crate) example: &'static str,
}

/// The table of a registry, as it is shown.
pub(crate) const REGISTRY: &str = "registry.\"HOST\"";

impl Key {
    /// Returns the key behind its table: `network.ca`.
    pub(crate) fn path(&self) -> String {
        if self.table.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.table, self.name) }
    }
}

/// Every key, in the order shown.
pub(crate) const KEYS: &[Key] = &[
    Key {
        table: "",
        name: "root",
        kind: "absolute path",
        default: "/var/lib/rb for root, else $XDG_DATA_HOME/rb",
        meaning: "state directory: images, caches, results",
        variable: Some("RB_ROOT"),
        option: None,
        example: "root = \"/data/rb\"",
    },
    Key {
        table: "",
        name: "jobs",
        kind: "number, at least 1",
        default: "one per processor",
        meaning: "steps that may run at once",
        variable: Some("RB_JOBS"),
        option: Some("--jobs"),
        example: "jobs = 4",
    },
    Key {
        table: "network",
        name: "http_proxy",
        kind: "URL",
        default: "none",
        meaning: "proxy for http://; an empty text means none, whatever the environment says",
        variable: Some("HTTP_PROXY"),
        option: None,
        example: "http_proxy = \"http://proxy.example:3128\"",
    },
    Key {
        table: "network",
        name: "https_proxy",
        kind: "URL",
        default: "none",
        meaning: "proxy for https://; an empty text means none",
        variable: Some("HTTPS_PROXY"),
        option: None,
        example: "https_proxy = \"http://proxy.example:3128\"",
    },
    Key {
        table: "network",
        name: "no_proxy",
        kind: "names, with commas",
        default: "none",
        meaning: "hosts that are reached without a proxy",
        variable: Some("NO_PROXY"),
        option: None,
        example: "no_proxy = \"localhost,.example\"",
    },
    Key {
        table: "network",
        name: "ca",
        kind: "list of PEM files",
        default: "none",
        meaning: "authorities that are trusted beside the usual ones, by rb and in steps",
        variable: None,
        option: Some("--ca"),
        example: "ca = [\"company.pem\"]",
    },
    Key {
        table: "network",
        name: "steps",
        kind: "`sandbox` or `host`",
        default: "sandbox",
        meaning: "network of steps that ask for none: one that does not lead to this machine, or this machine's",
        variable: Some("RB_STEP_NETWORK"),
        option: Some("--step-network"),
        example: "steps = \"sandbox\"",
    },
    Key {
        table: "emulators",
        name: "arm64",
        kind: "static program",
        default: "what this machine has registered, else qemu-aarch64-static where packages put it",
        meaning: "runs steps for another machine; so for amd64, arm, riscv64, ppc64le, s390x, 386, loong64, mips64le",
        variable: None,
        option: None,
        example: "arm64 = \"/opt/qemu/qemu-aarch64-static\"",
    },
    Key {
        table: REGISTRY,
        name: "mirrors",
        kind: "list of hosts",
        default: "none",
        meaning: "asked first, in this order; the registry itself is asked last",
        variable: None,
        option: None,
        example: "mirrors = [\"mirror.example\"]",
    },
    Key {
        table: REGISTRY,
        name: "http",
        kind: "true or false",
        default: "false",
        meaning: "speak plain HTTP with it",
        variable: None,
        option: None,
        example: "http = false",
    },
    Key {
        table: REGISTRY,
        name: "insecure",
        kind: "true or false",
        default: "false",
        meaning: "do not check its certificate",
        variable: None,
        option: None,
        example: "insecure = false",
    },
    Key {
        table: REGISTRY,
        name: "ca",
        kind: "list of PEM files",
        default: "none",
        meaning: "authorities that are trusted for it",
        variable: None,
        option: None,
        example: "ca = [\"registry.pem\"]",
    },
    Key {
        table: REGISTRY,
        name: "keypair",
        kind: "[{ key = FILE, cert = FILE }]",
        default: "none",
        meaning: "certificate that it is shown",
        variable: None,
        option: None,
        example: "keypair = [{ key = \"me.key\", cert = \"me.pem\" }]",
    },
];

/// Tables of the file.
pub(super) const TABLES: [&str; 3] = ["network", "emulators", "registry"];

/// Keys of a keypair.
pub(super) const KEYPAIR_KEYS: [&str; 2] = ["key", "cert"];

/// Returns the names of a table's keys; at the top the tables are names too.
pub(super) fn names(table: &str) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.table == table).map(|key| key.name);
    keys.chain(TABLES.into_iter().filter(|_| table.is_empty())).collect()
}

/// Returns a file that sets every key.
pub(crate) fn example() -> String {
    let mut out = String::new();
    let mut table = "";
    for key in KEYS {
        if key.table != table {
            table = key.table;
            out.push_str(&format!("\n[{}]\n", table.replace("HOST", "registry.example:5000")));
        }
        out.push_str(&format!("{}\n", key.example));
    }
    out
}
