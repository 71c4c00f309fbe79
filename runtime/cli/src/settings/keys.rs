//! The keys of `config.toml`: the one list that checking, `rb config`, `rb help config`, completion and the reference are
//! made of.

/// A key of `config.toml`.
pub(crate) struct Key {
    /// Table it stands in; empty at the top, [`REGISTRY`] or [`GIT`] for one named after a host, [`ENGINE`] after an engine, [`NODE`] after a node.
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

/// The table of a host of repositories, as it is shown.
pub(crate) const GIT: &str = "git.\"HOST\"";

/// The table of an engine, as it is shown.
pub(crate) const ENGINE: &str = "engines.\"NAME\"";

/// The table of a node of an engine, as it is shown.
pub(crate) const NODE: &str = "engines.\"NAME\".nodes.\"NODE\"";

/// What holds the nodes of an engine.
pub(crate) const NODES: &str = "nodes";

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
        default: "one per processor, at least 8",
        meaning: "steps that may run at once",
        variable: Some("RB_JOBS"),
        option: Some("--jobs"),
        example: "jobs = 4",
    },
    Key {
        table: "",
        name: "engine",
        kind: "name, address, or `here`",
        default: "here",
        meaning: "who builds: a BuildKit daemon of `rb engine ls`, or at an address; `here` is this machine",
        variable: Some("RB_ENGINE"),
        option: Some("--engine"),
        example: "engine = \"builder\"",
    },
    Key {
        table: "",
        name: "snapshotter",
        kind: "`auto`, `overlayfs` or `native`",
        default: "auto",
        meaning: "how roots of steps are made of layers: by overlayfs where it works, by nothing else, or by copies",
        variable: Some("RB_SNAPSHOTTER"),
        option: None,
        example: "snapshotter = \"auto\"",
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
        table: "steps",
        name: "runtime",
        kind: "`rb`, the name or path of crun, runc or runsc",
        default: "rb",
        meaning: "what runs the commands of steps: rb's own sandbox, or another runtime of containers",
        variable: Some("RB_RUNTIME"),
        option: Some("--runtime"),
        example: "runtime = \"crun\"",
    },
    Key {
        table: "steps",
        name: "memory_budget",
        kind: "size, part of the memory, or `none`",
        default: "none",
        meaning: "steps run at once only as far as what they took in earlier runs fits into it",
        variable: Some("RB_MEMORY_BUDGET"),
        option: Some("--memory-budget"),
        example: "memory_budget = \"80%\"",
    },
    Key {
        table: "steps",
        name: "isolation",
        kind: "`sandbox` or `chroot`",
        default: "sandbox",
        meaning: "what steps run in: a sandbox, or, in a container where none can be made, a root of their own and no more",
        variable: Some("RB_ISOLATION"),
        option: Some("--isolation"),
        example: "isolation = \"sandbox\"",
    },
    Key {
        table: "cache",
        name: "max_size",
        kind: "size, or part of the disk",
        default: "60%",
        meaning: "the state directory never occupies more; what is worth least goes",
        variable: Some("RB_CACHE_MAX_SIZE"),
        option: None,
        example: "max_size = \"20GB\"",
    },
    Key {
        table: "cache",
        name: "min_free",
        kind: "size, or part of the disk",
        default: "20%",
        meaning: "it occupies less where the disk has less than this left",
        variable: None,
        option: None,
        example: "min_free = \"10GB\"",
    },
    Key {
        table: "cache",
        name: "reserved",
        kind: "size, or part of the disk",
        default: "10%",
        meaning: "it may occupy this however full the disk is",
        variable: None,
        option: None,
        example: "reserved = \"5GB\"",
    },
    Key {
        table: "cache",
        name: "max_age",
        kind: "time",
        default: "none",
        meaning: "what nobody used for so long goes",
        variable: None,
        option: None,
        example: "max_age = \"30d\"",
    },
    Key {
        table: "cache",
        name: "layers",
        kind: "{ max_size = SIZE, max_age = TIME }",
        default: "none",
        meaning: "narrower bounds of one kind: what steps wrote and images were unpacked to",
        variable: None,
        option: None,
        example: "layers = { max_size = \"10GB\", max_age = \"30d\" }",
    },
    Key {
        table: "cache",
        name: "blobs",
        kind: "{ max_size = SIZE, max_age = TIME }",
        default: "none",
        meaning: "narrower bounds of one kind: packed layers and files of the web",
        variable: None,
        option: None,
        example: "blobs = { max_size = \"5GB\", max_age = \"30d\" }",
    },
    Key {
        table: "cache",
        name: "mounts",
        kind: "{ max_size = SIZE, max_age = TIME }",
        default: "none",
        meaning: "narrower bounds of one kind: directories of cache mounts",
        variable: None,
        option: None,
        example: "mounts = { max_size = \"5GB\", max_age = \"30d\" }",
    },
    Key {
        table: "cache",
        name: "git",
        kind: "{ max_size = SIZE, max_age = TIME }",
        default: "none",
        meaning: "narrower bounds of one kind: repositories",
        variable: None,
        option: None,
        example: "git = { max_size = \"2GB\", max_age = \"30d\" }",
    },
    Key {
        table: "cache",
        name: "logs",
        kind: "{ max_size = SIZE, max_age = TIME }",
        default: "none",
        meaning: "narrower bounds of one kind: what steps wrote to the screen, and the records of builds",
        variable: None,
        option: None,
        example: "logs = { max_size = \"500MB\", max_age = \"30d\" }",
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
        table: "devices",
        name: "folders",
        kind: "list of folders",
        default: "/etc/cdi, /var/run/cdi",
        meaning: "where the devices that steps may ask for are described (CDI); those of the later folder win",
        variable: None,
        option: None,
        example: "folders = [\"/etc/cdi\", \"/run/cdi\"]",
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
    Key {
        table: GIT,
        name: "url",
        kind: "URL, or `user@host:`",
        default: "https://HOST/",
        meaning: "where repositories of that host are fetched from; the path is put behind it",
        variable: None,
        option: None,
        example: "url = \"https://git.example:8443/\"",
    },
    Key {
        table: GIT,
        name: "suffix",
        kind: "text",
        default: ".git",
        meaning: "what is put behind that path",
        variable: None,
        option: None,
        example: "suffix = \".git\"",
    },
    Key {
        table: GIT,
        name: "user",
        kind: "text",
        default: "x-access-token",
        meaning: "who is shown to it over http, with a password",
        variable: None,
        option: None,
        example: "user = \"me\"",
    },
    Key {
        table: GIT,
        name: "password",
        kind: "text",
        default: "none",
        meaning: "the password of that user, or a token; shown to this host alone, and to no step. The secrets GIT_AUTH_TOKEN.HOST and \
                  GIT_AUTH_HEADER.HOST count before it",
        variable: None,
        option: None,
        example: "password = \"…\"",
    },
    Key {
        table: GIT,
        name: "ssh_command",
        kind: "text, as a shell reads it",
        default: "ssh, without settings of yours",
        meaning: "what git calls for ssh to it; paths in full",
        variable: None,
        option: None,
        example: "ssh_command = \"ssh -i /home/me/.ssh/git.example\"",
    },
    Key {
        table: ENGINE,
        name: "address",
        kind: "address, as `rb help engines` has them",
        default: "has to be there",
        meaning: "where the BuildKit daemon of that name is; `rb engine add` writes it",
        variable: None,
        option: None,
        example: "address = \"tcp://build.example:1234\"",
    },
    Key {
        table: ENGINE,
        name: "certs",
        kind: "folder",
        default: "none",
        meaning: "ca.pem, cert.pem and key.pem for it, where it is reached by tcp://",
        variable: Some("RB_ENGINE_CERTS"),
        option: None,
        example: "certs = \"certs/build\"",
    },
    Key {
        table: NODE,
        name: "address",
        kind: "address, as `rb help engines` has them",
        default: "has to be there",
        meaning: "where a node is of an engine of several: then the engine has no address; `rb engine add --append` writes it",
        variable: None,
        option: None,
        example: "address = \"tcp://big.example:1234\"",
    },
    Key {
        table: NODE,
        name: "certs",
        kind: "folder",
        default: "none",
        meaning: "ca.pem, cert.pem and key.pem for it, where it is reached by tcp://",
        variable: Some("RB_ENGINE_CERTS"),
        option: None,
        example: "certs = \"certs/big\"",
    },
    Key {
        table: NODE,
        name: "platforms",
        kind: "list of platforms",
        default: "those that it says",
        meaning: "what it builds for",
        variable: None,
        option: None,
        example: "platforms = [\"linux/amd64\"]",
    },
    Key {
        table: NODE,
        name: "weight",
        kind: "number, at least 1",
        default: "1",
        meaning: "how much it takes beside the others",
        variable: None,
        option: None,
        example: "weight = 2",
    },
    Key {
        table: NODE,
        name: "drained",
        kind: "true or false",
        default: "false",
        meaning: "it gets nothing new; `rb engine drain` sets it",
        variable: None,
        option: None,
        example: "drained = false",
    },
];

/// Tables of the file.
pub(super) const TABLES: [&str; 8] =
    ["network", "cache", "steps", "emulators", "devices", "registry", "git", "engines"];

/// Keys of a kind of what is kept.
pub(super) const KIND_KEYS: [&str; 2] = ["max_size", "max_age"];

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
            let host = if table == GIT { "git.example" } else { "registry.example:5000" };
            // An engine has an address, or nodes.
            let engine = if table == NODE { "farm" } else { "builder" };
            let named = table.replace("HOST", host).replace("NAME", engine).replace("NODE", "big");
            out.push_str(&format!("\n[{named}]\n"));
        }
        out.push_str(&format!("{}\n", key.example));
    }
    out
}
