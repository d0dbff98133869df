//! Tests of the CPU kernels. All modules form one binary, whose tests run in parallel threads. Tests that need an adapter are in `tests/gpu/`.

mod alone;
mod drawn;
mod gate;
mod layout;
mod operations;
