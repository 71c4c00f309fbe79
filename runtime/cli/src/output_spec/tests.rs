use rb_oci::{Compression, MediaTypes};

use super::*;

fn read(text: &str) -> OutputSpec {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn format_of(text: &str) -> ImageFormat {
    match read(text) {
        OutputSpec::Archive { format, .. }
        | OutputSpec::Load { format, .. }
        | OutputSpec::Image { format, .. } => format,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_what_docker_reads() {
    let archive = |dest: &str, tar, names: &[&str]| OutputSpec::Archive {
        dest: Dest::Path(dest.into()),
        tar,
        docker: false,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        format: ImageFormat::default(),
    };
    let tar = |dest| OutputSpec::Tar { dest, epoch_seconds: None, split: None };
    let local = |delete, split| OutputSpec::Local { dest: "out".into(), delete, split };
    let plain = |name: &str| ImageName::Plain(name.to_owned());
    let image =
        |names: Vec<ImageName>, push| OutputSpec::Image { names, format: ImageFormat::default(), push };
    for (text, expected) in [
        ("type=oci,dest=x.tar", archive("x.tar", true, &[])),
        ("type=oci,tar=false,dest=dir", archive("dir", false, &[])),
        ("\"dest=a,b\"\"c\",type=oci", archive("a,b\"c", true, &[])),
        ("type=oci,dest=x,\"name=a,b:1\"", archive("x", true, &["a", "b:1"])),
        ("type=tar,dest=x=y.tar", tar(Dest::Path("x=y.tar".into()))),
        ("type=tar,dest=-", tar(Dest::Stdout)),
        ("-", tar(Dest::Stdout)),
        ("type=local,dest=out", local(false, None)),
        ("type=local,dest=out,mode=delete", local(true, None)),
        ("type=local,dest=out,platform-split=false", local(false, Some(false))),
        ("out", local(false, None)),
        ("type=image,name=a:b", image(vec![plain("a:b")], None)),
        ("type=image,\"name=a,b\",unpack=true,store=true", image(vec![plain("a"), plain("b")], None)),
        ("type=image,prefer-nondist-layers=true,attestation-inline=true", image(Vec::new(), None)),
        (
            "type=image,name=h:5/a:b,name-canonical=true",
            image(vec![plain("h:5/a:b"), ImageName::Digest("h:5/a".to_owned())], None),
        ),
        ("type=image,dangling-name-prefix=x", image(vec![ImageName::Digest("x".to_owned())], None)),
        (
            "type=image,name=a,push=true",
            image(vec![plain("a")], Some(Push { by_digest: false, only: false })),
        ),
        (
            "type=registry,name=a,push-by-digest=true,store=false",
            image(vec![plain("a")], Some(Push { by_digest: true, only: false })),
        ),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn an_image_is_written_as_asked() {
    let format = format_of(
        "type=oci,dest=x,compression=zstd,compression-level=9,force-compression=true,source-date-epoch=7,\
         annotation.org.Example=1,annotation-manifest.b=2,annotation-manifest-descriptor.c=3,rewrite-timestamp=true",
    );
    assert_eq!(format.compression, Compression::Zstd { level: 9 });
    assert!(format.force_compression && format.epoch_seconds == Some(7));
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&format.annotations), ["b=2", "org.Example=1"]);
    assert_eq!(pairs(&format.descriptor_annotations), ["c=3"]);
    for (fields, expected) in [
        ("compression=uncompressed", Compression::Uncompressed),
        ("compression=gzip", Compression::Gzip { level: 6 }),
        ("compression-level=0", Compression::Gzip { level: 0 }),
        ("compression=zstd", Compression::Zstd { level: 3 }),
        ("compression=zstd,compression-level=0", Compression::Zstd { level: 3 }),
    ] {
        assert_eq!(format_of(&format!("type=oci,dest=x,{fields}")).compression, expected, "{fields}");
    }
    let types = |text| format_of(text).types;
    assert_eq!(types("type=docker"), MediaTypes::Docker);
    assert_eq!(types("type=docker,dest=x,oci-mediatypes=true"), MediaTypes::Oci);
    assert_eq!(types("type=docker,annotation.a=b"), MediaTypes::Oci, "Docker's have no annotations");
    assert_eq!(types("type=image,name=a,oci-mediatypes=false"), MediaTypes::Docker);
    assert!(matches!(read("type=docker"), OutputSpec::Load { .. }));
}

#[test]
fn annotations_are_put_where_they_are_said_to() {
    let mut format = format_of("type=oci,dest=x,annotation.a=own");
    for word in ["a=1", "manifest:b=2", "manifest-descriptor:c=3=4"] {
        word.parse::<Annotation>().expect(word).add_to(&mut format);
    }
    assert_eq!((format.annotations["a"].as_str(), format.annotations["b"].as_str()), ("own", "2"));
    assert_eq!(format.descriptor_annotations["c"], "3=4");
    let mut format = format_of("type=oci,dest=x,annotation-index.a=own,annotation-index-descriptor.b=own");
    for word in ["index:a=1", "index:c=2", "index-descriptor:d=3"] {
        word.parse::<Annotation>().expect(word).add_to(&mut format);
    }
    assert_eq!(
        (format.index_annotations["a"].as_str(), format.index_annotations["c"].as_str()),
        ("own", "2")
    );
    let of_descriptor = &format.index_descriptor_annotations;
    assert_eq!((of_descriptor["b"].as_str(), of_descriptor["d"].as_str()), ("own", "3"));
    for word in ["a", "=x", "what:a=b", "index:=b"] {
        assert!(word.parse::<Annotation>().is_err(), "{word}");
    }
}

#[test]
fn outputs_have_places_of_their_own() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("a")).expect("makes a folder");
    std::os::unix::fs::symlink("/", dir.path().join("top")).expect("links");
    std::os::unix::fs::symlink("a", dir.path().join("b")).expect("links");
    let checked = |texts: &[&str]| {
        let specs: Vec<OutputSpec> = texts.iter().map(|text| read(text)).collect();
        check(&specs, dir.path(), false).map_err(|error| error.to_string())
    };
    assert_eq!(checked(&["a/x", "a/y", "-", "type=image,name=a", "type=image,name=b"]), Ok(()));
    for root in ["/", "//", "/.", "/tmp/..", "top", "nowhere/../../../../../../../../../.."] {
        let error = checked(&[root]).expect_err(root);
        assert_eq!(error, format!("dest={root} is the root of the disk: name a folder of its own"));
    }
    for (one, two) in [
        ("a/x", "./a/x"),
        ("a/x", "b/x"),
        ("a", "b/"),
        ("type=tar,dest=n/x", "n/../n/x"),
        ("-", "type=oci,dest=-"),
    ] {
        assert!(checked(&[one, two]).is_err_and(|error| error.starts_with("two outputs")), "{one} {two}");
    }
    std::fs::write(dir.path().join("file"), "").expect("writes");
    for (text, what) in [
        ("file", "is a file"),
        ("type=local,dest=file,mode=delete", "is a file"),
        ("type=oci,tar=false,dest=file", "is a file"),
        ("type=oci,dest=a", "is a folder"),
        ("type=tar,dest=b", "is a folder"),
    ] {
        assert!(checked(&[text]).is_err_and(|error| error.contains(what)), "{text}");
    }
    assert_eq!(checked(&["type=oci,dest=file"]), Ok(()));
    assert_eq!(check(&[read("-")], dir.path(), true), Err(OutputSpecError::Terminal));
}

#[test]
fn names_what_is_wrong() {
    for (text, message) in [
        ("type=zip,dest=x", "type `zip` is unknown: expected oci, docker, tar, local, image or registry"),
        (
            "type=imagr,dest=x",
            "type `imagr` is unknown: expected oci, docker, tar, local, image or registry (did you mean `image`?)",
        ),
        ("type=oci", "type=oci needs dest=…"),
        ("type=image,push=true", "type=image needs name=…"),
        ("type=docker,tar=false", "type=docker needs dest=…"),
        (
            "dest=x",
            "no type: expected type=oci, type=docker, type=tar, type=local, type=image or type=registry",
        ),
        ("type=tar,dest=x,push=true", "type=tar has no `push`"),
        ("type=oci,dest=x,compresion=zstd", "type=oci has no `compresion` (did you mean `compression`?)"),
        ("type=oci,tar=maybe,dest=x", "`tar=maybe`: expected true or false"),
        ("type=oci,dest=x,compression=xz", "`compression=xz`: expected uncompressed, gzip or zstd"),
        ("type=oci,dest=x,compression-level=10", "`compression-level=10`: expected 0 to 9 for gzip"),
        (
            "type=oci,dest=x,compression=estargz",
            "`compression=estargz` is not part of this version of rb: layers are uncompressed, gzip or zstd",
        ),
        (
            "type=local,dest=x,attestation-prefix=a",
            "`attestation-prefix=a` is not part of this version of rb: `--provenance=filename=NAME` names the file of provenance",
        ),
        (
            "type=oci,dest=x,compatibility-version=20",
            "`compatibility-version=20` is not part of this version of rb: it has BuildKit write as an older BuildKit; rb writes in one way",
        ),
        (
            "type=registry,name=a,registry.insecure=true",
            "`registry.insecure=true` is not part of this version of rb: config.toml says how a registry is reached: `rb help registries`",
        ),
        ("type=local,dest=x,mode=sync", "`mode=sync`: expected copy or delete"),
        ("type=local,dest=x,platform-split=maybe", "`platform-split=maybe`: expected true or false"),
        (
            "type=image,\"name=a:1, me/App:2\"",
            "not the name of an image: a repository is written in lower case: `me/app`\n  \
             name=a:1, me/App:2\n            ^^^^^^^^",
        ),
        ("type=oci,dest=x,name=a b", "not the name of an image: it contains ' '\n  name=a b\n       ^^^"),
        (
            "type=image,dangling-name-prefix=ä",
            "not the name of an image: it contains 'ä'\n  dangling-name-prefix=ä\n                       ^",
        ),
        (
            "type=image,name=a,store=false",
            "`store=false` is not part of this version of rb: an image that is not pushed is kept",
        ),
        (
            "type=oci,dest=x,annotation.a=b,oci-mediatypes=false",
            "type=oci: annotations need OCI's media types, leave oci-mediatypes=false out",
        ),
        (
            "type=tar,dest=x,source-date-epoch=-1",
            "`source-date-epoch=-1`: expected seconds since 1970, before the year 10000",
        ),
        ("type=local,dest=-", "dest=- (standard output) takes an archive: type=oci, type=docker or type=tar"),
        (
            "type=oci,tar=false,dest=-",
            "dest=- (standard output) takes an archive: type=oci, type=docker or type=tar",
        ),
        ("type=tar,x", "`x` is not key=value"),
        ("type=oci,dest=", "dest= is empty: name a file or folder"),
        ("", "dest= is empty: name a file or folder"),
        ("type=tar,dest=a,dest=b", "`dest` is given twice"),
        (
            "+app",
            "`+app` is a target: this option takes type=TYPE,dest=PATH, and the target stands behind it",
        ),
    ] {
        let error = text.parse::<OutputSpec>().map_err(|error| error.to_string());
        assert_eq!(error, Err(message.to_owned()), "{text}");
    }
}
