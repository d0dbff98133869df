//! The counter of layout conversions is process-wide, so its test runs in a process of its own.

use burn::tensor::{Device, Tensor};
use ghostnet_kernels::{
    ConvNormTensors, Gate, GhostBottleneckTensors, GhostModuleTensors, NormTensors, SqueezeExciteTensors, conv_norm,
    ghost_bottleneck, layout_conversions,
};

use crate::alone;

fn conv(dims: [usize; 4], stride: usize, groups: usize, device: &Device) -> ConvNormTensors {
    ConvNormTensors {
        weight: Tensor::ones(dims, device).require_grad(),
        norm: NormTensors {
            weight: Tensor::ones([dims[0]], device).require_grad(),
            bias: Tensor::zeros([dims[0]], device).require_grad(),
            running: None,
            epsilon: 1e-5,
        },
        stride,
        groups,
    }
}

fn block(input: usize, stride: usize, device: &Device) -> GhostBottleneckTensors {
    let ghost = |input, half, relu| GhostModuleTensors {
        primary: conv([half, input, 1, 1], 1, 1, device),
        cheap: conv([half, 1, 3, 3], 1, half, device),
        relu,
        out_channels: 2 * half,
    };
    GhostBottleneckTensors {
        expand: ghost(input, 24, true),
        attention: None,
        depthwise: (stride > 1).then(|| conv([48, 1, 3, 3], stride, 48, device)),
        squeeze_excite: Some(SqueezeExciteTensors {
            reduce: Tensor::ones([8, 48, 1, 1], device),
            reduce_bias: Tensor::ones([8], device),
            expand: Tensor::ones([48, 8, 1, 1], device),
            expand_bias: Tensor::ones([48], device),
            gate: Gate::HardSigmoid,
        }),
        project: ghost(48, 12, false),
        shortcut: (input != 24 || stride > 1)
            .then(|| [conv([input, 1, 3, 3], stride, input, device), conv([24, input, 1, 1], 1, 1, device)]),
    }
}

#[test]
fn maps_pass_from_one_operation_to_the_next_without_a_change_of_layout() {
    alone::run("layout::maps_pass_from_one_operation_to_the_next_without_a_change_of_layout", || {
        let device = Device::flex().autodiff();
        let images = Tensor::<4>::ones([2, 3, 16, 16], &device);
        let map = conv_norm(images, conv([16, 3, 3, 3], 2, 1, &device), true).output;
        let map = ghost_bottleneck(map, block(16, 2, &device)).output;
        let map = ghost_bottleneck(map, block(24, 1, &device)).output;
        let map = conv_norm(map, conv([40, 24, 1, 1], 1, 1, &device), true).output;
        assert_eq!(layout_conversions(), 0, "forward");
        map.mean().backward();
        // The gradient of a mean has burn's layout, so the backward pass begins with one conversion.
        assert_eq!(layout_conversions(), 1, "backward");
    });
}
