//! `ghostnet report` through the program, and the page in a real browser where there is one: `GHOSTNET_CHROMIUM` names it, `chromium`
//! is tried without it. And what `ghostnet eval` says beyond the shares of right answers.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::scene::{self, Scene};

/// A class whose name is a trap in HTML and, on Unix, no trap for a file system.
const ODD_CLASS: &str = if cfg!(windows) { "a&b 'c'" } else { "a&b <c>" };

/// A scene with a class of an odd name.
fn odd_scene() -> Scene {
    let scene = Scene::empty();
    scene.photos("photos", &[ODD_CLASS, "dog", "señor-übel"], 8, 4);
    scene.write("recipe.toml", scene::RECIPE);
    scene
}

fn json(scene: &Scene, args: &[&str]) -> Value {
    let output = scene.run(&[args, &["--device", "cpu", "--format", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The page of a report on some runs.
fn page(scene: &Scene, args: &[&str]) -> String {
    let written = json(scene, &[&["report"], args].concat());
    let page = scene.path(written["report"].as_str().expect("a path"));
    let page = std::fs::read_to_string(page).expect("a page");
    assert_is_whole(&page);
    page
}

/// Elements close in the order in which they open, nothing is loaded, and no brackets are left over.
fn assert_is_whole(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "br"];
    let (head, rest) = page.split_once("<style>").expect("a style sheet");
    let (style, body) = rest.split_once("</style>").expect("its end");
    assert!(!style.contains('<'));
    let mut open = Vec::new();
    for text in [head, body] {
        for tag in text.split('<').skip(1) {
            let (tag, content) = tag.split_once('>').expect("a tag has an end");
            assert!(!content.contains('>'), "a bracket that is no tag's: {content}");
            let name = tag.split_whitespace().next().expect("a name");
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !name.starts_with('!') && !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?} never close");
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched");
    assert!(!page.contains("<script") && !page.contains("url(") && !page.contains("@import"));
    // But for the pictures, whose base64 may hold any letters.
    for (index, part) in page.split("src=\"data:").enumerate() {
        let words = if index == 0 { part } else { part.split_once('"').map_or("", |(_, rest)| rest) };
        assert!(!words.contains("NaN") && !words.contains(">inf"));
    }
}

const SECTIONS: [&str; 7] = [
    "What the figures say",
    "Curves",
    "Surest mistakes",
    "What it mixes up",
    "Class by class",
    "Can its probabilities be believed?",
    "What the network trains on",
];

#[test]
fn a_report_holds_all_that_a_run_has_and_escapes_what_it_is_called() {
    let scene = odd_scene();
    scene.train("run", &[]);
    let output = scene.run(&["report", "run", "--device", "cpu"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "report.html\n");
    let first = std::fs::read_to_string(scene.path("report.html")).expect("a page");
    let page = page(&scene, &["run"]);
    assert_eq!(page, first, "the same run makes the same page");
    for section in SECTIONS {
        assert!(page.contains(section), "no section `{section}`");
    }
    assert!(!page.contains("<c>") && page.contains("señor-übel"));
    if cfg!(unix) {
        assert!(page.contains("a&amp;b &lt;c&gt;"));
    }
    // Six training images, as they are and in four epochs, and a picture of each mistake.
    let evaluation = json(&scene, &["eval", "run"]);
    let mistakes = evaluation["surest_mistakes"].as_array().map_or(0, Vec::len);
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 6 * 5 + mistakes);
    assert_eq!(page.matches("<figure class=\"card chart\">").count(), 4 + 1, "four charts and the reliability diagram");
    assert!(page.contains("learning_rate = 0.05"), "the recipe is in it");
    assert!(
        std::fs::read_dir(scene.path(""))
            .expect("a folder")
            .all(|entry| { !entry.expect("an entry").file_name().to_string_lossy().contains(".tmp") })
    );
}

#[test]
fn several_runs_share_their_charts_and_their_recipes_are_compared() {
    let scene = odd_scene();
    scene.train("one", &[]);
    scene.train("two", &["--set", "optimizer.learning_rate=0.01", "--set", "train.ema={decay=0.9}"]);
    let page = page(&scene, &["one", "two", "-o", "both.html"]);
    assert!(page.contains("<title>2 runs"));
    assert!(page.contains("<b>optimizer.learning_rate</b> 0.05 -&gt; 0.01"));
    for name in ["one", "two"] {
        assert!(page.matches(&format!(">{name}</a>")).count() == 1, "{name} stands in the overview");
    }
    assert_eq!(page.matches("What the network trains on").count(), 2);
    // The charts come before the runs, each once and with a legend.
    let charts = page.split("id=\"run-0\"").next().expect("a part");
    assert_eq!(charts.matches("<figcaption>Top-1</figcaption>").count(), 1);
    assert_eq!(charts.matches("<ul class=\"legend\">").count(), 5);
}

#[test]
fn the_average_of_the_weights_has_a_curve_of_its_own() {
    let scene = odd_scene();
    scene.train("run", &["--set", "train.ema={decay=0.9}", "--set", "eval.splits=['train','val']"]);
    let page = page(&scene, &["run"]);
    for name in ["validation", "validation, averaged weights", "training images", "training images, averaged weights"] {
        assert!(page.contains(&format!("</svg>{name}</li>")), "{name}");
    }
}

#[test]
fn what_is_damaged_missing_or_not_done_is_said_and_the_rest_is_reported() {
    let scene = odd_scene();
    scene.train("run", &[]);
    let metrics = std::fs::read_to_string(scene.path("run/metrics.jsonl")).expect("metrics");
    let mut lines: Vec<&str> = metrics.lines().collect();
    lines[3] = "{\"event\":\"st";
    // The end is cut off too: the run was killed.
    lines.pop();
    scene.write("run/metrics.jsonl", lines.join("\n") + "\n{\"event\":");
    let damaged = page(&scene, &["run"]);
    assert!(damaged.contains("1\u{a0}line of the metrics could not be read"), "damage is said");
    assert!(damaged.contains("not complete"), "and that the run has no end");

    std::fs::rename(scene.path("photos"), scene.path("moved")).expect("a move");
    let without = page(&scene, &["run"]);
    assert!(without.contains("<code>--data DIR</code>") && without.contains("Curves"));
    assert!(!without.contains("Surest mistakes") && !without.contains("data:image"));
    let moved = page(&scene, &["run", "--data", "moved"]);
    assert!(moved.contains("Surest mistakes"));

    for checkpoint in scene.checkpoints("run") {
        scene::flip_a_byte(&checkpoint.join("model.safetensors"));
    }
    let broken = page(&scene, &["run", "--data", "moved"]);
    assert!(
        broken.contains("<code>model.safetensors</code> is damaged") && broken.contains("What the network trains on")
    );

    std::fs::remove_dir_all(scene.path("run/checkpoints")).expect("a removal");
    std::fs::remove_file(scene.path("run/metrics.jsonl")).expect("a removal");
    std::fs::remove_file(scene.path("run/environment.json")).expect("a removal");
    let bare = page(&scene, &["run"]);
    assert!(bare.contains("There is no checkpoint yet") && bare.contains("There are no metrics"));
    assert!(bare.contains("How it was made"));
}

#[test]
fn eval_tells_precision_calibration_and_the_surest_mistakes() {
    let scene = odd_scene();
    scene.train("run", &[]);
    let found = json(&scene, &["eval", "run"]);
    let number = |value: &Value| value.as_f64().expect("a number");
    let per_class = found["per_class"].as_array().expect("a list");
    let mean = |key: &str| per_class.iter().map(|class| class[key].as_f64().unwrap_or(0.0)).sum::<f64>() / 3.0;
    for (key, of_all) in [("precision", "macro_precision"), ("recall", "macro_recall"), ("f1", "macro_f1")] {
        assert!((mean(key) - number(&found[of_all])).abs() < 1e-12, "{key}");
    }
    assert!(per_class.iter().all(|class| class["recall"] == class["top1"]));
    let bins = found["calibration"].as_array().expect("a list");
    assert_eq!(bins.len(), 15);
    assert_eq!(bins.iter().map(|bin| number(&bin["num_images"])).sum::<f64>(), 12.0);
    assert!((0.0..=1.0).contains(&number(&found["calibration_error"])));
    let mistakes = found["surest_mistakes"].as_array().expect("a list");
    assert_eq!(mistakes.len() as f64, 12.0 - 12.0 * number(&found["top1"]));
    let sure: Vec<f64> = mistakes.iter().map(|mistake| number(&mistake["probability"])).collect();
    assert!(sure.is_sorted_by(|a, b| a >= b), "{sure:?}");
    for mistake in mistakes {
        let image = mistake["image"].as_str().expect("a name");
        assert!(image.contains(mistake["class"].as_str().expect("a class")), "{image}");
        assert_ne!(mistake["class"], mistake["predicted"]);
    }
    let text = scene.run(&["eval", "run", "--device", "cpu"]).stdout;
    let text = String::from_utf8(text).expect("text");
    let too_wide = text.lines().skip(2).find(|line| line.chars().count() > 100);
    assert_eq!(too_wide, None);
}

#[test]
fn with_test_time_flips_a_mirrored_data_set_gives_the_same_figures() {
    let scene = odd_scene();
    // The middle 32 of 40 pixels are the same from either side.
    scene.train("run", &["--set", "data.val=[{center_crop={}}]"]);
    for path in files(&scene.path("photos/val")) {
        let mirrored = image::open(&path).expect("a picture").fliph();
        let inside = path.strip_prefix(scene.path("photos")).expect("it is in there");
        let place = scene.path("mirrored").join(inside);
        std::fs::create_dir_all(place.parent().expect("a parent")).expect("a folder");
        mirrored.save(place).expect("a file");
    }
    std::fs::rename(scene.path("photos/train"), scene.path("mirrored/train")).expect("a move");
    let loss = |data: &str, more: &[&str]| {
        let found = json(&scene, &[&["eval", "run", "--data", data], more].concat());
        assert_eq!(found["tta"], if more.is_empty() { "none" } else { "flip" });
        found["loss"].as_f64().expect("a number")
    };
    let plain = loss("mirrored", &[]);
    let mirrored = loss("mirrored", &["--tta", "flip"]);
    std::fs::rename(scene.path("mirrored/train"), scene.path("photos/train")).expect("a move");
    let flipped = loss("photos", &["--tta", "flip"]);
    assert!((flipped - mirrored).abs() < 1e-6, "{flipped} {mirrored}");
    assert!((plain - mirrored).abs() > 1e-6, "the mirror image is looked at");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Tells the frame around it how wide the page is, and how wide its frame.
const PROBE: &str = "<script>addEventListener('load', () => parent.postMessage(\
    [innerWidth, document.documentElement.scrollWidth].join(' '), '*'))</script></body>";

/// A browser that shows a page and prints what became of it, and its console on stderr.
fn shown(browser: &str, scene: &Scene, name: &str) -> (String, String) {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .args(["--virtual-time-budget=3000", "--window-size=1400,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", scene.path("browser").display()))
        .arg(format!("file://{}", scene.path(name).display()))
        .output()
        .expect("the browser starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[expect(clippy::print_stdout, reason = "the note of a test that had nothing to test with")]
#[test]
fn a_browser_shows_the_page_without_complaint_and_no_wider_than_its_window() {
    let named = std::env::var("GHOSTNET_CHROMIUM").ok();
    let browser = named.clone().unwrap_or_else(|| "chromium".to_string());
    let is_there = Command::new(&browser).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(is_there || named.is_none(), "`{browser}` does not start");
    if !is_there {
        println!("no browser here: the page was not shown");
        return;
    }
    let scene = odd_scene();
    scene.train("a-run-with-a-name-that-goes-on-and-on-without-a-space-or-an-end", &[]);
    scene.train("two", &["--set", "optimizer.learning_rate=0.01"]);
    let page = page(&scene, &["a-run-with-a-name-that-goes-on-and-on-without-a-space-or-an-end", "two"]);
    let (shown_page, console) = shown(&browser, &scene, "report.html");
    assert!(shown_page.contains("How it was made"));
    assert!(!console.contains("CONSOLE"), "{console}");

    // The page allows no scripts, so the one that measures goes into a copy without that rule.
    let (before, policy) = page.split_once("<meta http-equiv=").expect("a policy");
    let (_, after) = policy.split_once('>').expect("its end");
    scene.write("probed.html", format!("{before}{after}").replace("</body>", PROBE));
    for width in [390, 1280] {
        // A frame may be narrower than any window.
        let frame = format!(
            "<body><iframe src=probed.html style='width:{width}px;height:900px;border:0'></iframe>\
             <script>onmessage = event => document.body.append('width ' + event.data + ' end')</script></body>"
        );
        scene.write("frame.html", frame);
        let (frame, _) = shown(&browser, &scene, "frame.html");
        let told = frame.rsplit_once("width ").and_then(|(_, rest)| rest.split_once(" end"));
        let Some((widths, _)) = told else { panic!("the page did not load: {frame}") };
        let widths: Vec<u32> = widths.split(' ').map(|width| width.parse().expect("a number")).collect();
        assert_eq!(widths[0], width, "the frame is as wide as asked for");
        assert!(widths[1] <= width, "a page of {} px in a window of {width}", widths[1]);
    }
}
