use super::*;

fn refused<T: FromStr<Err = String> + std::fmt::Debug>(text: &str, help: &str) {
    let error = text.parse::<T>().expect_err(text);
    assert!(error.contains(help), "{text}: {error}");
}

#[test]
fn volumes_are_folders_of_this_machine() {
    let volume = |source: &str, target: &str, readonly| {
        Ok(Volume { source: source.into(), target: target.to_owned(), readonly })
    };
    assert_eq!("/a:/b".parse(), volume("/a", "/b", false));
    assert_eq!("./a b:/b/../c:ro,z".parse(), volume("./a b", "/b/../c", true));
    assert_eq!(".:/w:rw".parse(), volume(".", "/w", false));
    assert_eq!("..:/w:".parse(), volume("..", "/w", false));
    refused::<Volume>("data:/b", "write `./data` for a folder");
    refused::<Volume>(".data:/b", "write `./.data` for a folder");
    refused::<Volume>("~/x:/b", "`$HOME/x`");
    refused::<Volume>("/data", "--tmpfs /data");
    refused::<Volume>("/a:b", "not an absolute path");
    refused::<Volume>("/a:/", "the root");
    refused::<Volume>("/a:/..//.", "the root");
    refused::<Volume>("/a:/b:rO", "no option `rO`");
    refused::<Volume>("/a:/b:ro:x", "expected SRC:DST");
    refused::<Volume>(":/b", "no name");
}

#[test]
fn ports_listen_on_the_loopback_unless_told() {
    let publish = |listen: &str, port| Ok(Publish { listen: listen.parse().expect("an address"), port });
    assert_eq!("8080:80".parse(), publish("127.0.0.1:8080", 80));
    assert_eq!("0.0.0.0:8080:80/tcp".parse(), publish("0.0.0.0:8080", 80));
    assert_eq!("[::1]:8080:80".parse(), publish("[::1]:8080", 80));
    refused::<Publish>("80", "write 80:80");
    refused::<Publish>("8000-8010:8000-8010", "is a range");
    refused::<Publish>("53:53/udp", "only TCP");
    refused::<Publish>("0:80", "no port");
    refused::<Publish>("+1:80", "no port");
    refused::<Publish>("65536:80", "no port");
    refused::<Publish>("localhost:80:80", "no address");
    refused::<Publish>("::1:80:80", "no address");
    refused::<Publish>("", "expected");
}

#[test]
fn mounts_are_binds_or_in_memory() {
    let bind = Volume { source: "./a".into(), target: "/b".to_owned(), readonly: true };
    assert_eq!("type=bind,src=./a,dst=/b,readonly".parse(), Ok(RunMount::Bind(bind)));
    let tmpfs = Tmpfs { target: "/t".to_owned(), size_bytes: Some(64 << 20), mode: 0o700 };
    assert_eq!(
        "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=700".parse(),
        Ok(RunMount::Tmpfs(tmpfs.clone()))
    );
    assert_eq!("/t:size=65536k,mode=0700,noexec".parse(), Ok(tmpfs));
    assert_eq!("/t".parse::<Tmpfs>().map(|tmpfs| (tmpfs.size_bytes, tmpfs.mode)), Ok((None, 0o1777)));
    refused::<RunMount>("src=./a,dst=/b", "rb keeps no volumes");
    refused::<RunMount>("type=bind,src=./a", "no dst=");
    refused::<RunMount>("type=bind,sorce=./a,dst=/b", "did you mean `source`?");
    refused::<RunMount>("type=tmpfs,src=./a,dst=/b", "has no src=");
    refused::<Tmpfs>("/t:size=99999999999g", "no size");
    refused::<Tmpfs>("/t:mode=8", "no mode");
    refused::<Tmpfs>("t", "absolute");
}

#[test]
fn hosts_have_names_and_addresses() {
    let host = |name: &str, address: &str| {
        Ok(AddHost { name: name.to_owned(), address: address.parse().expect("an address") })
    };
    assert_eq!("db:10.0.0.7".parse(), host("db", "10.0.0.7"));
    assert_eq!("db:2001:db8::1".parse(), host("db", "2001:db8::1"));
    assert_eq!("db=[::1]".parse(), host("db", "::1"));
    assert_eq!("me:host-gateway".parse(), host("me", "127.0.0.1"));
    refused::<AddHost>("db", "NAME:IP");
    refused::<AddHost>("a\nb:10.0.0.7", "no name");
    refused::<AddHost>("db:there", "no IP");
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_answer(text in "[a-z0-9./:,=~\\[\\]-]{0,24}|.{0,16}") {
        if let Ok(volume) = text.parse::<Volume>() {
            assert!(volume.target.starts_with('/') && !volume.source.as_os_str().is_empty());
        }
        if let Ok(publish) = text.parse::<Publish>() {
            assert!(publish.port != 0 && publish.listen.port() != 0);
        }
        text.parse::<RunMount>().ok();
        text.parse::<Tmpfs>().ok();
        text.parse::<AddHost>().ok();
    }
}
