//! The kernels of the GPU against burn's own operations: on the same GPU, and in `f64` on the CPU.
//!
//! Any adapter will do, a software one included, where the build does not tune burn's kernels: on software Vulkan tuning takes hours.
//! `GHOSTNET_REQUIRE_ADAPTER=1` makes a missing adapter a failure.

#![cfg(not(feature = "tuned"))]

#[path = "../it/drawn/mod.rs"]
mod drawn;
#[cfg(feature = "fusion")]
mod fusion;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use burn::tensor::activation::relu as positive;
use burn::tensor::{DType, Device, DeviceKind, Tensor};
use ghostnet_kernels::{
    ConvNormTensors, Gate, GhostBottleneckTensors, GhostModuleTensors, NormTensors, Normed, Reference,
    SqueezeExciteTensors, conv_norm, ghost_bottleneck, ghost_module, gpu, norm,
};

use drawn::{Tensors, Values, floats, values};

/// Largest difference from the reference in `f64`, relative to the largest value of each tensor, or to one if that is smaller:
/// sums of some ten thousand terms in `f32`, whose rounding the norms' division by a small deviation enlarges.
const TOLERANCE: f64 = 1e-4;

/// The same for maps in `f16`, which has 11 bits: some roundings of values up to ten.
const HALF_TOLERANCE: f64 = 3e-2;

/// How far from zero the inputs of all ReLUs are, so that rounding turns none of them: some ten times the rounding of a norm.
const MARGIN: f64 = 1e-5;

/// The first GPU that there is, software adapters last.
fn first_adapter() -> Option<Device> {
    let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0), DeviceKind::Cpu];
    let device = kinds.into_iter().find_map(|kind| Device::wgpu_options().device_kind(kind).init().ok());
    assert!(device.is_some() || std::env::var_os("GHOSTNET_REQUIRE_ADAPTER").is_none(), "no adapter was found");
    device
}

/// The kernels, switched on, for one test at a time: the switch is the program's, and a software adapter has few cores.
struct Gpu {
    device: Device,
    _alone: MutexGuard<'static, ()>,
}

impl Gpu {
    /// A process can open it once.
    fn open() -> Option<Self> {
        static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(feature = "fusion")]
        gpu::restrict_fusion().expect("nothing was computed before");
        let device = DEVICE.get_or_init(first_adapter).clone();
        gpu::set_enabled(true);
        device.map(|device| Self { device: device.autodiff(), _alone: alone })
    }
}

/// What a test compares: its tensors are drawn anew for each run.
struct Case<'a, T> {
    name: String,
    draw: &'a dyn Fn(&mut Tensors) -> T,
    kernels: &'a dyn Fn(T) -> Normed,
    reference: &'a dyn Fn(T) -> Normed,
    /// The inputs of all ReLUs, in burn's own operations.
    relus: &'a dyn Fn(T) -> Vec<Tensor<4>>,
}

impl<T> Case<'_, T> {
    /// The first seed with which no ReLU is near its bend.
    fn seed(&self) -> u64 {
        let is_clear = |seed: &u64| {
            let drawn = (self.draw)(&mut Tensors::new(*seed, DType::F64));
            (self.relus)(drawn).into_iter().all(|map| floats(map).iter().all(|value| value.abs() > MARGIN))
        };
        (1..100).find(is_clear).unwrap_or_else(|| panic!("{}: a ReLU is near its bend with every seed", self.name))
    }

    fn run(&self, device: &Device, dtype: DType, work: &dyn Fn(T) -> Normed) -> Values {
        let mut tensors = Tensors::on(device.clone(), self.seed(), dtype);
        let drawn = (self.draw)(&mut tensors);
        let normed = work(drawn);
        values(tensors, normed)
    }

    fn check(&self, gpu: &Gpu) {
        let truth = self.run(&Device::flex().autodiff(), DType::F64, self.reference);
        let theirs = self.run(&gpu.device, DType::F32, self.reference);
        let ours = self.run(&gpu.device, DType::F32, self.kernels);
        self.assert_close("burn's own", &theirs, &truth);
        self.assert_close("the kernels'", &ours, &truth);
        assert_eq!(
            ours,
            self.run(&gpu.device, DType::F32, self.kernels),
            "{}: a second run gives other bits",
            self.name
        );
    }

    fn assert_close(&self, whose: &str, found: &Values, expected: &Values) {
        assert_eq!(found.len(), expected.len(), "{}", self.name);
        for ((what, found), (_, expected)) in found.iter().zip(expected) {
            assert_close(&format!("{}: {whose} {what}", self.name), [found, expected], TOLERANCE);
        }
    }
}

fn assert_close(what: &str, [found, expected]: [&[f64]; 2], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        // NaN must not be passed over.
        assert!(difference <= tolerance * largest, "{what}: {found} in place of {expected} at {at}, largest {largest}");
    }
}

/// How the map of a test lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Contiguous,
    /// As burn's convolutions leave it.
    ChannelsLast,
    /// Height and width exchanged.
    Transposed,
    /// Some channels of a wider map that lies channels-last.
    Narrow,
}

const LAYOUTS: [Layout; 4] = [Layout::Contiguous, Layout::ChannelsLast, Layout::Transposed, Layout::Narrow];

fn map_in(tensors: &mut Tensors, layout: Layout, [batch, channels, height, width]: [usize; 4]) -> Tensor<4> {
    match layout {
        Layout::Contiguous => tensors.map([batch, channels, height, width], 1.0),
        Layout::ChannelsLast => tensors.map([batch, height, width, channels], 1.0).permute([0, 3, 1, 2]),
        Layout::Transposed => tensors.map([batch, channels, width, height], 1.0).permute([0, 1, 3, 2]),
        Layout::Narrow => {
            let wider = tensors.map([batch, height, width, channels + 2 * ASIDE], 1.0);
            wider.permute([0, 3, 1, 2]).narrow(1, ASIDE, channels)
        }
    }
}

/// Channels on either side of a narrow map: as many as make a part of a buffer one that can be read in place.
const ASIDE: usize = 64;

/// Training, as everything is that the kernels know.
const TRAINING: Option<bool> = Some(true);

#[test]
fn a_norm_on_the_gpu_equals_the_reference_in_every_layout() {
    let Some(gpu) = Gpu::open() else { return };
    // The last has more rows than one workgroup sums.
    let shapes = [[1, 1, 3, 5], [2, 3, 4, 7], [3, 33, 5, 5], [1, 70, 2, 1], [4, 8, 40, 41]];
    for (shape, layout) in shapes.into_iter().flat_map(|shape| LAYOUTS.map(|layout| (shape, layout))) {
        Case {
            name: format!("{shape:?} {layout:?}"),
            draw: &|tensors| {
                let x = map_in(tensors, layout, shape);
                (x, tensors.norm(shape[1], TRAINING))
            },
            kernels: &|(x, parameters): (_, NormTensors)| {
                assert!(gpu::is_supported(&x));
                norm(x, parameters)
            },
            reference: &|(x, parameters)| Reference.norm(x, parameters),
            relus: &|_| Vec::new(),
        }
        .check(&gpu);
    }
}

fn check_conv(gpu: &Gpu, name: String, relu: bool, draw: &dyn Fn(&mut Tensors) -> (Tensor<4>, ConvNormTensors)) {
    Case {
        name: format!("{name}, relu {relu}"),
        draw,
        kernels: &|(x, conv)| conv_norm(x, conv, relu),
        reference: &|(x, conv)| Reference.conv_norm(x, conv, relu),
        relus: &|(x, conv)| {
            if relu { vec![Reference.conv_norm(x, conv, false).output] } else { Vec::new() }
        },
    }
    .check(gpu);
}

#[test]
fn a_depthwise_convolution_on_the_gpu_equals_the_reference_for_all_kernels_strides_and_sizes() {
    let Some(gpu) = Gpu::open() else { return };
    let kernels = [[1, 1], [3, 3], [5, 5], [7, 7], [1, 5], [5, 1]];
    let shapes = [[1, 1, 7, 7], [2, 12, 8, 5], [3, 37, 1, 6]];
    let mut cycles = shapes.into_iter().cycle().zip(LAYOUTS.into_iter().cycle());
    for (kernel, stride) in kernels.into_iter().flat_map(|kernel| [1, 2].map(|stride| (kernel, stride))) {
        let Some((shape, layout)) = cycles.next() else { unreachable!("they are repeated") };
        // Alternating in itself, and not with the stride.
        let relu = kernel[0] != 3;
        check_conv(&gpu, format!("{shape:?} {layout:?}, kernel {kernel:?}, stride {stride}"), relu, &|tensors| {
            let x = map_in(tensors, layout, shape);
            (x, ConvNormTensors { stride, ..tensors.strip(shape[1], kernel, TRAINING) })
        });
    }
    check_conv(&gpu, "stride 3".to_string(), true, &|tensors| {
        let x = tensors.map([2, 12, 8, 11], 1.0);
        (x, tensors.depthwise(12, 3, 3, TRAINING))
    });
}

#[test]
fn a_convolution_of_any_kind_on_the_gpu_equals_the_reference() {
    let Some(gpu) = Gpu::open() else { return };
    for (input, out, kernel, stride, relu) in
        [(3, 16, 3, 2, true), (5, 33, 1, 1, true), (8, 4, 1, 1, false), (4, 6, 5, 2, false), (7, 1, 3, 1, true)]
    {
        check_conv(&gpu, format!("{input} to {out}, kernel {kernel}, stride {stride}"), relu, &|tensors| {
            let x = tensors.map([2, input, 9, 6], 1.0);
            (x, tensors.conv([out, input, kernel], stride, TRAINING))
        });
    }
}

fn check_ghost(gpu: &Gpu, name: String, draw: &dyn Fn(&mut Tensors) -> (Tensor<4>, GhostModuleTensors)) {
    Case {
        name,
        draw,
        kernels: &|(x, ghost)| ghost_module(x, ghost),
        reference: &|(x, ghost)| Reference.ghost_module(x, ghost),
        relus: &|(x, ghost)| if ghost.relu { relus_of_ghost(x, ghost) } else { Vec::new() },
    }
    .check(gpu);
}

fn relus_of_ghost(x: Tensor<4>, ghost: GhostModuleTensors) -> Vec<Tensor<4>> {
    let primary = Reference.conv_norm(x, ghost.primary, false).output;
    let cheap = Reference.conv_norm(positive(primary.clone()), ghost.cheap, false).output;
    vec![primary, cheap]
}

#[test]
fn a_ghost_module_on_the_gpu_equals_the_reference() {
    let Some(gpu) = Gpu::open() else { return };
    let shapes = [[1, 3, 5, 7], [2, 8, 6, 6], [3, 17, 3, 2], [2, 6, 34, 33]];
    let modules = [(1, 2, true), (3, 16, true), (5, 10, true), (3, 70, false), (5, 6, true)];
    for (case, shape) in shapes.into_iter().enumerate() {
        // Two of the modules for each shape, in its own layout.
        for (kernel, out, relu) in [modules[case], modules[case + 1]] {
            let layout = LAYOUTS[case];
            check_ghost(&gpu, format!("{shape:?} {layout:?} to {out}, kernel {kernel}, relu {relu}"), &|tensors| {
                let x = map_in(tensors, layout, shape);
                (x, tensors.ghost([out, shape[1], kernel], relu, TRAINING))
            });
        }
    }
}

#[test]
fn a_bottleneck_on_the_gpu_equals_the_reference_layer_by_layer() {
    let Some(gpu) = Gpu::open() else { return };
    for (input, out, stride, squeeze) in [(8, 8, 1, true), (6, 10, 2, false), (6, 10, 2, true)] {
        let draw = |tensors: &mut Tensors| {
            let x = tensors.map([2, input, 7, 6], 1.0);
            let block = GhostBottleneckTensors {
                expand: tensors.ghost([24, input, 3], true, TRAINING),
                attention: None,
                depthwise: (stride > 1).then(|| tensors.depthwise(24, 3, stride, TRAINING)),
                squeeze_excite: squeeze.then(|| SqueezeExciteTensors {
                    reduce: tensors.map([6, 24, 1, 1], 0.3),
                    // None of these is near zero, whatever the means are.
                    reduce_bias: tensors.vector(6, 4.0),
                    expand: tensors.map([24, 6, 1, 1], 0.1),
                    expand_bias: tensors.vector(24, 0.0),
                    gate: Gate::HardSigmoid,
                }),
                project: tensors.ghost([out, 24, 3], false, TRAINING),
                shortcut: (stride > 1).then(|| {
                    [tensors.depthwise(input, 3, stride, TRAINING), tensors.conv([out, input, 1], 1, TRAINING)]
                }),
            };
            (x, block)
        };
        Case {
            name: format!("{input} to {out}, stride {stride}, squeeze {squeeze}"),
            draw: &draw,
            kernels: &|(x, block): (_, GhostBottleneckTensors)| ghost_bottleneck(x, block),
            reference: &|(x, block)| Reference.ghost_bottleneck(x, block),
            relus: &|(x, block)| relus_of_ghost(x, block.expand),
        }
        .check(&gpu);
    }
}

#[test]
fn gradients_on_the_gpu_are_the_slopes_of_the_output() {
    let Some(gpu) = Gpu::open() else { return };
    const STEP: f32 = 2e-2;
    let draw = |tensors: &mut Tensors| {
        let x = tensors.map([2, 4, 3, 4], 1.0);
        // Without a ReLU, whose bends a step might pass.
        let ghost = tensors.ghost([6, 4, 3], false, TRAINING);
        let dy: Tensor<4> = tensors.data([2, 6, 3, 4], 1.0, 0.0);
        (x, ghost, dy)
    };
    let mut tensors = Tensors::on(gpu.device.clone(), 5, DType::F32);
    let (x, ghost, dy) = draw(&mut tensors);
    let gradients = (ghost_module(x, ghost).output * dy).sum().backward();
    // The drawn numbers are the same each time, so a leaf may be moved on its way into the operation.
    let loss_with = |map: Option<usize>, vector: Option<usize>, at: usize, by: f32| {
        let mut tensors = Tensors::on(gpu.device.clone(), 5, DType::F32);
        let (x, mut ghost, dy) = draw(&mut tensors);
        let mut x = x;
        let maps = [&mut x, &mut ghost.primary.weight, &mut ghost.cheap.weight];
        let vectors = [
            &mut ghost.primary.norm.weight,
            &mut ghost.primary.norm.bias,
            &mut ghost.cheap.norm.weight,
            &mut ghost.cheap.norm.bias,
        ];
        for (index, tensor) in maps.into_iter().enumerate() {
            if map == Some(index) {
                *tensor = moved(tensor.clone(), at, by);
            }
        }
        for (index, tensor) in vectors.into_iter().enumerate() {
            if vector == Some(index) {
                *tensor = moved(tensor.clone(), at, by);
            }
        }
        floats((ghost_module(x, ghost).output * dy).sum())[0]
    };
    let slope = |map, vector, at| {
        let [above, below] = [STEP, -STEP].map(|by| loss_with(map, vector, at, by));
        (above - below) / (2.0 * f64::from(STEP))
    };
    // The third derivative times the square of the step, and the rounding of a sum of 144 terms over the step.
    let close = |what: String, found: f64, slope: f64| {
        assert!((found - slope).abs() <= 2e-2 * slope.abs().max(1.0), "{what}: gradient {found}, slope {slope}");
    };
    for (index, map) in tensors.maps.iter().enumerate() {
        let gradient = floats(map.grad(&gradients).expect("a gradient"));
        for at in (0..gradient.len()).step_by(5) {
            close(format!("map {index} at {at}"), gradient[at], slope(Some(index), None, at));
        }
    }
    for (index, vector) in tensors.vectors.iter().enumerate() {
        let gradient = floats(vector.grad(&gradients).expect("a gradient"));
        for at in 0..gradient.len() {
            close(format!("vector {index} at {at}"), gradient[at], slope(None, Some(index), at));
        }
    }
}

/// With one value moved.
fn moved<const D: usize>(tensor: Tensor<D>, at: usize, by: f32) -> Tensor<D> {
    let dims = tensor.dims();
    let mut values = tensor.to_data().iter::<f32>().collect::<Vec<_>>();
    values[at] += by;
    Tensor::from_data(burn::tensor::TensorData::new(values, dims), &tensor.device())
}

#[test]
fn a_mean_far_from_zero_costs_the_variance_no_digits() {
    let Some(gpu) = Gpu::open() else { return };
    for shape in [[2, 3, 9, 9], [4, 5, 40, 40]] {
        let variance = |device: Device, dtype, work: &dyn Fn(Tensor<4>, NormTensors) -> Normed| {
            let mut tensors = Tensors::on(device, 3, dtype);
            let x = tensors.data(shape, 0.1, 1000.0);
            let parameters = tensors.norm(shape[1], TRAINING);
            let statistics = work(x, parameters).statistics.remove(0).expect("it is training");
            floats(statistics.variance)
        };
        let expected = variance(Device::flex().autodiff(), DType::F64, &|x, norm| Reference.norm(x, norm));
        let found = variance(gpu.device.clone(), DType::F32, &norm);
        for (found, expected) in found.iter().zip(&expected) {
            // The differences from the shift are exact; all that rounds is their squares and the sums of these.
            assert!((found - expected).abs() <= 1e-5 * expected, "{shape:?}: {found} in place of {expected}");
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_hidden() {
    let Some(gpu) = Gpu::open() else { return };
    let mut tensors = Tensors::on(gpu.device.clone(), 4, DType::F32);
    let x: Tensor<4> = moved(tensors.data([2, 3, 4, 5], 1.0, 0.0), 25, f32::NAN);
    for relu in [false, true] {
        let normed = conv_norm(x.clone(), tensors.depthwise(3, 1, 1, TRAINING), relu);
        // The value is in the second channel, and in its mean.
        let channels = [0, 1, 2].map(|channel| floats(normed.output.clone().narrow(1, channel, 1)));
        let are_numbers = channels.map(|channel| channel.iter().all(|value| !value.is_nan()));
        assert_eq!(are_numbers, [true, false, true], "relu {relu}");
        let statistics = normed.statistics[0].clone().expect("it is training");
        assert!(floats(statistics.variance)[1].is_nan(), "relu {relu}");
    }
}

#[test]
fn gradients_are_the_same_when_activations_are_made_anew_on_the_way_back() {
    let Some(gpu) = Gpu::open() else { return };
    let run = |device: Device| {
        let mut tensors = Tensors::on(device, 6, DType::F32);
        let x = tensors.map([2, 5, 6, 4], 1.0);
        let first = tensors.ghost([8, 5, 3], true, TRAINING);
        let second = tensors.depthwise(8, 3, 2, TRAINING);
        let output = ghost_module(x, first).output;
        let normed = conv_norm(positive(output), second, true);
        values(tensors, normed)
    };
    assert_eq!(run(gpu.device.clone()), run(gpu.device.clone().inner().autodiff().gradient_checkpointing()));
}

#[test]
fn maps_in_half_precision_are_near_those_in_f64_and_their_norms_are_f32() {
    let Some(gpu) = Gpu::open() else { return };
    if !gpu.device.supports_dtype(DType::F16) {
        return;
    }
    let run = |device: Device, dtype, half: bool, work: &dyn Fn(Tensor<4>, GhostModuleTensors) -> Normed| {
        let mut tensors = Tensors::on(device, 2, dtype);
        let x = tensors.map([2, 8, 7, 6], 1.0);
        let mut ghost = tensors.ghost([12, 8, 3], false, TRAINING);
        let short = |tensor: Tensor<4>| if half { tensor.cast(DType::F16) } else { tensor };
        ghost.primary.weight = short(ghost.primary.weight);
        ghost.cheap.weight = short(ghost.cheap.weight);
        let normed = work(short(x), ghost);
        assert_eq!(normed.output.dtype(), if half { DType::F16 } else { dtype });
        assert!(normed.statistics.iter().flatten().all(|statistics| statistics.variance.dtype() != DType::F16));
        let output = normed.output.cast(dtype);
        values(tensors, Normed { output, ..normed })
    };
    let truth = run(Device::flex().autodiff(), DType::F64, false, &|x, ghost| Reference.ghost_module(x, ghost));
    let found = run(gpu.device.clone(), DType::F32, true, &ghost_module);
    for ((what, found), (_, expected)) in found.iter().zip(&truth) {
        assert_close(what, [found, expected], HALF_TOLERANCE);
    }
}

#[test]
fn what_the_kernels_do_not_know_is_left_to_the_reference() {
    let Some(gpu) = Gpu::open() else { return };
    let empty: Tensor<4> = Tensor::zeros([0, 3, 4, 4], &gpu.device);
    assert!(!gpu::is_supported(&empty));
    assert!(!gpu::is_supported(&Tensor::<4>::zeros([1, 3, 4, 4], &Device::flex())));
    // A norm that is not training, a kernel that is too large, and fewer ghosts than intrinsic maps.
    let draw = |tensors: &mut Tensors| {
        let x = tensors.map([2, 4, 5, 5], 1.0);
        (x, tensors.conv([6, 4, 3], 1, Some(false)))
    };
    check_conv(&gpu, "not training".to_string(), false, &draw);
    check_conv(&gpu, "9×9".to_string(), false, &|tensors| {
        let x = tensors.map([2, 4, 5, 5], 1.0);
        (x, tensors.depthwise(4, 9, 1, TRAINING))
    });
    check_ghost(&gpu, "cut".to_string(), &|tensors| {
        let x = tensors.map([2, 4, 5, 5], 1.0);
        (x, GhostModuleTensors { out_channels: 7, ..tensors.ghost([8, 4, 3], false, TRAINING) })
    });
}

#[test]
fn the_switch_turns_the_kernels_off() {
    let Some(gpu) = Gpu::open() else { return };
    let x: Tensor<4> = Tensor::ones([1, 3, 4, 4], &gpu.device);
    assert!(gpu::is_supported(&x));
    gpu::set_enabled(false);
    let supported = gpu::is_supported(&x);
    gpu::set_enabled(true);
    assert!(!supported);
}
