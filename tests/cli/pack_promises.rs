//! What a build with buildpacks runs again when something changes: the builder and the app of `pack`.
//!
//! Beside what stands there (nothing changed, another base, another buildpack of the group, a second machine): a touched source, and a
//! buildpack of the builder that the order does not name.

use crate::env::Run;
use crate::pack::{PASS, Packed, is_known, runs};

/// Makes a program of the sources, and takes these away: what it leaves says nothing of their remarks.
const BUILD_FIRST: &str = r#"#!/bin/sh
set -e
mkdir -p bin
grep -v '^#' src/main > bin/main
rm -rf src
mkdir "$1/tools"
cp Lockfile "$1/tools/lock"
printf '[types]\nbuild=true\nlaunch=true\n' > "$1/tools.toml"
"#;

/// Reads what the first one left.
const BUILD_SECOND: &str = r#"#!/bin/sh
set -e
cat bin/main > second.txt
cat /layers/test_first/tools/lock >> second.txt
printf '[[processes]]\ntype="web"\ncommand=["true"]\ndefault=true\n' > "$1/launch.toml"
"#;

/// Takes what the first one left into the image.
const BUILD_LAST: &str = "#!/bin/sh\nmkdir \"$1/l\"\ncat bin/main > \"$1/l/main\"\nprintf '[types]\\nlaunch=true\\n' > \"$1/l.toml\"\n";

const ALL: [&str; 3] = ["test/first@1.0", "test/second@1.0", "test/last@1.0"];

/// A builder of three, each of which works on what the one before left.
fn packed() -> Option<Packed> {
    let packed = Packed::new()?;
    packed.buildpack("test_first", "1.0", "test/first", PASS, BUILD_FIRST);
    packed.buildpack("test_second", "1.0", "test/second", PASS, BUILD_SECOND);
    packed.buildpack("test_last", "1.0", "test/last", PASS, BUILD_LAST);
    packed.builder(&ALL);
    packed.0.write("app/src/main", "# a remark\nprogram 1\n").write("app/Lockfile", "locked 1\n");
    Some(packed)
}

#[test]
fn a_touched_source_runs_whom_it_reaches() {
    let Some(packed) = packed() else { return };
    let build = || packed.pack("build", &["app:1"]).expect(0);
    let all_run =
        |said: Run| ALL.iter().fold(said, |said, module| said.says(&runs(&format!("build {module}"))));
    all_run(build());
    let first = packed.digest("app:1");
    // It reaches the first one alone, which makes of it what it made before: all after it, and the image, are known.
    packed.0.write("app/src/main", "# another remark\nprogram 1\n");
    let said = build().says(&runs("build test/first@1.0"));
    ALL[1..].iter().fold(said, |said, module| said.says(&is_known(&format!("build {module}"))));
    assert_eq!(packed.digest("app:1"), first);
    // It reaches all of them.
    packed.0.write("app/src/main", "# another remark\nprogram 2\n");
    all_run(build());
    assert_ne!(packed.digest("app:1"), first);
    // As it was: nothing runs, and the image is the one of then.
    packed.0.write("app/src/main", "# a remark\nprogram 1\n");
    build().says("nothing to do: all");
    assert_eq!(packed.digest("app:1"), first);
}

#[test]
fn a_buildpack_that_the_order_does_not_name_runs_nothing() {
    let Some(packed) = packed() else { return };
    let build = || packed.pack("build", &["app:1"]).expect(0);
    build();
    let (image, builder) = (packed.digest("app:1"), packed.digest("builder:1"));
    packed.buildpack("test_other", "2.0", "test/other", PASS, "#!/bin/sh\nexit 9\n");
    packed.builder(&ALL);
    assert_ne!(packed.digest("builder:1"), builder);
    build().says("nothing to do: all");
    assert_eq!(packed.digest("app:1"), image);
}
