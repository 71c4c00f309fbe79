//! What a sandbox takes beside its command: `cost [--outside] COUNT ROOT COMMAND [ARGUMENT…]`.
//!
//! Runs the command COUNT times, one after the other, over the directory ROOT with a layer of its own, with no network or with
//! one that leads outside. Prints the milliseconds of one run: as the wall clock goes, and of processors, those of its
//! children included and those of the kernel's own threads not.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rb_exec::{KillSwitch, Network, RootMount, Router, Spec, Upper, enter_runtime, run};

/// Runs that are not counted: what is made once is made by these.
const FIRST: usize = 10;

fn main() -> ExitCode {
    match measure() {
        Ok((wall, cpu)) => {
            println!("{:.2} {:.2}", wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    enter_runtime()?;
    let mut words = std::env::args().skip(1).peekable();
    let outside = words.next_if_eq("--outside").is_some();
    let count: u32 = words.next().ok_or("how often?")?.parse()?;
    let root = PathBuf::from(words.next().ok_or("in which root?")?);
    let args: Vec<String> = words.collect();
    let scratch = tempfile::tempdir()?;
    let router = if outside { Some(Router::start()?) } else { None };
    let once = |number: usize| -> Result<(), Box<dyn std::error::Error>> {
        let [upper, work] = ["upper", "work"].map(|name| scratch.path().join(format!("{name}{number}")));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&work)?;
        let mut spec =
            Spec::new(RootMount::overlay(vec![root.clone()], Some(Upper { upper, work })), args.clone());
        if let Some(router) = &router {
            spec.network = Network::Member(router.join()?);
        }
        let outcome =
            run(&spec, &KillSwitch::new(), &mut |_, bytes| eprint!("{}", String::from_utf8_lossy(bytes)))?;
        if outcome.status.code() == 0 { Ok(()) } else { Err(format!("{:?}", outcome.status).into()) }
    };
    (0..FIRST).try_for_each(once)?;
    let (begun, used) = (Instant::now(), processor_time()?);
    (FIRST..FIRST + count as usize).try_for_each(once)?;
    Ok((begun.elapsed() / count, (processor_time()? - used) / count))
}

/// Time of processors that this process and its children have used.
fn processor_time() -> Result<Duration, Box<dyn std::error::Error>> {
    /// Of proc_pid_stat(5), on every machine.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let times = fields.split_whitespace().skip(11).take(4).map(str::parse::<u32>);
    Ok(TICK * times.sum::<Result<u32, _>>()?)
}
