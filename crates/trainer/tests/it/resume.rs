//! Killed, stopped, full, damaged: the run that goes on equals the one that was never disturbed, byte for byte.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{Scene, flip_a_byte};

const TRAIN: [&str; 7] = ["train", "--config", "recipe.toml", "--device", "cpu", "--out", "run"];

/// Kills of the random-kill test; `GHOSTNET_KILLS=50` for the long one.
fn num_kills() -> u64 {
    std::env::var("GHOSTNET_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(6)
}

#[test]
fn a_run_killed_at_any_moment_ends_as_the_run_that_was_never_killed() {
    let scene = Scene::new();
    let began = std::time::Instant::now();
    scene.train("whole", &[]);
    let whole_milliseconds = began.elapsed().as_millis() as u64;
    let (model, metrics) = (scene.final_model("whole"), scene.metrics("whole"));
    assert_eq!(metrics.iter().filter(|line| line["event"] == "step").count(), 12);
    assert_eq!(metrics.iter().filter(|line| line["event"] == "eval").count(), 4);

    for kill in 0..num_kills() {
        // Spread over the whole run and a little beyond its end.
        let milliseconds = whole_milliseconds * 11 / 10 * (2 * kill + 1) / (2 * num_kills()) + kill * 7 % 23;
        if scene.path("run").exists() {
            std::fs::remove_dir_all(scene.path("run")).expect("a folder");
        }
        let mut child = scene.command(&TRAIN).stderr(Stdio::null()).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        scene.train("run", &[]);
        assert!(scene.final_model("run") == model, "weights differ after a kill at {milliseconds} ms");
        assert_eq!(scene.metrics("run"), metrics, "metrics differ after a kill at {milliseconds} ms");
    }
}

#[test]
fn the_same_recipe_gives_the_same_run_with_any_number_of_workers() {
    let scene = Scene::new();
    scene.train("two", &[]);
    scene.train("none", &["--set", "data.workers=0"]);
    scene.train("five", &["--set", "data.workers=5"]);
    assert!(scene.final_model("none") == scene.final_model("two"));
    assert!(scene.final_model("five") == scene.final_model("two"));
    scene.train("other", &["--set", "seed=2"]);
    assert!(scene.final_model("other") != scene.final_model("two"), "another seed is another run");
}

/// More steps than a machine takes before the test stops it.
const LONG: [&str; 2] = ["--set", "train.total={epochs=12}"];

fn kill_after_the_first_checkpoint(scene: &Scene, args: &[&str]) {
    let mut child = scene.command(args).stderr(Stdio::null()).spawn().expect("the program starts");
    while !scene.path("run/checkpoints/step-00000002").exists() {
        assert!(child.try_wait().expect("a status").is_none_or(|status| status.success()));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
}

#[test]
fn adamw_and_accumulation_resume_exactly_too() {
    let scene = Scene::new();
    let changes =
        [&LONG[..], &["--set", "optimizer={kind='adamw', learning_rate=1e-3}", "--set", "train.accumulate=2"]].concat();
    scene.train("whole", &changes);
    let args = [&TRAIN[..], &changes].concat();
    kill_after_the_first_checkpoint(&scene, &args);
    scene.train("run", &changes);
    assert!(scene.final_model("run") == scene.final_model("whole"));
    assert_eq!(scene.metrics("run"), scene.metrics("whole"));
}

#[cfg(unix)]
#[test]
fn sigterm_saves_exits_with_130_and_the_run_goes_on_exactly() {
    let scene = Scene::new();
    scene.train("whole", &LONG);
    let args = [&TRAIN[..], &LONG, &["--set", "checkpoint.every={epochs=100}"]].concat();
    let mut child = scene.command(&args).stderr(Stdio::null()).spawn().expect("the program starts");
    // The first line of the metrics is written after the handler is in place.
    while std::fs::read_to_string(scene.path("run/metrics.jsonl")).unwrap_or_default().is_empty() {
        assert!(child.try_wait().expect("a status").is_none(), "the run ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(killed.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let stopped_at = scene.checkpoints("run").pop().expect("a checkpoint");
    assert!(!stopped_at.ends_with("step-00000072"), "it was stopped before its end");
    let output = scene.run(&args);
    assert!(output.status.success());
    assert!(scene.final_model("run") == scene.final_model("whole"));
    assert_eq!(scene.metrics("run"), scene.metrics("whole"));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let scene = Scene::new();
    scene.train("whole", &[]);
    scene.train("run", &[]);
    let model = scene.final_model("whole");
    for (file, expected) in
        [("model.safetensors", "checksum"), ("optimizer.safetensors", "checksum"), ("state.json", "damaged")]
    {
        let last = scene.checkpoints("run").pop().expect("a checkpoint");
        if file == "state.json" {
            std::fs::write(last.join(file), "{").expect("a file");
        } else {
            flip_a_byte(&last.join(file));
        }
        let output = scene.run(&TRAIN);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("warning: passed over a damaged checkpoint") && stderr.contains(expected), "{stderr}");
        assert!(stderr.contains("step-00000012"), "{stderr}");
        assert!(scene.final_model("run") == model, "{file}");
        assert_eq!(scene.metrics("run"), scene.metrics("whole"));
    }
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept_and_no_others() {
    let scene = Scene::new();
    scene.train("run", &["--set", "checkpoint.keep=2"]);
    let best = scene
        .metrics("run")
        .iter()
        .filter(|line| line["event"] == "eval")
        .fold((0, -1.0), |best, line| {
            let top1 = line["top1"].as_f64().expect("a number");
            if top1 > best.1 { (line["step"].as_u64().expect("a step"), top1) } else { best }
        })
        .0;
    let mut expected = vec![10, 12, best];
    expected.sort_unstable();
    expected.dedup();
    let found: Vec<u64> = scene
        .checkpoints("run")
        .iter()
        .map(|path| {
            path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok()).expect("a step")
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_image_that_goes_bad_during_the_run_costs_no_step_and_the_hint_leads_on() {
    let scene = Scene::new();
    let args = [&TRAIN[..], &LONG, &["--set", "checkpoint.every={steps=50}", "-q"]].concat();
    let mut child = scene.command(&args).stderr(Stdio::piped()).spawn().expect("the program starts");
    while scene.metrics_if_any("run").is_empty() && child.try_wait().expect("it can be asked").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.write("photos/train/cat/003.png", "not a picture");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("photos/train/cat/003.png") && stderr.contains("`--set data.on_corrupt=skip`"), "{stderr}");
    let done = scene.metrics("run").iter().rfind(|line| line["event"] == "step").and_then(|line| line["step"].as_u64());
    let last = scene.checkpoints("run").pop().expect("a checkpoint");
    assert!(last.ends_with(format!("step-{:08}", done.expect("a step"))), "{last:?}");
    scene.train("run", &[&LONG[..], &["--set", "data.on_corrupt=skip"]].concat());
}

#[test]
fn with_one_checkpoint_kept_a_damaged_newer_one_does_not_push_out_the_one_just_written() {
    let scene = Scene::new();
    let keep = ["--set", "checkpoint.keep=1"];
    scene.train("whole", &keep);
    scene.train("run", &keep);
    // The newest is lost, and another lies ahead of where the run goes on.
    let last = scene.checkpoints("run").pop().expect("a checkpoint");
    flip_a_byte(&last.join("model.safetensors"));
    std::fs::rename(&last, scene.path("run/checkpoints/step-00000013")).expect("a move");
    scene.train("run", &keep);
    assert!(scene.final_model("run") == scene.final_model("whole"));
    assert!(scene.path("run/checkpoints/step-00000012").is_dir());
    assert!(!scene.path("run/checkpoints/step-00000013").exists(), "what the run went back behind is gone");
}

#[test]
fn a_lost_log_and_another_workers_count_do_not_keep_a_run_from_going_on() {
    let scene = Scene::new();
    scene.train("whole", &[]);
    scene.train("run", &[]);
    std::fs::remove_dir_all(scene.checkpoints("run").pop().expect("a checkpoint")).expect("a folder");
    std::fs::remove_file(scene.path("run/metrics.jsonl")).expect("a file");
    scene.train("run", &["--set", "data.workers=1", "--set", "checkpoint.every={epochs=1}"]);
    assert!(scene.final_model("run") == scene.final_model("whole"));
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_the_checkpoint_before_it_whole() {
    let scene = Scene::new();
    scene.train("whole", &LONG);
    let args = [&TRAIN[..], &LONG].concat();
    kill_after_the_first_checkpoint(&scene, &args);
    let checkpoints = scene.checkpoints("run");
    let before: Vec<Vec<u8>> =
        checkpoints.iter().map(|path| std::fs::read(path.join("model.safetensors")).expect("a model")).collect();
    // A limit on the size of files fails a write as a full disk does; 200 blocks are less than a model.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ghostnet")])
        .args(&args)
        .current_dir(scene.path("."))
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot save a checkpoint at step"), "{stderr}");
    assert_eq!(scene.checkpoints("run"), checkpoints);
    for (path, before) in checkpoints.iter().zip(&before) {
        assert!(std::fs::read(path.join("model.safetensors")).expect("a model") == *before);
    }
    let rest = std::fs::read_dir(scene.path("run/checkpoints")).expect("a folder").count();
    assert_eq!(rest, checkpoints.len(), "nothing is left over");
    scene.train("run", &LONG);
    assert!(scene.final_model("run") == scene.final_model("whole"), "with room again the run ends as it should");
}

#[test]
fn every_optimizer_with_an_average_of_weights_resumes_exactly_and_the_average_is_what_is_used() {
    for optimizer in [
        "{kind='rmsprop_tf', learning_rate=0.01}",
        "{kind='lamb', learning_rate=0.01, weight_decay=0.02}",
        "{kind='lion', learning_rate=1e-4}",
    ] {
        let scene = Scene::new();
        let optimizer = format!("optimizer={optimizer}");
        let changes =
            [&LONG[..], &["--set", &optimizer, "--set", "train.ema={decay=0.9}", "--set", "train.clip_norm=1.0"]]
                .concat();
        scene.train("whole", &changes);
        let args = [&TRAIN[..], &changes].concat();
        kill_after_the_first_checkpoint(&scene, &args);
        scene.train("run", &changes);
        assert!(scene.final_model("run") == scene.final_model("whole"), "{optimizer}");
        let averages = ["run", "whole"].map(|out| {
            let last = scene.checkpoints(out).last().expect("a checkpoint").join("ema.safetensors");
            std::fs::read(last).expect("an average")
        });
        assert!(averages[0] == averages[1], "{optimizer}");
        assert!(averages[0] != scene.final_model("run"), "the average is another network");
        assert_eq!(scene.metrics("run"), scene.metrics("whole"));
        let splits: Vec<_> =
            scene.metrics("run").iter().filter_map(|line| line["split"].as_str().map(String::from)).collect();
        assert!(
            splits.iter().any(|split| split == "val") && splits.iter().any(|split| split == "val_ema"),
            "{splits:?}"
        );
        let output = scene.run(&["eval", "run", "--device", "cpu"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("ema.safetensors"), "{text}");
    }
}
