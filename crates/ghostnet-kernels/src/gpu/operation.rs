//! The operations as burn knows them: on the GPU backend, with a gradient of their own, and under fusion.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::{
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, ExtensionType, backend_extension};

/// What a norm is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub struct NormOptions {
    pub epsilon: f64,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// What a depthwise convolution with norm is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseOptions {
    pub norm: NormOptions,
    pub stride: usize,
}

/// What the part of a Ghost module behind its primary convolution is, but for its parameters.
#[derive(Clone, Copy, Debug)]
pub struct GhostOptions {
    pub primary: NormOptions,
    pub cheap: NormOptions,
}

/// Of a norm, `[channels]` each.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct NormParameters<B: Backend> {
    pub weight: FloatTensor<B>,
    pub bias: FloatTensor<B>,
}

/// Of a norm: mean and biased variance, `[channels]`, and what its kernels read, `[4, channels]`; all of them `f32`.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct NormStatistics<B: Backend> {
    pub mean: FloatTensor<B>,
    pub variance: FloatTensor<B>,
    pub coefficients: FloatTensor<B>,
}

/// What a norm gives.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct NormOutput<B: Backend> {
    pub y: FloatTensor<B>,
    #[extension_type]
    pub statistics: NormStatistics<B>,
}

/// The gradients of a norm's input and parameters.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct NormGradients<B: Backend> {
    pub x: FloatTensor<B>,
    #[extension_type]
    pub norm: NormParameters<B>,
}

/// A depthwise convolution: `[channels, 1, height, width]`, and its norm.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct DepthwiseParameters<B: Backend> {
    pub kernel: FloatTensor<B>,
    #[extension_type]
    pub norm: NormParameters<B>,
}

/// What a depthwise convolution with norm gives.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct DepthwiseOutput<B: Backend> {
    pub y: FloatTensor<B>,
    /// Before the norm.
    pub z: FloatTensor<B>,
    #[extension_type]
    pub statistics: NormStatistics<B>,
}

/// What a depthwise convolution with norm keeps for the way back.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct DepthwiseSaved<B: Backend> {
    pub x: FloatTensor<B>,
    pub kernel: FloatTensor<B>,
    pub z: FloatTensor<B>,
    pub coefficients: FloatTensor<B>,
}

/// The gradients of the input and the parameters of a depthwise convolution with norm.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct DepthwiseGradients<B: Backend> {
    pub x: FloatTensor<B>,
    #[extension_type]
    pub parameters: DepthwiseParameters<B>,
}

/// The parameters of a Ghost module but for its primary convolution's.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct GhostParameters<B: Backend> {
    #[extension_type]
    pub primary: NormParameters<B>,
    #[extension_type]
    pub cheap: DepthwiseParameters<B>,
}

/// What a Ghost module gives.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct GhostOutput<B: Backend> {
    /// The intrinsic maps and the ghosts, one after the other.
    pub y: FloatTensor<B>,
    /// The ghosts before their norm.
    pub z: FloatTensor<B>,
    #[extension_type]
    pub primary: NormStatistics<B>,
    #[extension_type]
    pub cheap: NormStatistics<B>,
}

/// What a Ghost module keeps for the way back.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct GhostSaved<B: Backend> {
    pub x: FloatTensor<B>,
    pub y: FloatTensor<B>,
    pub z: FloatTensor<B>,
    pub kernel: FloatTensor<B>,
    pub primary: FloatTensor<B>,
    pub cheap: FloatTensor<B>,
}

/// The gradients of a Ghost module's raw primary map and of its parameters.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct GhostGradients<B: Backend> {
    pub x: FloatTensor<B>,
    #[extension_type]
    pub parameters: GhostParameters<B>,
}

/// The fused operations. Maps are `[batch, channels, height, width]`, none of the sizes 0.
#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub trait FusedOps: Backend {
    /// Training batch norm and ReLU.
    #[fusion(meta = metadata::normalise)]
    fn ghostnet_normalise(
        x: FloatTensor<Self>,
        #[extension_type] norm: NormParameters<Self>,
        options: NormOptions,
    ) -> NormOutput<Self>;

    /// Backward of [`ghostnet_normalise`](Self::ghostnet_normalise), from its input and the coefficients of its statistics.
    #[fusion(meta = metadata::normalise_backward)]
    fn ghostnet_normalise_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        coefficients: FloatTensor<Self>,
        options: NormOptions,
    ) -> NormGradients<Self>;

    /// Depthwise convolution, padded by half of its odd kernel, training batch norm and ReLU.
    #[fusion(meta = metadata::depthwise)]
    fn ghostnet_depthwise(
        x: FloatTensor<Self>,
        #[extension_type] parameters: DepthwiseParameters<Self>,
        options: DepthwiseOptions,
    ) -> DepthwiseOutput<Self>;

    /// Backward of [`ghostnet_depthwise`](Self::ghostnet_depthwise).
    #[fusion(meta = metadata::depthwise_backward)]
    fn ghostnet_depthwise_backward(
        dy: FloatTensor<Self>,
        #[extension_type] saved: DepthwiseSaved<Self>,
        options: DepthwiseOptions,
    ) -> DepthwiseGradients<Self>;

    /// A Ghost module from the raw map `x` of its primary convolution on.
    #[fusion(meta = metadata::ghost)]
    fn ghostnet_ghost(
        x: FloatTensor<Self>,
        #[extension_type] parameters: GhostParameters<Self>,
        options: GhostOptions,
    ) -> GhostOutput<Self>;

    /// Backward of [`ghostnet_ghost`](Self::ghostnet_ghost).
    #[fusion(meta = metadata::ghost_backward)]
    fn ghostnet_ghost_backward(
        dy: FloatTensor<Self>,
        #[extension_type] saved: GhostSaved<Self>,
        options: GhostOptions,
    ) -> GhostGradients<Self>;
}

/// Shapes and types of what the operations give, which fusion asks for before it runs them.
#[cfg(feature = "fusion")]
mod metadata {
    use burn::backend::DType;
    use burn::backend::fusion::custom::TensorSpec;

    use super::{
        DepthwiseGradientsMetadata, DepthwiseOptions, DepthwiseOutputMetadata, DepthwiseParametersMetadata,
        DepthwiseSavedMetadata, GhostGradientsMetadata, GhostOptions, GhostOutputMetadata, GhostParametersMetadata,
        GhostSavedMetadata, NormGradientsMetadata, NormOptions, NormOutputMetadata, NormParametersMetadata,
        NormStatisticsMetadata,
    };

    /// `f32` of this shape.
    fn floats<const D: usize>(shape: [usize; D]) -> TensorSpec {
        TensorSpec::new(shape.into(), DType::F32)
    }

    fn channels(map: &TensorSpec) -> usize {
        map.shape[1]
    }

    fn statistics(channels: usize) -> NormStatisticsMetadata {
        NormStatisticsMetadata {
            mean: floats([channels]),
            variance: floats([channels]),
            coefficients: floats([4, channels]),
        }
    }

    fn norm_gradients(channels: usize) -> NormParametersMetadata {
        NormParametersMetadata { weight: floats([channels]), bias: floats([channels]) }
    }

    pub(super) fn normalise(x: &TensorSpec, _: &NormParametersMetadata, _: &NormOptions) -> NormOutputMetadata {
        NormOutputMetadata { y: x.clone(), statistics: statistics(channels(x)) }
    }

    pub(super) fn normalise_backward(
        _: &TensorSpec,
        x: &TensorSpec,
        _: &TensorSpec,
        _: &NormOptions,
    ) -> NormGradientsMetadata {
        NormGradientsMetadata { x: x.clone(), norm: norm_gradients(channels(x)) }
    }

    pub(super) fn depthwise(
        x: &TensorSpec,
        _: &DepthwiseParametersMetadata,
        options: &DepthwiseOptions,
    ) -> DepthwiseOutputMetadata {
        let mut out = x.clone();
        for side in 2..4 {
            out.shape[side] = x.shape[side].div_ceil(options.stride);
        }
        DepthwiseOutputMetadata { y: out.clone(), z: out, statistics: statistics(channels(x)) }
    }

    fn depthwise_gradients(kernel: &TensorSpec) -> DepthwiseParametersMetadata {
        DepthwiseParametersMetadata { kernel: kernel.clone(), norm: norm_gradients(kernel.shape[0]) }
    }

    pub(super) fn depthwise_backward(
        _: &TensorSpec,
        saved: &DepthwiseSavedMetadata,
        _: &DepthwiseOptions,
    ) -> DepthwiseGradientsMetadata {
        DepthwiseGradientsMetadata { x: saved.x.clone(), parameters: depthwise_gradients(&saved.kernel) }
    }

    pub(super) fn ghost(x: &TensorSpec, _: &GhostParametersMetadata, _: &GhostOptions) -> GhostOutputMetadata {
        let half = channels(x);
        let mut y = x.clone();
        y.shape[1] = 2 * half;
        GhostOutputMetadata { y, z: x.clone(), primary: statistics(half), cheap: statistics(half) }
    }

    pub(super) fn ghost_backward(
        _: &TensorSpec,
        saved: &GhostSavedMetadata,
        _: &GhostOptions,
    ) -> GhostGradientsMetadata {
        let parameters = GhostParametersMetadata {
            primary: norm_gradients(channels(&saved.x)),
            cheap: depthwise_gradients(&saved.kernel),
        };
        GhostGradientsMetadata { x: saved.x.clone(), parameters }
    }
}

// --------------------------------------------------------------------------------------------------------- backward

/// How the gradients of an operation's parents are made from that of its output, in the parents' order.
type Gradient<B> = dyn Fn(FloatTensor<B>) -> Vec<FloatTensor<B>> + Send + Sync;

/// State of a step; `Debug` because burn asks for it.
struct State<B: Backend>(Arc<Gradient<B>>);

impl<B: Backend> Clone for State<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend> std::fmt::Debug for State<B> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("fused operation on the GPU")
    }
}

/// The one autodiff step of all operations.
#[derive(Clone, Copy, Debug)]
struct Fused;

impl<B: Backend, const PARENTS: usize> Backward<B, PARENTS> for Fused {
    type State = State<B>;

    fn backward(self, ops: Ops<State<B>, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = gradients.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip((ops.state.0)(dy)) {
            if let Some(node) = parent {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

/// The output of an operation, recorded.
fn record<B: Backend, C: CheckpointStrategy, const PARENTS: usize>(
    parents: [NodeGuard; PARENTS],
    y: FloatTensor<B>,
    gradient: impl Fn(FloatTensor<B>) -> Vec<FloatTensor<B>> + Send + Sync + 'static,
) -> FloatTensor<Autodiff<B, C>> {
    match Backward::<B, PARENTS>::prepare::<C>(Fused, parents).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(State(Arc::new(gradient)), y),
        OpsKind::UnTracked(step) => step.finish(y),
    }
}

impl<B: Backend, C: CheckpointStrategy> NormParameters<Autodiff<B, C>> {
    fn nodes(&self) -> [NodeGuard; 2] {
        [self.weight.node(), self.bias.node()]
    }

    fn into_inner(self) -> NormParameters<B> {
        NormParameters { weight: self.weight.into_primitive(), bias: self.bias.into_primitive() }
    }
}

impl<B: Backend> NormParameters<B> {
    fn into_gradients(self) -> [FloatTensor<B>; 2] {
        [self.weight, self.bias]
    }
}

impl<B: Backend, C: CheckpointStrategy> DepthwiseParameters<Autodiff<B, C>> {
    fn nodes(&self) -> [NodeGuard; 3] {
        let [weight, bias] = self.norm.nodes();
        [self.kernel.node(), weight, bias]
    }

    fn into_inner(self) -> DepthwiseParameters<B> {
        DepthwiseParameters { kernel: self.kernel.into_primitive(), norm: self.norm.into_inner() }
    }
}

impl<B: Backend> DepthwiseParameters<B> {
    fn into_gradients(self) -> [FloatTensor<B>; 3] {
        let [weight, bias] = self.norm.into_gradients();
        [self.kernel, weight, bias]
    }
}

/// Statistics have no gradient.
fn constant<B: Backend, C: CheckpointStrategy>(statistics: NormStatistics<B>) -> NormStatistics<Autodiff<B, C>> {
    let NormStatistics { mean, variance, coefficients } = statistics;
    let [mean, variance, coefficients] = [mean, variance, coefficients].map(Autodiff::<B, C>::from_inner);
    NormStatistics { mean, variance, coefficients }
}

fn second_derivative() -> ! {
    panic!("the kernels of the GPU have no second derivatives; switch them off to take some")
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn ghostnet_normalise(x: FloatTensor<Self>, norm: NormParameters<Self>, options: NormOptions) -> NormOutput<Self> {
        let [weight, bias] = norm.nodes();
        let parents = [x.node(), weight, bias];
        let x = x.into_primitive();
        let NormOutput { y, statistics } = B::ghostnet_normalise(x.clone(), norm.into_inner(), options);
        let coefficients = statistics.coefficients.clone();
        let y = record::<B, C, 3>(parents, y, move |dy| {
            let NormGradients { x, norm } =
                B::ghostnet_normalise_backward(dy, x.clone(), coefficients.clone(), options);
            std::iter::once(x).chain(norm.into_gradients()).collect()
        });
        NormOutput { y, statistics: constant(statistics) }
    }

    fn ghostnet_normalise_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: NormOptions,
    ) -> NormGradients<Self> {
        second_derivative()
    }

    fn ghostnet_depthwise(
        x: FloatTensor<Self>,
        parameters: DepthwiseParameters<Self>,
        options: DepthwiseOptions,
    ) -> DepthwiseOutput<Self> {
        let [kernel, weight, bias] = parameters.nodes();
        let parents = [x.node(), kernel, weight, bias];
        let (x, parameters) = (x.into_primitive(), parameters.into_inner());
        let kernel = parameters.kernel.clone();
        let DepthwiseOutput { y, z, statistics } = B::ghostnet_depthwise(x.clone(), parameters, options);
        let (kept, coefficients) = (z.clone(), statistics.coefficients.clone());
        let y = record::<B, C, 4>(parents, y, move |dy| {
            let saved = DepthwiseSaved {
                x: x.clone(),
                kernel: kernel.clone(),
                z: kept.clone(),
                coefficients: coefficients.clone(),
            };
            let DepthwiseGradients { x, parameters } = B::ghostnet_depthwise_backward(dy, saved, options);
            std::iter::once(x).chain(parameters.into_gradients()).collect()
        });
        DepthwiseOutput { y, z: Self::from_inner(z), statistics: constant(statistics) }
    }

    fn ghostnet_depthwise_backward(
        _: FloatTensor<Self>,
        _: DepthwiseSaved<Self>,
        _: DepthwiseOptions,
    ) -> DepthwiseGradients<Self> {
        second_derivative()
    }

    fn ghostnet_ghost(
        x: FloatTensor<Self>,
        parameters: GhostParameters<Self>,
        options: GhostOptions,
    ) -> GhostOutput<Self> {
        let GhostParameters { primary, cheap } = parameters;
        let ([primary_weight, primary_bias], [kernel, weight, bias]) = (primary.nodes(), cheap.nodes());
        let parents = [x.node(), primary_weight, primary_bias, kernel, weight, bias];
        let x = x.into_primitive();
        let parameters = GhostParameters { primary: primary.into_inner(), cheap: cheap.into_inner() };
        let kernel = parameters.cheap.kernel.clone();
        let GhostOutput { y, z, primary, cheap } = B::ghostnet_ghost(x.clone(), parameters, options);
        let (y_kept, z_kept) = (y.clone(), z.clone());
        let coefficients = [&primary, &cheap].map(|statistics| statistics.coefficients.clone());
        let y = record::<B, C, 6>(parents, y, move |dy| {
            let [primary, cheap] = coefficients.clone();
            let (x, y, z, kernel) = (x.clone(), y_kept.clone(), z_kept.clone(), kernel.clone());
            let saved = GhostSaved { x, y, z, kernel, primary, cheap };
            let GhostGradients { x, parameters } = B::ghostnet_ghost_backward(dy, saved, options);
            let GhostParameters { primary, cheap } = parameters;
            std::iter::once(x).chain(primary.into_gradients()).chain(cheap.into_gradients()).collect()
        });
        GhostOutput { y, z: Self::from_inner(z), primary: constant(primary), cheap: constant(cheap) }
    }

    fn ghostnet_ghost_backward(_: FloatTensor<Self>, _: GhostSaved<Self>, _: GhostOptions) -> GhostGradients<Self> {
        second_derivative()
    }
}
