//! A real registry of this machine's: Debian's `docker-registry`, on a free port with storage of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::scripted::{Reply, Scripted};

/// What the registry of a test asks of its users.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wants {
    /// It speaks TLS, with a certificate for 127.0.0.1 by an authority of its own.
    pub(crate) tls: bool,
    /// Basic authentication: user `rb`, password `secret`.
    pub(crate) password: bool,
    /// Tokens of the service with this realm; they are signed by [`DockerRegistry::sign`].
    pub(crate) realm: Option<String>,
}

/// A running registry. Dropped, it ends and its storage goes.
pub(crate) struct DockerRegistry {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    folder: PathBuf,
    child: Child,
}

/// `htpasswd -nbB rb secret`.
const HTPASSWD: &str = "rb:$2y$05$gUte1t10vsUrWNif3iwbEuRZc6NWdtl3qUKL4pjFnuFp0tyatmd6C\n";

impl DockerRegistry {
    /// Starts one in a new folder `folder`; none where the programs it takes are missing.
    #[expect(clippy::print_stderr, reason = "a test says why it steps aside")]
    pub(crate) fn start(folder: &Path, wants: &Wants) -> Option<Self> {
        let runs = |program: &str, argument: &str| {
            let made =
                Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
            made.is_ok()
        };
        if !runs("docker-registry", "--version") || !runs("openssl", "version") {
            eprintln!("stepped aside: needs the programs `docker-registry` and `openssl`");
            return None;
        }
        std::fs::create_dir_all(folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        make_certificate(folder);
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: test\n",
            path("storage")
        );
        if wants.tls {
            config +=
                &format!("  tls:\n    certificate: {}\n    key: {}\n", path("cert.pem"), path("key.pem"));
        }
        if wants.password {
            std::fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path("htpasswd"));
        }
        if let Some(realm) = &wants.realm {
            config += &format!(
                "auth:\n  token:\n    realm: {realm}\n    service: test\n    issuer: tests\n    rootcertbundle: {}\n",
                path("cert.pem")
            );
        }
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ',', ' ']).next()?.to_owned())
        });
        // What it says goes on being read, or it would stop.
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.expect("the registry says where it listens");
        Some(Self { host, folder: folder.to_owned(), child })
    }

    /// The authority that signed its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Starts a service of tokens for a registry that will be started in `folder`, which knows user `rb` with `secret`. Its
    /// realm goes into [`Wants::realm`].
    pub(crate) fn token_service(folder: &Path) -> (Scripted, String) {
        let keys = folder.to_owned();
        let service = Scripted::start(move |request, _| {
            if request.header("authorization") != Some("Basic cmI6c2VjcmV0") {
                return Reply::new(401, r#"{"details":"incorrect username or password"}"#);
            }
            let scopes = request.path.split(['?', '&']).filter_map(|part| part.strip_prefix("scope="));
            let plain = |scope: &str| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
            let scopes: Vec<_> = scopes.map(plain).collect();
            Reply::new(200, serde_json::json!({ "token": Self::sign(&keys, &scopes) }).to_string())
        });
        let realm = format!("http://{}/token", service.host);
        (service, realm)
    }

    /// Returns a token that allows `scope` (`repository:a/b:pull,push`; none allows nothing), as a JWT in RS256.
    pub(crate) fn sign(folder: &Path, scopes: &[String]) -> String {
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| {
                let mut parts = scope.splitn(3, ':');
                let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
                let actions: Vec<_> = actions.split(',').collect();
                Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        let pem = std::fs::read_to_string(folder.join("cert.pem")).unwrap();
        let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "x5c": [certificate] });
        let claims = serde_json::json!({
            "iss": "tests", "sub": "rb", "aud": "test", "exp": 4_000_000_000_u64, "nbf": 0, "iat": 0, "jti": "1",
            "access": access,
        });
        let text =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let file = folder.join(format!("claims-{:x}", text.len() * 31 + scopes.len()));
        std::fs::write(&file, &text).unwrap();
        let signed = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(folder.join("key.pem"))
            .arg(&file)
            .output()
            .unwrap();
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        format!("{text}.{}", encode(&signed.stdout))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Makes an authority, and a certificate that it signed.
pub(crate) fn make_certificate(folder: &Path) {
    let make = |subject: &str, to: &str, key: &str, more: &[&str]| {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject])
            .args(["-keyout", key, "-out", to])
            .args(more)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let authority =
        ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    make("/CN=rb test authority", "ca.pem", "ca-key.pem", &authority);
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    let signed = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", names];
    let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    make("/CN=rb test", "cert.pem", "key.pem", &[&signed[..], &no_authority].concat());
}

/// base64 as JWTs have it.
fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
