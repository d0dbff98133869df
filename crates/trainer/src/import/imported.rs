//! The result of an import.

use crate::weights::ModelFile;

/// A network from elsewhere.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The network as a model file of this program; classes without names are numbered. Without a classifier it has no classes.
    pub model: ModelFile,
    /// Names of tensors of the head that the file does not have. There are none if the whole network was needed.
    pub absent: Vec<String>,
    /// Notes on what the file was and how it was converted.
    pub notes: Vec<String>,
}
