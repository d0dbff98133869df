//! Weight files of other programs: those that PyTorch and timm wrote, files that were made to do harm, and files of random changes.
//!
//! `files/` was made by `gen_tiny_files.py` among the generators of the crate `ghostnet`, `files/made/` by `files/make.py`.

mod build;
mod fixtures;
mod hostile;
mod mutations;
