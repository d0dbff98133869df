//! What must hold of weights, whatever the bytes were.

use std::path::Path;

use foreign_weights::ForeignWeights;

/// Reads the bytes: the numbers fit the shapes, and no message is a book.
pub fn answer(bytes: &[u8]) {
    if let Ok(names) = ForeignWeights::names(Path::new("w.pth"), bytes) {
        assert!(names.iter().map(String::len).sum::<usize>() < 256 << 20);
    }
    for key in [None, Some("state_dict")] {
        match ForeignWeights::parse(Path::new("w.pth"), bytes, key) {
            Ok(weights) => {
                for tensor in &weights.tensors {
                    assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{}", tensor.name);
                }
                assert!(weights.notes.iter().all(|note| note.len() < 20_000));
            }
            Err(error) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(error) = cause {
                    assert!(error.to_string().len() < 20_000);
                    cause = error.source();
                }
            }
        }
    }
}
