//! Looking at every image of a source once, on several threads: the common part of [`check`](crate::check) and
//! [`stats`](crate::stats).

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::unbounded;

use crate::image::RgbImage;
use crate::source::{ImageSource, LoadError, load_image};

/// Maps each image to a value and returns the values in order. `threads` of 0 means one per processor. `progress` is called
/// on the calling thread with the number of images done.
pub(crate) fn survey<T: Send>(
    source: &dyn ImageSource,
    threads: usize,
    progress: &dyn Fn(usize),
    look: impl Fn(Result<RgbImage, LoadError>) -> T + Sync,
) -> Vec<T> {
    let threads = match threads {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    };
    let next = AtomicUsize::new(0);
    let (sender, receiver) = unbounded();
    let mut values: Vec<Option<T>> = Vec::new();
    values.resize_with(source.len(), || None);
    thread::scope(|scope| {
        for _ in 0..threads.min(source.len()) {
            let (sender, next, look) = (sender.clone(), &next, &look);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= source.len() {
                        break;
                    }
                    let value = look(load_image(source, index));
                    if sender.send((index, value)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (done, (index, value)) in receiver.iter().enumerate() {
            values[index] = Some(value);
            progress(done + 1);
        }
    });
    // A panic of a worker has been passed on by the scope, so no value is missing.
    values.into_iter().flatten().collect()
}

/// How many images each class has, by label. An image with several labels counts for each of them.
pub(crate) fn class_counts(source: &dyn ImageSource) -> Vec<usize> {
    let mut counts = Vec::new();
    for index in 0..source.len() {
        for label in source.labels(index) {
            if counts.len() <= label {
                counts.resize(label + 1, 0);
            }
            counts[label] += 1;
        }
    }
    counts
}
