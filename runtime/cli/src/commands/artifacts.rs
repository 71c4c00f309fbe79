//! `rb --artifact +target/path… [DEST]`: artifacts of targets, and nothing else.
//!
//! In: artifacts and a place, as typed. Out: a build whose only outputs they are. One artifact takes the place's name, unless
//! that is a folder or ends like one; several go into a folder. **Invariant:** no two of them have one place.

use std::collections::BTreeMap;
use std::path::Path;

use rb_diag::nearest;
use rb_frontend::{BuildPlan, SavedArtifact, TargetOutput};

use super::build::{Build, Fits};
use super::exports::Wanted;
use super::gateway::Settling;
use super::targets::{Order, carry_out, folder_of};
use crate::args::{ArtifactCalls, CourseOptions, OutputOptions};
use crate::report::Failure;
use crate::settings::Settings;

/// Builds targets and writes artifacts of them.
pub(super) fn execute(
    settings: &Settings,
    asked: &ArtifactCalls,
    course: CourseOptions,
) -> Result<u8, Failure> {
    let is_pattern = |dir: &str| dir.contains(['*', '?', '[']) && !settings.cwd.join(dir).is_dir();
    if asked.calls.iter().any(|call| is_pattern(folder_of(call))) {
        let help = "name each target: `rb --artifact [DIR]+TARGET/PATH… [DEST]`".to_owned();
        return Err(Failure::input(
            "--artifact takes artifacts of one name, and a pattern may mean several targets",
            Some(help),
        ));
    }
    let destination = settings.cwd.join(&asked.dest);
    let several = asked.calls.len() > 1;
    if several && destination.exists() && !destination.is_dir() {
        let message = format!("several artifacts go into a folder, and `{}` is none", asked.dest.display());
        return Err(Failure::input(message, Some("name a folder; it need not be there".to_owned())));
    }
    let typed = asked.dest.as_os_str().as_encoded_bytes();
    let into = several || typed.ends_with(b"/") || typed.ends_with(b".") || destination.is_dir();
    let choose = |build: &Build<'_>, plan: &BuildPlan, wanted: &mut Wanted, fits: Fits<'_>| {
        let mut places = BTreeMap::new();
        for (at, (call, path)) in asked.calls.iter().zip(&asked.paths).enumerate() {
            let path = path.trim_end_matches('/');
            let platforms = build.made_for(at, plan);
            if platforms.len() > 1 {
                let help = Some("name one platform, or `-o type=local` for folders of all".to_owned());
                return Err(Failure::input("--artifact writes the files of one platform", help));
            }
            for target in platforms {
                if !target.artifacts.iter().any(|saved| holds(saved, path)) {
                    return Err(no_artifact(&target, &call.word, path));
                }
                let shown = format!("{}{}", target.key, if path.is_empty() { "/*" } else { path });
                for name in names(&target, path) {
                    match places.insert(name.clone(), shown.clone()) {
                        Some(other) if other != shown => {
                            return Err(same_place(&other, &shown, &asked.dest.join(name)));
                        }
                        _ => {}
                    }
                }
                if fits(&target.key.to_string()) {
                    wanted.artifact(&target, path, destination.clone(), into, &build.sources())?;
                }
            }
        }
        Ok(())
    };
    let output = &OutputOptions::default();
    let settling = Settling::Make;
    carry_out(&Order { settings, calls: &asked.calls, output, course, settling, choose: &choose })
}

/// Returns the names that an artifact gets in its folder; "" is all artifacts of the target.
fn names(target: &TargetOutput, path: &str) -> Vec<String> {
    let first = |saved: &SavedArtifact| {
        saved.path.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned()
    };
    match path.rsplit('/').next() {
        None | Some("") => target.artifacts.iter().map(first).collect(),
        Some(name) => vec![name.to_owned()],
    }
}

fn same_place(one: &str, other: &str, place: &Path) -> Failure {
    Failure::input(
        format!("`{one}` and `{other}` would both be written to `{}`", place.display()),
        Some("write them one after the other, each to a place of its own".to_owned()),
    )
}

/// Tells whether something may lie at `path` because of one SAVE ARTIFACT; "" is the folder of all.
fn holds(saved: &SavedArtifact, path: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(path, &saved.path) || below(&saved.path, path)
}

fn no_artifact(target: &TargetOutput, label: &str, path: &str) -> Failure {
    let names: Vec<&str> = target.artifacts.iter().map(|saved| saved.path.trim_start_matches('/')).collect();
    let path = path.trim_start_matches('/');
    let help = match nearest(path, names.iter().copied()) {
        Some(near) => format!("did you mean `{label}/{near}`?"),
        None if names.is_empty() => format!("SAVE ARTIFACT in `{label}` gives one"),
        None => format!(
            "it saves {}",
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    let what = if path.is_empty() { "no artifact".to_owned() } else { format!("no artifact `{path}`") };
    Failure::input(format!("`{label}` saves {what}"), Some(help))
}
