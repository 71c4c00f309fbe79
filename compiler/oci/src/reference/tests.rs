//! What docker and BuildKit take for a name, and what they do not.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Text, canonical form, familiar form.
#[test]
fn names_are_filled_in_as_docker_fills_them_in() {
    let long = format!("example.com/{}", "a".repeat(255));
    let rows: Vec<(String, String, String)> = [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
        ("docker.io/library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
        ("store/foo/bar", "docker.io/store/foo/bar:latest", "store/foo/bar:latest"),
        ("a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("LOCALDOMAIN/fooo/bar", "LOCALDOMAIN/fooo/bar:latest", "LOCALDOMAIN/fooo/bar:latest"),
        ("Foo/bar", "Foo/bar:latest", "Foo/bar:latest"),
        ("test.com/repo:tag", "test.com/repo:tag", "test.com/repo:tag"),
        ("test.com:5000", "docker.io/library/test.com:5000", "test.com:5000"),
        ("192.168.0.1:80", "docker.io/library/192.168.0.1:80", "192.168.0.1:80"),
        ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000/repo:5050", "192.168.1.1:5000/repo:5050"),
        ("[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000/repo:tag"),
        ("[::1]/repo", "[::1]/repo:latest", "[::1]/repo:latest"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"),
        (
            "docker---rules/dock__er",
            "docker.io/docker---rules/dock__er:latest",
            "docker---rules/dock__er:latest",
        ),
        ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase", "lowercase:Uppercase"),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com",
        ),
        (&long, &format!("{long}:latest"), &format!("{long}:latest")),
        (
            &format!("busybox@{DIGEST}"),
            &format!("docker.io/library/busybox@{DIGEST}"),
            &format!("busybox@{DIGEST}"),
        ),
        (
            &format!("h:5000/a/b:t@{DIGEST}"),
            &format!("h:5000/a/b:t@{DIGEST}"),
            &format!("h:5000/a/b:t@{DIGEST}"),
        ),
    ]
    .map(|(text, canonical, familiar)| (text.to_owned(), canonical.to_owned(), familiar.to_owned()))
    .to_vec();
    for (text, canonical, familiar) in rows {
        let reference = parse(&text);
        assert_eq!(reference.to_string(), canonical, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(parse(&canonical), reference, "{text}");
        assert_eq!(parse(&familiar), reference, "{text}");
    }
}

#[test]
fn refused_with_the_reason() {
    let id = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";
    for (text, reason) in [
        ("", "it is empty"),
        (":justtag", "it names no repository"),
        (&format!("@{DIGEST}"), "it names no repository"),
        ("repo@sha256:ffffffffffffffffffffffffffffffffff", "64 lower-case hex digits"),
        (&format!("repo@{}", DIGEST.to_uppercase()), "64 lower-case hex digits"),
        (&format!("repo@sha512:{}", "f".repeat(128)), "only sha256 is supported"),
        ("Uppercase:tag", "lower case: `uppercase`"),
        ("test:5000/Uppercase/lowercase:tag", "lower case: `uppercase/lowercase`"),
        ("docker/Docker", "lower case: `docker/docker`"),
        (&format!("domain/{}:tag", "a".repeat(256)), "longer than 255"),
        ("aa/asdf$$^/aa", "`$` cannot be"),
        ("[2001:db8::1]", "cannot be"),
        ("[2001:db8::1]:tag", "cannot be"),
        ("[fe80::1%eth0]:5000/repo", "not an IPv6 address"),
        ("[2001:db8:3:4::192.0.2.33]:5000/debian", "not an IPv6 address"),
        ("[::1/repo", "`[` without `]`"),
        ("fc00::1:5000/debian", "port"),
        ("https://github.com/docker/docker", "write `github.com/docker/docker`"),
        ("-docker", "begins or ends"),
        ("docker-/docker", "begins or ends"),
        ("-docker.io/docker/docker", "not a host name"),
        ("docker///docker", "is empty"),
        ("docker/", "is empty"),
        ("docker.io/", "it names no repository"),
        ("____/____", "begins or ends"),
        ("dock..er/docker", "not a host name"),
        ("a/dock..er", "does not separate"),
        ("a/dock_.er", "does not separate"),
        ("a/dock-.er", "does not separate"),
        ("a/../b", "begins or ends"),
        ("busybox:", "its tag is empty"),
        ("busybox:-foo", "its tag `-foo`"),
        ("busybox:a:b", "its tag `a:b`"),
        (&format!("busybox:{}", "t".repeat(129)), "longer than 128"),
        ("h:99999/x", "port"),
        ("h:+80/x", "port"),
        ("busy box", "' '"),
        ("busybox\u{7}", "'\\u{7}'"),
        (id, "id of an image"),
    ] {
        let error = text.parse::<Reference>().expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains('\u{7}'));
    }
    assert_eq!(parse(&format!("docker.io/{id}")).familiar(), format!("library/{id}:latest"));
    // Nor what would be taken for a name on another host.
    for text in [
        "docker.io/example.com/a:latest",
        "docker.io/localhost/a:latest",
        "docker.io/index.docker.io/a:latest",
    ] {
        assert_eq!(parse(text).familiar(), text);
        assert_eq!(parse(&parse(text).familiar()), parse(text));
    }
}

#[test]
fn parts_and_pinning() {
    let reference = parse("ghcr.io/a/b:1");
    assert_eq!(reference.repository().host(), "ghcr.io");
    assert_eq!(reference.repository().path(), "a/b");
    assert_eq!((reference.tag(), reference.identifier().as_str()), (Some("1"), "1"));
    let pinned = reference.pinned(DIGEST.parse().unwrap());
    assert_eq!(pinned.to_string(), format!("ghcr.io/a/b:1@{DIGEST}"));
    assert_eq!(pinned.identifier(), DIGEST);
    let repository: Repository = "ghcr.io/a/b".parse().unwrap();
    assert_eq!(repository.with_tag("1"), Ok(reference));
    assert!(repository.with_tag("a/b").is_err());
    assert_eq!(repository.with_digest(DIGEST.parse().unwrap()).tag(), None);
    assert_eq!(serde_json::to_string(&pinned).unwrap(), format!("\"{pinned}\""));
    assert!(serde_json::from_str::<Reference>("\"A\"").is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        if let Err(error) = text.parse::<Reference>() {
            prop_assert!(!error.to_string().contains(|letter: char| letter.is_control()));
        }
    }

    #[test]
    fn what_is_shown_parses_to_the_same(
        text in "([a-z]{0,3}[.:A-Z\\[\\]1-9]{0,3}/)?[a-z0-9._/-]{1,12}(:[a-zA-Z._-]{0,4})?(@sha256:[0-9a-f]{64})?"
    ) {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
            prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference.clone()));
            prop_assert!(!reference.repository().path().split('/').any(|part| part.is_empty() || part == ".."));
        }
    }
}
