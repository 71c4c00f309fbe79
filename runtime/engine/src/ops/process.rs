//! A command that a frontend has run while it decides: in a sandbox as a step's, over trees of its job.
//!
//! In: what it sees ([`ProcessRequest`]) and the values of its inputs. Out: its exit code; what it writes goes to who asked, on the way.
//! **Invariants:** it may no more than a step of the same job; what it changes is thrown away with it, but for caches; who drops the call,
//! or has nothing more to ask, ends it with all its processes.

use std::sync::Arc;

use bytes::Bytes;
use rb_api::{LogStream, ProcessOrder, ProcessOrders, ProcessRequest};
use rb_exec::{KillSwitch, OpenFile, Output, Size, Stdin, Stdio, Stream, Terminal};
use rb_llb::{Op, Vertex};
use rb_oci::Digest;
use rb_solver::{Context, OpError};
use rustix::process::Signal;

use super::shell::{Run, run_in};
use super::{caches, exec, terms};
use crate::job::JobContext;
use crate::network::set_under;
use crate::value::Value;

/// Ends what runs as soon as nobody waits for it.
struct KillOnDrop(KillSwitch);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Runs it to its end. Its inputs are those of the request, solved.
pub(crate) async fn run(
    job: &Arc<JobContext>,
    request: ProcessRequest,
    inputs: Vec<Value>,
) -> Result<i32, OpError> {
    let ProcessRequest { name, op, platform, inputs: _, stdin, terminal, mut hear, orders } = request;
    let vertex = Vertex {
        digest: Digest::of(&name),
        op: Op::Exec(op.clone()),
        inputs: Vec::new(),
        platform,
        constraints: None,
        bytes: Bytes::new(),
    };
    exec::refuse(&op, job).and_then(|()| terms::refuse_foreign(&vertex)).map_err(crate::op_error)?;
    let cx = Context::detached(vertex.digest);
    let held = caches::hold(&cx, &op, &inputs, &job.parts, job.session.cache_scope()).await?;
    let terminal = terminal.map(|(columns, rows)| Terminal::new(Size { columns, rows }));
    let kill = KillSwitch::new();
    let _guard = KillOnDrop(kill.clone());
    let work = {
        let (job, kill, terminal) = (Arc::clone(job), kill.clone(), terminal.clone());
        move || {
            let run = Run { vertex, name, op: &op, inputs: &inputs, held };
            let stdin = stdin.map_or(Stdin::Null, |stdin| Stdin::From(OpenFile::new(stdin)));
            let lay_down = |spec: &mut rb_exec::Spec| {
                spec.stdio = Stdio { stdin, output: Output::Pipes };
                if terminal.is_some() {
                    set_under(&mut spec.env, [("TERM", "xterm".to_owned())]);
                }
                spec.terminal = terminal;
            };
            let mut hear = |stream, bytes: &[u8]| match stream {
                Stream::Stdout => hear(LogStream::Stdout, bytes),
                Stream::Stderr => hear(LogStream::Stderr, bytes),
            };
            run_in(&job.parts, &*job.session, run, lay_down, &kill, &mut hear)
        }
    };
    let work = crate::blocking(work);
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return Ok(done?.code()),
        () = obey(orders, &kill, terminal.as_ref()) => kill.kill(),
    }
    Ok(work.await?.code())
}

/// Does what is asked, until there is nothing more.
async fn obey(mut orders: Box<dyn ProcessOrders>, kill: &KillSwitch, terminal: Option<&Terminal>) {
    while let Some(order) = orders.next().await {
        match order {
            ProcessOrder::Signal(number) => {
                // What is none here, nobody can be sent.
                if let Some(signal) = Signal::from_named_raw(number) {
                    kill.signal(signal);
                }
            }
            ProcessOrder::Resize { columns, rows } => {
                if let Some(terminal) = terminal {
                    terminal.resize(Size { columns, rows });
                }
            }
        }
    }
}
