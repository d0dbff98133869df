//! Where the events of a run go: a log file, TensorBoard, the console. One trait, one method; each observer takes the
//! events that it has a use for.

mod console;
mod jsonl;
mod output;
mod tensorboard;

use std::io;

pub use self::console::ConsoleObserver;
pub use self::jsonl::{JsonlObserver, Line, read_lines};
pub use self::output::Output;
pub use self::tensorboard::TensorBoardObserver;

use crate::event::Event;

/// Something that wants to know what happens in a run.
pub trait Observer {
    /// Takes note of an event. An error is one of writing (a full disk, say), and the loop decides what it means.
    fn observe(&mut self, event: &Event) -> io::Result<()>;
}
