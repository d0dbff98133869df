//! The operations on the GPU backend: which kernels run, over what.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::{DType, Shape, TensorMetadata};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;

use super::depthwise::{self, Size2Launch, SizesLaunch, Window};
use super::moments;
use super::norm;
use super::operation::{
    DepthwiseGradients, DepthwiseOptions, DepthwiseOutput, DepthwiseParameters, DepthwiseSaved, FusedOps,
    GhostGradients, GhostOptions, GhostOutput, GhostParameters, GhostSaved, NormGradients, NormOptions, NormOutput,
    NormParameters, NormStatistics,
};
use super::sweep::{ColumnsLaunch, Purpose, Sweep, address_type};

/// Some neighbouring channels of a tensor that lies in memory channels-last, as burn's convolutions make them, without gaps but
/// for a pitch between its pixels.
#[derive(Clone)]
struct Map {
    /// `[batch, height, width, all channels]`.
    tensor: CubeTensor,
    pitch: usize,
    start: usize,
    channels: usize,
}

impl Map {
    /// Copies if the tensor lies otherwise.
    fn new(tensor: CubeTensor) -> Self {
        let tensor = permute_nchw_to_nhwc(tensor);
        let tensor = if pitch_of(&tensor).is_some() { tensor } else { into_contiguous(tensor) };
        let [.., channels] = tensor.shape().dims::<4>();
        let pitch = pitch_of(&tensor).unwrap_or(channels);
        Self { tensor, pitch, start: 0, channels }
    }

    /// A new one, of nothing yet.
    fn empty(like: &CubeTensor, [batch, height, width]: [usize; 3], channels: usize) -> Self {
        let shape = Shape::from([batch, height, width, channels]);
        let tensor = empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, like.dtype);
        Self { tensor, pitch: channels, start: 0, channels }
    }

    /// Half of the channels.
    fn halves(&self) -> [Self; 2] {
        let half = self.channels / 2;
        [0, half].map(|start| Self { tensor: self.tensor.clone(), start: self.start + start, channels: half, ..*self })
    }

    /// Batch, height and width.
    fn images(&self) -> [usize; 3] {
        let [batch, height, width, _] = self.tensor.shape().dims::<4>();
        [batch, height, width]
    }

    fn sweep(&self, purpose: Purpose) -> Sweep {
        Sweep::new(&self.tensor.client, [self.images().iter().product(), self.channels], purpose)
    }

    fn columns(&self) -> ColumnsLaunch {
        ColumnsLaunch::new(self.pitch, self.start)
    }

    fn element(&self) -> ElemType {
        dtype_to_storage_type(self.tensor.dtype)
    }

    /// `[batch, channels, height, width]`.
    fn into_tensor(self) -> CubeTensor {
        permute_nhwc_to_nchw(self.tensor)
    }
}

/// The distance in memory of neighbouring pixels of a channels-last tensor, if that of all of them is the same.
fn pitch_of(tensor: &CubeTensor) -> Option<usize> {
    let shape = tensor.shape();
    let [_, height, width, channels] = shape.dims::<4>();
    let strides = tensor.meta.strides();
    // The stride of a side of length 1 says nothing.
    let of_pixels = [(2, 1), (1, width), (0, width * height)];
    let pitch = of_pixels.iter().find(|(side, _)| shape[*side] > 1).map_or(channels, |(side, n)| strides[*side] / n);
    let fits = of_pixels.iter().all(|(side, pixels)| shape[*side] == 1 || strides[*side] == pitch * pixels);
    let dense = (channels == 1 || strides[3] == 1) && pitch >= channels;
    (fits && dense && !tensor.meta.is_tiled()).then_some(pitch)
}

/// A parameter as the kernels read it.
fn floats(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(cast(tensor, DType::F32))
}

/// Memory for results in `f32`.
fn empty_floats<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape), DType::F32)
}

// -------------------------------------------------------------------------------------------------------------- norm

/// Memory for what each part of a map's rows gives: `[parts, numbers, channels]`.
struct Parts {
    numbers: CubeTensor,
    sweep: Sweep,
}

impl Parts {
    fn empty(map: &Map, numbers: usize) -> Self {
        let sweep = map.sweep(Purpose::Sum);
        Self { numbers: empty_floats(&map.tensor, [sweep.parts, numbers, sweep.channels]), sweep }
    }

    /// From moments.
    fn statistics(self, norm: NormParameters<CubeBackend>, epsilon: f64) -> NormStatistics<CubeBackend> {
        let Self { numbers, sweep } = self;
        let [mean, variance] = [(); 2].map(|()| empty_floats(&numbers, [sweep.channels]));
        let coefficients = empty_floats(&numbers, [4, sweep.channels]);
        moments::finish_moments::launch(
            &numbers.client.clone(),
            sweep.count_finish(),
            sweep.dim(),
            address_type(&[&numbers, &coefficients]),
            numbers.into_buffer_arg(),
            floats(norm.weight).into_buffer_arg(),
            floats(norm.bias).into_buffer_arg(),
            mean.clone().into_buffer_arg(),
            variance.clone().into_buffer_arg(),
            coefficients.clone().into_buffer_arg(),
            epsilon as f32,
            sweep.extent_finish(),
            sweep.tile,
        );
        NormStatistics { mean, variance, coefficients }
    }

    /// From sums of gradients.
    fn parameter_gradients(self) -> NormParameters<CubeBackend> {
        let Self { numbers, sweep } = self;
        let [weight, bias] = [(); 2].map(|()| empty_floats(&numbers, [sweep.channels]));
        norm::finish_sums::launch(
            &numbers.client.clone(),
            sweep.count_finish(),
            sweep.dim(),
            address_type(&[&numbers]),
            numbers.into_buffer_arg(),
            weight.clone().into_buffer_arg(),
            bias.clone().into_buffer_arg(),
            sweep.extent_finish(),
            sweep.tile,
        );
        NormParameters { weight, bias }
    }
}

/// Of a map, in one pass over it.
fn statistics_of(x: &Map, norm: NormParameters<CubeBackend>, epsilon: f64) -> NormStatistics<CubeBackend> {
    let parts = Parts::empty(x, moments::NUMBERS);
    moments::partial_moments::launch(
        &x.tensor.client,
        parts.sweep.count(),
        parts.sweep.dim(),
        address_type(&[&x.tensor, &parts.numbers]),
        x.tensor.clone().into_buffer_arg(),
        parts.numbers.clone().into_buffer_arg(),
        x.columns(),
        parts.sweep.extent(),
        parts.sweep.tile,
        x.element(),
    );
    parts.statistics(norm, epsilon)
}

/// A norm and ReLU: its input and what its kernels read.
struct Norm<'a> {
    x: &'a Map,
    coefficients: &'a CubeTensor,
    relu: bool,
}

impl Norm<'_> {
    fn write(&self, y: &Map) {
        let sweep = self.x.sweep(Purpose::Map);
        norm::normalise::launch(
            &y.tensor.client,
            sweep.count(),
            sweep.dim(),
            address_type(&[&self.x.tensor, &y.tensor]),
            self.x.tensor.clone().into_buffer_arg(),
            self.coefficients.clone().into_buffer_arg(),
            y.tensor.clone().into_buffer_arg(),
            self.x.columns(),
            y.columns(),
            sweep.extent(),
            self.relu,
            sweep.tile,
            y.element(),
        );
    }

    /// The gradients of the parameters.
    fn parameter_gradients(&self, dy: &Map) -> NormParameters<CubeBackend> {
        let parts = Parts::empty(self.x, norm::NUMBERS);
        norm::partial_sums::launch(
            &dy.tensor.client,
            parts.sweep.count(),
            parts.sweep.dim(),
            address_type(&[&dy.tensor, &self.x.tensor, &parts.numbers]),
            dy.tensor.clone().into_buffer_arg(),
            self.x.tensor.clone().into_buffer_arg(),
            self.coefficients.clone().into_buffer_arg(),
            parts.numbers.clone().into_buffer_arg(),
            dy.columns(),
            self.x.columns(),
            parts.sweep.extent(),
            self.relu,
            parts.sweep.tile,
            dy.element(),
        );
        parts.parameter_gradients()
    }

    /// The gradient of the input, which the parameters' are needed for.
    fn input_gradient(&self, dy: &Map, gradients: &NormParameters<CubeBackend>) -> Map {
        let sweep = self.x.sweep(Purpose::Map);
        let dx = Map::empty(&self.x.tensor, self.x.images(), sweep.channels);
        norm::input_gradient::launch(
            &dy.tensor.client,
            sweep.count(),
            sweep.dim(),
            address_type(&[&dy.tensor, &self.x.tensor, &dx.tensor]),
            dy.tensor.clone().into_buffer_arg(),
            self.x.tensor.clone().into_buffer_arg(),
            self.coefficients.clone().into_buffer_arg(),
            gradients.weight.clone().into_buffer_arg(),
            gradients.bias.clone().into_buffer_arg(),
            dx.tensor.clone().into_buffer_arg(),
            dy.columns(),
            self.x.columns(),
            sweep.extent(),
            self.relu,
            sweep.tile,
            dy.element(),
        );
        dx
    }
}

// --------------------------------------------------------------------------------------------------------- depthwise

/// A depthwise convolution.
struct Depthwise {
    /// `[channels, 1, height, width]`, as it came.
    kernel: CubeTensor,
    window: Window,
    batch: usize,
    in_size: [usize; 2],
}

impl Depthwise {
    fn new(kernel: CubeTensor, stride: usize, x: &Map) -> Self {
        let [_, _, height, width] = kernel.shape().dims();
        let [batch, in_height, in_width] = x.images();
        Self { kernel, window: Window { height, width, stride }, batch, in_size: [in_height, in_width] }
    }

    fn out_images(&self) -> [usize; 3] {
        let [height, width] = self.in_size.map(|size| size.div_ceil(self.window.stride));
        [self.batch, height, width]
    }

    fn sizes(&self) -> SizesLaunch {
        let ([in_height, in_width], [_, out_height, out_width]) = (self.in_size, self.out_images());
        SizesLaunch::new(
            in_height,
            in_width,
            out_height,
            out_width,
            Size2Launch::new(in_height, in_width),
            Size2Launch::new(out_height, out_width),
        )
    }

    /// The convolved map, and its statistics.
    fn forward(&self, x: &Map, norm: NormParameters<CubeBackend>, epsilon: f64) -> (Map, NormStatistics<CubeBackend>) {
        let z = Map::empty(&x.tensor, self.out_images(), x.channels);
        let parts = Parts::empty(&z, moments::NUMBERS);
        depthwise::forward::launch(
            &x.tensor.client,
            parts.sweep.count(),
            parts.sweep.dim(),
            address_type(&[&x.tensor, &z.tensor, &parts.numbers]),
            x.tensor.clone().into_buffer_arg(),
            floats(self.kernel.clone()).into_buffer_arg(),
            z.tensor.clone().into_buffer_arg(),
            parts.numbers.clone().into_buffer_arg(),
            x.columns(),
            self.sizes(),
            parts.sweep.extent(),
            self.window,
            parts.sweep.tile,
            x.element(),
        );
        (z, parts.statistics(norm, epsilon))
    }

    fn input_gradient(&self, dz: &Map) -> Map {
        let [height, width] = self.in_size;
        let dx = Map::empty(&dz.tensor, [self.batch, height, width], dz.channels);
        let sweep = dx.sweep(Purpose::Map);
        depthwise::input_gradient::launch(
            &dz.tensor.client,
            sweep.count(),
            sweep.dim(),
            address_type(&[&dz.tensor, &dx.tensor]),
            dz.tensor.clone().into_buffer_arg(),
            floats(self.kernel.clone()).into_buffer_arg(),
            dx.tensor.clone().into_buffer_arg(),
            self.sizes(),
            sweep.extent(),
            self.window,
            sweep.tile,
            dz.element(),
        );
        dx
    }

    /// The gradient in front of the ReLU that made the input, of which `dy` is another gradient; and those of the parameters of
    /// the norm in front of that.
    fn intrinsic_gradient(&self, dz: &Map, dy: &Map, norm: &Norm) -> (Map, NormParameters<CubeBackend>) {
        let x = norm.x;
        let gradient = Map::empty(&dz.tensor, x.images(), x.channels);
        let parts = Parts::empty(x, norm::NUMBERS);
        depthwise::intrinsic_gradient::launch(
            &dz.tensor.client,
            parts.sweep.count(),
            parts.sweep.dim(),
            address_type(&[&dz.tensor, &dy.tensor, &x.tensor, &gradient.tensor, &parts.numbers]),
            dz.tensor.clone().into_buffer_arg(),
            floats(self.kernel.clone()).into_buffer_arg(),
            dy.tensor.clone().into_buffer_arg(),
            x.tensor.clone().into_buffer_arg(),
            norm.coefficients.clone().into_buffer_arg(),
            gradient.tensor.clone().into_buffer_arg(),
            parts.numbers.clone().into_buffer_arg(),
            dy.columns(),
            x.columns(),
            self.sizes(),
            parts.sweep.extent(),
            self.window,
            norm.relu,
            parts.sweep.tile,
            dz.element(),
        );
        (gradient, parts.parameter_gradients())
    }

    fn kernel_gradient(&self, dz: &Map, x: &Map) -> CubeTensor {
        let sweep = dz.sweep(Purpose::Sum);
        let partials = empty_floats(&x.tensor, [sweep.parts, sweep.channels, self.window.taps()]);
        depthwise::partial_weight_gradient::launch(
            &x.tensor.client,
            sweep.count(),
            sweep.dim(),
            address_type(&[&dz.tensor, &x.tensor, &partials]),
            dz.tensor.clone().into_buffer_arg(),
            x.tensor.clone().into_buffer_arg(),
            partials.clone().into_buffer_arg(),
            x.columns(),
            self.sizes(),
            sweep.extent(),
            self.window,
            sweep.tile,
            dz.element(),
        );
        let gradient = empty_floats(&partials, self.kernel.shape().dims::<4>());
        // Each channel's taps are columns of their own.
        let finish = sweep.with_channels(sweep.channels * self.window.taps());
        depthwise::finish_weight_gradient::launch(
            &partials.client.clone(),
            finish.count_finish(),
            finish.dim(),
            address_type(&[&partials]),
            partials.into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            finish.extent_finish(),
            finish.tile,
        );
        cast(gradient, self.kernel.dtype)
    }
}

/// The gradient of an output, in the type of the map that it belongs to.
fn gradient_map(dy: CubeTensor, like: &Map) -> Map {
    Map::new(cast(dy, like.tensor.dtype))
}

impl FusedOps for CubeBackend {
    fn ghostnet_normalise(x: CubeTensor, norm: NormParameters<Self>, options: NormOptions) -> NormOutput<Self> {
        let x = Map::new(x);
        let statistics = statistics_of(&x, norm, options.epsilon);
        let y = Map::empty(&x.tensor, x.images(), x.channels);
        Norm { x: &x, coefficients: &statistics.coefficients, relu: options.relu }.write(&y);
        NormOutput { y: y.into_tensor(), statistics }
    }

    fn ghostnet_normalise_backward(
        dy: CubeTensor,
        x: CubeTensor,
        coefficients: CubeTensor,
        options: NormOptions,
    ) -> NormGradients<Self> {
        let x = Map::new(x);
        let dy = gradient_map(dy, &x);
        let norm = Norm { x: &x, coefficients: &coefficients, relu: options.relu };
        let gradients = norm.parameter_gradients(&dy);
        NormGradients { x: norm.input_gradient(&dy, &gradients).into_tensor(), norm: gradients }
    }

    fn ghostnet_depthwise(
        x: CubeTensor,
        parameters: DepthwiseParameters<Self>,
        options: DepthwiseOptions,
    ) -> DepthwiseOutput<Self> {
        let DepthwiseOptions { norm, stride } = options;
        let x = Map::new(x);
        let conv = Depthwise::new(parameters.kernel, stride, &x);
        let (z, statistics) = conv.forward(&x, parameters.norm, norm.epsilon);
        let y = Map::empty(&z.tensor, z.images(), z.channels);
        Norm { x: &z, coefficients: &statistics.coefficients, relu: norm.relu }.write(&y);
        DepthwiseOutput { y: y.into_tensor(), z: z.into_tensor(), statistics }
    }

    fn ghostnet_depthwise_backward(
        dy: CubeTensor,
        saved: DepthwiseSaved<Self>,
        options: DepthwiseOptions,
    ) -> DepthwiseGradients<Self> {
        let (x, z) = (Map::new(saved.x), Map::new(saved.z));
        let dy = gradient_map(dy, &z);
        let conv = Depthwise::new(saved.kernel, options.stride, &x);
        let norm = Norm { x: &z, coefficients: &saved.coefficients, relu: options.norm.relu };
        let gradients = norm.parameter_gradients(&dy);
        let dz = norm.input_gradient(&dy, &gradients);
        let parameters = DepthwiseParameters { kernel: conv.kernel_gradient(&dz, &x), norm: gradients };
        DepthwiseGradients { x: conv.input_gradient(&dz).into_tensor(), parameters }
    }

    fn ghostnet_ghost(x: CubeTensor, parameters: GhostParameters<Self>, options: GhostOptions) -> GhostOutput<Self> {
        let GhostParameters { primary, cheap } = parameters;
        let x = Map::new(x);
        let y = Map::empty(&x.tensor, x.images(), 2 * x.channels);
        let [intrinsic, ghosts] = y.halves();
        let primary = statistics_of(&x, primary, options.primary.epsilon);
        Norm { x: &x, coefficients: &primary.coefficients, relu: options.primary.relu }.write(&intrinsic);
        let conv = Depthwise::new(cheap.kernel, 1, &x);
        let (z, cheap) = conv.forward(&intrinsic, cheap.norm, options.cheap.epsilon);
        Norm { x: &z, coefficients: &cheap.coefficients, relu: options.cheap.relu }.write(&ghosts);
        GhostOutput { y: y.into_tensor(), z: z.into_tensor(), primary, cheap }
    }

    fn ghostnet_ghost_backward(dy: CubeTensor, saved: GhostSaved<Self>, options: GhostOptions) -> GhostGradients<Self> {
        let [x, y, z] = [saved.x, saved.y, saved.z].map(Map::new);
        let [dy_intrinsic, dy_ghosts] = gradient_map(dy, &y).halves();
        let [intrinsic, _] = y.halves();
        let conv = Depthwise::new(saved.kernel, 1, &x);
        let norm = Norm { x: &z, coefficients: &saved.cheap, relu: options.cheap.relu };
        let cheap = norm.parameter_gradients(&dy_ghosts);
        let dz = norm.input_gradient(&dy_ghosts, &cheap);
        let cheap = DepthwiseParameters { kernel: conv.kernel_gradient(&dz, &intrinsic), norm: cheap };
        let norm = Norm { x: &x, coefficients: &saved.primary, relu: options.primary.relu };
        let (gradient, primary) = conv.intrinsic_gradient(&dz, &dy_intrinsic, &norm);
        // The ReLU is in the gradient already.
        let dx = Norm { relu: false, ..norm }.input_gradient(&gradient, &primary);
        GhostGradients { x: dx.into_tensor(), parameters: GhostParameters { primary, cheap } }
    }
}
