//! Folders, archives and lists as people have them: parts by other names, test sets, links, system folders, two spellings of a name.

use serde_json::Value;

use crate::scene::{Scene, png};

fn json(scene: &Scene, args: &[&str]) -> Value {
    let output = scene.run(&[args, &["--format", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn stderr(scene: &Scene, args: &[&str]) -> (Option<i32>, String) {
    let output = scene.run(args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `count` pictures of each class in a folder, different in each.
fn class_folders(scene: &Scene, folder: &str, classes: &[&str], count: usize, first: usize) {
    for (label, class) in classes.iter().enumerate() {
        for index in 0..count {
            scene.write(&format!("{folder}/{class}/{index}.png"), png(label, first + index));
        }
    }
}

const CLASSES: [&str; 3] = ["circle", "cross", "square"];

#[test]
fn parts_by_the_names_that_people_give_them_are_parts() {
    let scene = Scene::empty();
    class_folders(&scene, "kaggle/Training", &CLASSES, 4, 0);
    class_folders(&scene, "kaggle/Testing", &CLASSES, 2, 100);
    let stats = json(&scene, &["data", "stats", "kaggle"]);
    assert_eq!(stats["classes"], serde_json::json!(CLASSES));
    assert_eq!((stats["train"]["num_images"].as_u64(), stats["val"]["num_images"].as_u64()), (Some(12), Some(6)));
}

#[test]
fn a_test_set_is_measured_whole_whatever_is_in_it() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let classes = ["cat", "dog", "señor-übel"];
    class_folders(&scene, "test", &classes, 5, 2000);
    class_folders(&scene, "only/Test", &classes[..2], 3, 3000);
    class_folders(&scene, "one", &classes[1..2], 1, 4000);
    class_folders(&scene, "hole", &classes[..1], 2, 5000);
    std::fs::create_dir_all(scene.path("hole/dog")).expect("a folder");
    for (data, images) in [("test", 15), ("only", 6), ("one", 1), ("hole", 2), ("photos", 30)] {
        let report = json(&scene, &["eval", "run", "--data", data, "--device", "cpu"]);
        assert_eq!(report["num_images"], images, "{data}: {report}");
    }
    for (split, images) in [("train", 24), ("val", 6), ("all", 30)] {
        for data in [&[][..], &["--data", "photos"]] {
            let report = json(&scene, &[&["eval", "run", "--device", "cpu", "--split", split], data].concat());
            assert_eq!(report["num_images"], images, "{split} {data:?}");
        }
    }
    let (code, error) = stderr(&scene, &["eval", "run", "--data", "photos", "--split", "test", "--device", "cpu"]);
    assert!(code == Some(1) && error.contains("there is no part `test`"), "{error}");
    let trained_on = "images that the model was trained on are among these";
    for (data, is_told) in [("photos", true), ("test", false)] {
        let (_, told) = stderr(&scene, &["eval", "run", "--data", data, "--device", "cpu"]);
        assert_eq!(told.contains(trained_on), is_told, "{data}: {told}");
    }
    // A test set beside the others belongs to all.
    class_folders(&scene, "photos/test", &classes, 2, 6000);
    for (split, images) in [("test", 6), ("all", 36), ("val", 6)] {
        let report = json(&scene, &["eval", "run", "--device", "cpu", "--split", split]);
        assert_eq!(report["num_images"], images, "{split}");
    }
}

#[test]
fn a_limit_of_pixels_can_be_given_to_what_reads_images() {
    let scene = Scene::new();
    scene.train("run", &[]);
    let too_small = ["--max-pixels", "1439"];
    for args in [
        &["predict", "run", "photos/val/cat/000.png", "--device", "cpu"][..],
        &["eval", "run", "--data", "photos", "--device", "cpu"],
        &["data", "check", "photos"],
    ] {
        let output = scene.run(&[args, &too_small].concat());
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(
            output.status.code() == Some(1) && told.contains("raise the limit with `max_pixels`"),
            "{args:?}: {told}"
        );
        assert!(scene.run(&[args, &["--max-pixels", "1440"]].concat()).status.success(), "{args:?}");
    }
    let train =
        ["train", "--config", "recipe.toml", "--out", "limited", "--device", "cpu", "--set", "data.max_pixels=1439"];
    let (code, error) = stderr(&scene, &train);
    assert!(code == Some(1) && error.contains("raise the limit with `max_pixels`"), "{error}");
}

#[test]
fn a_class_that_the_model_does_not_know_can_be_left_out_of_the_measurement() {
    let scene = Scene::new();
    scene.train("run", &[]);
    class_folders(&scene, "test", &["cat", "dog", "fox"], 2, 2000);
    let (code, error) = stderr(&scene, &["eval", "run", "--data", "test", "--device", "cpu"]);
    assert!(code == Some(1) && error.contains("--leave-out 'fox'"), "{error}");
    let report = json(&scene, &["eval", "run", "--data", "test", "--leave-out", "fox", "--device", "cpu"]);
    assert_eq!(report["num_images"], 4);
    class_folders(&scene, "other_case", &["Cat"], 2, 2000);
    let (_, error) = stderr(&scene, &["eval", "run", "--data", "other_case", "--device", "cpu"]);
    assert!(error.contains("call it `cat` in the data too"), "{error}");
}

#[test]
fn class_names_in_two_forms_of_unicode_are_one_class() {
    let scene = Scene::empty();
    for (part, class, count) in [("train", "caf\u{e9}", 4), ("val", "cafe\u{301}", 2)] {
        class_folders(&scene, &format!("data/{part}"), &[class, "tea"], count, count * 100);
    }
    let stats = json(&scene, &["data", "stats", "data"]);
    assert_eq!(stats["classes"], serde_json::json!(["caf\u{e9}", "tea"]));
    assert_eq!(stats["val"]["class_counts"], serde_json::json!([2, 2]));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_unicode_stay_apart_and_every_answer_is_printed() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::empty();
    for (label, class) in [&b"caf\xe8"[..], &b"caf\xe9"[..]].into_iter().enumerate() {
        let folder = scene.path("data").join(OsStr::from_bytes(class));
        std::fs::create_dir_all(&folder).expect("a folder");
        (0..5)
            .for_each(|index| std::fs::write(folder.join(format!("{index}.png")), png(label, index)).expect("a file"));
    }
    let stats = json(&scene, &["data", "stats", "data"]);
    assert_eq!(stats["classes"], serde_json::json!(["caf\\xe8", "caf\\xe9"]));

    let scene = Scene::new();
    scene.train("run", &[]);
    scene.write("pictures/a.png", png(0, 0));
    std::fs::write(scene.path("pictures").join(OsStr::from_bytes(b"b\xe9.png")), png(1, 0)).expect("a file");
    scene.write("pictures/c.png", "no picture");
    let output = scene.run(&["predict", "run", "pictures", "--device", "cpu", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answers: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((answers[0]["image"].as_str(), answers.as_array().map(Vec::len)), (Some("pictures/a.png"), Some(2)));
    assert_eq!(answers[1]["image_escaped"], "pictures/b\\xe9.png");
    assert!(answers[1]["image"].as_str().is_some_and(|name| name.contains('\u{fffd}')));
}

#[test]
fn a_picture_in_two_classes_is_told_wherever_the_split_puts_it() {
    for copied in 0..10 {
        let scene = Scene::empty();
        class_folders(&scene, "data", &["a"], 10, 0);
        class_folders(&scene, "data", &["b"], 5, 100);
        std::fs::copy(scene.path(&format!("data/a/{copied}.png")), scene.path("data/b/copy.png")).expect("a copy");
        let output = scene.run(&["data", "check", "data", "--format", "json"]);
        assert_eq!(output.status.code(), Some(1), "{copied}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let names: Vec<&str> = report["contradictions"][0]
            .as_array()
            .expect("a group")
            .iter()
            .filter_map(|image| image["name"].as_str())
            .collect();
        assert_eq!(names.len(), 2, "{copied}: {report}");
        assert!(names.iter().any(|name| name.ends_with(&format!("a/{copied}.png"))), "{copied}: {names:?}");
    }
}

#[test]
fn training_tells_of_a_picture_in_two_classes_unless_it_is_to_be_quiet() {
    let scene = Scene::new();
    std::fs::copy(scene.path("photos/train/cat/000.png"), scene.path("photos/val/dog/copy.png")).expect("a copy");
    let args =
        ["train", "--config", "recipe.toml", "--out", "run", "--device", "cpu", "--set", "train.total={steps=2}"];
    let (code, told) = stderr(&scene, &args);
    let warning = told.lines().find(|line| line.starts_with("warning: ") && line.contains("copy.png"));
    assert!(code == Some(0) && warning.is_some_and(|line| line.contains("cat/000.png")), "{told}");
    let quiet = args.map(|arg| if arg == "run" { "quiet" } else { arg });
    let (code, told) = stderr(&scene, &[&quiet[..], &["-q"]].concat());
    assert_eq!((code, told.as_str()), (Some(0), ""));
}

#[test]
fn what_is_left_out_is_told_in_one_line_and_losing_a_hundredth_is_an_error() {
    let scene = Scene::empty();
    class_folders(&scene, "data", &["a", "b"], 6, 0);
    scene.write("data/a/@eaDir/1.png/SYNOPHOTO_THUMB.jpg", png(0, 7));
    scene.write("data/a/notes.txt", "words");
    scene.write("data/.DS_Store", "words");
    std::fs::create_dir_all(scene.path("data/lost+found")).expect("a folder");
    let (code, told) = stderr(&scene, &["data", "stats", "data"]);
    assert_eq!(code, Some(0));
    let line = told.lines().find(|line| line.starts_with("left out: ")).unwrap_or_default();
    assert_eq!(line, "left out: 1 file ending in `.txt`, 1 hidden file or folder, 2 system files or folders");
    scene.write("data/b/9.tif", "a picture that is not read");
    let (code, error) = stderr(&scene, &["data", "stats", "data"]);
    assert!(code == Some(1) && error.contains("data.leave_out = [\"*.tif\"]"), "{error}");
    let (code, _) = stderr(&scene, &["data", "stats", "data", "--leave-out", "*.tif"]);
    assert_eq!(code, Some(0));
}

#[test]
fn predict_goes_through_folders_lists_and_patterns() {
    let scene = Scene::new();
    scene.train("run", &[]);
    scene.write("list.csv", "file_name;other\nphotos\\val\\cat\\000.png;1\n");
    let output = scene.run(&[
        "predict",
        "run",
        "photos/val",
        "list.csv",
        "photos/val/d*/*.png",
        "--device",
        "cpu",
        "--top",
        "1",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(stdout.lines().filter(|line| line.starts_with("photos/")).count(), 6 + 1 + 2, "{stdout}");
}
