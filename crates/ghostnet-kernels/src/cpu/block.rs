//! Layers put together, forward and backward: a convolution with its norm, the Ghost module, the Ghost bottleneck.
//!
//! Parameters come and their gradients go in the order in which the layers run: of a convolution with norm its weight, the
//! norm's weight, the norm's bias; of a Ghost module the primary's, then the cheap operation's.

use std::ops::Range;

use crate::cpu::buffer::Buffer;
use crate::cpu::depthwise::Depthwise;
use crate::cpu::norm::{GradientSums, Moments, Norm, NormGradient, NormParameters, Normed};
use crate::cpu::parallel::{groups, map};
use crate::cpu::pointwise::{ConvGradients, ImageSums, InputGradient, MapPixels, Pixels, Pointwise, Sums};
use crate::cpu::rows::{Gradient, Source, View, sum_into};
use crate::cpu::simd::{InstructionSet, Simd, Task, dispatch};
use crate::cpu::squeeze::{SqueezeGradients, SqueezeParameters, Squeezed};

/// A convolution without bias and the norm behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvNormParameters<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) norm: NormParameters<'a>,
    /// Running mean and variance; without them the batch's own are used.
    pub(crate) running: Option<(&'a [f32], &'a [f32])>,
}

impl ConvNormParameters<'_> {
    fn channels(&self) -> usize {
        self.norm.weight.len()
    }

    fn set(&self, norm: &mut Norm, start: usize, moments: &[Moments]) {
        match self.running {
            Some((mean, variance)) => norm.set_running(start, mean, variance, &self.norm),
            None => norm.set(start, moments, &self.norm),
        }
    }
}

/// Images of a map: how many, and their height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
}

impl Images {
    pub(crate) fn pixels_per_image(self) -> usize {
        self.size[0] * self.size[1]
    }

    pub(crate) fn pixels(self) -> usize {
        self.batch * self.pixels_per_image()
    }

    fn pixels_of(self, source: Source) -> MapPixels {
        MapPixels { source, pixels_per_image: self.pixels_per_image() }
    }
}

/// What a convolution with norm made: the values before the norm, and the norm's statistics.
#[derive(Debug)]
pub(crate) struct NormedMap {
    pub(crate) z: Buffer,
    pub(crate) norm: Norm,
    pub(crate) channels: usize,
    pub(crate) images: Images,
    relu: bool,
    /// Channels of each of its norms.
    norm_channels: usize,
}

impl NormedMap {
    fn new(channels: usize, norm_channels: usize, images: Images, relu: bool) -> Self {
        let z = Buffer::new(images.pixels() * channels);
        Self { z, norm: Norm::new(channels), channels, images, relu, norm_channels }
    }

    /// Mean and biased variance of each of its norms.
    pub(crate) fn statistics(&self) -> impl Iterator<Item = f32> {
        (0..self.channels).step_by(self.norm_channels).flat_map(|start| {
            let (norm, channels) = (&self.norm, start..start + self.norm_channels);
            norm.mean[channels.clone()].iter().chain(&norm.variance[channels]).copied()
        })
    }

    fn view(&self) -> View {
        self.z.view(self.channels)
    }

    fn part(&self, channels: Range<usize>) -> Normed<'_> {
        self.norm.of(self.view().narrow(channels.start, channels.len()), channels, self.relu)
    }

    fn whole(&self) -> Normed<'_> {
        self.part(0..self.channels)
    }

    pub(crate) fn source<'a>(&'a self, channels: Range<usize>, gate: Option<&'a [f32]>) -> Source<'a> {
        let Normed { z, affine, relu, .. } = self.part(channels);
        Source { z, affine: Some(affine), relu, gate }
    }

    /// Writes the map as others see it, normed and activated.
    pub(crate) fn write(&self, set: InstructionSet, to: View) {
        struct Write<'a>(Source<'a>, Range<usize>, View);
        impl Task for Write<'_> {
            type Output = ();
            #[inline(always)]
            unsafe fn run<S: Simd>(self) {
                let Self(source, pixels, to) = self;
                // SAFETY: the pixels of `to` are this task's alone.
                unsafe { source.load::<S>(pixels.start, pixels.len(), 1, to.pixel(pixels.start), to.stride) }
            }
        }
        let source = self.source(0..self.channels, None);
        map(&groups(self.images.pixels(), 1, 1024, 64), |pixels| dispatch(set, Write(source, pixels, to)));
    }

    /// The sums that the gradient of the norm of some channels needs.
    pub(crate) fn gradient_sums(&self, set: InstructionSet, channels: Range<usize>, dy: View) -> GradientSums {
        struct Add<'a>(Normed<'a>, Range<usize>, View);
        impl Task for Add<'_> {
            type Output = GradientSums;
            #[inline(always)]
            unsafe fn run<S: Simd>(self) -> GradientSums {
                let Self(map, pixels, dy) = self;
                let mut sums = GradientSums::new(map.z.channels);
                for first in pixels.clone().step_by(256) {
                    // SAFETY: nothing writes to either map.
                    unsafe { sums.add::<S>(dy, &map, first, 256.min(pixels.end - first)) };
                }
                sums
            }
        }
        let part = self.part(channels);
        let parts = map(&groups(self.images.pixels(), 1, 1024, 64), |pixels| dispatch(set, Add(part, pixels, dy)));
        parts.iter().fold(GradientSums::new(part.z.channels), |mut total, part| {
            total.merge(part);
            total
        })
    }

    /// The gradient before the norm of some channels.
    fn gradient<'a>(
        &'a self,
        channels: Range<usize>,
        dy: View,
        norm: &'a NormGradient,
        gated: Option<(&'a [f32], &'a [f32])>,
    ) -> Gradient<'a> {
        let Normed { z, affine, relu, .. } = self.part(channels);
        Gradient { dy, z, affine, relu, slope: &norm.slope, offset: &norm.offset, gated }
    }

    /// Writes the gradient before the norm for that behind the activation.
    pub(crate) fn write_gradient(&self, set: InstructionSet, dy: View, to: View) {
        struct Write<'a>(Gradient<'a>, Range<usize>, View);
        impl Task for Write<'_> {
            type Output = ();
            #[inline(always)]
            unsafe fn run<S: Simd>(self) {
                let Self(gradient, pixels, to) = self;
                // SAFETY: the pixels of `to` are this task's alone.
                unsafe { gradient.load::<S>(pixels.start, pixels.len(), 1, to.pixel(pixels.start), to.stride) }
            }
        }
        let all = 0..self.channels;
        let norm = self.norm.gradient(0, &self.gradient_sums(set, all.clone(), dy), self.images.pixels());
        let gradient = self.gradient(all, dy, &norm, None);
        map(&groups(self.images.pixels(), 1, 1024, 64), |pixels| dispatch(set, Write(gradient, pixels, to)));
    }
}

/// Gradients of a convolution's weight and of its norm.
fn push(gradients: &mut Vec<Vec<f32>>, weight: Vec<f32>, norm: NormGradient) {
    gradients.extend([weight, norm.weight, norm.bias]);
}

/// A convolution with norm, alone.
pub(crate) enum Conv<'a, P> {
    Pointwise { input: &'a P, images: Images },
    Depthwise { input: Source<'a>, images: Images, kernel: usize, stride: usize },
}

impl<P: Pixels> Conv<'_, P> {
    fn depthwise<'a>(&self, set: InstructionSet, conv: &ConvNormParameters<'a>) -> Option<Depthwise<'a>> {
        let Self::Depthwise { images, kernel, stride, .. } = *self else { return None };
        let Images { batch, size } = images;
        Some(Depthwise { set, weights: conv.weight, channels: conv.channels(), kernel, stride, batch, size })
    }

    /// The output before its norm.
    pub(crate) fn forward(&self, set: InstructionSet, conv: &ConvNormParameters, relu: bool) -> NormedMap {
        let mut map;
        let moments = match (self, self.depthwise(set, conv)) {
            (Self::Depthwise { input, images, .. }, Some(depthwise)) => {
                map = NormedMap::new(
                    conv.channels(),
                    conv.channels(),
                    Images { size: depthwise.out_size(), ..*images },
                    relu,
                );
                depthwise.forward(input, map.z.view_mut(map.channels))
            }
            (Self::Pointwise { input, images }, _) => {
                map = NormedMap::new(conv.channels(), conv.channels(), *images, relu);
                let (out_channels, pixels) = (conv.channels(), images.pixels());
                Pointwise { set, weights: conv.weight, out_channels, pixels }
                    .forward(*input, map.z.view_mut(map.channels))
            }
            _ => unreachable!("depthwise convolutions were told apart above"),
        };
        conv.set(&mut map.norm, 0, &moments);
        map
    }

    /// The gradients of weight and norm for that of the output, and the input's if it is wanted.
    pub(crate) fn backward(
        &self,
        set: InstructionSet,
        conv: &ConvNormParameters,
        map: &NormedMap,
        dy: View,
        sums: Option<GradientSums>,
        wanted: Option<InputGradient>,
    ) -> (Vec<Vec<f32>>, ConvGradients) {
        let all = 0..map.channels;
        let sums = sums.unwrap_or_else(|| map.gradient_sums(set, all.clone(), dy));
        let norm = map.norm.gradient(0, &sums, map.images.pixels());
        let gradient = map.gradient(all, dy, &norm, None);
        let mut done = match (self, self.depthwise(set, conv)) {
            (Self::Depthwise { input, .. }, Some(depthwise)) => depthwise.backward(input, &gradient, wanted),
            (Self::Pointwise { input, images }, _) => {
                let (out_channels, pixels) = (conv.channels(), images.pixels());
                Pointwise { set, weights: conv.weight, out_channels, pixels }.backward(
                    *input,
                    &gradient,
                    images.pixels_per_image(),
                    wanted,
                )
            }
            _ => unreachable!("depthwise convolutions were told apart above"),
        };
        let mut gradients = Vec::with_capacity(3);
        push(&mut gradients, std::mem::take(&mut done.weights), norm);
        (gradients, done)
    }
}

/// A Ghost module of ratio 2: half of its output is made by a 1×1 convolution, the other half from the first by a depthwise one.
/// Both halves lie in one map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ghost<'a> {
    pub(crate) primary: ConvNormParameters<'a>,
    pub(crate) cheap: ConvNormParameters<'a>,
    pub(crate) cheap_kernel: usize,
    pub(crate) relu: bool,
}

/// The gradient of a Ghost module's output.
#[derive(Clone, Copy)]
pub(crate) struct GhostGradient<'a> {
    /// Of both halves.
    pub(crate) dy: View,
    /// For the norm of the second half.
    pub(crate) cheap_sums: &'a GradientSums,
    /// The gate behind the module and what is to be added, for each half, `[batch, half]`.
    pub(crate) gated: Option<[(&'a [f32], &'a [f32]); 2]>,
    /// Where to put the gradient of the first half, with what the cheap operation adds to it; may be in `dy`.
    pub(crate) primary: View,
}

impl Ghost<'_> {
    fn half(&self) -> usize {
        self.primary.channels()
    }

    fn depthwise(&self, set: InstructionSet, images: Images) -> Depthwise<'_> {
        let Images { batch, size } = images;
        let (weights, channels, kernel) = (self.cheap.weight, self.half(), self.cheap_kernel);
        Depthwise { set, weights, channels, kernel, stride: 1, batch, size }
    }

    /// Both halves before their norms.
    pub(crate) fn forward(&self, set: InstructionSet, input: &impl Pixels, images: Images) -> NormedMap {
        let half = self.half();
        let mut map = NormedMap::new(2 * half, half, images, self.relu);
        let to = map.z.view_mut(2 * half);
        let pointwise = Pointwise { set, weights: self.primary.weight, out_channels: half, pixels: images.pixels() };
        let moments = pointwise.forward(input, to.narrow(0, half));
        self.primary.set(&mut map.norm, 0, &moments);
        let moments = self.depthwise(set, images).forward(&map.source(0..half, None), to.narrow(half, half));
        self.cheap.set(&mut map.norm, half, &moments);
        map
    }

    /// Gradients of the parameters, and of the input what the primary convolution gathers of it.
    pub(crate) fn backward(
        &self,
        set: InstructionSet,
        input: &impl Pixels,
        map: &NormedMap,
        gradient: GhostGradient,
        wanted: Option<InputGradient>,
    ) -> (Vec<Vec<f32>>, ConvGradients) {
        let half = self.half();
        let (first, second) = (0..half, half..2 * half);
        let (images, pixels) = (map.images, map.images.pixels());

        let cheap_norm = map.norm.gradient(half, gradient.cheap_sums, pixels);
        let cheap = self.depthwise(set, images).backward(
            &map.source(first.clone(), None),
            &map.gradient(
                second,
                gradient.dy.narrow(half, half),
                &cheap_norm,
                gradient.gated.map(|[_, second]| second),
            ),
            Some(InputGradient {
                to: gradient.primary,
                prior: Some(gradient.dy.narrow(0, half)),
                prior_gated: gradient.gated.map(|[first, _]| first),
                sums: Sums::All(map.part(first.clone())),
            }),
        );
        let primary_norm = map.norm.gradient(0, &cheap.sums.unwrap_or_else(|| GradientSums::new(half)), pixels);
        let pointwise = Pointwise { set, weights: self.primary.weight, out_channels: half, pixels };
        let mut primary = pointwise.backward(
            input,
            &map.gradient(first, gradient.primary, &primary_norm, None),
            images.pixels_per_image(),
            wanted,
        );
        let mut gradients = Vec::with_capacity(6);
        push(&mut gradients, std::mem::take(&mut primary.weights), primary_norm);
        push(&mut gradients, cheap.weights, cheap_norm);
        (gradients, primary)
    }
}

/// A depthwise convolution and a 1×1, both with norm and without activation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortcutParameters<'a> {
    pub(crate) depthwise: ConvNormParameters<'a>,
    pub(crate) pointwise: ConvNormParameters<'a>,
}

/// The Ghost bottleneck: Ghost module, strided depthwise convolution if there is a stride, squeeze-and-excite if there is one,
/// Ghost module, and the shortcut added to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bottleneck<'a> {
    pub(crate) expand: Ghost<'a>,
    pub(crate) depthwise: Option<ConvNormParameters<'a>>,
    pub(crate) squeeze: Option<SqueezeParameters<'a>>,
    pub(crate) project: Ghost<'a>,
    /// `None` is the identity.
    pub(crate) shortcut: Option<ShortcutParameters<'a>>,
    /// Of the strided and of the shortcut's depthwise convolution.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
}

/// What a bottleneck's backward pass needs again.
#[derive(Debug)]
pub(crate) struct BottleneckMaps {
    pub(crate) expand: NormedMap,
    pub(crate) depthwise: Option<NormedMap>,
    squeezed: Option<Squeezed>,
    pub(crate) project: NormedMap,
    /// Depthwise, pointwise.
    pub(crate) shortcut: Option<[NormedMap; 2]>,
}

impl BottleneckMaps {
    /// The map between the two Ghost modules, before its gate.
    fn middle(&self) -> &NormedMap {
        self.depthwise.as_ref().unwrap_or(&self.expand)
    }

    fn middle_source(&self) -> Source<'_> {
        let middle = self.middle();
        middle.source(0..middle.channels, self.squeezed.as_ref().map(|squeezed| &*squeezed.gate))
    }

    /// The maps in the order of their layers.
    pub(crate) fn maps(&self) -> impl Iterator<Item = &NormedMap> {
        let shortcut = self.shortcut.iter().flatten();
        [Some(&self.expand), self.depthwise.as_ref(), Some(&self.project)].into_iter().flatten().chain(shortcut)
    }
}

impl Bottleneck<'_> {
    /// Channels of the output.
    pub(crate) fn out_channels(&self) -> usize {
        2 * self.project.half()
    }

    /// The images of the output.
    pub(crate) fn out_images(&self, images: Images) -> Images {
        Images { size: images.size.map(|size| size.div_ceil(self.stride)), ..images }
    }

    fn strided<'a>(&self, input: Source<'a>, images: Images) -> Conv<'a, MapPixels<'a>> {
        Conv::Depthwise { input, images, kernel: self.kernel, stride: self.stride }
    }

    /// Writes the output for the input `x`.
    pub(crate) fn forward(&self, set: InstructionSet, x: View, images: Images, to: View) -> BottleneckMaps {
        let expand = self.expand.forward(set, &images.pixels_of(Source::plain(x)), images);
        let depthwise = self.depthwise.as_ref().map(|conv| {
            let input = expand.source(0..expand.channels, None);
            self.strided(input, images).forward(set, conv, false)
        });
        let middle = depthwise.as_ref().unwrap_or(&expand);
        let squeezed = self
            .squeeze
            .map(|squeeze| squeeze.forward(set, means(set, middle.source(0..middle.channels, None), middle.images)));
        let out_images = middle.images;
        let input = middle.source(0..middle.channels, squeezed.as_ref().map(|squeezed| &*squeezed.gate));
        let project = self.project.forward(set, &out_images.pixels_of(input), out_images);
        let shortcut = self.shortcut.as_ref().map(|shortcut| {
            let depthwise = self.strided(Source::plain(x), images).forward(set, &shortcut.depthwise, false);
            let input = out_images.pixels_of(depthwise.source(0..depthwise.channels, None));
            let pointwise =
                Conv::Pointwise { input: &input, images: out_images }.forward(set, &shortcut.pointwise, false);
            [depthwise, pointwise]
        });
        let other = match &shortcut {
            Some([_, pointwise]) => pointwise.source(0..pointwise.channels, None),
            None => Source::plain(x),
        };
        add(set, [project.source(0..project.channels, None), other], out_images.pixels(), to);
        BottleneckMaps { expand, depthwise, squeezed, project, shortcut }
    }

    /// Gradients of the parameters for the output's gradient `dy`; that of the input `x` is written to `dx`.
    pub(crate) fn backward(
        &self,
        set: InstructionSet,
        x: View,
        images: Images,
        maps: &BottleneckMaps,
        dy: View,
        dx: View,
    ) -> Vec<Vec<f32>> {
        let out_images = maps.project.images;
        let input = images.pixels_of(Source::plain(x));
        let (half_in, half_out) = (maps.expand.channels / 2, maps.project.channels / 2);

        // The second Ghost module. Its input's gradient goes to `middle`, behind the gate.
        let mut project_primary = Buffer::new(out_images.pixels() * half_out);
        let cheap_sums = maps.project.gradient_sums(set, half_out..2 * half_out, dy.narrow(half_out, half_out));
        let middle = maps.middle();
        let mut middle_dy = Buffer::new(out_images.pixels() * middle.channels);
        let middle_view = middle_dy.view_mut(middle.channels);
        let sums = match maps.squeezed {
            Some(_) => Sums::PerImage(middle.whole(), out_images.pixels_per_image()),
            None => Sums::All(middle.whole()),
        };
        let (project_gradients, gathered) = self.project.backward(
            set,
            &out_images.pixels_of(maps.middle_source()),
            &maps.project,
            GhostGradient { dy, cheap_sums: &cheap_sums, gated: None, primary: project_primary.view_mut(half_out) },
            Some(InputGradient { to: middle_view, prior: None, prior_gated: None, sums }),
        );
        drop(project_primary);

        // The gate, of which each pixel's gradient gets its share of the mean's.
        let gate = match (&self.squeeze, &maps.squeezed, gathered.images) {
            (Some(parameters), Some(squeezed), Some(sums)) => Some(Gate::new(set, parameters, squeezed, &sums, middle)),
            _ => None,
        };
        let middle_sums = match &gate {
            Some(gate) => gate.sums.clone(),
            None => gathered.sums.unwrap_or_else(|| GradientSums::new(middle.channels)),
        };

        // The strided convolution, if there is one, to the gradient behind the first Ghost module.
        let mut expand_dy = middle_dy;
        let mut expand_sums = middle_sums;
        let mut expand_gate = gate.as_ref();
        let mut depthwise_gradients = Vec::new();
        if let (Some(conv), Some(map)) = (&self.depthwise, &maps.depthwise) {
            let norm = map.norm.gradient(0, &expand_sums, out_images.pixels());
            let gated = gate.as_ref().map(|gate| (&*gate.gate, &*gate.add));
            let gradient = map.gradient(0..map.channels, expand_dy.view(map.channels), &norm, gated);
            let mut behind = Buffer::new(images.pixels() * maps.expand.channels);
            let to = behind.view_mut(maps.expand.channels);
            let sums = Sums::All(maps.expand.whole());
            let Images { batch, size } = images;
            let (channels, kernel, stride) = (map.channels, self.kernel, self.stride);
            let mut done = Depthwise { set, weights: conv.weight, channels, kernel, stride, batch, size }.backward(
                &maps.expand.source(0..maps.expand.channels, None),
                &gradient,
                Some(InputGradient { to, prior: None, prior_gated: None, sums }),
            );
            expand_sums = done.sums.take().unwrap_or_else(|| GradientSums::new(channels));
            push(&mut depthwise_gradients, done.weights, norm);
            expand_dy = behind;
            expand_gate = None;
        }

        // The shortcut, into `dx`, where the first Ghost module adds to it.
        let mut shortcut_gradients = Vec::new();
        let mut prior = dy;
        if let (Some(parameters), Some([depthwise, pointwise])) = (&self.shortcut, &maps.shortcut) {
            let mut behind = Buffer::new(out_images.pixels() * depthwise.channels);
            let to = behind.view_mut(depthwise.channels);
            let source = out_images.pixels_of(depthwise.source(0..depthwise.channels, None));
            let conv = Conv::Pointwise { input: &source, images: out_images };
            let sums = Sums::All(depthwise.whole());
            let wanted = InputGradient { to, prior: None, prior_gated: None, sums };
            let (last, done) = conv.backward(set, &parameters.pointwise, pointwise, dy, None, Some(wanted));
            let wanted = InputGradient { to: dx, prior: None, prior_gated: None, sums: Sums::None };
            let conv = self.strided(Source::plain(x), images);
            let (first, _) = conv.backward(set, &parameters.depthwise, depthwise, to, done.sums, Some(wanted));
            shortcut_gradients = first.into_iter().chain(last).collect();
            prior = dx;
        }

        let expand_view = expand_dy.view_mut(maps.expand.channels);
        let halves = expand_gate.map(|gate| [gate.half(0..half_in), gate.half(half_in..2 * half_in)]);
        let gated = halves.as_ref().map(|halves| halves.each_ref().map(|(gate, add)| (&**gate, &**add)));
        let (mut gradients, _) = self.expand.backward(
            set,
            &input,
            &maps.expand,
            GhostGradient {
                dy: expand_view,
                cheap_sums: &expand_sums.narrow(half_in..2 * half_in),
                gated,
                primary: expand_view.narrow(0, half_in),
            },
            Some(InputGradient { to: dx, prior: Some(prior), prior_gated: None, sums: Sums::None }),
        );
        gradients.extend(depthwise_gradients);
        if let Some(Gate { parameters, .. }) = gate {
            let SqueezeGradients { reduce, reduce_bias, expand, expand_bias, .. } = parameters;
            gradients.extend([reduce, reduce_bias, expand, expand_bias]);
        }
        gradients.extend(project_gradients);
        gradients.extend(shortcut_gradients);
        gradients
    }
}

/// Means of the channels of each image, `[batch, channels]`.
pub(crate) fn means(set: InstructionSet, source: Source, images: Images) -> Vec<f32> {
    struct Add<'a>(Source<'a>, Range<usize>);
    impl Task for Add<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Vec<f32> {
            let mut sums = vec![0.0; self.0.z.channels];
            // SAFETY: nothing writes to the map.
            unsafe { self.0.add_sums::<S>(self.1.start, self.1.len(), &mut sums) };
            sums
        }
    }
    let pixels = images.pixels_per_image();
    let groups = groups(images.pixels(), pixels, pixels, images.batch);
    let mut means = map(&groups, |pixels| dispatch(set, Add(source, pixels))).concat();
    means.iter_mut().for_each(|mean| *mean /= pixels as f32);
    means
}

/// Writes to every pixel of an image the image's value of each channel, `[batch, channels]`.
pub(crate) fn spread(set: InstructionSet, rows: &[f32], images: Images, to: View) {
    struct Copy<'a>(&'a [f32], Range<usize>, View);
    impl Task for Copy<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(row, pixels, to) = self;
            let row = Source::plain(View::of(row, row.len()));
            for pixel in pixels {
                // SAFETY: the pixels of `to` are this task's alone.
                unsafe { row.load::<S>(0, 1, 1, to.pixel(pixel), to.stride) }
            }
        }
    }
    assert!(rows.len() == images.batch * to.channels);
    let pixels = images.pixels_per_image();
    map(&groups(images.pixels(), pixels, pixels, images.batch), |range| {
        let image = range.start / pixels;
        dispatch(set, Copy(&rows[image * to.channels..][..to.channels], range, to));
    });
}

/// Adds two sources of `pixels` pixels into a map, which may be one of them.
pub(crate) fn add(set: InstructionSet, sources: [Source; 2], pixels: usize, to: View) {
    struct Add<'a>([Source<'a>; 2], Range<usize>, View);
    impl Task for Add<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(sources, pixels, to) = self;
            // SAFETY: the pixels of `to` are this task's alone.
            unsafe { sum_into::<S>(&sources, false, pixels.start, pixels.len(), to) };
        }
    }
    map(&groups(pixels, 1, 1024, 64), |pixels| dispatch(set, Add(sources, pixels, to)));
}

/// The gate on the way back. The gradient before it is `gate · dy + add`.
struct Gate {
    /// `[batch, channels]`.
    gate: Vec<f32>,
    /// `[batch, channels]`.
    add: Vec<f32>,
    channels: usize,
    /// For the norm before the gate.
    sums: GradientSums,
    parameters: SqueezeGradients,
}

impl Gate {
    fn new(
        set: InstructionSet,
        parameters: &SqueezeParameters,
        squeezed: &Squeezed,
        sums: &ImageSums,
        map: &NormedMap,
    ) -> Self {
        let channels = map.channels;
        let Normed { mean, affine, .. } = map.whole();
        // d gate = sum of dy · y, where y = scale · (z - mean) + (scale · mean + shift) wherever it is active.
        let gate_gradient = (0..sums.plain.len())
            .map(|at| {
                let channel = at % channels;
                let scale = affine.scale[channel];
                let bias = scale * mean[channel] + affine.shift[channel];
                scale * sums.weighted[at] + bias * sums.plain[at]
            })
            .collect();
        let gradients = parameters.backward(set, squeezed, gate_gradient);
        let pixels = map.images.pixels_per_image() as f32;
        let add: Vec<f32> = gradients.mean.iter().map(|mean| mean / pixels).collect();
        let mut total = GradientSums::new(channels);
        for (at, (&gate, &add)) in squeezed.gate.iter().zip(&add).enumerate() {
            let (gate, add) = (f64::from(gate), f64::from(add));
            total.plain[at % channels] += gate * f64::from(sums.plain[at]) + add * f64::from(sums.active[at]);
            total.weighted[at % channels] +=
                gate * f64::from(sums.weighted[at]) + add * f64::from(sums.active_weighted[at]);
        }
        Self { gate: squeezed.gate.clone(), add, channels, sums: total, parameters: gradients }
    }

    /// Gate and addend of some of the channels.
    fn half(&self, channels: Range<usize>) -> (Vec<f32>, Vec<f32>) {
        let cut = |rows: &[f32]| {
            rows.chunks_exact(self.channels).flat_map(|row| row[channels.clone()].iter().copied()).collect()
        };
        (cut(&self.gate), cut(&self.add))
    }
}
