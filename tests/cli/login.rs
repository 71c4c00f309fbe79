//! `rb login`, `rb logout` and `config.toml`: who we are to a registry, and how it is reached.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::env::{Run, TestEnv};

/// A registry, as far as logins go: it speaks HTTP, knows `me` with `hunter2`, and ends with the tests.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    host
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    loop {
        let mut known = false;
        let mut line = String::new();
        loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                // base64 of `me:hunter2`
                Ok(_) => {
                    known |= line.to_lowercase().starts_with("authorization: basic")
                        && line.contains("bWU6aHVudGVyMg==");
                }
            }
        }
        let head = if known {
            "200 OK\r\n"
        } else {
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\n"
        };
        let text = format!(
            "HTTP/1.1 {head}Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// A project, a registry that its user's settings know, and a folder for programs of the user's.
struct Place {
    env: TestEnv,
    host: String,
}

impl Place {
    fn new() -> Self {
        let place = Self { env: TestEnv::new(), host: registry() };
        let settings = format!("[registry.\"{}\"]\nhttp = true\n", place.host);
        place.write(".config/rb/config.toml", &settings);
        place
    }

    fn home(&self, path: &str) -> PathBuf {
        self.env.project().parent().expect("has one").join("home").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.home(path);
        fs::create_dir_all(path.parent().expect("lies at home")).expect("makes folders");
        fs::write(path, text).expect("writes");
    }

    fn docker_config(&self) -> String {
        fs::read_to_string(self.home(".docker/config.json")).expect("reads")
    }

    /// A helper that keeps what it is told in a file beside it.
    fn helper(&self, name: &str, script: &str) -> String {
        let path = self.home(&format!("bin/docker-credential-{name}"));
        self.write(
            &format!("bin/docker-credential-{name}"),
            &format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n{script}"),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("modes");
        format!("{}:/usr/bin:/bin", self.home("bin").display())
    }

    /// Runs `rb login` with a password on stdin.
    fn login(&self, password: &str, variables: &[(&str, &str)]) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rb"))
            .args(["login", &self.host, "-u", "me", "--password-stdin"])
            .current_dir(self.env.project())
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("NO_COLOR", "1")])
            .env("HOME", self.home(""))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rb starts");
        // Where rb has no use for a password, nobody reads it.
        child.stdin.take().expect("is piped").write_all(password.as_bytes()).ok();
        let output = child.wait_with_output().expect("rb ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

const HELPER: &str = "\
case $1 in
store) cat > kept ;;
get) test -e kept && sed 's/\"ServerURL\":\"[^\"]*\",//' kept || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) cat > erased; rm -f kept ;;
esac
";

#[test]
fn a_login_lies_in_dockers_file_and_a_logout_takes_it_out() {
    let place = Place::new();
    place.write(".docker/config.json", "{\n\t\"HttpHeaders\": {\"X\": \"y\"},\n\t\"auths\": {}\n}\n");
    place.login("hunter2\n", &[]).expect(0).says("logged in to").says(".docker/config.json").hides("hunter2");
    let text = place.docker_config();
    assert!(text.contains("bWU6aHVudGVyMg==") && text.contains("{\"X\": \"y\"}"), "{text}");
    let mode = fs::metadata(place.home(".docker/config.json")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    place.env.rb(["logout", &place.host]).expect(0).says("no longer has it");
    assert_eq!(
        place.docker_config(),
        text.replace(
            &text[text.find("{\n\t\t").expect("an entry")..text.rfind("\n}").expect("an end")],
            "{}"
        )
    );
    place.env.rb(["logout", &place.host]).expect(0).says("nobody was logged in");
}

#[test]
fn a_helper_keeps_the_password_and_no_command_line_shows_it() {
    let place = Place::new();
    place.write(".docker/config.json", "{\"credsStore\": \"test\"}");
    let path = place.helper(
        "test",
        &format!("echo \"$0 $*\" >> calls; tr '\\0' ' ' < /proc/$$/environ >> calls\n{HELPER}"),
    );
    let variables = [("PATH", path.as_str())];
    place.login("hunter2", &variables).expect(0).says("`docker-credential-test`").hides("hunter2");
    let kept = fs::read_to_string(place.home("bin/kept")).expect("was stored");
    assert_eq!(
        kept,
        format!("{{\"ServerURL\":\"{}\",\"Username\":\"me\",\"Secret\":\"hunter2\"}}", place.host)
    );
    assert!(!place.docker_config().contains("bWU6"), "{}", place.docker_config());
    assert!(!fs::read_to_string(place.home("bin/calls")).expect("was called").contains("hunter2"));
    place.env.rb_with(&variables, ["logout", &place.host]).expect(0).says("`docker-credential-test`");
    assert!(!place.home("bin/kept").exists());
    assert_eq!(fs::read_to_string(place.home("bin/erased")).expect("was told"), place.host);
}

#[test]
fn what_cannot_be_kept_is_an_error_and_says_where() {
    let place = Place::new();
    place.write(".docker/config.json", "{\"credsStore\": \"none\"}");
    place.login("hunter2", &[]).expect(3).says("docker-credential-none").says("credsStore").hides("hunter2");
    place.write(".docker/config.json", "{\"credsStore\": \"../x\"}");
    place.login("hunter2", &[]).expect(2).says("config.json:1:16");
    place.write(".docker/config.json", "{\n  \"auths\": {,}\n}");
    place.login("hunter2", &[]).expect(2).says("config.json:2:13").hides("hunter2");
    place.env.rb(["logout", &place.host]).expect(2).says("config.json:2:13");
    place.write(".docker/config.json", "{\"credsStore\": \"bad\"}");
    let path = place.helper("bad", "cat; echo; exit 1");
    place.login("hunter2", &[("PATH", &path)]).expect(3).says("repeats the password").hides("hunter2");
}

#[test]
fn what_the_registry_does_not_take_is_not_kept() {
    let place = Place::new();
    place.login("hunter3", &[]).expect(2).says("does not take this name").hides("hunter3");
    assert!(!place.home(".docker").exists());
    // Nobody listens there.
    let closed =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let run = place.env.rb(["login", &closed, "-u", "me", "-p", "hunter2"]);
    run.expect(3).says("cannot reach").hides("hunter2");
}

#[test]
fn a_login_of_podmans_is_left_to_it_and_told() {
    let place = Place::new();
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6aHVudGVyMg==\"}}}}}}", place.host);
    place.write("auth.json", &text);
    let file = place.home("auth.json").display().to_string();
    let run = place.env.rb_with(&[("REGISTRY_AUTH_FILE", &file)], ["logout", &place.host]).expect(0);
    run.says("nobody was logged in").says("podman logout");
    assert_eq!(fs::read_to_string(&file).expect("is there"), text);
}

#[test]
fn wrong_words_are_exit_2() {
    let place = Place::new();
    let host = place.host.as_str();
    place.env.rb(["login", host]).expect(2).says("no terminal").says("--password-stdin");
    place.env.rb(["login", host, "-u", "me"]).expect(2).says("no terminal");
    place.env.rb(["login", host, "--password-stdin"]).expect(2).says("--username");
    place.env.rb(["login", host, "-u", "me", "-p", "x", "--password-stdin"]).expect(2).says("cannot be used");
    place.env.rb(["login", "ghcr.io/team", "-u", "me", "-p", "x"]).expect(2).says("it has a path");
    place.env.rb(["login", host, "-u", "", "-p", "x"]).expect(2).says("the name is empty");
    place.login("\n", &[]).expect(2).says("the password is empty");
    place.env.rb(["--push", "login", host]).expect(2).says("say nothing to `rb login`");
}

#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let place = Place::new();
    let run = place.env.rb(["login", &place.host, "-u", "me", "-p", "hunter2"]);
    run.expect(0).says("--password-stdin").says("logged in").hides("hunter2");
}

#[test]
fn a_terminal_is_asked_and_does_not_show_the_password() {
    let Ok(found) = Command::new("script").arg("--version").output() else {
        eprintln!("stepping aside: there is no script(1)");
        return;
    };
    assert!(found.status.success());
    let place = Place::new();
    let line = format!("{} login {}; stty -a", env!("CARGO_BIN_EXE_rb"), place.host);
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(place.env.project())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "dumb")])
        .env("HOME", place.home(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    let mut output = BufReader::new(child.stdout.take().expect("is piped"));
    let mut stdin = child.stdin.take().expect("is piped");
    let mut seen = Vec::new();
    let mut until = |question: &str| {
        while !String::from_utf8_lossy(&seen).ends_with(question) {
            let read = output.read_until(b' ', &mut seen).expect("reads");
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        }
    };
    until(&format!("name for {}: ", place.host));
    stdin.write_all(b"me\n").expect("types");
    until("token: ");
    stdin.write_all(b"hunter3\x7f2\n").expect("types");
    std::io::Read::read_to_end(&mut output, &mut seen).expect("reads");
    drop(stdin);
    child.wait().expect("ends");
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("logged in to") && !seen.contains("hunter"), "{seen}");
    // The terminal is as it was.
    assert!(seen.contains(" echo ") && seen.contains(" icanon") && seen.contains("isig"), "{seen}");
    assert!(place.docker_config().contains("bWU6aHVudGVyMg=="), "{}", place.docker_config());
}

#[test]
fn settings_are_told_and_their_mistakes_have_places() {
    let place = Place::new();
    place.env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    RUN true\n");
    place.write(".config/rb/config.toml", "[network]\nhttp-proxy = \"http://u:hunter2@p\"\n");
    let run = place.env.rb(["+t"]).expect(2).says("config.toml:2:1").says("`http_proxy`");
    run.hides("hunter2");
    place.write("other.toml", "jobs = 'many'\n");
    let other = place.home("other.toml").display().to_string();
    place.env.rb_with(&[("RB_CONFIG", &other)], ["+t"]).expect(2).says("other.toml:1:8");
    place.env.rb_with(&[("RB_CONFIG", "/nonexistent/c.toml")], ["+t"]).expect(2).says("/nonexistent/c.toml");
    // What comes with a project has no say in where the settings are.
    place.write(".config/rb/config.toml", "");
    place.env.write(".env", format!("RB_CONFIG={other}\n"));
    place.env.rb(["compile", "+t"]).expect(0).says("`.env` does not set RB_CONFIG");
    place.write("other.toml", "jobs = 1\n");
    let run = place.env.rb_with(&[("RB_CONFIG", &other)], ["doctor"]);
    assert!(run.stdout.contains("settings of ") && run.stdout.contains("other.toml"), "{}", run.stdout);
}
