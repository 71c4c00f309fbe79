use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::Mutex;

use super::*;

/// Says what it was told to, and notes what it was asked.
#[derive(Default)]
struct Fake {
    answers: Mutex<Vec<Result<HelperOutput, HelperFailure>>>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn answers(self, success: bool, text: &str) -> Self {
        let output = HelperOutput { success, stdout: Secret::new(text), stderr: Secret::new("") };
        self.answers.lock().expect("nobody panics").insert(0, Ok(output));
        self
    }
}

impl HelperRunner for Fake {
    fn run(&self, program: &str, action: &str, input: &Secret) -> Result<HelperOutput, HelperFailure> {
        let input = String::from_utf8_lossy(input.as_ref());
        self.asked.lock().expect("nobody panics").push(format!("{program} {action} {input}"));
        self.answers.lock().expect("nobody panics").pop().unwrap_or(Err(HelperFailure::NotInstalled))
    }
}

struct Place {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
}

impl Place {
    fn new(text: &str, fake: Fake) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("config.json"), text).expect("writes");
        Self { dir, fake: Arc::new(fake) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> DockerConfig {
        let fake: Arc<dyn HelperRunner> = Arc::<Fake>::clone(&self.fake);
        DockerConfig::new(Some(self.path("config.json")), vec![self.path("auth.json")], fake)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("config.json")).expect("reads")
    }

    fn asked(&self) -> Vec<String> {
        self.fake.asked.lock().expect("nobody panics").clone()
    }
}

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.to_owned(), password: Secret::new(password) }
}

#[test]
fn dockers_file_counts_before_podmans_and_neither_has_to_be_there() {
    let place = Place::new(
        r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "a.example": {}, "a.example/x": {"auth": "eDp5"}}}"#,
        Fake::default(),
    );
    let found = |host: &str| place.config().find(host).expect(host);
    assert_eq!(found("docker.io"), Some(password("u", "p")));
    // An empty entry says nothing, another one for the host may.
    assert_eq!(found("a.example"), Some(password("x", "y")));
    assert_eq!(found("ghcr.io"), None);
    let podman = r#"{"auths": {"ghcr.io": {"auth": "cTpy"}, "docker.io": {"auth": "cTpy"}, "quay.io/team": {"auth": "cTpy"}}}"#;
    fs::write(place.path("auth.json"), podman).expect("writes");
    assert_eq!(found("ghcr.io"), Some(password("q", "r")));
    assert_eq!(found("docker.io"), Some(password("u", "p")));
    assert_eq!(found("quay.io"), None);
    fs::write(place.path("config.json"), " \n").expect("writes");
    assert_eq!(found("docker.io"), Some(password("q", "r")));
    fs::remove_file(place.path("config.json")).expect("removes");
    fs::remove_file(place.path("auth.json")).expect("removes");
    assert_eq!(found("docker.io"), None);
    assert_eq!(place.asked(), Vec::<String>::new());
}

#[test]
fn helpers_are_asked_for_the_hosts_they_are_named_for() {
    let text = r#"{
        "credsStore": "keys",
        "credHelpers": {"gcr.io": "gcloud", "docker.io": "hub", "plain.example": ""},
        "auths": {"plain.example": {"auth": "dTpw"}, "gcr.io": {"auth": "dTpw"}}
    }"#;
    let answer = r#"{"ServerURL": "x", "Username": "_token", "Secret": "s"}"#;
    let token = r#"{"Username": "<token>", "Secret": "s"}"#;
    let none = "credentials not found in native keychain\n";
    let fake = Fake::default()
        .answers(true, answer)
        .answers(true, token)
        .answers(false, none)
        .answers(false, none)
        .answers(true, r#"{"Username": "", "Secret": ""}"#);
    let place = Place::new(text, fake);
    let found = |host: &str| place.config().find(host).expect(host);
    assert_eq!(found("gcr.io"), Some(password("_token", "s")));
    assert_eq!(found("docker.io"), Some(Credential::IdentityToken(Secret::new("s"))));
    assert_eq!(found("ghcr.io"), None);
    // What the helper does not have, the file may.
    assert_eq!(found("gcr.io"), Some(password("u", "p")));
    assert_eq!(found("ghcr.io"), None);
    assert_eq!(found("plain.example"), Some(password("u", "p")));
    assert_eq!(
        place.asked(),
        [
            "docker-credential-gcloud get gcr.io",
            "docker-credential-hub get https://index.docker.io/v1/",
            "docker-credential-keys get ghcr.io",
            "docker-credential-gcloud get gcr.io",
            "docker-credential-keys get ghcr.io",
        ]
    );
}

#[test]
fn a_helper_that_fails_is_an_error_and_not_nobody() {
    let text = r#"{"credsStore": "keys"}"#;
    for (fake, expected) in [
        (Fake::default(), "`docker-credential-keys` cannot be asked: it is not installed"),
        (Fake::default().answers(false, "locked\n"), "`docker-credential-keys get` failed: locked"),
        (Fake::default().answers(false, ""), "`docker-credential-keys get` failed: it said nothing"),
        (
            Fake::default().answers(true, "hunter2"),
            "`docker-credential-keys get` answered what is not a credential: it is no JSON with Username and Secret",
        ),
    ] {
        let error = Place::new(text, fake).config().find("ghcr.io").expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    let fake = Fake::default().answers(false, "cannot keep hunter2");
    let place = Place::new(text, fake);
    let error = place.config().store("ghcr.io", "u", &Secret::new("hunter2")).expect_err("fails");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert_eq!(place.text(), text);
}

#[test]
fn what_is_wrong_in_a_file_has_a_place_and_shows_no_secret() {
    for (text, host, expected) in [
        ("{\"auths\": {\n  \"a\": {},\n}}", "a", "3:1: it is not JSON: "),
        ("{\"auths\": ", "a", "1:10: it is not JSON: EOF while parsing a value"),
        ("{} x", "a", "1:4: it is not JSON: trailing characters"),
        ("[\"hunter2\"]", "a", "1:1: expected an object"),
        ("{\n \"auths\": \"hunter2\"}", "a", "2:11: expected an object"),
        ("{\"auths\": {\n\n  \"a\": {\"auth\": \"hunter2\"}}}", "a", "3:8: the entry of `a`: `auth` "),
        ("{\"credsStore\": {}}", "a", "1:16: expected the name of a credential helper"),
        ("{\"credsStore\": \"../../bin/sh\"}", "a", "1:16: this cannot be the name of a credential helper"),
        ("{\"credHelpers\": {\"a\": \"x y\"}}", "a", "1:23: this cannot be the name of a credential helper"),
    ] {
        let place = Place::new(text, Fake::default());
        let error = place.config().find(host).expect_err(text);
        let told = error.to_string();
        let rest = told.strip_prefix(&format!("{}:", place.path("config.json").display())).expect(&told);
        assert!(rest.starts_with(expected), "{text}: {rest}");
        assert!(!told.contains("hunter2") && error.kind() == rb_diag::ErrorKind::Input, "{told}");
        // Nothing is written over what cannot be understood; a wrong entry is what a login may mend.
        let stored = place.config().store("a", "u", &Secret::new("p"));
        assert_eq!(stored.is_ok(), expected.contains("the entry"), "{text}");
        assert_eq!(place.text() != text, stored.is_ok(), "{text}");
    }
    let place = Place::new("", Fake::default());
    fs::write(place.path("config.json"), b"{\n  \"a\": \"\xff\"}").expect("writes");
    let error = place.config().find("a").expect_err("no text").to_string();
    assert!(error.ends_with("config.json:2:9: it is not UTF-8"), "{error}");
    fs::remove_file(place.path("config.json")).expect("removes");
    fs::create_dir(place.path("config.json")).expect("a folder");
    let error = rb_diag::chain(&place.config().find("a").expect_err("a folder"));
    assert!(error.ends_with("config.json` cannot be read: it is not a regular file"), "{error}");
}

#[test]
fn a_rewrite_changes_one_entry_and_leaves_the_rest_as_it_was() {
    let text = "{\n\t\"zeta\": 12345678901234567890123,\n\t\"HttpHeaders\": { \"B\": 1.10,  \"A\": [\"\\u00e9\"] },\n\t\
                \"auths\": {\n\t\t\"z.example\": {\"auth\": \"eDp5\", \"email\": \"a@b\"},\n\t\t\"a.example\": {}\n\t},\n\t\
                \"alpha\": null\n}\n";
    let place = Place::new(text, Fake::default());
    let stored = place.config().store("a.example", "u", &Secret::new("p")).expect("stores");
    assert_eq!(stored, CredentialPlace::File(place.path("config.json")));
    let expected = text.replace("\"a.example\": {}", "\"a.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}");
    assert_eq!(place.text(), expected);
    assert_eq!(fs::metadata(place.path("config.json")).expect("is there").mode() & 0o7777, 0o600);
    place.config().store("docker.io", "u", &Secret::new("p")).expect("stores");
    assert_eq!(place.config().find("docker.io").expect("finds"), Some(password("u", "p")));
    let erased = place.config().erase("docker.io").expect("erases");
    assert_eq!(erased.from, [CredentialPlace::File(place.path("config.json"))]);
    assert_eq!(place.text(), expected);
    assert_eq!(place.config().erase("docker.io").expect("erases"), Erased::default());
    assert_eq!(fs::read_dir(place.dir.path()).expect("lists").count(), 1, "nothing is left beside it");
}

#[test]
fn a_helper_keeps_what_the_file_then_does_not() {
    let text = r#"{"credsStore": "keys", "auths": {"a.example": {"auth": "eDp5"}}}"#;
    let none = "credentials not found in native keychain";
    let fake = Fake::default().answers(true, "").answers(true, "").answers(false, none);
    let place = Place::new(text, fake);
    let stored = place.config().store("a.example", "u\"", &Secret::new("p\\")).expect("stores");
    assert_eq!(stored, CredentialPlace::Helper("docker-credential-keys".to_owned()));
    assert!(place.text().contains("\"a.example\": {}") && !place.text().contains("eDp5"), "{}", place.text());
    fs::write(place.path("auth.json"), r#"{"auths": {"a.example": {"auth": "eDp5"}}}"#).expect("writes");
    let erased = place.config().erase("a.example").expect("erases");
    assert_eq!(erased.from, [CredentialPlace::Helper("docker-credential-keys".to_owned())]);
    assert_eq!(erased.left, [place.path("auth.json")]);
    assert!(!place.text().contains("a.example"), "{}", place.text());
    assert_eq!(place.config().erase("a.example").expect("erases").from, []);
    assert_eq!(
        place.asked(),
        [
            r#"docker-credential-keys store {"ServerURL":"a.example","Username":"u\"","Secret":"p\\"}"#,
            "docker-credential-keys erase a.example",
            "docker-credential-keys erase a.example",
        ]
    );
}

#[test]
fn links_are_followed_also_to_what_is_not_there_yet() {
    let place = Place::new("{}", Fake::default());
    fs::create_dir(place.path("dotfiles")).expect("a folder");
    fs::rename(place.path("config.json"), place.path("dotfiles/real.json")).expect("moves");
    symlink("dotfiles/real.json", place.path("link")).expect("links");
    symlink("link", place.path("config.json")).expect("links");
    let store = || place.config().store("a.example", "u", &Secret::new("p")).expect("stores");
    store();
    let real = || fs::symlink_metadata(place.path("dotfiles/real.json")).expect("is there");
    assert!(place.path("config.json").is_symlink() && place.path("link").is_symlink() && real().is_file());
    assert!(place.text().contains("dTpw"));
    fs::remove_dir_all(place.path("dotfiles")).expect("removes");
    store();
    assert!(place.path("config.json").is_symlink() && real().is_file());
    // A logout where nothing is makes nothing.
    let nowhere =
        DockerConfig::new(Some(place.path("none/config.json")), Vec::new(), Arc::new(Fake::default()));
    assert_eq!(nowhere.erase("a.example").expect("erases"), Erased::default());
    assert!(!place.path("none").exists());
    nowhere.store("a.example", "u", &Secret::new("p")).expect("stores");
    assert_eq!(fs::metadata(place.path("none")).expect("is there").mode() & 0o777, 0o700);
}

#[test]
fn writers_wait_for_one_another() {
    let place = Place::new("{}", Fake::default());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let config = place.config();
            scope.spawn(move || {
                config.store(&format!("r{number}.example"), "u", &Secret::new("p")).expect("stores");
            });
        }
    });
    for number in 0..8 {
        let found = place.config().find(&format!("r{number}.example")).expect("finds");
        assert_eq!(found, Some(password("u", "p")), "{number}");
    }
    assert_eq!(fs::read_dir(place.dir.path()).expect("lists").count(), 1, "no lock is left");
}

#[tokio::test]
async fn an_error_names_the_host() {
    let place = Place::new("{\"credsStore\": \"keys\"}", Fake::default());
    let error = place.config().get("ghcr.io").await.expect_err("not installed");
    assert_eq!(
        error.to_string(),
        "cannot look up the credentials for ghcr.io: `docker-credential-keys` cannot be asked: it is not installed"
    );
    assert!(error.help.is_some_and(|help| help.contains("credsStore")));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[{}\\[\\]\",:a-c\n \\\\u0-9]{0,40}") {
        let file = Path::new("/f");
        if let Ok(document) = Document::parse(file, &text) {
            document.credential("a", Habit::Docker).map(drop).unwrap_or_default();
            let again = document.render();
            let read: serde_json::Value = serde_json::from_str(if text.trim().is_empty() { "{}" } else { &text }).expect("was read");
            let written: serde_json::Value = serde_json::from_str(&again).expect("is JSON");
            proptest::prop_assert!(read.is_null() || read == written);
        }
    }
}
