//! What the user sees while a build runs.
//!
//! In: [`rb_api::Event`]s from any thread. Out: text on stderr, in one of six ways: [`plain`], [`github`], [`live`],
//! [`json`], [`rawjson`], [`quiet`]. A [`Renderer`] turns events into text and does no IO; [`Progress`] owns the renderer, and a thread
//! that writes what waits in the [`queue`].
//! **Invariant:** an event costs little and is never waited for, however slow the terminal is: what floods it is left out
//! of the view and counted. A stderr that is gone silences us, nothing more.

mod amount;
mod github;
mod json;
mod live;
mod plain;
mod queue;
mod quiet;
mod rawjson;
mod screen;
mod steps;
mod text;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rb_api::{Event, EventSink};
use rb_oci::Digest;
use rb_store::{Clock as _, SystemClock};

use crate::settings::{Display, ProgressMode};
use queue::Skipped;
use screen::Screen;

pub(crate) use rawjson::RawWarning;
pub(crate) use screen::tell;
pub(crate) use text::{
    Lines, bare_target, clean, divided, fill, fit, human_bytes, human_duration, human_memory, overwritten,
    turns_round,
};

/// Time between two frames of the live view.
const FRAME: Duration = Duration::from_millis(100);

/// Time between two looks at the clock where nothing is redrawn.
const TICK: Duration = Duration::from_secs(1);

/// Turns events into text for stderr.
trait Renderer: Send {
    /// Takes an event; appends what is to be written now.
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>);
    /// Hears that output of a vertex is left out of the view.
    fn skipped(&mut self, _vertex: &Digest, _skipped: Skipped, _now: Instant, _out: &mut Vec<u8>) {}
    /// Looks at the clock, at least every second; what redraws itself draws a frame for a terminal of this size.
    fn frame(&mut self, _now: Instant, _size: Size, _out: &mut Vec<u8>) {}
    /// Wipes what it has drawn, so that text may follow; the next frame draws it again.
    fn wipe(&mut self, _size: Size, _out: &mut Vec<u8>) {}
    /// Ends: appends what is still held back, or wipes the view.
    fn finish(&mut self, now: Instant, size: Size, out: &mut Vec<u8>);
}

/// Size of a terminal in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    /// Asks the terminal on stderr; 80 × 24 where there is none.
    fn of_stderr() -> Self {
        match rustix::termios::tcgetwinsize(std::io::stderr()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
            }
            _ => Self { columns: 80, rows: 24 },
        }
    }
}

/// Returns the width of the terminal on stderr; 100 where there is none.
pub(crate) fn terminal_columns() -> usize {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() { Size::of_stderr().columns } else { 100 }
}

/// Progress of one run. Ends with [`Progress::finish`], or when dropped.
pub(crate) struct Progress {
    screen: Arc<Screen>,
    painter: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show the progress of building `title`.
    pub(crate) fn start(display: Display, title: &str) -> Self {
        let now = Instant::now();
        let columns = terminal_columns();
        let renderer: Box<dyn Renderer> = match display.mode {
            ProgressMode::Plain if display.github => Box::new(github::GitHub::new(display.verbose)),
            ProgressMode::Plain => {
                Box::new(plain::Plain::new(display.colours, columns).verbose(display.verbose))
            }
            ProgressMode::Live => {
                Box::new(live::Live::new(title, display.colours, now).verbose(display.verbose))
            }
            ProgressMode::Json => Box::new(json::Json::new(now)),
            ProgressMode::RawJson => Box::new(rawjson::RawJson::new(now, SystemClock.now())),
            ProgressMode::Quiet => Box::new(quiet::Quiet),
        };
        let every = if display.mode == ProgressMode::Live { FRAME } else { TICK };
        let screen = Screen::new(renderer, display.mode != ProgressMode::Live);
        let painter = (display.mode != ProgressMode::Quiet).then(|| {
            let screen = Arc::clone(&screen);
            std::thread::spawn(move || screen.paint(every))
        });
        Self { screen, painter }
    }

    /// Returns where events go. Events after the end are dropped.
    pub(crate) fn sink(&self) -> EventSink {
        let screen = Arc::clone(&self.screen);
        Arc::new(move |event| screen.put(event))
    }

    /// Writes text of others above the view. After the end it just writes.
    pub(crate) fn say(&self, text: &str) {
        self.screen.say(text);
    }

    /// Ends the view, leaving the cursor at the start of an empty line. A second call does nothing.
    pub(crate) fn finish(&mut self) {
        self.screen.finish();
        if let Some(painter) = self.painter.take() {
            // It ends at once; if it panicked, the view is gone and the build is not.
            let _ignored = painter.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
