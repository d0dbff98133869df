//! Images that come as a list of paths and labels, with several labels each, or with copies among them: through the binary.

use serde_json::Value;

use crate::scene::{Scene, png};

/// Photographs in one folder and a list that gives each one or two labels.
fn scene_with_several_labels() -> Scene {
    let scene = Scene::new();
    let mut list = "path,labels,split\n".to_string();
    for index in 0..24 {
        let label = index % 3;
        scene.write(&format!("all/{index}.png"), png(label, index));
        let labels = ["red", "green|plain", "blue|plain"][label];
        let split = if index < 18 { "train" } else { "val" };
        list.push_str(&format!("all/{index}.png,{labels},{split}\n"));
    }
    scene.write("list.csv", list);
    scene
}

/// A smooth picture, of its own for each number.
fn waves(number: usize) -> image::RgbImage {
    let number = number as f64;
    image::RgbImage::from_fn(64, 48, |x, y| {
        let (x, y) = (f64::from(x) / 64.0, f64::from(y) / 48.0);
        let wave = |phase: f64| {
            (7.0 * x * (number * 1.3 + phase).sin() + 9.0 * y * (number * 2.1 + phase).cos() + number).sin()
        };
        image::Rgb([0.0, 1.0, 2.0].map(|phase| (127.0 + 120.0 * wave(phase)) as u8))
    })
}

fn json(scene: &Scene, args: &[&str]) -> Value {
    let output = scene.run(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn images_with_several_labels_are_trained_measured_and_predicted_as_questions_of_their_own() {
    let scene = scene_with_several_labels();
    let args = ["--data", "list.csv", "--set", "train.total={epochs=12}", "--set", "train.mixup={alpha=0.1}"];
    scene.train("run", &args);
    let recipe = std::fs::read_to_string(scene.path("run/recipe.toml")).expect("a recipe");
    assert!(recipe.contains("bce = { sum_classes = false }"), "{recipe}");
    let evals: Vec<Value> = scene.metrics("run").into_iter().filter(|line| line["event"] == "eval").collect();
    assert!(evals.iter().all(|line| line["mean_average_precision"].as_f64().is_some()));

    let found = json(&scene, &["eval", "run", "--device", "cpu", "--format", "json"]);
    assert_eq!(found["classes"], serde_json::json!(["blue", "green", "plain", "red"]));
    assert!(found["mean_average_precision"].as_f64() > Some(0.8), "{found}");
    assert_eq!(found["per_class"][2]["num_images"], 4, "two of three classes are plain");
    let mirrored = json(&scene, &["eval", "run", "--device", "cpu", "--format", "json", "--tta", "flip"]);
    assert!(mirrored["mean_average_precision"].as_f64() > Some(0.8), "{mirrored}");
    let text = scene.run(&["eval", "run", "--device", "cpu"]);
    let stdout = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(stdout.contains("\nmAP  ") && !stdout.contains("confusion"), "{stdout}");

    let report = json(&scene, &["report", "run", "--device", "cpu", "--format", "json"]);
    assert_eq!(report["runs"][0]["notes"], serde_json::json!([]));
    assert!(report["runs"][0]["mean_average_precision"].as_f64() > Some(0.8), "{report}");
    let page = std::fs::read_to_string(scene.path("report.html")).expect("a page");
    assert!(page.contains("Its mean average precision is") && page.contains("Mean average precision"));
    assert!(!page.contains("What it mixes up"), "nothing is taken for something else");

    let guesses = json(&scene, &["predict", "run", "all/19.png", "--device", "cpu", "--format", "json"]);
    let sum: f64 =
        guesses[0]["guesses"].as_array().expect("guesses").iter().filter_map(|g| g["probability"].as_f64()).sum();
    assert!((sum - 1.0).abs() > 0.05, "no alternatives: {guesses}");
}

#[test]
fn what_goes_with_one_label_only_is_refused_for_several() {
    let scene = scene_with_several_labels();
    for (change, message) in [
        ("train.class_weights=balanced", "`train.class_weights` weighs the one class of each image"),
        ("data.sampling=balanced", "counts the one class of each image"),
        ("distill={temperature=2}", "learns from a teacher which one class an image is of"),
    ] {
        let args = ["train", "--config", "recipe.toml", "--data", "list.csv", "--dry-run", "--set", change];
        let output = scene.run(&args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(message), "{change}: {stderr}");
    }
}

#[test]
fn a_list_of_one_label_each_trains_as_the_folder_it_names() {
    let scene = Scene::new();
    scene.train("folder", &[]);
    let mut list = "path,label,split\n".to_string();
    for class in ["cat", "dog", "señor-übel"] {
        for (split, count) in [("train", 8), ("val", 2)] {
            for index in 0..count {
                list.push_str(&format!("photos/{split}/{class}/{index:03}.png,{class},{split}\n"));
            }
        }
    }
    scene.write("list.csv", list);
    scene.train("list", &["--data", "list.csv"]);
    assert!(scene.final_model("folder") == scene.final_model("list"));
}

#[test]
fn copies_of_a_picture_lie_on_one_side_of_a_split_that_is_ours() {
    let scene = Scene::new();
    for (label, class) in ["cat", "dog"].iter().enumerate() {
        for index in 0..10 {
            let picture = waves(10 * label + index);
            let encoded = |format| {
                let mut bytes = std::io::Cursor::new(Vec::new());
                picture.write_to(&mut bytes, format).expect("an image file");
                bytes.into_inner()
            };
            scene.write(&format!("mixed/{class}/{index}.png"), encoded(image::ImageFormat::Png));
            scene.write(&format!("mixed/{class}/{index}-again.jpg"), encoded(image::ImageFormat::Jpeg));
        }
    }
    let output = scene.run(&["train", "--config", "recipe.toml", "--data", "mixed", "--device", "cpu", "--out", "run"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("of the same picture"), "{stderr}");
    assert!(stderr.contains("32 train, 8 val"), "the parts keep their sizes: {stderr}");
    // A network that knows nothing names nearly all images wrong, so its mistakes are the images that were measured.
    let measured = |split: &str| -> Vec<String> {
        let found = json(&scene, &["eval", "run", "--split", split, "--device", "cpu", "--format", "json"]);
        let mistakes = found["surest_mistakes"].as_array().expect("mistakes").clone();
        let picture = |mistake: &Value| mistake["image"].as_str().expect("a name").replace("-again.jpg", ".png");
        mistakes.iter().map(picture).collect()
    };
    let (train, val) = (measured("train"), measured("val"));
    assert!(!val.is_empty() && !train.is_empty(), "{val:?} {train:?}");
    assert!(val.iter().all(|picture| !train.contains(picture)), "{val:?} {train:?}");
    let check = scene.run(&["data", "check", "mixed"]);
    let stdout = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(stdout.contains("nearly the same image `mixed/"), "{stdout}");

    // A picture that is mended or comes may change the split: then it is said that the images are others.
    std::fs::remove_file(scene.path("mixed/cat/3.png")).expect("a file");
    let eval = scene.run(&["eval", "run", "--device", "cpu"]);
    let stderr = String::from_utf8_lossy(&eval.stderr).into_owned();
    assert!(stderr.contains("some that it was trained on may be among those measured"), "{stderr}");
}
