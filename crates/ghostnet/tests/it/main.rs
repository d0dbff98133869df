//! The networks against the references. All modules form one binary, whose tests run in parallel threads.

#[path = "../../../ghostnet-kernels/tests/it/alone/mod.rs"]
mod alone;
mod hash_rule;
mod parity;
mod seed;
