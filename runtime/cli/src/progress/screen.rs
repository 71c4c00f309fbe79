//! stderr while progress is shown: one writer at a time, and nobody who works waits for it.
//!
//! In: events, put into the [`Queue`], and text of others ([`tell`]). Out: what the renderer makes of them, in order.
//! Whoever holds both locks took that of the view first.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rb_api::Event;

use super::queue::{Item, Queue};
use super::{FRAME, Renderer, Size};

/// The screen that shows progress now, if one does.
static CURRENT: Mutex<Weak<Screen>> = Mutex::new(Weak::new());

/// Writes talk to stderr, above the progress that is shown. There is nobody to tell if that fails.
pub(crate) fn tell(text: &str) {
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    match current {
        Some(screen) => screen.say(text),
        None => {
            let _ignored = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }
}

/// A renderer and what waits for it.
pub(super) struct Screen {
    queue: Mutex<Queue>,
    wake: Condvar,
    view: Mutex<View>,
    /// Every event is shown as it comes, not at the next frame.
    is_prompt: bool,
    finished: AtomicBool,
}

struct View {
    renderer: Box<dyn Renderer>,
    buffer: Vec<u8>,
    /// Nobody reads stderr any more.
    gone: bool,
}

impl View {
    fn flush(&mut self) {
        if !self.buffer.is_empty() && !self.gone {
            // A stderr that is gone must not end the build.
            self.gone = std::io::stderr().lock().write_all(&self.buffer).is_err();
        }
        self.buffer.clear();
    }
}

impl Screen {
    /// Makes the screen that shows progress from now on.
    pub(super) fn new(renderer: Box<dyn Renderer>, is_prompt: bool) -> Arc<Self> {
        let view = Mutex::new(View { renderer, buffer: Vec::new(), gone: false });
        let (queue, finished) = (Mutex::default(), AtomicBool::new(false));
        let screen = Arc::new(Self { queue, wake: Condvar::new(), view, is_prompt, finished });
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&screen);
        screen
    }

    /// Takes an event of any thread.
    pub(super) fn put(&self, event: Event) {
        if self.finished.load(Ordering::SeqCst) {
            return;
        }
        let was_empty = self.queue().put(event, Instant::now());
        if was_empty && self.is_prompt {
            self.wake.notify_one();
        }
    }

    /// Shows what waits, until the end.
    pub(super) fn paint(&self, every: Duration) {
        let mut is_flooded = false;
        loop {
            let queue = self.queue();
            if self.finished.load(Ordering::SeqCst) {
                return;
            }
            if is_flooded {
                // Nobody can read it: the processor is for those who write it.
                let is_on = |_: &mut Queue| !self.finished.load(Ordering::SeqCst);
                drop(
                    self.wake.wait_timeout_while(queue, FRAME, is_on).expect("no holder of this lock panics"),
                );
            } else if queue.is_empty() || !self.is_prompt {
                // The result only says why it woke up.
                drop(self.wake.wait_timeout(queue, every).expect("no holder of this lock panics"));
            } else {
                drop(queue);
            }
            let mut view = self.view();
            if !self.finished.load(Ordering::SeqCst) {
                is_flooded = self.show(&mut view);
                let View { renderer, buffer, .. } = &mut *view;
                renderer.frame(Instant::now(), Size::of_stderr(), buffer);
                view.flush();
            }
        }
    }

    /// Writes text of others above the view.
    pub(super) fn say(&self, text: &str) {
        let mut view = self.view();
        if !self.finished.load(Ordering::SeqCst) {
            self.show(&mut view);
            let View { renderer, buffer, .. } = &mut *view;
            renderer.wipe(Size::of_stderr(), buffer);
        }
        view.buffer.extend_from_slice(text.as_bytes());
        view.flush();
    }

    /// Ends the view; a second call does nothing.
    pub(super) fn finish(&self) {
        let mut view = self.view();
        if !self.finished.load(Ordering::SeqCst) {
            self.show(&mut view);
            self.finished.store(true, Ordering::SeqCst);
            let View { renderer, buffer, .. } = &mut *view;
            renderer.finish(Instant::now(), Size::of_stderr(), buffer);
            view.flush();
        }
        drop(view);
        // A painter that holds this lock and saw no end waits by the time it is ours, and hears the call.
        drop(self.queue());
        self.wake.notify_all();
    }

    /// Renders what waits; returns whether some of it was left out.
    fn show(&self, view: &mut View) -> bool {
        let items = self.queue().take();
        let is_flooded = items.iter().any(|item| matches!(item, Item::Skipped { .. }));
        let View { renderer, buffer, .. } = view;
        for item in items {
            match item {
                Item::Event(event, at) => renderer.event(&event, at, buffer),
                Item::Skipped { vertex, skipped, at } => renderer.skipped(&vertex, skipped, at, buffer),
            }
        }
        is_flooded
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of this lock panics")
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder of this lock panics")
    }
}
