//! Weight files of other programs: those that PyTorch and timm wrote, files that were made to do harm, and files of random changes.
//!
//! `tests/files/` was made by `gen_tiny_files.py` among the generators of the crate `ghostnet`, `tests/files/made/` by
//! `tests/files/make.py`.

mod build;
mod fixtures;
mod hostile;
mod mutations;
