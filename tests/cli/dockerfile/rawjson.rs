//! `--progress=rawjson`: the stream that programs know from BuildKit.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

use super::{build, project};
use crate::env::Run;

/// What a reader knows at the end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Each vertex as it was told last, by its name.
    pub(crate) vertices: BTreeMap<String, Value>,
    /// What was logged, by the vertex's name.
    pub(crate) logs: BTreeMap<String, String>,
    /// The first lines of warnings.
    pub(crate) warnings: Vec<String>,
    /// Lines that are not of the stream.
    pub(crate) others: Vec<String>,
}

impl Told {
    /// The vertex whose name ends so.
    fn vertex(&self, end: &str) -> &Value {
        let found = self.vertices.iter().find(|(name, _)| name.ends_with(end));
        found.unwrap_or_else(|| panic!("no {end} in {self:?}")).1
    }

    /// What it wrote.
    fn log(&self, end: &str) -> &str {
        let found = self.logs.iter().find(|(name, _)| name.ends_with(end));
        found.unwrap_or_else(|| panic!("no {end} in {self:?}")).1
    }
}

/// Reads the stream as BuildKit's client does: what is said of a vertex that was not told of is lost.
pub(crate) fn read(run: &Run) -> Told {
    let mut told = Told::default();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let decoded = |value: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("is base64"));
        String::from_utf8_lossy(&bytes.expect("is base64")).into_owned()
    };
    for line in run.stderr.lines() {
        let Ok(Value::Object(status)) = line.parse::<Value>() else {
            told.others.push(line.to_owned());
            continue;
        };
        for (key, items) in &status {
            for item in items.as_array().expect("is a list") {
                for time in ["started", "completed", "timestamp"] {
                    let time = item
                        .get(time)
                        .map(|time| time.as_str().expect("is text").parse::<humantime::Timestamp>());
                    assert!(time.is_none_or(|time| time.is_ok()), "{item}");
                }
                match key.as_str() {
                    "vertexes" => {
                        let name = text(&item["name"]);
                        names.insert(text(&item["digest"]), name.clone());
                        told.vertices.insert(name, item.clone());
                    }
                    "statuses" => {
                        assert!(names.contains_key(&text(&item["vertex"])), "{item}");
                        assert!(item["id"].is_string() && item["current"].is_u64(), "{item}");
                    }
                    "logs" => {
                        let name = names.get(&text(&item["vertex"])).unwrap_or_else(|| panic!("{item}"));
                        told.logs.entry(name.clone()).or_default().push_str(&decoded(&item["data"]));
                    }
                    "warnings" => told.warnings.push(decoded(&item["short"])),
                    other => panic!("{other} is nothing of a status"),
                }
            }
        }
    }
    told
}

#[test]
fn a_build_is_told_as_buildkit_tells_it() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base as made\nCOPY a /\nRUN echo working; echo aside >&2\n")
        .write("app/a", "a");
    let words = ["--progress=rawjson", "-t", "app:1", "app"];
    let run = build(&env, &words).expect(0);
    let told = read(&run);
    assert_eq!((told.others.as_slice(), run.stdout.as_str()), (&[][..], ""));
    let step = told.vertex("RUN echo working; echo aside >&2");
    assert!(step["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{step}");
    assert!(step["started"].as_str() <= step["completed"].as_str() && step["cached"].is_null(), "{step}");
    let log = told.log("RUN echo working; echo aside >&2");
    assert!(log.contains("working\n") && log.contains("aside\n"), "{log}");
    assert!(told.vertices.contains_key("[internal] load build definition from Dockerfile"), "{told:?}");
    let wanted = "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)";
    assert!(told.warnings.iter().any(|warning| warning == wanted), "{told:?}");
    let ended = |vertex: &Value| vertex["started"].is_null() || vertex["completed"].is_string();
    assert!(told.vertices.values().all(ended), "{told:?}");
    // Nothing changed: the steps are cached.
    let told = read(&build(&env, &words).expect(0));
    let step = told.vertex("RUN echo working; echo aside >&2");
    assert_eq!(step["cached"], true, "{step}");
    // The last one counts, as with docker.
    assert_eq!(build(&env, &["--progress=rawjson", "--progress=quiet", "app"]).expect(0).stderr, "");
}

#[test]
fn what_fails_is_told_in_the_stream_and_behind_it() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN echo half; exit 3\n");
    let told = read(&build(&env, &["--progress", "rawjson", "app"]).expect(1));
    let step = told.vertex("RUN echo half; exit 3");
    assert!(step["error"].as_str().is_some_and(|error| error.contains("exit code")), "{step}");
    assert_eq!(told.log("RUN echo half; exit 3"), "half\n");
    let behind = told.others.join("\n");
    // In words for people; what the step wrote is in the stream already.
    assert!(
        behind.contains("exit code 3") && !behind.contains('\u{1b}') && !behind.contains("half\n"),
        "{behind}"
    );
    // What is wrong before anything begins is words alone.
    let told = read(&build(&env, &["--progress", "rawjson", "nowhere"]).expect(2));
    assert!(
        told.vertices.is_empty() && told.others.join("").contains("`nowhere` does not exist"),
        "{told:?}"
    );
    let told = read(
        &build(
            &env,
            &["--progress", "rawjson", "--cache-to=type=inline,image-manifest=false", "--target", "x", "app"],
        )
        .expect(2),
    );
    assert!(told.warnings.iter().any(|warning| warning.contains("--cache-to")), "{told:?}");
}
