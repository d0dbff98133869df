//! Weight files of other programs: those that PyTorch and timm wrote, files that were made to do harm, and files of random changes.
//!
//! `gen_tiny_files.py`, one of the generators in the crate `ghostnet`, wrote the files in `tests/files/`. `tests/files/make.py` wrote those
//! in `tests/files/made/`.

mod build;
mod fixtures;
mod hostile;
mod mutations;
