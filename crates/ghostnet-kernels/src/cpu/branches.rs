//! The sum of parallel convolutions, each with a norm of its own: what stands in place of one convolution in GhostNetV3 while it
//! trains. The branches' maps are kept as their convolutions made them, and normed where they are added up.

use std::ops::Range;

use crate::cpu::block::{Conv, ConvNormParameters, Images, NormedMap};
use crate::cpu::parallel::{groups, map};
use crate::cpu::pointwise::{InputGradient, MapPixels, Sums};
use crate::cpu::rows::{Source, View, load, store, sum_into};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};

/// What parallel branches are, but for their parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchesOptions {
    pub(crate) kernel_size: usize,
    pub(crate) stride: usize,
    pub(crate) depthwise: bool,
    /// Convolutions of one shape.
    pub(crate) convs: usize,
    /// A 1×1 convolution beside them.
    pub(crate) scale: bool,
    /// A norm of the input alone beside them.
    pub(crate) skip: bool,
}

/// Parallel branches: the convolutions of one shape, the 1×1 one, the norm of the input as a convolution with weights of 1.
pub(crate) struct Branches<'a> {
    pub(crate) options: BranchesOptions,
    pub(crate) convs: Vec<ConvNormParameters<'a>>,
}

/// A map that goes into the branches.
#[derive(Clone, Copy)]
pub(crate) struct BranchesInput {
    pub(crate) view: View,
    pub(crate) images: Images,
}

impl Branches<'_> {
    /// Calls with each branch's convolution in turn.
    fn each(&self, input: BranchesInput, mut work: impl FnMut(usize, Conv<MapPixels>, &ConvNormParameters)) {
        let BranchesOptions { kernel_size, stride, depthwise, convs, .. } = self.options;
        let BranchesInput { view, images } = input;
        let source = Source::plain(view);
        let pixels = MapPixels { source, pixels_per_image: images.pixels_per_image() };
        for (at, conv) in self.convs.iter().enumerate() {
            let kernel = if at < convs { kernel_size } else { 1 };
            work(
                at,
                match depthwise {
                    true => Conv::Depthwise { input: source, images, kernel, stride },
                    false => Conv::Pointwise { input: &pixels, images },
                },
                conv,
            );
        }
    }

    /// Maps of all branches, before their norms.
    pub(crate) fn forward(&self, set: InstructionSet, input: BranchesInput) -> Vec<NormedMap> {
        let mut maps = Vec::with_capacity(self.convs.len());
        self.each(input, |_, conv, parameters| maps.push(conv.forward(set, parameters, false)));
        maps
    }

    /// Gradients of the parameters for that of the sum, `dy`. That of the input is added to `prior` and written to `dx`, if it is
    /// wanted.
    pub(crate) fn backward(
        &self,
        set: InstructionSet,
        input: BranchesInput,
        maps: &[NormedMap],
        dy: View,
        dx: Option<(View, Option<View>)>,
    ) -> Vec<Vec<f32>> {
        let mut gradients = Vec::with_capacity(3 * self.convs.len());
        self.each(input, |at, conv, parameters| {
            let wanted = dx.map(|(to, prior)| {
                let prior = if at == 0 { prior } else { Some(to) };
                InputGradient { to, prior, prior_gated: None, sums: Sums::None }
            });
            let of_branch = conv.backward(set, parameters, &maps[at], dy, None, wanted).0;
            let is_skip = self.options.skip && at + 1 == self.convs.len();
            gradients.extend(of_branch.into_iter().skip(usize::from(is_skip)));
        });
        gradients
    }
}

/// Writes the sum of normed maps, and a ReLU if it is wanted.
pub(crate) fn write_sum(set: InstructionSet, maps: &[NormedMap], relu: bool, to: View) {
    struct Write<'a>(&'a [Source<'a>], bool, Range<usize>, View);
    impl Task for Write<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(sources, relu, pixels, to) = self;
            // SAFETY: the pixels of `to` are this task's alone.
            unsafe { sum_into::<S>(sources, relu, pixels.start, pixels.len(), to) };
        }
    }
    let sources: Vec<Source> = maps.iter().map(|map| map.source(0..map.channels, None)).collect();
    let pixels = maps[0].images.pixels();
    map(&groups(pixels, 1, 1024, 64), |pixels| dispatch(set, Write(&sources, relu, pixels, to)));
}

/// Writes a gradient where the map that it is of, behind a ReLU, is above zero, and zero elsewhere.
pub(crate) fn write_where_positive(set: InstructionSet, y: View, dy: View, pixels: usize, to: View) {
    struct Write(View, View, Range<usize>, View);
    impl Task for Write {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(y, dy, pixels, to) = self;
            let channels = to.channels;
            for pixel in pixels {
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    // SAFETY: the pixels of `to` are this task's alone.
                    unsafe {
                        let y = load::<S>(y.pixel(pixel).add(channel), left);
                        let dy = load::<S>(dy.pixel(pixel).add(channel), left);
                        store::<S>(to.pixel(pixel).add(channel), left, S::where_positive(y, dy));
                    }
                    channel += S::LANES;
                }
            }
        }
    }
    map(&groups(pixels, 1, 1024, 64), |pixels| dispatch(set, Write(y, dy, pixels, to)));
}
