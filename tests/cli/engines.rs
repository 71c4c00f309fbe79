//! Engines by name, and every way to one: the settings they are kept in, programs that lead there, certificates, sockets.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::{Tells as _, project, project_on};
use crate::env::{Run, TestEnv, copy_tree};
use crate::git::ssh::Sshd;

const BUILDFILE: &str =
    "VERSION 1\nt:\n    FROM scratch\n    COPY Buildfile .\n    SAVE ARTIFACT Buildfile AS LOCAL out\n";

#[test]
fn names_are_kept_in_the_users_settings() {
    let env = TestEnv::new();
    env.write("Buildfile", BUILDFILE);
    let file = env.project().with_file_name("home").join(".config/rb/config.toml");
    fs::create_dir_all(file.parent().expect("lies in a folder")).expect("makes folders");
    fs::write(&file, "# mine\njobs = 3\n").expect("writes");
    env.rb(["engine", "add", "far", "unix:///nowhere/far.sock"]).expect(0).tells("rb engine use far");
    env.rb(["engine", "add", "pod", "kube-pod://b-0?namespace=ci"]).expect(0);
    let text = fs::read_to_string(&file).expect("reads");
    assert_eq!(
        text,
        "# mine\njobs = 3\n\n[engines.far]\naddress = \"unix:///nowhere/far.sock\"\n\n\
         [engines.pod]\naddress = \"kube-pod://b-0?namespace=ci\"\n"
    );
    env.rb(["engine", "add", "far", "tcp://x"]).expect(2).tells("is an engine already");
    for (name, address) in [("a b", "tcp://x"), ("here", "tcp://x"), ("-x", "tcp://x"), ("x", "far")] {
        env.rb(["engine", "add", "--", name, address]).expect(2);
    }
    let ls = |used: &str| {
        let listed = env.rb(["engine", "ls"]).expect(0).stdout;
        let marked: Vec<&str> = listed.lines().filter(|line| line.starts_with('*')).collect();
        assert!(marked.len() == 1 && marked[0].contains(used), "{listed}");
        assert!(listed.contains("kube-pod://b-0"), "{listed}");
    };
    ls("here");
    env.rb(["+t"]).expect(0);
    env.rb(["--engine=far", "+t"]).expect(3).tells("unix:///nowhere/far.sock cannot be reached");

    env.rb(["engine", "use", "fat"]).expect(2).tells("did you mean `far`?");
    env.rb(["engine", "use", "far"]).expect(0);
    ls("far");
    env.rb(["+t"]).expect(3).tells("far.sock cannot be reached");
    env.rb(["--engine=here", "+t"]).expect(0);
    env.rb_with(&[("RB_ENGINE", "here")], ["+t"]).expect(0);
    assert_eq!(env.rb(["config", "engine"]).expect(0).stdout, "far\n");
    assert_eq!(env.rb(["config", "engines.pod.address"]).expect(0).stdout, "kube-pod://b-0?namespace=ci\n");
    // Behind the name of a command, too, and as buildx has it.
    env.write("Dockerfile", "FROM scratch\nCOPY Buildfile /\n");
    env.write("docker-bake.json", r#"{"target": {"default": {"context": "."}}}"#);
    for words in [
        &["build", "--engine=pod", "."][..],
        &["build", "--builder=pod", "."],
        &["build", "-B", "pod", "."],
        &["bake", "-B", "pod"],
        &["bake", "--engine=pod"],
        &["--engine=pod", "bake"],
    ] {
        env.rb_with(&[("PATH", "/nowhere")], words).expect(3).tells("`kubectl` cannot be run");
    }
    env.rb(["build", "--builder=default", "-o", "o", "."]).expect(0);
    env.rb(["build", "--builder=other", "."]).expect(2).tells("no builder `other` found");

    env.rb(["engine", "rm", "other"]).expect(2).tells("no engine `other`");
    env.rb(["engine", "rm", "far", "pod"]).expect(0).tells("this machine builds from now on");
    assert_eq!(fs::read_to_string(&file).expect("reads"), "# mine\njobs = 3\nengine = \"here\"\n");
    env.rb(["+t"]).expect(0);
    env.rb(["engine", "inspect"]).expect(2).tells("this machine builds");
}

#[test]
fn remarks_stay_and_a_file_that_is_not_there_comes_to_be() {
    let env = TestEnv::new();
    let file = env.project().with_file_name("home").join("new/mine.toml");
    let own = [("RB_CONFIG", file.to_str().expect("is text"))];
    env.rb_with(&own, ["engine", "add", "far", "unix:///nowhere/far.sock"]).expect(0);
    fs::write(&file, "# of the team\nengine = \"here\" # for now\n[engines.far]\naddress = \"unix:///x\"\n")
        .expect("writes");
    env.rb_with(&own, ["engine", "use", "far"]).expect(0);
    env.rb_with(&own, ["engine", "rm", "far"]).expect(0);
    assert_eq!(fs::read_to_string(&file).expect("reads"), "# of the team\nengine = \"here\" # for now\n");
}

#[test]
fn only_what_builds_looks_for_an_engine() {
    let env = TestEnv::new();
    env.write("Buildfile", BUILDFILE);
    let bogus = [("RB_ENGINE", "bogus")];
    for words in
        [&["image", "ls"][..], &["cache", "du"], &["history", "ls"], &["ls"], &["engine", "ls"], &["config"]]
    {
        env.rb_with(&bogus, words).expect(0);
    }
    env.rb_with(&bogus, ["+t"]).expect(2).tells("no engine `bogus`");
    env.rb_with(&[("RB_ENGINE", "http://x")], ["+t"]).expect(2).tells("RB_ENGINE");
    env.rb_with(&[("RB_ENGINE", "http://x")], ["image", "ls"]).expect(0);
}

#[test]
fn who_is_silent_is_told_soon() {
    let env = TestEnv::new();
    env.write("Buildfile", BUILDFILE);
    let silent = TcpListener::bind("127.0.0.1:0").expect("listens");
    let engine = format!("--engine=tcp://{}", silent.local_addr().expect("has an address"));
    let begun = Instant::now();
    env.rb([engine.as_str(), "+t"]).expect(3).tells("nobody answers within 10 seconds");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

/// Writes a program that notes how it was called and leads to a daemon.
fn stand_in(folder: &Path, name: &str, buildctl: &Path, address: &str) {
    let text = format!(
        "#!/bin/sh\necho \"{name} $*\" >> {log}\nexec {buildctl} --addr {address} dial-stdio\n",
        log = folder.join("log").display(),
        buildctl = buildctl.display(),
    );
    fs::write(folder.join(name), text).expect("writes");
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).expect("sets");
}

#[test]
fn programs_lead_to_a_daemon_and_are_called_as_by_buildkits_client() {
    let Some((env, daemon, address)) = project() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["docker", "podman", "nerdctl", "kubectl", "ssh"] {
        stand_in(folder.path(), name, &daemon.programs().join("buildctl"), &address);
    }
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display());
    for (engine, called) in [
        ("docker-container://bk", "docker exec -i bk buildctl dial-stdio"),
        ("docker-container://bk?context=c", "docker --context=c exec -i bk buildctl dial-stdio"),
        ("podman-container://bk", "podman exec -i bk buildctl dial-stdio"),
        ("nerdctl-container://bk?namespace=n", "nerdctl exec --namespace=n -i bk buildctl dial-stdio"),
        (
            "kube-pod://bk-0?context=x&namespace=ci&container=c",
            "kubectl --context=x --namespace=ci exec --container=c -i bk-0 -- buildctl dial-stdio",
        ),
        ("ssh://me@far:7", "ssh -o ConnectTimeout=30 -T -l me -p 7 -- far buildctl dial-stdio"),
    ] {
        fs::remove_dir_all(env.project().join("got")).ok();
        env.rb_with(&[("PATH", &path)], [&format!("--engine={engine}"), "+app"]).expect(0);
        assert_eq!(env.read("got/out"), "a one\n");
        let log = fs::read_to_string(folder.path().join("log")).expect("was called");
        assert_eq!(log, format!("{called}\n"), "{engine}");
        fs::remove_file(folder.path().join("log")).expect("removes");
    }
    // What such a program says where it leads nowhere is told.
    fs::write(folder.path().join("docker"), "#!/bin/sh\nprintf 'no such container\\r\\n' >&2\nexit 1\n")
        .expect("writes");
    let told = env.rb_with(&[("PATH", &path)], ["--engine=docker-container://bk", "+app"]);
    let told = told.expect(3).tells("no such container");
    assert!(!told.stderr.contains("x0d"), "{}", told.stderr);
    env.rb_with(&[("PATH", "/nowhere")], ["--engine=docker-container://bk", "+app"])
        .expect(3)
        .tells("`docker` cannot be run");
}

/// A machine that is reached by ssh: the program `ssh` in a folder, with settings of its own.
struct Machine {
    sshd: Sshd,
    folder: tempfile::TempDir,
}

impl Machine {
    /// Makes one; what is asked for there is done by the shell script `command`. None where sshd cannot be had.
    fn start(command: &str) -> Option<Self> {
        let sshd = Sshd::start()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("command"), format!("#!/bin/sh\n{command}\n")).expect("writes");
        // Of the user's home nothing is used.
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", at("settings").display());
        fs::write(at("ssh"), ssh).expect("writes");
        for name in ["command", "ssh"] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).expect("sets");
        }
        let key = fs::read_to_string(sshd.folder.path().join("own.pub")).expect("reads");
        let allowed = format!("command=\"{}\" {key}", at("command").display());
        fs::write(sshd.folder.path().join("authorized"), allowed).expect("writes");
        let host = fs::read_to_string(sshd.folder.path().join("host.pub")).expect("reads");
        fs::write(at("known"), format!("[127.0.0.1]:{} {host}", sshd.port)).expect("writes");
        let machine = Self { sshd, folder };
        machine.shows("own");
        Some(machine)
    }

    /// Has the client show a key.
    fn shows(&self, key: &str) {
        let text = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\nBatchMode yes\n\
             Host build.example\nHostName 127.0.0.1\nPort {}\n",
            self.sshd.folder.path().join(key).display(),
            self.folder.path().join("known").display(),
            self.sshd.port,
        );
        fs::write(self.folder.path().join("settings"), text).expect("writes");
    }

    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.folder.path().display())
    }
}

#[test]
fn ssh_leads_to_a_daemon() {
    let Some((env, daemon, address)) = project() else { return };
    let programs = daemon.programs().display();
    let Some(machine) = Machine::start(&format!("exec {programs}/$SSH_ORIGINAL_COMMAND")) else { return };
    let path = machine.path();
    let socket = address.strip_prefix("unix://").expect("is a socket");
    let engine = format!("--engine=ssh://root@127.0.0.1:{}{socket}", machine.sshd.port);
    env.rb_with(&[("PATH", &path)], [engine.as_str(), "+app"]).expect(0);
    assert_eq!(env.read("got/out"), "a one\n");
    machine.shows("other");
    env.rb_with(&[("PATH", &path)], [engine.as_str(), "+app"]).expect(3).tells("Permission denied");
}

/// The page is done as it is written; the daemon that it starts is one that runs.
#[test]
fn the_page_about_another_machine_is_true() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let page = fs::read_to_string(examples.join("ANOTHER_MACHINE.md")).expect("reads");
    let Some((env, daemon, address)) = project() else { return };
    let buildctl = daemon.programs().join("buildctl");
    let command = format!(
        "case $SSH_ORIGINAL_COMMAND in *buildkitd*) exit 0 ;; 'buildctl dial-stdio') exec {} --addr {address} dial-stdio ;; esac; exit 9",
        buildctl.display()
    );
    let Some(machine) = Machine::start(&command) else { return };
    copy_tree(&examples.join("dockerfile"), &env.project().join("examples/dockerfile"));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rb"), machine.folder.path().join("rb")).expect("links");
    let (by_ssh, by_tcp) = page.split_once(BY_TCP).expect("it has that part");
    assert!(by_tcp.contains("\n## "), "and more behind it");
    let mut lines = by_ssh.lines().map(str::trim).peekable();
    let mut done = 0;
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut expected = String::new();
        while let Some(said) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            expected += &format!("{said}\n");
        }
        let mut shell = env.command(["-c", command]);
        let mut run = Command::new("sh");
        run.args(["-c", command]).current_dir(env.project()).env_clear().envs(
            shell.env("PATH", machine.path()).get_envs().filter_map(|(name, value)| Some((name, value?))),
        );
        let run = crate::env::ended(&mut run).expect(0);
        assert!(expected.is_empty() || run.stdout == expected, "{command}: {run:?}");
        done += 1;
    }
    assert_eq!(done, 4, "three commands, and a look at what they made");
    // The Buildfile of that example, too.
    let built = |engine: &str| {
        let folder = env.project().join("examples/dockerfile");
        let mut rb = env.command([engine, "+greeting"]);
        crate::env::ended(rb.current_dir(folder).env("PATH", machine.path())).expect(0);
        env.read("examples/dockerfile/out/greeting.txt")
    };
    assert_eq!(built("--engine=far"), built("--engine=here"));
}

/// Where the page tells of the way without ssh.
const BY_TCP: &str = "\n## By TCP, with certificates\n";

#[test]
fn the_certificates_of_the_page_prove_who_is_who() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("stepping aside: this needs openssl (Debian: openssl)");
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ANOTHER_MACHINE.md");
    let page = fs::read_to_string(page).expect("reads");
    let part =
        page.split_once(BY_TCP).and_then(|(_, rest)| rest.split_once("\n## ")).expect("it has that part").0;
    // This machine is the other one.
    let port = free_port().to_string();
    let part =
        part.replace("build.example", "localhost").replace("0.0.0.0:1234", &format!("127.0.0.1:{port}"));
    let part = part.replace(":1234", &format!(":{port}"));
    let (own, there): (Vec<&str>, Vec<&str>) = part
        .lines()
        .filter(|line| line.starts_with("$ ") || line.starts_with("buildkitd "))
        .partition(|line| line.starts_with("$ "));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sh = |env: Option<&TestEnv>, line: &str| {
        let mut run = Command::new("sh");
        run.args(["-c", line.trim_start_matches("$ ")]).current_dir(folder.path());
        if let Some(env) = env {
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let mut rb = env.command(["engine"]);
            run.env_clear()
                .envs(rb.env("PATH", path).get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        crate::env::ended(&mut run).expect(0)
    };
    let (made, asked) = own.split_at(3);
    made.iter().for_each(|line| drop(sh(None, line)));
    let [there] = there.as_slice() else { panic!("one command there: {there:?}") };
    let words = there.split_whitespace().skip(1).map(|word| match word.strip_prefix("machine/") {
        Some(name) => folder.path().join("machine").join(name).display().to_string(),
        None => word.to_owned(),
    });
    let Some((env, _daemon, _)) = project_on(&words.collect::<Vec<_>>()) else { return };
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rb"), folder.path().join("rb")).expect("links");
    asked.iter().for_each(|line| drop(sh(Some(&env), line)));
    env.rb(["--engine=farther", "+app"]).expect(0);
    assert_eq!(env.read("got/out"), "a one\n");
    // Who has no certificate is refused.
    let bare = folder.path().join("bare");
    fs::create_dir(&bare).expect("makes a folder");
    fs::copy(folder.path().join("ca.pem"), bare.join("ca.pem")).expect("copies");
    let bare = bare.display().to_string();
    let refused =
        env.rb_with(&[("RB_ENGINE_CERTS", &bare)], [&format!("--engine=tcp://localhost:{port}"), "+app"]);
    refused.expect(3).tells("cannot be trusted");
}

/// Makes an authority, and certificates that it signed: `name` of `host`, which hold for so many days from now.
struct Authority<'a>(&'a Path);

impl Authority<'_> {
    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        let made = command.args(args).current_dir(self.0).output().expect("openssl starts");
        assert!(made.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn make(&self, authority: &str) {
        let (key, certificate, subject) =
            (format!("{authority}-key.pem"), format!("{authority}.pem"), format!("/CN={authority}"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        fs::write(self.0.join(format!("{authority}.index")), "").expect("writes");
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {authority}.index\nrand_serial = yes\nnew_certs_dir = .\ndefault_md = sha256\n\
             policy = any\ncopy_extensions = copy\nunique_subject = no\nemail_in_dn = no\n[any]\ncommonName = supplied\n"
        );
        fs::write(self.0.join(format!("{authority}.cnf")), config).expect("writes");
    }

    /// Makes `folder/cert.pem` and `folder/key.pem`, beside who signed them as `folder/ca.pem`.
    fn sign(&self, authority: &str, folder: &str, names: &str, until: &str) {
        let at = |name: &str| format!("{folder}/{name}");
        fs::create_dir_all(self.0.join(folder)).expect("makes a folder");
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=leaf",
            "-addext",
            &format!("subjectAltName={names}"),
            "-keyout",
            &at("key.pem"),
            "-out",
            &at("csr.pem"),
        ]);
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            &format!("{authority}.cnf"),
            "-cert",
            &format!("{authority}.pem"),
            "-keyfile",
            &format!("{authority}-key.pem"),
            "-startdate",
            "20200101000000Z",
            "-enddate",
            until,
            "-in",
            &at("csr.pem"),
            "-out",
            &at("cert.pem"),
        ]);
        fs::copy(self.0.join(format!("{authority}.pem")), self.0.join(at("ca.pem"))).expect("copies");
    }
}

/// A free port, which is free for as long as nobody takes it.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    listener.local_addr().expect("has an address").port()
}

const LATER: &str = "20990101000000Z";
const EARLIER: &str = "20210101000000Z";

#[test]
fn certificates_prove_who_is_who_or_it_is_told_what_is_missing() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("stepping aside: this needs openssl (Debian: openssl)");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    authority.make("own");
    authority.make("other");
    authority.sign("own", "daemon", "IP:127.0.0.1,DNS:localhost", LATER);
    authority.sign("own", "old", "IP:127.0.0.1", EARLIER);
    authority.sign("own", "elsewhere", "DNS:build.example", LATER);
    authority.sign("own", "me", "DNS:me", LATER);
    authority.sign("other", "stranger", "DNS:me", LATER);
    // One who knows the daemon's authority, and is known to nobody.
    fs::copy(path("own.pem"), path("stranger/ca.pem")).expect("copies");
    fs::create_dir(path("nobody")).expect("makes a folder");
    fs::copy(path("own.pem"), path("nobody/ca.pem")).expect("copies");
    // One who is known, and trusts another authority.
    fs::create_dir(path("wary")).expect("makes a folder");
    for (from, to) in [("other.pem", "ca.pem"), ("me/cert.pem", "cert.pem"), ("me/key.pem", "key.pem")] {
        fs::copy(path(from), path(&format!("wary/{to}"))).expect("copies");
    }
    let serve = |certificate: &str| {
        let port = free_port();
        let more = [
            "--addr".to_owned(),
            format!("tcp://127.0.0.1:{port}"),
            "--tlscacert".to_owned(),
            path("own.pem"),
            "--tlscert".to_owned(),
            path(&format!("{certificate}/cert.pem")),
            "--tlskey".to_owned(),
            path(&format!("{certificate}/key.pem")),
        ];
        project_on(&more).map(|(env, daemon, _)| (env, daemon, format!("tcp://127.0.0.1:{port}")))
    };
    let with = |env: &TestEnv, address: &str, certs: &str| -> Run {
        let certs = path(certs);
        env.rb_with(&[("RB_ENGINE_CERTS", &certs)], [&format!("--engine={address}"), "+app"])
    };
    {
        let Some((env, _daemon, address)) = serve("daemon") else { return };
        with(&env, &address, "me").expect(0);
        assert_eq!(env.read("got/out"), "a one\n");
        let certs = path("me");
        env.rb(["engine", "add", "proved", &address, "--certs", &certs]).expect(0);
        env.rb(["--engine=proved", "+app"]).expect(0);
        env.rb(["engine", "inspect", "proved"]).expect(0);
        env.rb(["engine", "add", "x", &address, "--certs", "/nowhere"]).expect(2).tells("neither ca.pem");
        with(&env, &address, "wary").expect(3).tells("signed by nobody who is trusted").tells("ca.pem");
        // The alert that says why may be lost with the connection; what to do is told either way.
        let unknown = "have to be signed by the daemon's authority";
        with(&env, &address, "stranger").expect(3).tells("cannot be trusted").tells(unknown);
        with(&env, &address, "nobody").expect(3).tells("cannot be trusted").tells(unknown);
        with(&env, &address, "nowhere").expect(3).tells("neither ca.pem nor cert.pem");
        env.rb([&format!("--engine={address}"), "+app"])
            .expect(3)
            .tells("cannot be reached")
            .tells("RB_ENGINE_CERTS=DIR");
        // A certificate of one, and the key of another.
        fs::create_dir(path("mixed")).expect("makes a folder");
        for (from, to) in [("own.pem", "ca.pem"), ("me/cert.pem", "cert.pem"), ("daemon/key.pem", "key.pem")]
        {
            fs::copy(path(from), path(&format!("mixed/{to}"))).expect("copies");
        }
        with(&env, &address, "mixed").expect(2).tells("cannot be used").tells("the key that it was made for");
    }
    for (certificate, words) in [("old", "has expired"), ("elsewhere", "for another name than `127.0.0.1`")] {
        let Some((env, _daemon, address)) = serve(certificate) else { return };
        with(&env, &address, "me").expect(3).tells("cannot be trusted").tells(words);
    }
    // One that expects no certificates.
    let port = free_port();
    let plain = ["--addr".to_owned(), format!("tcp://127.0.0.1:{port}")];
    let Some((env, _daemon, _)) = project_on(&plain) else { return };
    let address = format!("tcp://127.0.0.1:{port}");
    env.rb([&format!("--engine={address}"), "+app"]).expect(0);
    with(&env, &address, "me").expect(3).tells("does not speak TLS");
}
