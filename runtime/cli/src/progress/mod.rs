//! What the user sees while a build runs.
//!
//! In: [`rb_api::Event`]s from any thread. Out: text on stderr, in one of four ways: [`plain`], [`live`], [`json`],
//! [`quiet`]. A [`Renderer`] turns events into text and does no IO; [`Progress`] owns the renderer and stderr.
//! **Invariant:** an event costs little and is never waited for: the live view draws from its own thread, at most
//! ten times a second. A stderr that is gone silences us, nothing more.

mod json;
mod live;
mod plain;
mod quiet;
mod steps;
mod text;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rb_api::{Event, EventSink};

use crate::settings::{Display, ProgressMode};

pub(crate) use text::{clean, fit, human_bytes, human_duration};

/// Time between two frames of the live view.
const FRAME: Duration = Duration::from_millis(100);

/// Turns events into text for stderr.
trait Renderer: Send {
    /// Takes an event; appends what is to be written now.
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>);
    /// Draws a frame for a terminal of this size; only a renderer that redraws itself does.
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
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() { Size::of_stderr().columns } else { 100 }
}

/// Progress of one run. Ends with [`Progress::finish`], or when dropped.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    finished: AtomicBool,
}

struct State {
    renderer: Box<dyn Renderer>,
    buffer: Vec<u8>,
}

impl State {
    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            // A stderr that is gone must not end the build.
            let _ignored = std::io::stderr().lock().write_all(&self.buffer);
            self.buffer.clear();
        }
    }
}

impl Shared {
    fn finish(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if !self.finished.swap(true, Ordering::SeqCst) {
            let State { renderer, buffer } = &mut *state;
            renderer.finish(Instant::now(), Size::of_stderr(), buffer);
            state.flush();
        }
    }

    fn paint(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        while !self.finished.load(Ordering::SeqCst) {
            state = self.wake.wait_timeout(state, FRAME).expect("no holder of this lock panics").0;
            if !self.finished.load(Ordering::SeqCst) {
                let State { renderer, buffer } = &mut *state;
                renderer.frame(Instant::now(), Size::of_stderr(), buffer);
                state.flush();
            }
        }
    }
}

impl Progress {
    /// Begins to show the progress of building `title`.
    pub(crate) fn start(display: Display, title: &str) -> Self {
        let now = Instant::now();
        let renderer: Box<dyn Renderer> = match display.mode {
            ProgressMode::Plain => Box::new(plain::Plain::new(display.colours)),
            ProgressMode::Live => Box::new(live::Live::new(title, display.colours, now)),
            ProgressMode::Json => Box::new(json::Json::new(now)),
            ProgressMode::Quiet => Box::new(quiet::Quiet),
        };
        let state = Mutex::new(State { renderer, buffer: Vec::new() });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), finished: AtomicBool::new(false) });
        let painter = (display.mode == ProgressMode::Live).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.paint())
        });
        Self { shared, painter }
    }

    /// Returns where events go. Events after the end are dropped.
    pub(crate) fn sink(&self) -> EventSink {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |event| {
            let mut state = shared.state.lock().expect("no holder of this lock panics");
            if !shared.finished.load(Ordering::SeqCst) {
                let State { renderer, buffer } = &mut *state;
                renderer.event(&event, Instant::now(), buffer);
                state.flush();
            }
        })
    }

    /// Writes text of others above the view. After the end it just writes.
    pub(crate) fn say(&self, text: &str) {
        let mut state = self.shared.state.lock().expect("no holder of this lock panics");
        let State { renderer, buffer } = &mut *state;
        renderer.wipe(Size::of_stderr(), buffer);
        buffer.extend_from_slice(text.as_bytes());
        state.flush();
    }

    /// Ends the view, leaving the cursor at the start of an empty line. A second call does nothing.
    pub(crate) fn finish(&mut self) {
        self.shared.finish();
        self.shared.wake.notify_all();
        if let Some(painter) = self.painter.take() {
            // It ends within one frame; if it panicked, the view is gone and the build is not.
            let _ignored = painter.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
