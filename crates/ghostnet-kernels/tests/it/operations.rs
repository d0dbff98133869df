//! The kernels against burn's own operations in `f64`: outputs, statistics and all gradients.

use burn::tensor::{DType, Device, Tensor, TensorData};
use ghostnet_kernels::{
    AdamW, AttentionTensors, ConvNormTensors, ConvTensors, FoldedConv, FoldedGhostBottleneck, Gate,
    GhostBottleneckTensors, InstructionSet, LinearTensors, Lion, Normed, ParallelGhostModuleTensors, Reference,
    RmspropTf, Sgd, SqueezeExciteTensors, attend, conv_norm, ghost_bottleneck, ghost_module, global_average_pool,
    global_norm, halve, is_supported, linear, parallel_conv, parallel_ghost_module,
};

use crate::drawn::{Numbers, Tensors, floats, values};

/// Largest difference from the reference, relative to the largest value of each tensor, or to one if that is smaller.
const TOLERANCE: f64 = 1e-4;

/// Calls `make` for the kernels and for the reference and compares what they give.
fn compare(
    case: &str,
    seed: u64,
    kernels: impl Fn(&mut Tensors) -> Normed,
    reference: impl Fn(&mut Tensors) -> Normed,
) {
    let run = |dtype, make: &dyn Fn(&mut Tensors) -> Normed| {
        let mut tensors = Tensors::new(seed, dtype);
        let normed = make(&mut tensors);
        values(tensors, normed)
    };
    let (ours, theirs) = (run(DType::F32, &kernels), run(DType::F64, &reference));
    assert_eq!(ours.len(), theirs.len(), "{case}");
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert_close(&format!("{case}: {name}"), ours, theirs);
    }
}

fn assert_close(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let difference = ours.iter().zip(theirs).fold(0.0f64, |most, (a, b)| {
        // NaN must not be passed over.
        let difference = (a - b).abs();
        if difference.is_nan() { f64::INFINITY } else { most.max(difference) }
    });
    // A bias that the next norm takes away again has a gradient of zero: some hundred terms near one that cancel.
    assert!(
        difference <= TOLERANCE * largest.max(1.0),
        "{what} differs by {difference:e}, its largest value is {largest:e}, with {:?}",
        InstructionSet::current()
    );
}

#[test]
fn convolution_norm_and_activation_equal_the_reference_for_all_kinds_and_odd_sizes() {
    let mut numbers = Numbers(1);
    for case in 0..60 {
        let batch: usize = numbers.pick(&[1, 2, 3]);
        let (height, width): (usize, usize) = (numbers.pick(&[1, 2, 5, 8, 13]), numbers.pick(&[3, 4, 7, 17]));
        let (input, out) = (numbers.pick(&[1, 3, 8, 17, 40]), numbers.pick(&[1, 4, 12, 16, 33, 70]));
        let (kernel, stride) = (numbers.pick(&[1, 3, 5, 7]), numbers.pick(&[1, 2, 3]));
        let (relu, training, depthwise) =
            (numbers.pick(&[true, false]), numbers.pick(&[true, true, false]), case % 2 == 0);
        let name = format!(
            "case {case}: [{batch}, {input}, {height}, {width}] to {out}, kernel {kernel}, stride {stride}, relu {relu}, \
             training {training}, depthwise {depthwise}"
        );
        if training && batch * height.div_ceil(stride) * width.div_ceil(stride) == 1 {
            continue;
        }
        let make = |tensors: &mut Tensors| {
            let x = tensors.map([batch, input, height, width], 1.0);
            let conv = match depthwise {
                true => tensors.depthwise(input, kernel, stride, Some(training)),
                false => tensors.conv([out, input, kernel], stride, Some(training)),
            };
            (x, conv)
        };
        compare(
            &name,
            case,
            |tensors| {
                let (x, conv) = make(tensors);
                assert!(is_supported(&x));
                conv_norm(x, conv, relu)
            },
            |tensors| {
                let (x, conv) = make(tensors);
                Reference.conv_norm(x, conv, relu)
            },
        );
    }
}

#[test]
fn kernels_that_are_not_square_equal_the_reference_folded_too() {
    for (case, kernel) in (100_u64..).zip([[1, 5], [5, 1], [3, 1], [1, 7], [5, 3]]) {
        for (depthwise, stride, training) in [(true, 1, true), (true, 2, false), (false, 1, false), (false, 2, true)] {
            let make = |tensors: &mut Tensors| {
                let x = tensors.map([2, 12, 7, 10], 1.0);
                let [height, width] = kernel;
                let conv = match depthwise {
                    true => ConvNormTensors { stride, ..tensors.strip(12, kernel, Some(training)) },
                    false => tensors.conv_of([18, 12, height, width], stride, Some(training)),
                };
                (x, conv)
            };
            let what = format!("{kernel:?}, depthwise {depthwise}, stride {stride}, training {training}");
            compare(
                &what,
                case,
                |tensors| {
                    let (x, conv) = make(tensors);
                    conv_norm(x, conv, true)
                },
                |tensors| {
                    let (x, conv) = make(tensors);
                    Reference.conv_norm(x, conv, true)
                },
            );
            if !training {
                let (x, conv) = make(&mut Tensors::new(case, DType::F64));
                let expected = floats(Reference.conv_norm(x, conv, true).output);
                let (x, conv) = make(&mut Tensors::new(case, DType::F32));
                let found = floats(FoldedConv::new(ConvTensors::fold(conv, true)).forward(x.inner()));
                assert_close(&format!("{what}, folded"), &found, &expected);
            }
        }
    }
}

#[test]
fn halved_and_added_maps_and_attention_equal_the_reference() {
    let mut numbers = Numbers(14);
    for case in 0..20 {
        let [batch, channels] = [numbers.pick(&[1, 3]), numbers.pick(&[1, 12, 16, 33])];
        let [height, width] = [numbers.pick(&[2, 3, 6, 13]), numbers.pick(&[2, 5, 7, 10])];
        // Half the size, and sizes that are no half.
        let gate = numbers.pick(&[[height / 2, width / 2], [height / 2, width / 2], [1, width], [height, 1]]);
        let plain = |output| Normed { output, statistics: Vec::new() };
        let x = |tensors: &mut Tensors| tensors.map([batch, channels, height, width], 1.0);
        let what = format!("case {case}: [{batch}, {channels}, {height}, {width}], gate {gate:?}");
        compare(&what, case, |tensors| plain(halve(x(tensors))), |tensors| plain(Reference.halve(x(tensors))));
        compare(
            &what,
            case,
            |tensors| plain(ghostnet_kernels::add(x(tensors), x(tensors))),
            |tensors| plain(x(tensors) + x(tensors)),
        );
        let both = |tensors: &mut Tensors| (x(tensors), tensors.map([batch, channels, gate[0], gate[1]], 3.0));
        let run = |attend: &dyn Fn(Tensor<4>, Tensor<4>) -> Tensor<4>, tensors: &mut Tensors| {
            let (maps, logits) = both(tensors);
            plain(attend(maps, logits))
        };
        compare(
            &what,
            case,
            |tensors| run(&attend, tensors),
            |tensors| run(&|maps, logits| Reference.attend(maps, logits), tensors),
        );
    }
}

#[test]
fn ghost_modules_equal_the_reference() {
    let mut numbers = Numbers(2);
    for case in 0..30 {
        let (batch, height, width) =
            (numbers.pick(&[1, 2, 5]), numbers.pick(&[1, 2, 7, 12]), numbers.pick(&[3, 9, 16]));
        let (input, out) = (numbers.pick(&[1, 16, 24, 50]), numbers.pick(&[2, 16, 24, 34, 120]));
        let (kernel, relu, training) =
            (numbers.pick(&[1, 3, 5, 7]), numbers.pick(&[true, false]), numbers.pick(&[Some(true), None, Some(false)]));
        let make = |tensors: &mut Tensors| {
            let x = tensors.map([batch, input, height, width], 1.0);
            (x, tensors.ghost([out, input, kernel], relu, training))
        };
        compare(
            &format!(
                "case {case}: [{batch}, {input}, {height}, {width}] to {out}, cheap kernel {kernel}, relu {relu}, training {training:?}"
            ),
            case,
            |tensors| {
                let (x, ghost) = make(tensors);
                ghost_module(x, ghost)
            },
            |tensors| {
                let (x, ghost) = make(tensors);
                Reference.ghost_module(x, ghost)
            },
        );
    }
}

/// A bottleneck of the paper or near it.
#[derive(Clone, Copy, Debug)]
struct Block {
    x: [usize; 4],
    expanded: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    squeeze: Option<usize>,
    gate: Gate,
    cheap_kernel: usize,
    attention: bool,
    training: Option<bool>,
}

impl Block {
    /// The block, and with the other gate if it has one.
    fn of_both_gates(self) -> impl Iterator<Item = Self> {
        std::iter::once(self).chain(self.squeeze.map(|_| Self { gate: Gate::Clip, ..self }))
    }

    fn tensors(self, tensors: &mut Tensors) -> (Tensor<4>, GhostBottleneckTensors) {
        let Self { x, expanded, out, kernel, stride, squeeze, gate, cheap_kernel, attention, training } = self;
        // Large enough for some gates to be clipped on either side, and small enough for some not to be.
        let (scale, offset) = match gate {
            Gate::HardSigmoid => (3.0, 0.0),
            Gate::Clip => (0.5, 0.5),
        };
        let input = x[1];
        let x = tensors.map(x, 1.0);
        let block = GhostBottleneckTensors {
            expand: tensors.ghost([expanded, input, cheap_kernel], true, training),
            attention: attention.then(|| AttentionTensors {
                pointwise: tensors.conv([expanded, input, 1], 1, training),
                horizontal: tensors.strip(expanded, [1, 5], training),
                vertical: tensors.strip(expanded, [5, 1], training),
            }),
            depthwise: (stride > 1).then(|| tensors.depthwise(expanded, kernel, stride, training)),
            squeeze_excite: squeeze.map(|squeezed| SqueezeExciteTensors {
                reduce: tensors.map([squeezed, expanded, 1, 1], 0.5),
                reduce_bias: tensors.vector(squeezed, 0.2),
                expand: tensors.map([expanded, squeezed, 1, 1], scale),
                expand_bias: tensors.vector(expanded, offset),
                gate,
            }),
            project: tensors.ghost([out, expanded, cheap_kernel], false, training),
            shortcut: (stride > 1 || input != out).then(|| {
                [tensors.depthwise(input, kernel, stride, training), tensors.conv([out, input, 1], 1, training)]
            }),
        };
        (x, block)
    }
}

#[test]
fn ghost_bottlenecks_equal_the_reference() {
    let mut numbers = Numbers(3);
    for case in 0..40 {
        let block = Block {
            x: [
                numbers.pick(&[2, 3]),
                numbers.pick(&[4, 16, 18, 24]),
                numbers.pick(&[2, 5, 8]),
                numbers.pick(&[3, 7, 10]),
            ],
            expanded: numbers.pick(&[8, 36, 48, 70]),
            out: numbers.pick(&[4, 16, 18, 24]),
            kernel: numbers.pick(&[3, 5]),
            stride: numbers.pick(&[1, 2]),
            squeeze: numbers.pick(&[None, Some(4), Some(20)]),
            gate: Gate::HardSigmoid,
            cheap_kernel: numbers.pick(&[3, 3, 1, 5]),
            attention: false,
            training: numbers.pick(&[Some(true), None, None, Some(false)]),
        };
        for block in block.of_both_gates() {
            compare(
                &format!("case {case}: {block:?}"),
                case,
                |tensors| {
                    let (x, block) = block.tensors(tensors);
                    ghost_bottleneck(x, block)
                },
                |tensors| {
                    let (x, block) = block.tensors(tensors);
                    Reference.ghost_bottleneck(x, block)
                },
            );
        }
    }
}

#[test]
fn parallel_branches_equal_the_reference() {
    let mut numbers = Numbers(15);
    for case in 0..24 {
        let [batch, height, width] = [numbers.pick(&[2, 3]), numbers.pick(&[2, 5, 9]), numbers.pick(&[3, 4, 11])];
        let [input, half] = [numbers.pick(&[3, 16, 25]), numbers.pick(&[2, 12, 16, 33])];
        let (kernel, stride) = (numbers.pick(&[1, 3, 5]), numbers.pick(&[1, 2]));
        let (relu, training) = (numbers.pick(&[true, false]), numbers.pick(&[Some(true), None, Some(false)]));
        let what = format!(
            "case {case}: [{batch}, {input}, {height}, {width}] to {half}, kernel {kernel}, stride {stride}, relu {relu}, {training:?}"
        );
        let conv = |tensors: &mut Tensors| {
            let x = tensors.map([batch, input, height, width], 1.0);
            let conv = match kernel {
                1 => tensors.parallel([half, input, 1], 1, training),
                kernel => tensors.parallel([input, 1, kernel], stride, training),
            };
            (x, conv)
        };
        compare(
            &what,
            case,
            |tensors| {
                let (x, conv) = conv(tensors);
                parallel_conv(x, conv, relu)
            },
            |tensors| {
                let (x, conv) = conv(tensors);
                Reference.parallel_conv(x, conv, relu)
            },
        );
        let ghost = |tensors: &mut Tensors| {
            let x = tensors.map([batch, input, height, width], 1.0);
            let primary = tensors.parallel([half, input, 1], 1, training);
            let cheap = tensors.parallel([half, 1, 3], 1, training);
            (x, ParallelGhostModuleTensors { primary, cheap, relu, out_channels: 2 * half })
        };
        compare(
            &what,
            case,
            |tensors| {
                let (x, module) = ghost(tensors);
                parallel_ghost_module(x, module)
            },
            |tensors| {
                let (x, module) = ghost(tensors);
                Reference.parallel_ghost_module(x, module)
            },
        );
    }
}

#[test]
fn squeeze_excite_alone_and_its_gradients_equal_the_reference() {
    for (case, channels, squeezed) in [(1, 12, 4), (2, 33, 20), (3, 48, 7)] {
        for gate in [Gate::HardSigmoid, Gate::Clip] {
            let make = |tensors: &mut Tensors| {
                let x = tensors.map([3, channels, 5, 4], 1.0);
                let tensors = SqueezeExciteTensors {
                    reduce: tensors.map([squeezed, channels, 1, 1], 0.5),
                    reduce_bias: tensors.vector(squeezed, 0.2),
                    expand: tensors.map([channels, squeezed, 1, 1], 1.0),
                    expand_bias: tensors.vector(channels, 0.3),
                    gate,
                };
                (x, tensors)
            };
            let plain = |output| Normed { output, statistics: Vec::new() };
            compare(
                &format!("{channels} channels, {squeezed} squeezed, {gate:?}"),
                case,
                |tensors| {
                    let (x, tensors) = make(tensors);
                    plain(ghostnet_kernels::squeeze_excite(x, tensors))
                },
                |tensors| {
                    let (x, tensors) = make(tensors);
                    plain(Reference.squeeze_excite(x, tensors))
                },
            );
        }
    }
}

#[test]
fn squeeze_excite_clips_its_gate_as_asked() {
    let x = Tensor::<4>::full([1, 4, 1, 1], 2.0, &Device::flex());
    let squeeze_excite = |gate| SqueezeExciteTensors {
        reduce: Tensor::zeros([3, 4, 1, 1], &x.device()),
        reduce_bias: Tensor::zeros([3], &x.device()),
        expand: Tensor::zeros([4, 3, 1, 1], &x.device()),
        expand_bias: Tensor::from_floats([-4.0, 0.0, 0.75, 1.5], &x.device()),
        gate,
    };
    for (gate, expected) in [(Gate::HardSigmoid, [0.0, 1.0, 1.25, 1.5]), (Gate::Clip, [0.0, 0.0, 1.5, 2.0])] {
        let output = ghostnet_kernels::squeeze_excite(x.clone(), squeeze_excite(gate));
        assert_close(&format!("{gate:?}"), &floats(output), &expected);
    }
}

#[test]
fn folded_convolutions_equal_the_reference() {
    let mut numbers = Numbers(12);
    for case in 0..40 {
        let (batch, height, width) =
            (numbers.pick(&[1, 2, 7]), numbers.pick(&[1, 2, 9, 14]), numbers.pick(&[3, 5, 12, 17]));
        let (input, out) = (numbers.pick(&[1, 3, 17, 40, 80]), numbers.pick(&[1, 12, 33, 70, 130]));
        let (kernel, stride, relu) =
            (numbers.pick(&[1, 3, 5, 7]), numbers.pick(&[1, 2, 3]), numbers.pick(&[true, false]));
        let depthwise = case % 2 == 0;
        let make = |dtype| {
            let mut tensors = Tensors::new(case, dtype);
            let x = tensors.map([batch, input, height, width], 1.0);
            let conv = match depthwise {
                true => tensors.depthwise(input, kernel, stride, Some(false)),
                false => tensors.conv([out, input, kernel], stride, Some(false)),
            };
            (x.inner(), conv)
        };
        let folded = |dtype| {
            let (x, conv) = make(dtype);
            floats(FoldedConv::new(ConvTensors::fold(conv, relu)).forward(x))
        };
        let (x, conv) = make(DType::F64);
        let expected = floats(Reference.conv_norm(x, conv, relu).output);
        let what = format!(
            "case {case}: [{batch}, {input}, {height}, {width}] to {out}, kernel {kernel}, stride {stride}, relu {relu}, \
             depthwise {depthwise}"
        );
        assert_close(&what, &folded(DType::F32), &expected);
        assert_close(&format!("{what}, in burn's operations"), &folded(DType::F64), &expected);
    }
}

#[test]
fn folded_bottlenecks_equal_the_reference_whatever_the_batch() {
    let mut numbers = Numbers(13);
    for case in 0..40 {
        // Enough images for two threads to take whole ones, and few enough for them to share each.
        let batch = numbers.pick(&[1, 3, 11]);
        let block = Block {
            x: [batch, numbers.pick(&[4, 16, 18, 24, 80]), numbers.pick(&[2, 5, 8, 15]), numbers.pick(&[3, 7, 10, 20])],
            expanded: numbers.pick(&[8, 36, 48, 70, 240]),
            out: numbers.pick(&[4, 16, 18, 24, 80]),
            kernel: numbers.pick(&[3, 5]),
            stride: numbers.pick(&[1, 2]),
            squeeze: numbers.pick(&[None, Some(4), Some(20)]),
            gate: Gate::HardSigmoid,
            cheap_kernel: numbers.pick(&[3, 3, 1, 5]),
            attention: numbers.pick(&[true, false]),
            training: Some(false),
        };
        for block in block.of_both_gates() {
            let make = |dtype| {
                let (x, tensors) = block.tensors(&mut Tensors::new(case, dtype));
                (x.inner(), tensors)
            };
            let (x, tensors) = make(DType::F64);
            let expected = floats(Reference.ghost_bottleneck(x.clone(), tensors.clone()).output);
            let what = format!("case {case}: {block:?}");
            let unpacked = floats(FoldedGhostBottleneck::new(tensors).forward(x));
            assert_close(&format!("{what}, in burn's operations"), &unpacked, &expected);

            let (x, tensors) = make(DType::F32);
            let folded = FoldedGhostBottleneck::new(tensors);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
            let found = pool.install(|| floats(folded.forward(x.clone())));
            assert_close(&what, &found, &expected);
            let one = floats(folded.forward(x.narrow(0, batch - 1, 1)));
            assert!(one == found[found.len() - one.len()..], "{what}: the last image alone gives other bits");
        }
    }
}

#[test]
#[should_panic(expected = "expects an input of shape [batch, 16, height, width]")]
fn a_folded_layer_names_the_shape_that_it_wants() {
    let mut tensors = Tensors::new(1, DType::F32);
    let conv = tensors.conv([8, 16, 1], 1, Some(false));
    let x = tensors.data([1, 3, 4, 4], 1.0, 0.0).inner();
    FoldedConv::new(ConvTensors::fold(conv, true)).forward(x);
}

#[test]
#[should_panic(expected = "a norm that is training cannot be folded")]
fn a_training_norm_is_not_folded() {
    let conv = Tensors::new(1, DType::F32).conv([8, 16, 1], 1, Some(true));
    ConvTensors::fold(conv, true);
}

/// Central differences of the sum of `output · dy` over a few values of every parameter and of the input.
#[test]
fn gradients_of_a_bottleneck_are_its_finite_differences() {
    const STEP: f64 = 1e-2;
    // A gate that is clipped or an activation that switches within a step would have no difference to speak of: without
    // squeeze-and-excite, and with biases that keep the first module active.
    let block = Block {
        x: [2, 4, 4, 4],
        expanded: 8,
        out: 6,
        kernel: 3,
        stride: 2,
        squeeze: None,
        gate: Gate::HardSigmoid,
        cheap_kernel: 3,
        attention: false,
        training: Some(true),
    };
    let make = || {
        let mut tensors = Tensors::new(11, DType::F32);
        let (x, mut block) = block.tensors(&mut tensors);
        for conv in [&mut block.expand.primary, &mut block.expand.cheap] {
            conv.norm.bias = Tensor::full([4], 4.0, &tensors.device).require_grad();
        }
        let dy = tensors.data([2, 6, 2, 2], 1.0, 0.0);
        (x, block, dy)
    };
    let objective =
        |x: Tensor<4>, block: GhostBottleneckTensors, dy: Tensor<4>| (ghost_bottleneck(x, block).output * dy).sum();
    let (x, tensors, dy) = make();
    let (weight, scale) = (tensors.expand.primary.weight.clone(), tensors.project.cheap.norm.weight.clone());
    let gradients = objective(x.clone(), tensors, dy).backward();
    let gradient_of_x = floats(x.grad(&gradients).expect("a gradient"));
    let gradient_of_weight = floats(weight.grad(&gradients).expect("a gradient"));
    let gradient_of_scale = floats(scale.grad(&gradients).expect("a gradient"));
    let largest = gradient_of_x.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 1e-2, "there is something to measure");

    fn moved<const D: usize>(tensor: &Tensor<D>, at: usize, by: f64) -> Tensor<D> {
        let dims = tensor.dims();
        let mut values: Vec<f32> = tensor.to_data().iter::<f32>().collect();
        values[at] += by as f32;
        Tensor::from_data(TensorData::new(values, dims), &tensor.device())
    }
    let difference = |change: &dyn Fn(&mut Tensor<4>, &mut GhostBottleneckTensors, f64)| {
        let at = |by: f64| {
            let (mut x, mut tensors, dy) = make();
            change(&mut x, &mut tensors, by);
            f64::from(objective(x, tensors, dy).into_scalar::<f32>())
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    };
    for at in [0, 5, 17, 60, 127] {
        let numeric = difference(&|x, _, by| *x = moved(x, at, by));
        assert!((numeric - gradient_of_x[at]).abs() < 2e-2, "x[{at}]: {numeric} and {}", gradient_of_x[at]);
    }
    for at in [0, 7, 15] {
        let numeric = difference(&|_, tensors, by| {
            tensors.expand.primary.weight = moved(&tensors.expand.primary.weight, at, by);
        });
        assert!((numeric - gradient_of_weight[at]).abs() < 2e-2, "weight[{at}]: {numeric}, {}", gradient_of_weight[at]);
    }
    for at in [0, 2] {
        let numeric = difference(&|_, tensors, by| {
            tensors.project.cheap.norm.weight = moved(&tensors.project.cheap.norm.weight, at, by);
        });
        assert!((numeric - gradient_of_scale[at]).abs() < 2e-2, "scale[{at}]: {numeric}, {}", gradient_of_scale[at]);
    }
}

#[test]
fn dense_layers_equal_the_reference() {
    let mut numbers = Numbers(9);
    for case in 0..20 {
        let (batch, input, out) =
            (numbers.pick(&[1, 5, 64]), numbers.pick(&[1, 33, 240, 500]), numbers.pick(&[1, 10, 70, 300]));
        let (weight_in_out, biased) = (numbers.pick(&[true, false]), numbers.pick(&[true, false]));
        let make = |tensors: &mut Tensors| {
            let x = tensors.map([batch, input, 1, 1], 1.0).flatten::<2>(1, 3);
            let dims = if weight_in_out { [input, out, 1, 1] } else { [out, input, 1, 1] };
            let weight = tensors.map(dims, 0.1).flatten::<2>(1, 3);
            let bias = biased.then(|| tensors.vector(out, 0.0));
            (x, LinearTensors { weight, weight_in_out, bias })
        };
        let normed = |y: Tensor<2>| Normed { output: y.unsqueeze_dims(&[2, 3]), statistics: Vec::new() };
        compare(
            &format!("case {case}: [{batch}, {input}] to {out}, in-out {weight_in_out}, bias {biased}"),
            case,
            |tensors| {
                let (x, layer) = make(tensors);
                normed(linear(x, layer))
            },
            |tensors| {
                let (x, layer) = make(tensors);
                normed(Reference.linear(x, layer))
            },
        );
    }
}

#[test]
fn global_average_pooling_and_its_gradient_equal_the_reference() {
    for (case, dims) in [[1, 1, 1, 1], [3, 17, 7, 5], [2, 70, 1, 9]].into_iter().enumerate() {
        let normed = |output| Normed { output, statistics: Vec::new() };
        compare(
            &format!("{dims:?}"),
            case as u64,
            |tensors| normed(global_average_pool(tensors.map(dims, 1.0))),
            |tensors| normed(Reference.global_average_pool(tensors.map(dims, 1.0))),
        );
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut tensors = Tensors::new(5, DType::F32);
            let block = Block {
                x: [6, 16, 20, 20],
                expanded: 48,
                out: 24,
                kernel: 5,
                stride: 2,
                squeeze: Some(8),
                gate: Gate::HardSigmoid,
                cheap_kernel: 3,
                attention: false,
                training: Some(true),
            };
            let (x, block) = block.tensors(&mut tensors);
            let normed = ghost_bottleneck(x, block);
            let mut all = values(tensors, normed);

            let mut tensors = Tensors::new(6, DType::F32);
            let images = tensors.map([6, 3, 40, 40], 1.0);
            let conv = tensors.conv([16, 3, 3], 2, Some(true));
            let normed = conv_norm(images, conv, true);
            all.extend(values(tensors, normed));

            let mut tensors = Tensors::new(7, DType::F32);
            let x = tensors.map([64, 300, 1, 1], 1.0).flatten::<2>(1, 3);
            let weight = tensors.map([200, 300, 1, 1], 0.1).flatten::<2>(1, 3);
            let output = linear(x, LinearTensors { weight, weight_in_out: false, bias: None }).unsqueeze_dims(&[2, 3]);
            all.extend(values(tensors, Normed { output, statistics: Vec::new() }));
            all
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn nan_and_infinity_come_out_where_they_come_out_of_the_reference() {
    for poison in [f32::NAN, f32::INFINITY] {
        for training in [true, false] {
            let make = |tensors: &mut Tensors| {
                let x = tensors.data([2, 3, 6, 6], 1.0, 0.0);
                let conv = tensors.depthwise(3, 3, 1, Some(training));
                let at = TensorData::new(vec![poison], [1, 1, 1, 1]).convert_dtype(tensors.dtype);
                let at = Tensor::<4>::from_data(at, (&tensors.device, tensors.dtype));
                (x.slice_assign([1..2, 2..3, 3..4, 3..4], at), conv)
            };
            let is_nan = |normed: Normed| -> Vec<bool> { floats(normed.output).iter().map(|v| v.is_nan()).collect() };
            let mut tensors = Tensors::new(6, DType::F32);
            let (x, conv) = make(&mut tensors);
            let ours = is_nan(conv_norm(x, conv, true));
            let (x, conv) = make(&mut Tensors::new(6, DType::F32));
            assert_eq!(ours, is_nan(Reference.conv_norm(x, conv, true)), "{poison}, training {training}");
            assert!(ours.iter().any(|nan| *nan) || poison == f32::INFINITY);
        }
    }
}

#[test]
fn every_instruction_set_of_this_machine_equals_the_reference() {
    let sets = [
        ("avx512", InstructionSet::Avx512),
        ("avx2", InstructionSet::Avx2),
        ("neon", InstructionSet::Neon),
        ("scalar", InstructionSet::Scalar),
    ];
    for (name, set) in sets {
        if !set.is_available() || set == InstructionSet::current() {
            continue;
        }
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["equal_the_reference", "--skip", "every_instruction_set"])
            .env("GHOSTNET_SIMD", name)
            .output()
            .expect("this test can be run");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("result: ok. 11 passed; 0 failed"),
            "{name}: all eleven ran"
        );
    }
}

#[test]
fn a_tensor_that_does_not_fit_is_burns_own_error() {
    let mut tensors = Tensors::new(7, DType::F32);
    let x = tensors.data([1, 5, 4, 4], 1.0, 0.0);
    let conv = tensors.conv([8, 6, 1], 1, Some(false));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conv_norm(x, conv, false)));
    assert!(panic.is_err());
    // A norm of fewer channels than the convolution has.
    let x = tensors.data([1, 100, 3, 1], 1.0, 0.0);
    let conv = tensors.depthwise(100, 3, 1, Some(true));
    let conv = ConvNormTensors { norm: tensors.norm(8, Some(true)), ..conv };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conv_norm(x, conv, false)));
    assert!(panic.is_err());
}

#[test]
fn a_parameter_outside_autodiff_is_a_constant_with_gradient_checkpointing_and_without() {
    for device in [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()] {
        let mut tensors = Tensors { device: device.clone(), ..Tensors::new(12, DType::F32) };
        let x = tensors.map([2, 6, 5, 5], 1.0);
        let mut ghost = tensors.ghost([8, 6, 3], true, Some(true));
        ghost.primary.weight = ghost.primary.weight.without_autodiff();
        let scale = ghost.cheap.norm.weight.clone();
        let gradients = ghost_module(x.clone(), ghost).output.powi_scalar(2).sum().backward();
        assert!(scale.grad(&gradients).is_some() && x.grad(&gradients).is_some());
    }
}

#[test]
fn statistics_of_a_constant_map_are_exact() {
    let mut tensors = Tensors::new(8, DType::F32);
    let x = tensors.data([2, 4, 3, 3], 0.0, 2.0);
    let conv = tensors.depthwise(4, 1, 1, Some(true));
    let weight: Tensor<4> = Tensor::ones([4, 1, 1, 1], &tensors.device);
    let normed = conv_norm(x, ConvNormTensors { weight, ..conv }, false);
    let statistics = normed.statistics.into_iter().next().flatten().expect("it is training");
    assert_eq!(floats(statistics.mean), [2.0; 4]);
    assert_eq!(floats(statistics.variance), [0.0; 4]);
}

#[test]
fn optimizer_updates_are_the_reference_to_the_last_bit() {
    let device = Device::flex();
    let mut numbers = Numbers(10);
    let mut vector = |len: usize| {
        let values: Vec<f32> = (0..len).map(|_| numbers.value()).collect();
        Tensor::<1>::from_data(TensorData::new(values, [len]), &device)
    };
    let bits = |tensor: &Tensor<1>| tensor.to_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    for len in [1, 7, 1000, 100_003] {
        let value = vector(len);
        for weight_decay in [0.0, 0.05] {
            for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
                let rule = Sgd { momentum, nesterov, weight_decay, learning_rate: 0.1 };
                let (mut ours, mut theirs) = ((value.clone(), None), (value.clone(), None));
                for _ in 0..3 {
                    let gradient = vector(len);
                    ours = rule.update(ours.0, gradient.clone(), ours.1);
                    theirs = Reference.sgd(&rule, theirs.0, gradient, theirs.1);
                    assert_eq!(bits(&ours.0), bits(&theirs.0), "{rule:?}, {len}");
                    assert_eq!(ours.1.as_ref().map(bits), theirs.1.as_ref().map(bits), "{rule:?}, {len}");
                }
            }
            let (mut ours, mut theirs) = ((value.clone(), None), (value.clone(), None));
            for step in 1..=3 {
                let rule = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay, learning_rate: 3e-3, step };
                let gradient = vector(len);
                let (next, averages) = rule.update(ours.0, gradient.clone(), ours.1);
                ours = (next, Some(averages));
                let (next, averages) = Reference.adamw(&rule, theirs.0, gradient, theirs.1);
                theirs = (next, Some(averages));
                assert_eq!(bits(&ours.0), bits(&theirs.0), "{rule:?}, {len}");
                assert_eq!(
                    ours.1.as_ref().map(|averages| averages.each_ref().map(bits)),
                    theirs.1.as_ref().map(|averages| averages.each_ref().map(bits)),
                    "{rule:?}, {len}"
                );
            }
        }
        for weight_decay in [0.0, 0.05] {
            let rule = RmspropTf { alpha: 0.9, epsilon: 1e-3, momentum: 0.9, weight_decay, learning_rate: 0.01 };
            let (mut ours, mut theirs) = ((value.clone(), None), (value.clone(), None));
            for _ in 0..3 {
                let gradient = vector(len);
                let (next, state) = rule.update(ours.0, gradient.clone(), ours.1);
                ours = (next, Some(state));
                let (next, state) = Reference.rmsprop_tf(&rule, theirs.0, gradient, theirs.1);
                theirs = (next, Some(state));
                assert_eq!(bits(&ours.0), bits(&theirs.0), "{rule:?}, {len}");
            }
            let rule = Lion { betas: [0.9, 0.99], weight_decay, learning_rate: 0.01 };
            let (mut ours, mut theirs) = ((value.clone(), None), (value.clone(), None));
            for step in 0..3 {
                // A gradient of zero moves nothing, and neither does NaN.
                let gradient = match step {
                    0 => vector(len).mul_scalar(0.0),
                    2 => vector(len).mul_scalar(f32::NAN),
                    _ => vector(len),
                };
                let (next, average) = rule.update(ours.0, gradient.clone(), ours.1);
                ours = (next, Some(average));
                let (next, average) = Reference.lion(&rule, theirs.0, gradient, theirs.1);
                theirs = (next, Some(average));
                assert_eq!(bits(&ours.0), bits(&theirs.0), "{rule:?}, {len}, step {step}");
            }
        }
        let norm = global_norm(&[value.clone(), vector(len)]);
        assert!(norm.is_finite() && norm > 0.0);
        let ones = Tensor::<1>::ones([len], &device);
        assert_eq!(global_norm(&[ones.clone(), ones]), (2.0 * len as f64).sqrt());
    }
}
