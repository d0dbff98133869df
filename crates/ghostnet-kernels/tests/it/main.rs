//! The kernels of the CPU. All modules form one binary, whose tests run in parallel threads. What needs an adapter is in `tests/gpu/`.

mod alone;
mod drawn;
mod gate;
mod layout;
mod operations;
