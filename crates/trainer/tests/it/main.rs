//! The program as a user runs it, and the parts of the library that are compared with other programs.
//!
//! All modules form one binary, because every binary links all of burn. The tests run in parallel threads of one process; a test that
//! depends on process-wide state runs through `alone`. Tests that need an adapter are in `tests/gpu/` and `tests/tuned.rs`, which reuse
//! `mixed` and `scene`.

#[path = "../../../ghostnet-kernels/tests/it/alone/mod.rs"]
mod alone;
mod command_line;
mod export;
mod finetune;
#[path = "../../../ghostnet/tests/it/hash_rule/mod.rs"]
#[expect(dead_code, reason = "the program makes the inputs itself")]
mod hash_rule;
mod hub;
mod import;
mod kernels;
mod lists;
mod mixed;
mod mixed_precision;
mod random_recipes;
mod real_data;
mod recipe_page;
mod report;
mod resume;
mod scene;
mod tensorboard;
mod traces;
mod training_options;
mod wrapped_weights;
