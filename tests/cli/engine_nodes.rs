//! Engines of several nodes: kept in the settings, a build goes to one, and on to another where that fails. Daemons are real ones, as in
//! `engine`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};

use serde_json::Value;

use crate::corpus::peer::{self, Peer};
use crate::engine::{Tells as _, flat, project};
use crate::env::TestEnv;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

fn config(env: &TestEnv) -> String {
    let file = env.project().with_file_name("home").join(".config/rb/config.toml");
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn nodes_are_added_drained_and_forgotten_in_the_users_settings() {
    let env = TestEnv::new();
    env.rb(["engine", "add", "farm", "unix:///nowhere/0.sock"]).expect(0);
    let plain = config(&env);
    assert_eq!(plain, "[engines.farm]\naddress = \"unix:///nowhere/0.sock\"\n");
    env.rb(["engine", "drain", "farm/farm0"]).expect(2).tells("is one daemon and has no nodes");
    env.rb(["engine", "add", "--append", "other", "tcp://x:1"])
        .expect(2)
        .tells("no engine `other`")
        .tells("leave out --append");
    // One daemon has a state, too, and shows it.
    let listed = env.rb(["engine", "ls"]).expect(0).stdout;
    assert!(flat(&listed).contains("farm unix:///nowhere/0.sock away"), "{listed}");
    let listed: Value =
        serde_json::from_str(&env.rb(["engine", "ls", "--json"]).expect(0).stdout).expect("is JSON");
    let farm = &listed[1];
    assert_eq!((&farm["address"], &farm["up"]), (&"unix:///nowhere/0.sock".into(), &false.into()));
    assert!(farm["nodes"].is_null() && farm["error"].is_string(), "{listed}");
    env.rb(["engine", "use", "default"]).expect(2).tells("`rb engine use here`");
    env.rb(["engine", "use", "hre"]).expect(2).tells("did you mean `here`?");
    let told = env.rb(["engine", "inspect", "farm"]).expect(3).tells("see whether buildkitd runs there");
    assert!(!told.stderr.contains("rb engine inspect"), "{}", told.stderr);
    env.rb(["engine", "add", "odd", "tcp://x:1", "--platform", "linux/foo"])
        .expect(0)
        .tells("`foo` is no architecture");
    env.rb(["engine", "rm", "odd"]).expect(0);
    let more = ["--node", "arm", "--platform", "linux/arm64,linux/arm/v7", "--weight", "3"];
    let words = ["engine", "add", "--append", "farm", "unix:///nowhere/1.sock"].into_iter().chain(more);
    env.rb(words).expect(0).tells("farm/arm");
    assert_eq!(
        config(&env),
        "[engines.farm.nodes.farm0]\naddress = \"unix:///nowhere/0.sock\"\n\n\
         [engines.farm.nodes.arm]\naddress = \"unix:///nowhere/1.sock\"\n\
         platforms = [\"linux/arm64\", \"linux/arm/v7\"]\nweight = 3\n"
    );
    env.rb(["engine", "add", "--append", "--node", "arm", "farm", "tcp://x:1"])
        .expect(2)
        .tells("a node already");
    env.rb(["engine", "add", "--append", "farm", "tcp://x:1"]).expect(0).tells("farm/farm1");
    env.rb(["engine", "rm", "farm/farm1"]).expect(0);
    env.rb(["engine", "drain", "farm/none"]).expect(2).tells("has no node `none`");
    env.rb(["engine", "drain", "farm/arm"]).expect(0).tells("gets nothing new");
    assert!(config(&env).ends_with("drained = true\n"), "{}", config(&env));
    assert_eq!(env.rb(["config", "engines.farm.nodes.arm.weight"]).expect(0).stdout, "3\n");
    let listed = env.rb(["engine", "ls"]).expect(0).stdout;
    for line in ["farm/farm0 unix:///nowhere/0.sock 1 away", "linux/arm/v7,linux/arm64 3 drained, away"] {
        assert!(flat(&listed).contains(line), "{listed}");
    }
    let listed: Value =
        serde_json::from_str(&env.rb(["engine", "ls", "--json"]).expect(0).stdout).expect("is JSON");
    let farm =
        listed.as_array().and_then(|all| all.iter().find(|one| one["name"] == "farm")).expect("is there");
    assert_eq!((&farm["address"], farm["nodes"].as_array().map(Vec::len)), (&Value::Null, Some(2)));
    assert_eq!((&farm["nodes"][0]["node"], &farm["nodes"][0]["drained"]), (&"arm".into(), &true.into()));
    env.rb(["engine", "inspect", "farm"]).expect(3);

    // Nobody builds, and it is said why of each.
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY Buildfile .\n    SAVE ARTIFACT Buildfile AS LOCAL out\n",
    );
    env.rb(["--engine=farm", "+t"])
        .expect(3)
        .tells("warning: node `farm0` failed, and the next is tried")
        .tells("no node of `farm` can build this")
        .tells("`arm` is drained");
    env.rb(["engine", "drain", "farm/farm0"]).expect(0);
    env.rb(["--engine=farm", "+t"]).expect(2).tells("`arm` is drained; `farm0` is drained");
    env.rb(["engine", "drain", "--undo", "farm/farm0"]).expect(0);
    env.rb(["engine", "use", "farm"]).expect(0);
    env.rb(["engine", "rm", "farm/arm", "farm/farm0"]).expect(0).tells("this machine builds from now on");
    env.rb(["+t"]).expect(0);
}

#[test]
fn an_engine_has_an_address_or_nodes() {
    let env = TestEnv::new();
    let file = env.project().join("c.toml");
    for (text, told) in [
        ("[engines.a]\n", "needs an address"),
        ("[engines.a]\naddress = 'tcp://a'\n[engines.a.nodes.b]\naddress = 'tcp://b'\n", "needs an address"),
        ("[engines.a.nodes.b]\naddress = 'tcp://b'\nplatforms = ['x']\n", "is not a platform"),
        ("[engines.a.nodes.b]\naddress = 'b'\n", "no address of an engine"),
        ("[engines.a.nodes.b]\naddress = 'tcp://b'\nwieght = 1\n", "weight"),
        ("[engines.a.nodes.'b c']\naddress = 'tcp://b'\n", "no name of a node"),
    ] {
        fs::write(&file, text).expect("writes");
        env.rb_with(&[("RB_CONFIG", &file.display().to_string())], ["engine", "ls"]).expect(2).tells(told);
    }
}

/// A project, and daemons by the names of their nodes, all nodes of `farm`.
fn farm() -> Option<(TestEnv, BTreeMap<String, Peer>)> {
    let (env, first, address) = project()?;
    let mut daemons = BTreeMap::new();
    env.rb(["engine", "add", "farm", &address, "--node", "a"]).expect(0);
    daemons.insert("a".to_owned(), first);
    for name in ["b", "c"] {
        let folder = env.state().with_file_name(format!("buildkit-{name}"));
        let settings = format!("[otel]\n  socketPath = {:?}\n", folder.join("otel"));
        daemons.insert(name.to_owned(), Peer::start_with(&folder, &settings, &[])?);
        env.rb(["engine", "add", "--append", "farm", &peer::address(&folder), "--node", name]).expect(0);
    }
    Some((env, daemons))
}

/// Returns where the last build went.
fn placed(env: &TestEnv) -> Value {
    let shown = env.rb(["history", "show", "--json", "@1"]).expect(0).stdout;
    serde_json::from_str::<Value>(&shown).expect("is JSON")["placed"].clone()
}

const SLEEPS: &str = "\
VERSION 1
ground:
    FROM scratch
    COPY busybox /bin/sh
    COPY busybox /bin/sleep
slow:
    FROM +ground
    RUN echo begun; /bin/sleep 5; echo over >/out
    SAVE ARTIFACT /out AS LOCAL slow
fails:
    FROM +ground
    RUN echo once; exit 9
push:
    FROM +ground
    RUN --push echo begun; /bin/sleep 60
";

/// Starts a build, and kills the node that it is at once a step has begun. Returns its code, what it told, and that node.
fn killed_in_the_middle(
    env: &TestEnv,
    daemons: &mut BTreeMap<String, Peer>,
    words: &[&str],
) -> (i32, String, String) {
    let mut rb = env.spawn([&["--engine=farm"], words].concat());
    let mut lines = BufReader::new(rb.stderr.take().expect("is piped"));
    let mut told = String::new();
    while !told.contains("| begun") {
        assert_ne!(lines.read_line(&mut told).expect("reads"), 0, "{told}");
    }
    let held = fs::read_dir(env.state().join("nodes")).expect("is there");
    let builds = held.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|is| is == "build"))
    });
    assert_eq!(builds.count(), 1, "one build is known");
    // Which one it is at, the daemon with a running step tells.
    let at = daemons.iter().find(|(_, daemon)| daemon.runs_a_step()).map(|(name, _)| name.clone());
    let at = at.expect("one of them runs it");
    daemons.remove(&at).expect("is there").kill();
    lines.read_to_string(&mut told).expect("reads");
    (rb.wait().expect("ends").code().unwrap_or(-1), told, at)
}

#[test]
fn a_build_goes_on_at_another_node_and_its_record_says_why() {
    let Some((env, mut daemons)) = farm() else { return };
    env.write("Buildfile", SLEEPS);
    let listed = env.rb(["engine", "ls"]).expect(0).stdout;
    assert_eq!(listed.matches("  up").count(), 3, "{listed}");

    // What the user wrote wrong is tried once.
    let told = env.rb(["--engine=farm", "+fails"]).expect(1).stderr;
    assert_eq!(told.matches("| once").count(), 1, "{told}");
    assert!(placed(&env)["failed"].is_null());

    let (code, told, dead) = killed_in_the_middle(&env, &mut daemons, &["+slow"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(env.read("slow"), "over\n");
    let warned = format!("warning: node `{dead}` failed, and the next is tried");
    assert!(flat(&told).contains(&warned) && told.matches("| begun").count() == 2, "{told}");
    let record = placed(&env);
    assert_eq!((&record["engine"], &record["failed"][0]["node"]), (&"farm".into(), &dead.as_str().into()));
    let there = record["node"].as_str().expect("is there").to_owned();
    assert_ne!(there, dead);
    assert!(record["failed"][0]["why"].as_str().expect("says why").contains("went away while"), "{record}");
    let shown = env.rb(["history", "show", "@1"]).expect(0).stdout;
    assert!(shown.contains(&format!("engine   farm/{there}, unix://")), "{shown}");
    assert!(shown.contains(&format!("failed   farm/{dead}: ")), "{shown}");
    let why = env.rb(["why", "--last", "+slow"]).expect(0).stdout;
    assert!(why.contains(&format!("engine farm/{there}")), "{why}");
    assert!(why.contains(&format!("failed farm/{dead}")) && why.contains("RUN echo begun"), "{why}");

    // The dead one comes last now: nothing fails, and what is known is found there again.
    let told = env.rb(["--engine=farm", "+slow"]).expect(0).stderr;
    assert!(!told.contains("warning: node"), "{told}");
    assert!(placed(&env)["failed"].is_null());

    // A drained node gets nothing.
    env.rb(["engine", "drain", &format!("farm/{there}")]).expect(0);
    env.rb(["--engine=farm", "+slow"]).expect(0);
    let now = placed(&env)["node"].as_str().expect("is there").to_owned();
    assert!(now != there && now != dead, "{now}");
    env.rb(["engine", "inspect", "farm"]).expect(0);

    // A push that may have been is tried nowhere else.
    env.rb(["engine", "drain", "--undo", &format!("farm/{there}")]).expect(0);
    let (code, told, dead) = killed_in_the_middle(&env, &mut daemons, &["--push", "+push"]);
    assert_eq!((code, told.matches("| begun").count()), (3, 1), "{told}");
    assert!(flat(&told).contains("nothing is tried elsewhere, as a `RUN --push` may have run"), "{told}");
    assert!(!told.contains("and the next is tried"), "{told}");
    let shown = env.rb(["history", "show", "@1"]).expect(0).stdout;
    assert!(shown.contains(&format!("failed   farm/{dead}: ")), "{shown}");
}

/// What is asked before there is a graph may be asked of another node than that which then builds.
#[test]
fn images_of_this_machine_are_lent_to_whichever_node_builds() {
    let Some((env, daemons)) = farm() else { return };
    env.rb(["+image"]).expect(0);
    let mut nodes = BTreeSet::new();
    for word in ["one", "two", "three", "four", "five", "six"] {
        env.write(
            "Buildfile",
            format!(
                "VERSION 1\nnext:\n    FROM made:1\n    RUN read line </work/out; echo \"$line {word}\" >/more\n    \
                 SAVE ARTIFACT /more AS LOCAL more\n"
            ),
        );
        env.rb(["--engine=farm", "+next"]).expect(0);
        assert_eq!(env.read("more"), format!("a one {word}\n"));
        nodes.insert(placed(&env)["node"].as_str().expect("is there").to_owned());
    }
    assert!(nodes.len() > 1 && nodes.len() <= daemons.len(), "{nodes:?}");
    let left = fs::read_dir(env.state().join("nodes")).expect("is there").count();
    assert_eq!(left, 0, "nothing is kept of builds that have ended");
}

#[test]
fn what_no_node_builds_for_is_named() {
    let Some((env, _daemon, address)) = project() else { return };
    env.rb(["engine", "add", "farm", &address, "--platform=linux/amd64"]).expect(0);
    env.rb(["engine", "add", "--append", "farm", &address, "--platform=linux/s390x"]).expect(0);
    env.write("Buildfile", SLEEPS);
    env.rb(["--engine=farm", "--platform=linux/riscv64", "+fails"])
        .expect(2)
        .tells("`farm0` does not build for linux/riscv64; `farm1` does not build for linux/riscv64");
}

/// Daemons of which each says that it builds for one platform, all nodes of `farm`.
fn of_platforms() -> Option<(TestEnv, Vec<Peer>)> {
    let (env, unused, _) = project()?;
    drop(unused);
    let mut daemons = Vec::new();
    for (number, platform) in ["linux/amd64", "linux/arm64"].into_iter().enumerate() {
        let folder = env.state().with_file_name(format!("buildkit-of-{number}"));
        let settings = format!(
            "[worker.oci]\n  platforms = [{platform:?}]\n[otel]\n  socketPath = {:?}\n",
            folder.join("otel")
        );
        daemons.push(Peer::start_with(&folder, &settings, &[])?);
        let node = format!("n{number}");
        let more = if number == 0 { vec![] } else { vec!["--append"] };
        let address = peer::address(&folder);
        let words = ["engine", "add"].into_iter().chain(more).chain([
            "farm",
            &address,
            "--node",
            &node,
            // A daemon says that it builds for its own machine, whatever else it is told.
            "--platform",
            platform,
        ]);
        env.rb(words).expect(0);
    }
    Some((env, daemons))
}

/// Returns the manifests of the index that a layout has, by their platforms, and its name.
fn index_of(env: &TestEnv, layout: &str) -> (BTreeMap<String, Value>, Value) {
    let read = |path: &str| -> Value {
        serde_json::from_str(&env.read(&format!("{layout}/{path}"))).expect("is JSON")
    };
    let blob =
        |digest: &Value| read(&format!("blobs/{}", digest.as_str().expect("is a digest").replace(':', "/")));
    let top = read("index.json")["manifests"][0].clone();
    let index = blob(&top["digest"]);
    let each = index["manifests"].as_array().expect("is an index").iter().map(|entry| {
        let platform = entry["platform"]["architecture"].as_str().expect("has one").to_owned();
        (platform, blob(&blob(&entry["digest"])["config"]["digest"]))
    });
    (each.collect(), top["annotations"].clone())
}

#[test]
fn each_platform_is_built_at_its_node_and_one_image_comes_of_it() {
    let Some((env, daemons)) = of_platforms() else { return };
    // Commands: what only copies builds anywhere. This machine runs both, whatever they are said to be for.
    let file = "FROM scratch AS ground\nCOPY --chmod=755 busybox /bin/sh\nARG TARGETARCH\n\
                RUN echo $TARGETARCH > /arch\nENV OF=$TARGETARCH\nFROM ground\nRUN read a < /arch; echo built for $a > /made\n";
    env.write("Dockerfile", file);
    let both = |words: &[&str]| {
        let common = ["build", "--engine=farm", "--platform=linux/amd64,linux/arm64"];
        env.rb([&common, words, &["."]].concat())
    };
    both(&["-t", "made:1", "-o", "type=oci,dest=layout,tar=false"]).expect(0);
    let (configs, name) = index_of(&env, "layout");
    for arch in ["amd64", "arm64"] {
        let config = &configs[arch];
        assert_eq!(config["architecture"], arch);
        assert!(config["config"]["Env"].to_string().contains(&format!("OF={arch}")), "{config}");
    }
    assert_eq!(name["org.opencontainers.image.ref.name"], "1", "{name}");
    let at = placed(&env);
    assert_eq!((&at["node"], &at["parts"]["linux/arm64"]["node"]), (&"n0".into(), &"n1".into()), "{at}");
    // Into the image store, and from there out again: both are whole.
    both(&["-t", "made:2", "--load"]).expect(0);
    env.rb(["image", "save", "made:2", "-o", "saved.tar"]).expect(0);
    both(&["-o", "type=oci,dest=archive.tar", "-t", "made:3"]).expect(0);
    env.rb(["image", "load", "-i", "archive.tar"]).expect(0);
    assert_eq!(
        env.rb(["run", "--entrypoint=/bin/sh", "made:3", "-c", "read a < /made; echo $a"]).expect(0).stdout,
        "built for amd64\n"
    );
    // Files of each.
    both(&["-o", "out"]).expect(0);
    assert_eq!(env.read("out/linux_amd64/made"), "built for amd64\n");
    assert_eq!(env.read("out/linux_arm64/made"), "built for arm64\n");
    // A failure is told as ever.
    env.write("Dockerfile", format!("{file}RUN read a < /made; test \"$a\" = 'built for amd64' || exit 5\n"));
    both(&["-o", "failed"]).expect(1).tells("exit code 5");
    env.write("Dockerfile", file);

    let folder = crate::push::folder();
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let name = format!("{}/made:1", registry.host);
    both(&["-t", &name, "--push"]).expect(0);
    env.rb(["image", "pull", &name]).expect(0);
    assert_eq!(
        env.rb(["run", "--entrypoint=/bin/sh", &name, "-c", "read a < /made; echo $a"]).expect(0).stdout,
        "built for amd64\n"
    );
    both(&["-t", &name, "-o", "type=image,push=true,annotation-index.of=all"]).expect(0);
    drop(daemons);
}

#[test]
fn of_several_nodes_no_cache_is_written_over_that_of_another() {
    let Some((env, _daemons)) = of_platforms() else { return };
    env.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n",
    );
    let build = |words: &[&str]| {
        let common = ["build", "--engine=farm", "-t", "made:1"];
        env.rb([&common, words, &["."]].concat())
    };
    let both = "--platform=linux/amd64,linux/arm64";
    let cache = ["--cache-to", "type=local,dest=cache"];
    build(&[both, cache[0], cache[1]]).expect(2).tells("each would write its cache over that of the other");
    assert!(!env.has("cache"));
    build(&[both, "--provenance=true"]).expect(2).tells("none of which can speak of all");
    // What one node builds it writes, too; a cache of the image itself is each platform's own.
    build(&["--platform=linux/arm64", cache[0], cache[1]]).expect(0);
    assert!(env.has("cache/index.json"));
    build(&[both, "--cache-to", "type=inline", "-o", "type=oci,dest=layout,tar=false"]).expect(0);
    let (configs, _) = index_of(&env, "layout");
    for (arch, config) in configs {
        assert!(config.get("moby.buildkit.cache.v0").is_some(), "{arch}: {config}");
    }
}
