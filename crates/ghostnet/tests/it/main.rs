//! Compares the networks with the reference implementations. All modules form one binary, whose tests run in parallel threads.

#[path = "../../../ghostnet-kernels/tests/it/alone/mod.rs"]
mod alone;
mod hash_rule;
mod parity;
mod seed;
