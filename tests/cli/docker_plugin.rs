//! rb as a plugin of docker's command line, with the real `docker` where it is here, and a real daemon where one can be run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::env::{Run, TestEnv, ended, is_root};

/// docker with rb in its folder of plugins.
struct Docker {
    env: TestEnv,
    /// The daemon's, where there is one.
    socket: String,
}

impl Docker {
    /// None where there is no docker.
    fn new(as_buildx: bool) -> Option<Self> {
        let env = TestEnv::new();
        if Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("stepping aside: there is no docker (Debian: docker.io, or docker-cli)");
            return None;
        }
        let words: &[&str] =
            if as_buildx { &["docker", "install", "--as-buildx"] } else { &["docker", "install"] };
        env.rb(words).expect(0).says("docker rb");
        let socket = format!("unix://{}/none.sock", env.state().display());
        Some(Self { env, socket })
    }

    fn run(&self, words: &[&str]) -> Run {
        self.run_with(&[("DOCKER_HOST", &self.socket)], words)
    }

    fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Run {
        let rb = self.env.command(words);
        let of_rb = rb.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut docker = Command::new("docker");
        docker.args(words).current_dir(self.env.project()).env_clear().envs(of_rb).stdin(Stdio::null());
        ended(docker.envs(variables.iter().copied()))
    }
}

/// A daemon of its own, in a network and a mount namespace of its own; gone when dropped.
struct Daemon {
    process: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// None where none can be run: RB_TEST_DOCKERD or PATH names `dockerd`.
    #[expect(clippy::disallowed_methods, reason = "a daemon that is not installed has to be named somewhere")]
    fn start() -> Option<Self> {
        let named = std::env::var("RB_TEST_DOCKERD").ok().map(PathBuf::from);
        let known = ["/usr/sbin/dockerd", "/usr/bin/dockerd"].map(PathBuf::from);
        let Some(dockerd) = named.into_iter().chain(known).find(|path| path.exists()) else {
            eprintln!(
                "stepping aside: there is no dockerd (Debian: docker.io; or RB_TEST_DOCKERD names one)"
            );
            return None;
        };
        if !is_root() {
            eprintln!("stepping aside: dockerd needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("rb-docker-").tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ]);
        let process = command
            .arg(&dockerd)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("docker.sock")), "--bridge=none", "--iptables=false"])
            .args(["--ip6tables=false", "--ip-forward=false", "--storage-driver=vfs", "--group=root"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("another handle"))
            .stderr(log)
            .spawn()
            .expect("unshare starts");
        let daemon = Self { process, folder };
        let start = Instant::now();
        while !daemon.answers() {
            if start.elapsed() > Duration::from_secs(120) {
                let log = std::fs::read_to_string(daemon.folder.path().join("log")).unwrap_or_default();
                eprintln!("stepping aside: dockerd does not begin to answer here:\n{log}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    fn answers(&self) -> bool {
        let asked = Command::new("docker")
            .args(["-H", &self.socket(), "version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        Path::exists(&self.folder.path().join("docker.sock")) && asked.is_ok_and(|status| status.success())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its namespaces end with it, and all that it mounted with them.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

const DOCKERFILE: &str = "FROM scratch\nARG WHO=me\nLABEL who=$WHO\nCOPY main /main\n";

#[test]
fn docker_knows_rb_as_a_plugin() {
    let Some(docker) = Docker::new(false) else { return };
    let run = docker.run(&["rb", "--version"]).expect(0);
    assert!(run.stdout.starts_with("rb "), "{run:?}");
    let help = docker.run(&["--help"]);
    assert!(help.stdout.contains("rb*"), "{}", help.stdout);
    assert!(!help.stdout.contains("buildx*"), "{}", help.stdout);
    docker.env.write(
        "Buildfile",
        "VERSION 1\napp:\n    FROM scratch\n    COPY Buildfile /\n    SAVE ARTIFACT Buildfile\n",
    );
    docker.run(&["rb", "ls"]).expect(0);
    docker.run(&["rb", "+app"]).expect(0).says("built +app");
    docker.env.write("Dockerfile", DOCKERFILE).write("main", "main");
    docker.run(&["rb", "build", "-o", "out", "."]).expect(0);
    assert_eq!(docker.env.read("out/main"), "main");
    // Not there is not here: what would have gone to Docker says so.
    docker.run(&["rb", "build", "."]).expect(3).says("none.sock");
    docker.env.rb(["docker", "uninstall"]).expect(0).says("docker-rb");
    assert_ne!(docker.run(&["rb", "ls"]).code, 0);
}

#[test]
fn in_buildx_place_its_words_have_a_meaning() {
    let Some(docker) = Docker::new(true) else { return };
    docker.env.write("Dockerfile", DOCKERFILE).write("main", "main");
    let listed = docker.run(&["buildx", "ls"]).expect(0);
    assert!(listed.stdout.contains("rb*"), "{listed:?}");
    docker.run(&["buildx", "version"]).expect(0);
    assert_eq!(docker.run(&["buildx", "create", "--use"]).expect(0).stdout, "rb\n");
    docker.run(&["buildx", "build", "--builder", "mine", "."]).expect(2).says("no builder `mine` found");
    let named = [("DOCKER_HOST", &*docker.socket), ("BUILDX_BUILDER", "mine")];
    docker.run_with(&named, &["buildx", "du"]).expect(2).says("no builder `mine` found");
    assert_eq!(docker.run(&["buildx", "create", "--name", "mine", "--use"]).expect(0).stdout, "mine\n");
    docker.run(&["buildx", "build", "--builder", "mine", "-o", "out", "."]).expect(0);
    docker.run(&["buildx", "rm", "mine"]).expect(0);
    docker.run(&["buildx", "inspect", "mine"]).expect(2).says("no builder `mine` found");
    docker.run(&["build", "-o", "out2", "."]).expect(0);
    assert_eq!(docker.env.read("out2/main"), "main");
    docker.env.write("docker-bake.hcl", "target \"default\" { output = [\"out3\"] }\n");
    docker.run(&["buildx", "bake"]).expect(0);
    assert!(docker.env.has("out3/main"));
    docker.run(&["buildx", "du"]).expect(0);
    let gone = docker.run(&["buildx", "prune", "-f", "--verbose"]).expect(0).stdout;
    assert!(gone.contains("removed layer/") && gone.contains(", last used "), "{gone}");
    docker.run(&["builder", "prune", "-f"]).expect(0);
    docker.run(&["buildx", "imagetools", "inspect", "x"]).expect(2).says("`docker buildx imagetools`");
    // What is there and is not rb stays.
    let plugins = docker.env.state().join("../home/.docker/cli-plugins");
    std::fs::remove_file(plugins.join("docker-buildx")).expect("removes");
    std::fs::write(plugins.join("docker-buildx"), "#!/bin/sh\n").expect("writes");
    docker.env.rb(["docker", "install", "--as-buildx"]).expect(2).says("is not rb");
    docker.env.rb(["docker", "install", "--as-buildx", "--force"]).expect(0);
}

/// What docker's compose hands to buildx on stdin: a bake file that it made of a project.
fn of_compose(env: &TestEnv, output: &str) -> serde_json::Value {
    let app = env.project().join("app").display().to_string();
    serde_json::json!({
        "group": { "default": { "targets": ["web", "worker_1"] } },
        "target": {
            "web": {
                "context": app, "dockerfile": format!("{app}/Dockerfile"),
                "args": { "WHO": "$${x}" },
                "labels": { "com.docker.compose.project": "p", "com.docker.compose.service": "web" },
                "tags": ["p-web"], "secret": ["id=token,type=file,src=token", "id=home,type=env,env=HOME"],
                "ulimits": ["nofile=100:200"], "extra-hosts": { "db": "10.0.0.1,10.0.0.2" }, "output": [output],
            },
            "worker_1": {
                "context": app, "contexts": { "web": "target:web" }, "shm-size": "67108864",
                "dockerfile-inline": "FROM web\nLABEL worker=yes\n",
                "tags": ["p-worker"], "output": [output],
            },
        },
    })
}

/// Calls rb as compose calls buildx.
fn called_by_compose(
    env: &TestEnv,
    bake: &serde_json::Value,
    variables: &[(&str, &str)],
    more: &[&str],
) -> Run {
    use std::io::{Seek as _, Write as _};
    use std::os::unix::process::CommandExt as _;
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(format!("{bake:#}").as_bytes()).and_then(|()| file.rewind()).expect("writes");
    let app = format!("fs.read={}", env.project().join("app").display());
    let words = ["bake", "--file", "-", "--progress", "rawjson", "--metadata-file", "meta.json"];
    let words = [&words[..], &["--allow", &app, "--allow", &app], more].concat();
    let mut command = env.command(words);
    command.arg0("/home/me/.docker/cli-plugins/docker-buildx").envs(variables.iter().copied());
    ended(command.stdin(Stdio::from(file)))
}

#[test]
fn compose_builds_with_rb() {
    let env = TestEnv::new();
    env.write("app/Dockerfile", DOCKERFILE).write("app/main", "main").write("token", "t");
    // Compose asks what version it is first, and takes none that is old.
    let told = env.rb_called("docker-buildx", ["docker-cli-plugin-metadata"]).expect(0).stdout;
    let told: serde_json::Value = told.parse().expect("is JSON");
    let version = told["Version"].as_str().expect("is text").trim_start_matches('v').to_owned();
    let numbers: Vec<u32> = version.split('.').map_while(|number| number.parse().ok()).collect();
    assert!(numbers >= vec![0, 17], "{version}");
    let bake = of_compose(&env, "type=image,push=false");
    let run = called_by_compose(&env, &bake, &[], &[]).expect(0);
    let told = crate::dockerfile::rawjson::read(&run);
    assert_eq!((told.others.len(), run.stdout.as_str()), (0, ""), "{told:?}");
    assert!(told.vertices.keys().any(|name| name.contains("[web 1/1] COPY main /main")), "{told:?}");
    let meta: serde_json::Value = env.read("meta.json").parse().expect("is JSON");
    for (target, name) in [("web", "p-web"), ("worker_1", "p-worker")] {
        let digest = meta[target]["containerimage.digest"].as_str();
        assert!(digest.is_some_and(|text| text.starts_with("sha256:")), "{meta}");
        assert!(meta[target]["image.name"].as_str().is_some_and(|text| text.contains(name)), "{meta}");
    }
    let labels = |image: &str| {
        let told = env.rb(["image", "inspect", image]).expect(0).stdout;
        let told: serde_json::Value = told.parse().expect("is JSON");
        told[0]["config"]["config"]["Labels"].clone()
    };
    assert_eq!(labels("p-web")["com.docker.compose.service"], "web");
    assert_eq!(labels("p-worker")["who"], "${x}");
    assert_eq!(labels("p-worker")["worker"], "yes");
    // `--quiet` of compose is said behind the other.
    assert_eq!(called_by_compose(&env, &bake, &[], &["--progress=quiet"]).expect(0).stderr, "");
    called_by_compose(&env, &bake, &[], &["--builder", "gone"]).expect(2).says("no builder `gone` found");
    // `--check` of compose.
    let mut asks = bake.clone();
    for target in ["web", "worker_1"] {
        asks["target"][target]["call"] = "lint".into();
    }
    called_by_compose(&env, &asks, &[], &[]).expect(0);
    // What is wrong is told in lines that are not JSON: compose shows those.
    env.write("app/Dockerfile", "FROM scratch\nCOPY none /\n");
    let told = crate::dockerfile::rawjson::read(&called_by_compose(&env, &bake, &[], &[]).expect(2));
    assert!(told.others.join("\n").contains("none"), "{told:?}");
}

#[test]
fn images_land_in_docker() {
    let Some(docker) = Docker::new(true) else { return };
    let Some(daemon) = Daemon::start() else { return };
    let docker = Docker { socket: daemon.socket(), ..docker };
    docker.env.write("Dockerfile", DOCKERFILE).write("main", "main");
    let label = |image: &str| {
        docker.run(&["inspect", "-f", "{{.Config.Labels.who}}", image]).expect(0).stdout.trim().to_owned()
    };
    docker.run(&["build", "-t", "app:1", "."]).expect(0).says("loaded into Docker");
    assert_eq!(label("app:1"), "me");
    docker.run(&["rb", "build", "-t", "app:2", "--build-arg", "WHO=you", "."]).expect(0);
    assert_eq!(label("app:2"), "you");
    // What `-q` says is an image of Docker's.
    let quiet = docker.run(&["build", "-q", "--build-arg", "WHO=quiet", "."]).expect(0);
    assert_eq!(label(quiet.stdout.trim()), "quiet");
    docker.env.write(
        "docker-bake.hcl",
        "group \"default\" { targets = [\"a\", \"b\"] }\n\
         target \"a\" { tags = [\"a:1\"] }\n\
         target \"b\" {\n  args = { WHO = \"b\" }\n  tags = [\"b:1\"]\n  output = [\"type=image\"]\n}\n",
    );
    docker.run(&["buildx", "bake"]).expect(0);
    assert_eq!(label("a:1"), "me");
    docker.env.write("app/Dockerfile", DOCKERFILE).write("app/main", "main").write("token", "t");
    let bake = of_compose(&docker.env, "type=docker");
    called_by_compose(&docker.env, &bake, &[("DOCKER_HOST", &docker.socket)], &[]).expect(0);
    assert_eq!((label("p-web"), label("p-worker")), ("${x}".to_owned(), "${x}".to_owned()));
    // One that says where it goes goes there.
    assert_ne!(docker.run(&["inspect", "b:1"]).code, 0);
    docker.env.rb(["image", "inspect", "b:1"]).expect(0);
    docker.run(&["buildx", "bake", "--load", "b"]).expect(0);
    assert_eq!(label("b:1"), "b");
    // Which Docker is docker's own to say: by an option, and by a context.
    let none = [("DOCKER_HOST", "unix:///none.sock")];
    docker.run_with(&none, &["-H", &docker.socket, "rb", "build", "-t", "app:3", "."]).expect(0);
    assert_eq!(label("app:3"), "me");
    let host = format!("host={}", docker.socket);
    docker.run(&["context", "create", "mine", "--docker", &host]).expect(0);
    docker.run_with(&[], &["--context", "mine", "rb", "build", "-t", "app:4", "."]).expect(0);
    docker.run_with(&[], &["context", "use", "mine"]).expect(0);
    docker.run_with(&[], &["rb", "build", "-t", "app:5", "."]).expect(0);
    assert_eq!((label("app:4"), label("app:5")), ("me".to_owned(), "me".to_owned()));
    docker.run(&["rb", "build", "-t", "kept:1", "-o", "type=oci,dest=x.tar", "."]).expect(0);
    assert_ne!(docker.run(&["inspect", "kept:1"]).code, 0);
}
