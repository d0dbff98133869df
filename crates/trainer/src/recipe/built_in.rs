//! The recipes of the project's `configs` folder, carried in the binary so that it trains without a checkout.

/// Name, relative to `configs`, and text of each built-in recipe, in the order of their names.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("cifar10.toml", include_str!("../../../../configs/cifar10.toml")),
    ("fashion_mnist.toml", include_str!("../../../../configs/fashion_mnist.toml")),
    ("finetune.toml", include_str!("../../../../configs/finetune.toml")),
    ("ghostnet_1x.toml", include_str!("../../../../configs/ghostnet_1x.toml")),
    ("imagenet/ghostnet_0.5x.toml", include_str!("../../../../configs/imagenet/ghostnet_0.5x.toml")),
    ("imagenet/ghostnet_1.3x.toml", include_str!("../../../../configs/imagenet/ghostnet_1.3x.toml")),
    ("imagenet/ghostnet_1x.toml", include_str!("../../../../configs/imagenet/ghostnet_1x.toml")),
    ("imagenet/ghostnet_1x_360_epochs.toml", include_str!("../../../../configs/imagenet/ghostnet_1x_360_epochs.toml")),
    ("imagenet/ghostnet_1x_rmsprop.toml", include_str!("../../../../configs/imagenet/ghostnet_1x_rmsprop.toml")),
    (
        "imagenet/ghostnet_1x_small_model.toml",
        include_str!("../../../../configs/imagenet/ghostnet_1x_small_model.toml"),
    ),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe::parse;

    #[test]
    fn every_built_in_recipe_is_valid_and_survives_being_written_out() {
        for (name, text) in BUILT_IN {
            let recipe = parse(name, text, &[]).unwrap_or_else(|error| panic!("{error}"));
            let written = recipe.to_toml();
            let again = parse("written", &written, &[]).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(again, recipe, "{name}");
            assert_eq!(again.to_toml(), written, "{name}");
        }
    }

    #[test]
    fn every_file_in_configs_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut names = Vec::new();
        for sub in ["", "imagenet/"] {
            for entry in fs_err::read_dir(folder.join(sub)).expect("the folder is there") {
                let name = entry.expect("the folder is readable").file_name().to_string_lossy().into_owned();
                names.extend(name.ends_with(".toml").then(|| format!("{sub}{name}")));
            }
        }
        names.sort();
        assert_eq!(names, BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
