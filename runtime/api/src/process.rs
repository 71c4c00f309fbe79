//! A command that a frontend has run while it decides, over trees of the job: what it sees, and how it is spoken with.
//!
//! In: a [`ProcessRequest`], whose streams and orders belong to whoever asked. Out: its exit code. What it changes is thrown away with it.

use std::fmt;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use rb_llb::{Definition, ExecOp, OpPlatform};

use crate::LogStream;

/// Who hears what a command writes.
pub type ProcessHears = Box<dyn FnMut(LogStream, &[u8]) + Send>;

/// A command and all that it sees.
pub struct ProcessRequest {
    /// What it is called.
    pub name: String,
    /// The command and its mounts, whose inputs are those of this request; outputs mean nothing.
    pub op: ExecOp,
    /// What it is for; none is this machine's.
    pub platform: Option<OpPlatform>,
    /// Trees.
    pub inputs: Vec<Definition>,
    /// What it reads; nothing at all where there is none.
    pub stdin: Option<OwnedFd>,
    /// Columns and rows of a terminal of its own. With one, all that it writes is standard output.
    pub terminal: Option<(u16, u16)>,
    /// Hears what it writes, on a thread of its own, and may keep it waiting.
    pub hear: ProcessHears,
    /// What is asked of it as it runs. Once there is nothing more to ask, it is killed.
    pub orders: Box<dyn ProcessOrders>,
}

impl fmt::Debug for ProcessRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ProcessRequest")
            .field("name", &self.name)
            .field("op", &self.op)
            .finish_non_exhaustive()
    }
}

/// Something that is asked of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessOrder {
    /// A signal, by its number here.
    Signal(i32),
    /// Another size of its terminal.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
}

/// Where orders come from.
#[async_trait]
pub trait ProcessOrders: Send {
    /// Returns the next one; none once nobody can give any. A call may be dropped and made again.
    async fn next(&mut self) -> Option<ProcessOrder>;
}
