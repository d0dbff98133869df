//! The page on recipes names every key that there is.

use trainer::recipe::parse;

const RECIPE: &str = "[data]\nbatch_size = 8\nimage_size = 32\n[train]\ntotal = { steps = 1 }\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.1\n";

/// What the program answers to a key that it does not know: the names that it knows.
fn known_names(key: &str) -> Vec<String> {
    let error = parse("recipe.toml", RECIPE, &[format!("{key}.no_such_key=1")]).expect_err("there is no such key");
    let message = error.to_string();
    let names = message.rsplit_once("expected ").unwrap_or_else(|| panic!("{message}")).1;
    names.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

#[test]
fn every_key_of_every_section_is_on_the_page() {
    let page = include_str!("../../../../docs/recipes.md");
    let sections = ["model", "data", "train", "optimizer", "schedule", "finetune", "distill", "checkpoint", "eval"];
    let mut num_keys = 0;
    for section in sections {
        for key in known_names(section) {
            num_keys += 1;
            assert!(page.contains(&format!("`{key}`")), "`{section}.{key}` is not on the page");
        }
    }
    assert!(num_keys > 60, "{num_keys} keys");
}

#[test]
fn every_transform_on_the_page_is_one() {
    let page = include_str!("../../../../docs/recipes.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let text = RECIPE.replace("image_size = 32\n", &format!("image_size = 32\n{example}"));
    let recipe = parse("page", &text, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((recipe.data.train.len(), recipe.data.val.len()), (10, 3));
    let defaults: Vec<String> =
        recipe.data.train.iter().map(|transform| format!("{{ {} = {{}} }}", transform.name())).collect();
    let plain = RECIPE.replace("image_size = 32\n", &format!("image_size = 32\ntrain = [{}]\n", defaults.join(", ")));
    let plain = parse("defaults", &plain, &[]).unwrap_or_else(|error| panic!("{error}"));
    for (written, default) in recipe.data.train.iter().zip(&plain.data.train) {
        // Thirds cannot be written to their last digit.
        let round = |transform| {
            format!("{transform:?}")
                .replace("1.3333333333333333", "1.3333")
                .replace("0.3333333333333333", "0.3333")
                .replace("3.3333333333333335", "3.3333")
        };
        assert_eq!(round(written), round(default), "the page shows the defaults");
    }
}
