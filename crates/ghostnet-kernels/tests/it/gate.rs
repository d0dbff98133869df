//! The gate of squeeze-and-excite against PyTorch.

use ghostnet_kernels::Gate;

#[test]
fn values_and_derivatives_are_those_of_pytorch_even_at_the_ends() {
    // `torch.nn.functional.hardsigmoid` and `torch.clamp(x, 0, 1)`, with the gradient of their sum.
    let cases = [
        (Gate::HardSigmoid, [(-3.0, 0.0, 0.0), (0.0, 0.5, 1.0 / 6.0), (3.0, 1.0, 0.0), (-9.0, 0.0, 0.0)]),
        (Gate::Clip, [(0.0, 0.0, 1.0), (0.25, 0.25, 1.0), (1.0, 1.0, 1.0), (-0.5, 0.0, 0.0)]),
    ];
    for (gate, points) in cases {
        for (x, value, slope) in points {
            assert_eq!(gate.value_and_slope(x), (value, slope), "{gate:?} at {x}");
        }
        assert_eq!(gate.value_and_slope(50.0), (1.0, 0.0), "{gate:?}");
        assert!(gate.value_and_slope(f32::NAN).0.is_nan(), "{gate:?}");
    }
}
