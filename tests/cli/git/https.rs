//! Repositories behind https: authorities of the user's own, and tokens.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::git_host::{GitHost, Line, Manners};
use crate::env::TestEnv;
use crate::registry::support::docker_registry::make_certificate;

/// A host that shows `cert.pem` of a folder.
fn secured(folder: &Path) -> GitHost {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("reads");
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("reads");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("is known").with_no_client_auth().with_single_cert(vec![certificate], key);
    let config = Arc::new(config.expect("fits"));
    GitHost::start_on(Arc::new(move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)) as Box<dyn Line>)
    }))
}

#[test]
fn an_authority_of_the_users_own_and_a_token() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("stepping aside: this needs openssl (Debian: openssl)");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_certificate(folder.path());
    let host = secured(folder.path());
    let repository = host.repository("team/lib.git");
    repository.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY text /\n    SAVE ARTIFACT /text AS LOCAL out\n",
    );
    repository.write("text", "secured\n");
    repository.commit();
    // x-access-token:hunter2-token
    let wanted = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi10b2tlbg==";
    host.set(Manners { wanted: Some(wanted.to_owned()), ..Manners::default() });

    let env = TestEnv::new();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, format!("[git.'git.example']\nurl = 'https://{}'\n", host.host)).expect("writes");
    let config = config.to_str().expect("is text");
    let ca = folder.path().join("ca.pem").display().to_string();
    let rb = |args: &[&str]| env.rb_with(&[("RB_CONFIG", config)], args);
    let target = "git.example/team/lib+t";
    rb(&[target]).expect(2).says("cannot be trusted").says("name that as `ca` in [network]");
    let unasked = host.asked();
    assert!(unasked.is_empty(), "nothing is shown to who is not trusted: {unasked:?}");
    let told = format!("--secret GIT_AUTH_TOKEN.{}=TOKEN", host.host);
    rb(&["--ca", &ca, target]).expect(2).says("wants to know who asks").says(&told);
    let of_host = format!("GIT_AUTH_TOKEN.{}=hunter2-token", host.host);
    rb(&["--ca", &ca, "--secret", &of_host, target]).expect(0).hides("hunter2");
    assert_eq!(env.read("out"), "secured\n");
    assert!(!super::state_of(&env).contains("hunter2-token"));
    // Or of the user's own file, where no step finds it.
    let env = TestEnv::new();
    let said = format!("[git.'git.example']\nurl = 'https://{}'\npassword = 'hunter2-token'\n", host.host);
    std::fs::write(config, said).expect("writes");
    let rb = |args: &[&str]| env.rb_with(&[("RB_CONFIG", config)], args);
    rb(&["--ca", &ca, target]).expect(0).hides("hunter2");
    assert_eq!(env.read("out"), "secured\n");
    assert!(!super::state_of(&env).contains("hunter2-token"));
    let shown = rb(&["config"]).expect(0).stdout;
    assert!(shown.contains("git.\"git.example\".password") && !shown.contains("hunter2"), "{shown}");

    let env = TestEnv::new();
    let clone = format!(
        "VERSION 1\nt:\n    FROM scratch\n    GIT CLONE https://{}/team/lib.git /app\n    SAVE ARTIFACT /app/text AS LOCAL out\n",
        host.host
    );
    env.write("Buildfile", clone);
    env.rb(["--ca", &ca, "--secret", &of_host, "+t"]).expect(0);
    assert_eq!(env.read("out"), "secured\n");
}
