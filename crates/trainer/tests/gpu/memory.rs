//! The memory that a plan gives for a step, against what the adapter's runtime reserves for it.

use serde_json::Value;

use crate::adapter;
use crate::runs::{GPU, json};
use crate::scene::Scene;

#[test]
fn the_planned_memory_is_near_what_steps_reserve() {
    if adapter().is_none() {
        return;
    }
    let scene = Scene::new();
    let changes = ["data.image_size=64", "data.batch_size=12", "model.num_classes=3"];
    let sets: Vec<&str> = changes.iter().flat_map(|change| ["--set", change]).collect();
    let common = [&["--config", "recipe.toml", "--device", GPU, "--format", "json"], &sets[..]].concat();
    let plan = json(&scene, &[&["train", "--dry-run"], &common[..]].concat());
    let bench = json(&scene, &[&["bench", "step", "--batch-size", "12", "--seconds", "0.01"], &common[..]].concat());
    assert_eq!((&plan["memory_of"], &plan["batch_size"]), (&"gpu".into(), &bench["batch_size"]));
    let bytes = |value: &Value| value.as_f64().expect("bytes");
    let ratio = bytes(&plan["memory_bytes"]) / bytes(&bench["device_memory_bytes"]);
    assert!((0.8..1.25).contains(&ratio), "{ratio:.3}");
}
