//! `rb resume`: the build in which steps failed, once more, in which those go on with what they left.
//!
//! In: numbers of failed steps, targets and a command, as typed; and what a build keeps with its steps that fail ([`asked`]), but for
//! secret values ([`withheld`]).
//! Out: a build as any other ([`super::targets`]), by an engine that was told which steps go on ([`LocalEngine::resume`]), and
//! after it what was made so, loudly. Nothing of that is a result of any later build.
//!
//! [`LocalEngine::resume`]: rb_engine::LocalEngine::resume

mod withheld;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rb_engine::{FailedStep, LocalEngine, ResumeRequest};
use serde::{Deserialize, Serialize};

use super::dockerfile::several::Again;
use super::gateway::Settling;
use super::record::Asked;
use super::targets::{self, Order};
use super::workbench::Workbench;
use super::{bake, dockerfile, elsewhere, shell};
use crate::args::{
    BakeArgs, BuildOptions, CourseOptions, DockerfileArgs, OutputOptions, ResumeArgs, TargetCall, texts,
};
use crate::environment::Environment;
use crate::habits::refuse_option;
use crate::progress::{clean, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::{Settings, check_platform};
use crate::world::wanted;

/// Goes on, and returns the exit code: that of the build.
pub(super) fn execute(
    environment: &Environment,
    outer: &BuildOptions,
    (settings, resume): (&Settings, &ResumeArgs),
) -> Result<u8, Failure> {
    let start = Instant::now();
    elsewhere::only_here(settings, "`rb resume`")?;
    refuse_option("resume", resume.words.get(..1).filter(|words| words[0] != "--").unwrap_or_default())?;
    settings.platforms.iter().try_for_each(check_platform)?;
    let typed = Typed::read(&resume.words)?;
    if settings.build.push && !resume.with_images {
        let help =
            "`rb --push +TARGET` builds it clean and pushes that; `--with-images` pushes it all the same";
        return Err(Failure::input("what resumed steps make is not pushed", Some(help.to_owned())));
    }
    if resume.interactive {
        shell::check_terminal(settings)?;
    }
    // Any target of the folder says where the workspace is.
    let root = wanted(&settings.cwd, &["+resume"]).ok().map(|(root, _)| root);
    let bench = Workbench::open(settings, Asked::of("resume", typed.title()), root.as_deref())?;
    let (ids, meant) = match found(&bench.engine, &typed, &settings.cwd) {
        Ok(found) => found,
        Err(failure) => {
            bench.close();
            return Err(failure);
        }
    };
    let request = ResumeRequest { ids, command: typed.command, images: resume.with_images };
    let calls = match meant {
        Meant::Targets(calls) => calls,
        Meant::Dockerfile(words) => {
            let wanted = Wanted { words, no_output: settings.no_output, interactive: resume.interactive };
            let engine = Arc::clone(&bench.engine);
            let code = of_dockerfile(environment, outer, (settings, wanted), (bench, &request), start)?;
            if code == 0 {
                tell(settings, &engine, "rb build");
            }
            return Ok(code);
        }
        Meant::Bake(words) => {
            let engine = Arc::clone(&bench.engine);
            let again = Again { writes: !settings.no_output, images: request.images };
            let code = of_bake(environment, outer, &words, again, (bench, &request))?;
            if code == 0 {
                tell(settings, &engine, "rb bake");
            }
            return Ok(code);
        }
    };
    let order = Order {
        settings,
        calls: &calls,
        output: &OutputOptions::default(),
        course: CourseOptions {
            keep_going: resume.keep_going,
            interactive: resume.interactive,
            ..CourseOptions::default()
        },
        settling: if settings.no_output { Settling::Make } else { Settling::Write },
        choose: &|_, _, _, _| Ok(()),
    };
    let begun = bench.engine.resume(&request).map_err(Failure::from).and_then(|()| targets::find(&order));
    let build = match begun {
        Ok(build) => build,
        Err(failure) => {
            bench.close();
            return Err(failure);
        }
    };
    let engine = Arc::clone(&bench.engine);
    let code = targets::carry_out_on(&order, &build, bench)?;
    // After a failure, and its shell, nothing was made.
    if code == 0 {
        tell(settings, &engine, &format!("rb {}", TargetCall::title(&calls)));
    }
    Ok(code)
}

/// How the build of a Dockerfile is done again.
struct Wanted {
    /// What stood behind `rb build`.
    words: Vec<String>,
    no_output: bool,
    interactive: bool,
}

/// Builds a Dockerfile again.
fn of_dockerfile(
    environment: &Environment,
    outer: &BuildOptions,
    (settings, wanted): (&Settings, Wanted),
    (bench, request): (Workbench, &ResumeRequest),
    start: Instant,
) -> Result<u8, Failure> {
    let Wanted { words, no_output, interactive } = wanted;
    let ready = || -> Result<dockerfile::Order, Failure> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let args = DockerfileArgs::read(&words)?;
        if args.reads_stdin() {
            let help = "keep it in a file: `rb build -f FILE DIR`";
            return Err(Failure::input("the step failed in a build that read stdin", Some(help.to_owned())));
        }
        let order = dockerfile::Order::read(environment, outer.clone(), args)?;
        let (order, left_out) = order.resumed(!no_output, request.images, interactive);
        if left_out {
            let what = "no image is written, as it is not built from the beginning; --with-images writes it";
            report::tell(&report::warning(what, settings.display, terminal_columns()));
        }
        if order.settings().steps != settings.steps {
            let help =
                "give the options of that build that say how steps run once more, as `rb resume --memory 2g`";
            let message = "steps of that build ran with limits, and `rb resume` was given others";
            return Err(Failure::input(message, Some(help.to_owned())));
        }
        dockerfile::check(&order)?;
        bench.engine.resume(request)?;
        Ok(order)
    };
    match ready() {
        Ok(order) => dockerfile::make_on(&order, bench, start),
        Err(failure) => {
            bench.close();
            Err(failure)
        }
    }
}

/// Builds what bake files say again.
fn of_bake(
    environment: &Environment,
    outer: &BuildOptions,
    words: &[String],
    again: Again,
    (bench, request): (Workbench, &ResumeRequest),
) -> Result<u8, Failure> {
    let ready = || -> Result<BakeArgs, Failure> {
        let args = BakeArgs::read(words).map_err(|what| Failure::input(what, None))?;
        if let Some(file) = args.file.iter().find(|file| *file == "-" || !is_there_again(environment, file)) {
            let message = format!("the step failed in a build that read `{file}`, which is not there again");
            let help = "keep the bake file: `rb bake -f FILE`".to_owned();
            return Err(Failure::input(message, Some(help)));
        }
        bench.engine.resume(request)?;
        Ok(args)
    };
    match ready() {
        Ok(args) => bake::execute_on(environment, outer.clone(), &args, Some(bench), Some(again)),
        Err(failure) => {
            bench.close();
            Err(failure)
        }
    }
}

/// Tells whether a file can be read a second time: a pipe cannot.
fn is_there_again(environment: &Environment, file: &str) -> bool {
    let found = environment.cwd.join(file).metadata();
    found.map_or(true, |found| found.is_file())
        && !file.starts_with("/dev/fd/")
        && !file.starts_with("/proc/self/fd/")
}

/// Says what was not built from the beginning; `clean` is what builds it so.
fn tell(settings: &Settings, engine: &LocalEngine, clean_build: &str) {
    let say = |what: &str| report::tell(&report::warning(what, settings.display, terminal_columns()));
    let resumed = engine.resumed();
    if resumed.is_empty() {
        say(
            "nothing was resumed: no step that had to run takes the place of the one that failed; all of this build is clean",
        );
    }
    for step in resumed {
        let name = clean(&step.name, false);
        say(&format!(
            "made by resuming: {name}; what this build wrote of it is kept as no result, the next `{clean_build}` runs it clean"
        ));
    }
}

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    ids: Vec<u64>,
    calls: Vec<TargetCall>,
    command: Vec<String>,
}

impl Typed {
    fn read(words: &[OsString]) -> Result<Self, Failure> {
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let (own, command) = words.split_at(end);
        let first = own.iter().position(|word| TargetCall::is_target(word)).unwrap_or(own.len());
        let (numbers, targets) = own.split_at(first);
        let mut typed = Self {
            ids: Vec::new(),
            calls: TargetCall::parse_all(targets)?,
            command: texts(command.get(1..).unwrap_or_default())?,
        };
        for word in texts(numbers)? {
            let id = shell::number(&word, "resume")?;
            if !typed.ids.contains(&id) {
                typed.ids.push(id);
            }
        }
        if !typed.command.is_empty() && typed.ids.len() > 1 {
            let help = "name the one that it is for: `rb resume ID -- COMMAND`";
            return Err(Failure::input("a command is for one failed step", Some(help.to_owned())));
        }
        Ok(typed)
    }

    /// Returns what it is called in records.
    fn title(&self) -> String {
        let ids = self.ids.iter().map(u64::to_string);
        let words = ids.chain(self.calls.iter().map(|call| call.word.clone())).collect::<Vec<_>>().join(" ");
        if words.is_empty() { "a failed step".to_owned() } else { words }
    }
}

/// How a build is asked for again.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    folder: String,
    #[serde(default)]
    calls: Vec<Call>,
    /// What stood behind `rb build`, of a Dockerfile's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
    /// What stood behind `rb bake`, which may be nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bake: Option<Vec<String>>,
}

/// What is built again.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    Targets(Vec<TargetCall>),
    /// The words behind `rb build`.
    Dockerfile(Vec<String>),
    /// The words behind `rb bake`.
    Bake(Vec<String>),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    word: String,
    args: BTreeMap<String, String>,
}

/// Returns what a step that fails keeps of the build that it is in: the folder, and the targets with their arguments.
pub(super) fn asked(folder: &Path, calls: &[TargetCall]) -> String {
    let call = |TargetCall { word, args }: &TargetCall| Call {
        word: word.clone(),
        args: withheld::struck_args(args),
    };
    let folder = folder.to_string_lossy().into_owned();
    let again = Kept { folder, calls: calls.iter().map(call).collect(), ..Kept::default() };
    serde_json::to_string(&again).expect("plain data serialises")
}

/// Returns what a step that fails keeps of the build of a Dockerfile: the folder, and what stood behind `rb build`.
pub(super) fn asked_of_dockerfile(folder: &Path, words: &[String]) -> String {
    let folder = folder.to_string_lossy().into_owned();
    let again = Kept { folder, words: withheld::struck_words(words), ..Kept::default() };
    serde_json::to_string(&again).expect("plain data serialises")
}

/// Returns what a step that fails keeps of a build of bake files: the folder, and what stood behind `rb bake`.
pub(super) fn asked_of_bake(folder: &Path, words: &[String]) -> String {
    let folder = folder.to_string_lossy().into_owned();
    let again = Kept { folder, bake: Some(withheld::struck_words(words)), ..Kept::default() };
    serde_json::to_string(&again).expect("plain data serialises")
}

/// Finds the failed steps that are meant, and the targets to build.
fn found(engine: &LocalEngine, typed: &Typed, folder: &Path) -> Result<(Vec<u64>, Meant), Failure> {
    let kept = engine.failed_steps()?;
    let steps: Vec<&FailedStep> = if typed.ids.is_empty() {
        let Some(last) = kept.first() else {
            let help = "when a step fails, it is kept for an hour, and the error says its number";
            return Err(Failure::input("no failed step is kept", Some(help.to_owned())));
        };
        // With --keep-going there may be several; a command is for the last.
        let is_meant = |step: &&FailedStep| {
            step.id == last.id
                || (typed.command.is_empty() && step.build.is_some() && step.build == last.build)
        };
        kept.iter().filter(is_meant).collect()
    } else {
        let step = |id: &u64| {
            let found = kept.iter().find(|step| step.id == *id);
            found.ok_or(rb_engine::EngineError::NotKept { id: *id })
        };
        typed.ids.iter().map(step).collect::<Result<_, _>>()?
    };
    let ids = steps.iter().map(|step| step.id).collect();
    if !typed.calls.is_empty() {
        return Ok((ids, Meant::Targets(typed.calls.clone())));
    }
    again(&steps, folder).map(|meant| (ids, meant))
}

/// Returns what was built when steps failed.
fn again(steps: &[&FailedStep], folder: &Path) -> Result<Meant, Failure> {
    let refused = |message: String, help: String| Err(Failure::input(message, Some(help)));
    let Some(step) = steps.first() else { return Ok(Meant::Targets(Vec::new())) };
    let named = format!("name the target: `rb resume {} +TARGET`", step.id);
    if let Some(other) = steps.iter().find(|other| other.build != step.build) {
        return refused(format!("steps {} and {} failed in different builds", step.id, other.id), named);
    }
    let again = step.build.as_ref().and_then(|build| serde_json::from_str::<Kept>(&build.asked).ok());
    let Some(Kept { folder: then, calls, words, bake }) = again.filter(Kept::is_written) else {
        return refused(
            format!(
                "step {} did not fail in a build of targets, of a Dockerfile or of bake files that are written",
                step.id
            ),
            format!("{named}; an app is built again by the same `rb pack build`"),
        );
    };
    if then != folder.to_string_lossy() {
        let message = format!("step {} failed in a build in {}", step.id, clean(&then, false));
        return refused(message, format!("go there, or {named}"));
    }
    if let Some(words) = bake {
        return withheld::whole_words(&words).map(Meant::Bake);
    }
    if !words.is_empty() {
        return withheld::whole_words(&words).map(Meant::Dockerfile);
    }
    let call = |Call { word, args }| Ok(TargetCall { word, args: withheld::whole_args(args)? });
    calls.into_iter().map(call).collect::<Result<_, _>>().map(Meant::Targets)
}

impl Kept {
    /// Tells whether it can be asked for once more.
    fn is_written(&self) -> bool {
        !self.calls.is_empty() || !self.words.is_empty() || self.bake.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Typed, Failure> {
        Typed::read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_come_before_targets_and_a_command_comes_last() {
        let typed = read(&["3", "4", "3", "+a", "--X=1", "./b+c", "--"]).expect("reads");
        assert_eq!((typed.ids, typed.command.len()), (vec![3, 4], 0));
        assert_eq!(TargetCall::title(&typed.calls), "+a ./b+c");
        let typed = read(&["3", "--", "make", "--", "-k", "+x"]).expect("reads");
        assert_eq!(typed.command, ["make", "--", "-k", "+x"]);
        assert!(typed.calls.is_empty());
        let typed = read(&["--", "make"]).expect("reads");
        assert!(typed.ids.is_empty() && typed.command == ["make"]);
        assert_eq!(read(&[]).expect("reads"), Typed::default());
        for words in [&["make"][..], &["3", "make"], &["3", "4", "--", "make"], &["+a", "3"]] {
            assert_eq!(read(words).expect_err("cannot be read").exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn a_build_is_asked_for_again_where_it_was() {
        let step = |id, asked: &str| FailedStep {
            id,
            name: "+a | RUN make".to_owned(),
            outcome: String::new(),
            failed_unix: 0,
            is_ours: false,
            build: Some(rb_engine::OfBuild { id: asked.to_owned(), asked: asked.to_owned() }),
        };
        let said = |steps: &[&FailedStep], folder: &str| {
            let failure = again(steps, Path::new(folder)).expect_err("refused");
            assert_eq!(failure.exit_code(), 2);
            failure.message()
        };
        let args = BTreeMap::from([("V".to_owned(), "2".to_owned())]);
        let calls = [TargetCall { word: "+a".to_owned(), args }];
        let plain = step(2, &asked(Path::new("/there"), &calls));
        let meant = |step: &FailedStep| again(&[step], Path::new("/there")).ok();
        assert_eq!(meant(&plain), Some(Meant::Targets(calls.to_vec())));
        let words = ["-t".to_owned(), "a".to_owned(), ".".to_owned()];
        let dockerfile = step(3, &asked_of_dockerfile(Path::new("/there"), &words));
        assert_eq!(meant(&dockerfile), Some(Meant::Dockerfile(words.to_vec())));
        let baked = step(5, &asked_of_bake(Path::new("/there"), &[]));
        assert_eq!(meant(&baked), Some(Meant::Bake(Vec::new())));
        assert_eq!(meant(&step(4, &asked_of_dockerfile(Path::new("/there"), &[]))), None);
        assert!(said(&[&plain], "/elsewhere").contains("in /there"));
        assert!(said(&[&plain, &step(1, "other")], "/there").contains("different builds"));
        assert!(said(&[&step(1, "other")], "/there").contains("step 1 did not fail"));
    }
}
