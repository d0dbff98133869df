//! Passes over pixels whose channels lie side by side, and the descriptions of what a layer reads and writes.
//!
//! A map is stored as its convolution made it. Norm, activation and gate are applied where it is read, and undone in the same
//! place on the way back, so that none of them is a pass over memory of its own.

use crate::cpu::simd::Simd;

/// Pixels of a map in memory, channels last. A view of some channels of a wider map has the wider map's stride.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    data: *mut f32,
    /// Floats from one pixel to the next.
    pub(crate) stride: usize,
    pub(crate) channels: usize,
}

// SAFETY: a view is an address; whoever reads or writes through it answers for it, see `pixel`.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Views that are only read may be made of shared data.
    pub(crate) fn new(data: *mut f32, stride: usize, channels: usize) -> Self {
        Self { data, stride, channels }
    }

    /// A view to read from.
    pub(crate) fn of(data: &[f32], channels: usize) -> Self {
        Self::new(data.as_ptr().cast_mut(), channels, channels)
    }

    /// A view to write to.
    pub(crate) fn of_mut(data: &mut [f32], channels: usize) -> Self {
        Self::new(data.as_mut_ptr(), channels, channels)
    }

    /// Some of its channels.
    pub(crate) fn narrow(self, start: usize, channels: usize) -> Self {
        assert!(start + channels <= self.channels);
        Self { data: self.data.wrapping_add(start), channels, ..self }
    }

    /// Its pixels from `pixel` on.
    pub(crate) fn from(self, pixel: usize) -> Self {
        Self { data: self.pixel(pixel), ..self }
    }

    /// Address of a pixel's first channel.
    #[inline(always)]
    pub(crate) fn pixel(self, pixel: usize) -> *mut f32 {
        self.data.wrapping_add(pixel * self.stride)
    }
}

/// `value · scale + shift` for each channel: what is left of a norm once its statistics are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
}

impl Affine<'_> {
    /// `value · scale + shift` in a vector of channels.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd>(self, channel: usize, left: usize, value: S::Vector) -> S::Vector {
        // SAFETY: the caller's: the channel exists.
        unsafe {
            let scale = load::<S>(self.scale.as_ptr().add(channel), left);
            S::mul_add(value, scale, load::<S>(self.shift.as_ptr().add(channel), left))
        }
    }
}

/// Values of a map as a layer reads them: `gate · relu(z · scale + shift)`, each part where there is one.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) z: View,
    pub(crate) affine: Option<Affine<'a>>,
    pub(crate) relu: bool,
    /// `[batch, channels]`.
    pub(crate) gate: Option<&'a [f32]>,
}

/// The gradient of a map before its norm, made from that behind its activation: with `g` the latter (`gate · dy + add` behind a
/// gate) and zero where the activation is, it is `scale · g + slope · z + offset`.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<'a> {
    pub(crate) dy: View,
    pub(crate) z: View,
    pub(crate) affine: Affine<'a>,
    pub(crate) relu: bool,
    pub(crate) slope: &'a [f32],
    pub(crate) offset: &'a [f32],
    /// `gate` and `add`, `[batch, channels]` each.
    pub(crate) gated: Option<(&'a [f32], &'a [f32])>,
}

/// Loads `S::LANES` values, or as many as are left.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(from: *const f32, left: usize) -> S::Vector {
    // SAFETY: the caller's.
    unsafe { if left >= S::LANES { S::load(from) } else { S::load_first(from, left) } }
}

/// Stores `S::LANES` values, or as many as are left.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(to: *mut f32, left: usize, value: S::Vector) {
    // SAFETY: the caller's.
    unsafe { if left >= S::LANES { S::store(to, value) } else { S::store_first(to, left, value) } }
}

impl Source<'_> {
    /// A map that is read as it lies in memory.
    pub(crate) fn plain(z: View) -> Self {
        Self { z, affine: None, relu: false, gate: None }
    }

    /// A vector of channels of the pixel at `z`, normed and activated.
    #[inline(always)]
    unsafe fn before_gate<S: Simd>(&self, z: *const f32, channel: usize, left: usize) -> S::Vector {
        // SAFETY: the caller's: the channel exists.
        unsafe {
            let mut value = load::<S>(z.add(channel), left);
            if let Some(affine) = self.affine {
                value = affine.apply::<S>(channel, left, value);
            }
            if self.relu { S::relu(value) } else { value }
        }
    }

    /// Writes `count` pixels from `first` on to rows with distance `stride`; `pixels` is the size of an image.
    ///
    /// # Safety
    /// The pixels exist and are not being written; the rows are writable.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, first: usize, count: usize, pixels: usize, to: *mut f32, stride: usize) {
        let channels = self.z.channels;
        // SAFETY: pointers stay within a pixel's channels.
        unsafe {
            for pixel in 0..count {
                let z = self.z.pixel(first + pixel);
                let to = to.add(pixel * stride);
                let gate = self.gate.map(|gate| gate.as_ptr().add((first + pixel) / pixels * channels));
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    let mut value = self.before_gate::<S>(z, channel, left);
                    if let Some(gate) = gate {
                        value = S::mul(value, load::<S>(gate.add(channel), left));
                    }
                    store::<S>(to.add(channel), left, value);
                    channel += S::LANES;
                }
            }
        }
    }

    /// Adds the sums of `count` pixels of one image to `sums`, `[channels]`.
    ///
    /// # Safety
    /// As for [`load`](Self::load).
    #[inline(always)]
    pub(crate) unsafe fn add_sums<S: Simd>(&self, first: usize, count: usize, sums: &mut [f32]) {
        let channels = self.z.channels;
        assert!(sums.len() == channels);
        // SAFETY: pointers stay within a pixel's channels.
        unsafe {
            for pixel in 0..count {
                let z = self.z.pixel(first + pixel);
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    let value = self.before_gate::<S>(z, channel, left);
                    let sum = sums.as_mut_ptr().add(channel);
                    store::<S>(sum, left, S::add(load::<S>(sum, left), value));
                    channel += S::LANES;
                }
            }
        }
    }
}

impl Gradient<'_> {
    /// Writes `count` pixels from `first` on to rows with distance `stride`; `pixels` is the size of an image.
    ///
    /// # Safety
    /// The pixels exist and are not being written; the rows are writable.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, first: usize, count: usize, pixels: usize, to: *mut f32, stride: usize) {
        let channels = self.z.channels;
        // SAFETY: pointers stay within a pixel's channels.
        unsafe {
            for pixel in 0..count {
                let (z, dy) = (self.z.pixel(first + pixel), self.dy.pixel(first + pixel));
                let to = to.add(pixel * stride);
                let image = (first + pixel) / pixels * channels;
                let mut channel = 0;
                while channel < channels {
                    let left = channels - channel;
                    let scale = load::<S>(self.affine.scale.as_ptr().add(channel), left);
                    let z = load::<S>(z.add(channel), left);
                    let mut g = load::<S>(dy.add(channel), left);
                    if let Some((gate, add)) = self.gated {
                        let gate = load::<S>(gate.as_ptr().add(image + channel), left);
                        g = S::mul_add(g, gate, load::<S>(add.as_ptr().add(image + channel), left));
                    }
                    if self.relu {
                        g = S::where_positive(self.affine.apply::<S>(channel, left, z), g);
                    }
                    let slope = load::<S>(self.slope.as_ptr().add(channel), left);
                    let offset = load::<S>(self.offset.as_ptr().add(channel), left);
                    store::<S>(to.add(channel), left, S::mul_add(scale, g, S::mul_add(slope, z, offset)));
                    channel += S::LANES;
                }
            }
        }
    }
}

/// Adds sources, without their gates, into a map, and applies a ReLU if it is wanted.
///
/// # Safety
/// As for [`Source::load`].
#[inline(always)]
pub(crate) unsafe fn sum_into<S: Simd>(sources: &[Source], relu: bool, first: usize, count: usize, to: View) {
    let channels = to.channels;
    // SAFETY: pointers stay within a pixel's channels.
    unsafe {
        for pixel in first..first + count {
            let mut channel = 0;
            while channel < channels {
                let left = channels - channel;
                let mut sum = S::splat(0.0);
                for source in sources {
                    sum = S::add(sum, source.before_gate::<S>(source.z.pixel(pixel), channel, left));
                }
                store::<S>(to.pixel(pixel).add(channel), left, if relu { S::relu(sum) } else { sum });
                channel += S::LANES;
            }
        }
    }
}
