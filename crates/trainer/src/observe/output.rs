//! The one place that writes to the person at the console: whole lines, on standard error, without tearing a progress
//! bar. Standard output is for data and stays free.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines and bars for the person at the console. Clones write to the same place.
#[derive(Clone)]
pub struct Output {
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    bars: MultiProgress,
    terminal: bool,
    quiet: bool,
}

impl Output {
    /// Standard error; of errors alone if it is quiet.
    pub fn stderr(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            writer: Arc::new(Mutex::new(Box::new(io::stderr()))),
            bars: MultiProgress::with_draw_target(target),
            terminal,
            quiet,
        }
    }

    /// Something that is no terminal: a file, or the memory of a test.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self {
            writer: Arc::new(Mutex::new(Box::new(writer))),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            terminal: false,
            quiet: false,
        }
    }

    /// Whether a person looks at it, rather than a file.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a line, above the bars if there are any; nothing if it is quiet.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// Writes a line even if it is quiet.
    ///
    /// A console that is gone (a closed pipe, a terminal that hung up) is no reason to stop a run: nobody is left to be
    /// told, so there is no error either.
    pub fn error(&self, text: &str) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.bars.suspend(|| drop(writeln!(writer, "{text}").and_then(|()| writer.flush())));
    }

    /// A bar for bytes that come in; it shows only on a terminal.
    pub fn bytes_bar(&self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        self.add(ProgressBar::new(0)).with_style(style).with_prefix(what.to_string())
    }

    /// Adds a bar below those that are there; it shows only on a terminal.
    pub(super) fn add(&self, bar: ProgressBar) -> ProgressBar {
        self.bars.add(bar)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}
