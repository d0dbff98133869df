//! The operations of the border as burn knows them: with gradients, and under fusion.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::{
    NodeId,
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use super::operation::ConvolutionOptions;

/// burn's own operations, under names that can be recorded. Activations are `[batch, channels, height, width]`.
#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub trait BorderOps: Backend {
    /// The output of a convolution.
    #[fusion(meta = metadata::convolve)]
    fn ghostnet_convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self>;

    /// The output of a convolution with a bias.
    #[fusion(meta = metadata::convolve_with_bias)]
    fn ghostnet_convolve_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution's input.
    #[fusion(meta = metadata::convolve_input_gradient)]
    fn ghostnet_convolve_input_gradient(
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution's weight.
    #[fusion(meta = metadata::convolve_weight_gradient)]
    fn ghostnet_convolve_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self>;

    /// The product of two matrices.
    #[fusion(meta = metadata::multiply)]
    fn ghostnet_multiply(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The product of two matrices, the first one transposed.
    #[fusion(meta = metadata::multiply_first_transposed)]
    fn ghostnet_multiply_first_transposed(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The product of two matrices, the second one transposed.
    #[fusion(meta = metadata::multiply_second_transposed)]
    fn ghostnet_multiply_second_transposed(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Shapes and types of the results, which fusion asks for before it runs the operations.
#[cfg(feature = "fusion")]
mod metadata {
    use burn::backend::fusion::custom::TensorSpec;

    use super::ConvolutionOptions;

    fn spec<const D: usize>(shape: [usize; D], like: &TensorSpec) -> TensorSpec {
        TensorSpec::new(shape.into(), like.dtype)
    }

    pub(super) fn convolve(x: &TensorSpec, weight: &TensorSpec, options: &ConvolutionOptions) -> TensorSpec {
        let [height, width] = options.out_size();
        spec([x.shape[0], weight.shape[0], height, width], x)
    }

    pub(super) fn convolve_with_bias(
        x: &TensorSpec,
        weight: &TensorSpec,
        _: &TensorSpec,
        options: &ConvolutionOptions,
    ) -> TensorSpec {
        convolve(x, weight, options)
    }

    pub(super) fn convolve_input_gradient(
        dy: &TensorSpec,
        weight: &TensorSpec,
        options: &ConvolutionOptions,
    ) -> TensorSpec {
        let [height, width] = options.image_size;
        spec([dy.shape[0], weight.shape[1] * options.groups, height, width], dy)
    }

    pub(super) fn convolve_weight_gradient(
        x: &TensorSpec,
        dy: &TensorSpec,
        options: &ConvolutionOptions,
    ) -> TensorSpec {
        let [height, width] = options.kernel_size;
        spec([dy.shape[1], x.shape[1] / options.groups, height, width], x)
    }

    pub(super) fn multiply(lhs: &TensorSpec, rhs: &TensorSpec) -> TensorSpec {
        spec([lhs.shape[0], rhs.shape[1]], lhs)
    }

    pub(super) fn multiply_first_transposed(lhs: &TensorSpec, rhs: &TensorSpec) -> TensorSpec {
        spec([lhs.shape[1], rhs.shape[1]], lhs)
    }

    pub(super) fn multiply_second_transposed(lhs: &TensorSpec, rhs: &TensorSpec) -> TensorSpec {
        spec([lhs.shape[0], rhs.shape[0]], lhs)
    }
}

/// The backward pass of a convolution.
#[derive(Clone, Copy, Debug)]
struct Convolve;

impl<B: BorderOps> Backward<B, 2> for Convolve {
    type State = (NodeId, NodeId, ConvolutionOptions);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = gradients.consume::<B>(&ops.node);
        let (x, weight, options) = ops.state;
        let [x, weight] = [x, weight].map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let [of_x, of_weight] = ops.parents;
        if let Some(node) = of_x {
            let gradient = B::ghostnet_convolve_input_gradient(dy.clone(), weight, options);
            gradients.register::<B>(node.id, gradient);
        }
        if let Some(node) = of_weight {
            gradients.register::<B>(node.id, B::ghostnet_convolve_weight_gradient(x, dy, options));
        }
    }
}

/// The backward pass of a convolution with a bias.
#[derive(Clone, Copy, Debug)]
struct ConvolveWithBias;

impl<B: BorderOps> Backward<B, 3> for ConvolveWithBias {
    type State = ([NodeId; 3], ConvolutionOptions);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = gradients.consume::<B>(&ops.node);
        let (kept, options) = ops.state;
        let [x, weight, bias] = kept.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(node) = of_x {
            let gradient = B::ghostnet_convolve_input_gradient(dy.clone(), weight.clone(), options);
            gradients.register::<B>(node.id, gradient);
        }
        if let Some(node) = of_weight {
            let gradient = B::ghostnet_convolve_weight_gradient(x.clone(), dy.clone(), options);
            gradients.register::<B>(node.id, gradient);
        }
        if let Some(node) = of_bias {
            gradients.register::<B>(node.id, B::conv2d_bias_backward(x, bias, dy));
        }
    }
}

/// The backward pass of a product.
#[derive(Clone, Copy, Debug)]
struct Multiply;

impl<B: BorderOps> Backward<B, 2> for Multiply {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = gradients.consume::<B>(&ops.node);
        let [lhs, rhs] = ops.state;
        let [of_lhs, of_rhs] = ops.parents;
        if let Some(node) = of_lhs {
            gradients.register::<B>(node.id, B::ghostnet_multiply_second_transposed(dy.clone(), rhs));
        }
        if let Some(node) = of_rhs {
            gradients.register::<B>(node.id, B::ghostnet_multiply_first_transposed(lhs, dy));
        }
    }
}

fn second_derivative() -> ! {
    panic!("operations that are recorded or set aside have no second derivatives")
}

impl<B: BorderOps, C: CheckpointStrategy> BorderOps for Autodiff<B, C> {
    fn ghostnet_convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        let step = Backward::<B, 2>::prepare::<C>(Convolve, [x.node(), weight.node()]).compute_bound().stateful();
        let compute = |x: FloatTensor<Self>, weight: FloatTensor<Self>| {
            B::ghostnet_convolve(x.into_primitive(), weight.into_primitive(), options)
        };
        match step {
            OpsKind::Tracked(mut step) => {
                let state = (step.checkpoint(&x), step.checkpoint(&weight), options);
                step.finish(state, compute(x, weight))
            }
            OpsKind::UnTracked(step) => step.finish(compute(x, weight)),
        }
    }

    fn ghostnet_convolve_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), weight.node(), bias.node()];
        let step = Backward::<B, 3>::prepare::<C>(ConvolveWithBias, parents).compute_bound().stateful();
        let compute = |operands: [FloatTensor<Self>; 3]| {
            let [x, weight, bias] = operands.map(|operand| operand.into_primitive());
            B::ghostnet_convolve_with_bias(x, weight, bias, options)
        };
        match step {
            OpsKind::Tracked(mut step) => {
                let kept = [&x, &weight, &bias].map(|operand| step.checkpoint(operand));
                step.finish((kept, options), compute([x, weight, bias]))
            }
            OpsKind::UnTracked(step) => step.finish(compute([x, weight, bias])),
        }
    }

    fn ghostnet_convolve_input_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        second_derivative()
    }

    fn ghostnet_convolve_weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        second_derivative()
    }

    fn ghostnet_multiply(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let parents = [lhs.node(), rhs.node()];
        let (lhs, rhs) = (lhs.into_primitive(), rhs.into_primitive());
        let y = B::ghostnet_multiply(lhs.clone(), rhs.clone());
        match Backward::<B, 2>::prepare::<C>(Multiply, parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish([lhs, rhs], y),
            OpsKind::UnTracked(step) => step.finish(y),
        }
    }

    fn ghostnet_multiply_first_transposed(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        second_derivative()
    }

    fn ghostnet_multiply_second_transposed(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        second_derivative()
    }
}
