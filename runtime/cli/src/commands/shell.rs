//! `rb shell`: a shell in a step that failed, or in what a target becomes; and `rb -i`, which opens one at a failure.
//!
//! With a terminal all keys are the shell's; else it reads commands from stdin. stdout and stderr are its own, and its exit
//! code is that of `rb`. What a failed step is opened with is the engine's business ([`LocalEngine::open_failed`]).
//!
//! [`LocalEngine::open_failed`]: rb_engine::LocalEngine::open_failed

use std::io::IsTerminal as _;
use std::sync::Arc;

use rb_engine::{FailedStep, OpenStep, OpenTarget, RunGiven, RunRequest, ShellRequest};
use rb_exec::{KillSwitch, Terminal};
use rb_frontend::BuildPlan;
use rb_llb::NetworkMode;
use rb_oci::{ContainerConfig, Digest};
use rb_session::Session;

use super::build::Build;
use super::elsewhere;
use super::exports::Wanted;
use super::gateway::Settling;
use super::record::Asked;
use super::run::{self, KillOnDrop};
use super::table::{table, utc};
use super::workbench::Workbench;
use crate::args::{ShellArgs, TargetCall, texts};
use crate::habits::refuse_option;
use crate::progress::{clean, terminal_columns};
use crate::report::{self, Failure};
use crate::session::WorkspaceSession;
use crate::settings::{Settings, check_platform};

/// Opens the shell and returns its exit code.
pub(super) fn execute(settings: &Settings, shell: &ShellArgs) -> Result<u8, Failure> {
    refuse_option("shell", &shell.words)?;
    settings.platforms.iter().try_for_each(check_platform)?;
    if shell.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        return of_target(settings, shell);
    }
    let mut words = texts(&shell.words)?;
    let id = match words.is_empty() {
        true => None,
        false => Some(number(&words.remove(0), "shell")?),
    };
    // What stands behind it is the command, as everywhere.
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    let bench = Workbench::open(settings, Asked::of("shell", "a failed step"), None)?;
    let ended = match shell.list {
        true => list(&bench),
        false => of_failed(settings, &bench, id, words),
    };
    bench.close();
    ended
}

/// Reads the number of a failed step.
pub(super) fn number(word: &str, command: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| {
        let help = match command {
            "resume" => {
                "`rb resume ID` goes on with a failed step, `rb shell --list` tells which there are; a command stands behind \
                 `--`"
            }
            _ => {
                "`rb shell ID` opens a failed step, `rb shell --list` tells which there are; a command stands behind the \
                 number: `rb shell ID -- COMMAND`; `rb shell +TARGET` opens a target, `rb run -it IMAGE sh` an image"
            }
        };
        Failure::input(format!("`{word}` is not the number of a failed step"), Some(help.to_owned()))
    })
}

fn list(bench: &Workbench) -> Result<u8, Failure> {
    let head = ["ID", "FAILED", "STEP", "HOW"].map(str::to_owned).to_vec();
    let row = |step: FailedStep| {
        let (name, outcome) = (clean(&step.name, false), clean(&step.outcome, false));
        vec![step.id.to_string(), utc(step.failed_unix), name, outcome]
    };
    let rows: Vec<_> =
        std::iter::once(head).chain(bench.engine.failed_steps()?.into_iter().map(row)).collect();
    report::print(table(&rows, &[0]).as_bytes())?;
    Ok(0)
}

fn of_failed(
    settings: &Settings,
    bench: &Workbench,
    id: Option<u64>,
    command: Vec<String>,
) -> Result<u8, Failure> {
    let id = match id {
        Some(id) => id,
        None => bench.engine.failed_steps()?.first().map(|step| step.id).ok_or_else(|| {
            let help =
                "when a step fails, it is kept for an hour; `rb shell +TARGET` opens what a target becomes";
            Failure::input("no failed step is kept", Some(help.to_owned()))
        })?,
    };
    enter(settings, bench, id, command)
}

/// Runs a command, or a shell, in a failed step.
fn enter(settings: &Settings, bench: &Workbench, id: u64, command: Vec<String>) -> Result<u8, Failure> {
    let step = bench.engine.open_failed(id, session(settings))?;
    attend(settings, bench, (step, "where this failed"), command)
}

/// Runs a command, or a shell, in a step that is open; a shell on a terminal is told where it is.
fn attend(
    settings: &Settings,
    bench: &Workbench,
    (step, place): (OpenStep, &str),
    command: Vec<String>,
) -> Result<u8, Failure> {
    if !step.lacks.is_empty() {
        let what = format!("the step had {}, which you have not given", step.lacks.join(", "));
        report::tell(&report::warning(&what, settings.display, terminal_columns()));
    }
    let terminal = terminal();
    if terminal.is_some() && command.is_empty() {
        report::tell(&format!("{place}: {}; `exit` leaves it\n", clean(&step.name, false)));
    }
    let kill = KillSwitch::new();
    let guard = KillOnDrop::new(&kill);
    let request = ShellRequest { command, terminal: terminal.clone() };
    let ended = bench.run_program(async {
        let _guard = guard;
        run::attended(terminal, true, bench.engine.enter(step, request, kill)).await
    });
    Ok(run::told(settings, ended?))
}

/// Opens a shell in the step that made a build fail, as `rb -i` does; the failure is told before. Returns the exit code;
/// nothing where no step of this process is kept.
pub(super) fn after_failure(
    settings: &Settings,
    bench: &Workbench,
    failure: &Failure,
) -> Result<Option<u8>, Failure> {
    if matches!(failure, Failure::Interrupted(_)) {
        return Ok(None);
    }
    let Some(step) = bench.engine.failed_steps()?.into_iter().find(|step| step.is_ours) else {
        return Ok(None);
    };
    report::tell(&failure.render(settings.display, terminal_columns()));
    enter(settings, bench, step.id, Vec::new())?;
    Ok(Some(failure.exit_code()))
}

/// Refuses `rb -i` where nobody could type anything, and where no step is kept here.
pub(super) fn check_terminal(settings: &Settings) -> Result<(), Failure> {
    elsewhere::only_here(settings, "`-i`")?;
    if terminal().is_some() {
        return Ok(());
    }
    let help = "leave it out: when a step fails, the error says which `rb shell` opens it";
    Err(Failure::input("-i: stdin or stdout is not a terminal", Some(help.to_owned())))
}

/// Builds a target and runs a shell on its image, saved or not. What lies on `FROM @host` becomes no image: there it is as a
/// further step of the target.
fn of_target(settings: &Settings, shell: &ShellArgs) -> Result<u8, Failure> {
    let (call, command) = TargetCall::parse_run(&shell.words)?;
    let build = Build::find(settings, std::slice::from_ref(&call))?;
    let bench = Workbench::open(settings, Asked::of_target("shell", &call), Some(build.root()))?;
    let mut on_host = None;
    let want = |wanted: &mut Wanted, plan: &BuildPlan| match plan.targets.as_slice() {
        [target] if target.on_host && target.images.is_empty() => {
            let name = target.key.target.to_string();
            let at = wanted.root(&name, &target.state, &build.sources())?;
            on_host = Some((at, name, target.config.config.clone()));
            Ok(())
        }
        targets => wanted.image_of(targets, Vec::new(), &build.sources()),
    };
    let built = run::build_wanted(settings, &bench, &build, &call, Settling::Make, want)?;
    if let Some((at, name, config)) = on_host {
        let key = built.roots.get(at).copied().expect("a key for each root");
        let ended = in_tree(settings, &bench, (key, name, config), command);
        bench.close();
        return ended;
    }
    let image = run::image_in(&built)?;
    let args = if command.is_empty() { vec!["/bin/sh".to_owned()] } else { command };
    let given =
        RunGiven { entrypoint: Some(Vec::new()), stdin: true, terminal: terminal(), ..RunGiven::default() };
    let request = RunRequest {
        image,
        args,
        pull: settings.pull,
        network: NetworkMode::Sandbox,
        given,
        ..RunRequest::default()
    };
    run::start(settings, bench, request, None)
}

/// Runs a command, or a shell, in what a target on `FROM @host` has become.
fn in_tree(
    settings: &Settings,
    bench: &Workbench,
    (key, name, config): (Digest, String, ContainerConfig),
    command: Vec<String>,
) -> Result<u8, Failure> {
    let target = OpenTarget {
        name,
        key,
        env: config.env,
        cwd: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
    };
    let step = bench.engine.open_target(target, session(settings))?;
    attend(settings, bench, (step, "in what this became"), command)
}

/// Returns a terminal for the shell, where stdin and stdout are one.
fn terminal() -> Option<Terminal> {
    let is_one = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    is_one.then(|| Terminal::new(run::size().unwrap_or_default()))
}

/// Lends what was given: secrets and agents.
fn session(settings: &Settings) -> Arc<dyn Session> {
    let agents =
        crate::settings::steps::with_own_agent(settings.agents.clone(), settings.own_agent.as_deref());
    let (secrets, own_files) = (settings.secrets.clone(), settings.own_files.clone());
    let session = WorkspaceSession::new(settings.cwd.clone(), secrets, own_files).with_agents(agents);
    Arc::new(session.with_git_access(settings.git.access()))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn what_is_no_number_is_told_with_what_may_be_meant() {
        assert_eq!(number("12", "shell").ok(), Some(12));
        for word in ["alpine", "-1", "1x", "99999999999999999999999"] {
            let failure = number(word, "shell").expect_err("is none");
            assert!(failure.message().contains(word), "{failure:?}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
