//! Guesses for an error message which other network weights are of, by the names that programs give to its tensors.

/// Names of tensors that a network has, and what it is called. A name counts whatever stands in front of it; the first row of which all are
/// there is taken, so what shares names with another comes before it.
const NETWORKS: &[(&[&str], &str)] = &[
    (&["ghost1.primary_conv.0.weight"], "a GhostNet with other blocks"),
    // `timm/models/vision_transformer.py`, `swin_transformer.py`; `transformers` and torchvision.
    (&["layers.0.blocks.0.attn.relative_position_bias_table"], "a Swin Transformer"),
    (&["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "a vision transformer (ViT)"),
    (&["embeddings.cls_token"], "a vision transformer (ViT)"),
    (&["encoder.layers.encoder_layer_0.ln_1.weight"], "a vision transformer (ViT)"),
    // timm and torchvision.
    (&["stages.0.blocks.0.conv_dw.weight", "stem.0.weight"], "a ConvNeXt"),
    (&["features.0.0.weight", "features.1.0.block.0.weight"], "a ConvNeXt"),
    (&["downsample_layers.0.0.weight"], "a ConvNeXt"),
    (&["layer1.0.conv1.weight", "layer4.0.conv1.weight"], "a ResNet"),
    (&["s1.b1.conv1.conv.weight"], "a RegNet"),
    (&["trunk_output.block1.block1-0.f.a.0.weight"], "a RegNet"),
    (&["denseblock1.denselayer1.conv1.weight"], "a DenseNet"),
    (&["stage2.0.branch2.0.weight"], "a ShuffleNet"),
    (&["features.3.squeeze.weight"], "a SqueezeNet"),
    (&["Mixed_5b.branch1x1.conv.weight"], "an Inception"),
    // lukemelas/EfficientNet-PyTorch, then torchvision and timm.
    (&["_conv_stem.weight", "_blocks.0._depthwise_conv.weight"], "an EfficientNet"),
    (&["features.1.0.block.0.0.weight"], "an EfficientNet"),
    (&["features.1.block.0.0.weight"], "a MobileNetV3"),
    (&["features.1.conv.0.0.weight", "features.18.0.weight"], "a MobileNetV2"),
    (&["conv_stem.weight", "blocks.0.0.conv_dw.weight", "bn2.weight"], "an EfficientNet or a MobileNetV2"),
    (&["conv_stem.weight", "blocks.0.0.conv_dw.weight", "conv_head.bias"], "a MobileNetV3"),
    (&["conv_stem.weight", "blocks.0.0.conv_dw.weight"], "an EfficientNet or a MobileNet"),
    (&["conv_stem.weight", "blocks.0.0.conv_exp.weight"], "an EfficientNet or a MobileNet"),
    (&["features.0.weight", "features.28.weight", "classifier.6.weight"], "a VGG"),
    (&["features.0.weight", "features.10.weight", "classifier.6.weight"], "an AlexNet or a VGG"),
    (&["model.0.conv.weight", "model.1.conv.weight", "model.2.cv1.conv.weight"], "a YOLO"),
];

/// The network that tensors with these names most likely belong to.
pub(super) fn likely(names: &[&str]) -> Option<&'static str> {
    let is_there = |telltale: &&str| {
        names
            .iter()
            .any(|name| name.strip_suffix(*telltale).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.')))
    };
    NETWORKS.iter().find(|(telltales, _)| telltales.iter().all(is_there)).map(|(_, network)| *network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_networks_are_named() {
        for (names, expected) in [
            (&["model.layer1.0.conv1.weight", "model.layer4.0.conv1.weight", "model.fc.weight"][..], Some("a ResNet")),
            (&["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], Some("a vision transformer (ViT)")),
            (&["conv_stem.weight", "blocks.0.0.conv_dw.weight", "conv_head.bias"], Some("a MobileNetV3")),
            (
                &["conv_stem.weight", "blocks.0.0.conv_dw.weight", "bn2.weight"],
                Some("an EfficientNet or a MobileNetV2"),
            ),
            (&["features.1.conv.0.0.weight", "features.18.0.weight"], Some("a MobileNetV2")),
            (&["a", "b.weight"], None),
            (&[], None),
        ] {
            assert_eq!(likely(names), expected, "{names:?}");
        }
    }
}
