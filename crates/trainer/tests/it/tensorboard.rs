//! The event files through TensorBoard's own reader, where it is installed: `GHOSTNET_PYTHON` names a Python that
//! has the package `tensorboard`, `python3` is tried without it.

use std::collections::BTreeMap;
use std::process::Command;

use crate::scene::{self, Scene};

#[test]
fn tensorboard_reads_what_the_metrics_say() {
    let named = std::env::var("GHOSTNET_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_string());
    let has_package =
        Command::new(&python).args(["-c", "import tensorboard"]).output().is_ok_and(|output| output.status.success());
    assert!(has_package || named.is_none(), "`{python}` has no package `tensorboard`");
    if !has_package {
        return;
    }
    let scene = Scene::new();
    scene.train("run", &[]);
    // The last checkpoint is lost, and the run overtakes two of its steps: TensorBoard must show them once.
    let last = scene.checkpoints("run").pop().expect("a checkpoint");
    scene::flip_a_byte(&last.join("model.safetensors"));
    scene.train("run", &[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tensorboard_read.py");
    let output = Command::new(&python).arg(script).arg(scene.path("run/tensorboard")).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [tag, step, value] = fields[..] else { panic!("not a tag, a step and a value: {line}") };
        let key = (tag.to_string(), step.parse::<u64>().expect("a step"));
        assert!(found.insert(key, value.parse::<f64>().expect("a value")).is_none(), "{tag} twice at {step}");
    }
    let mut compared = 0;
    for line in scene.metrics("run") {
        let prefix = line["split"].as_str().unwrap_or("train");
        for key in ["loss", "learning_rate", "gradient_norm", "top1", "top5"] {
            let Some(expected) = line[key].as_f64() else { continue };
            let step = line["step"].as_u64().expect("a step");
            let value = found[&(format!("{prefix}/{key}"), step)];
            assert!((value - expected).abs() <= 1e-6 * expected.abs().max(1e-3), "{prefix}/{key} at {step}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12 * 3 + 4 * 3);
}
