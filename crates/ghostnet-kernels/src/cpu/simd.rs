//! Vectors of `f32`, chosen at run time: AVX-512, AVX2 with FMA, NEON, or plain Rust.
//!
//! The trait is our own and small because the kernels need loads and stores of the first `n` lanes as single masked
//! instructions: `pulp` makes a call through a function pointer of each of them, in the innermost loops.

use std::sync::OnceLock;

/// Instruction sets that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionSet {
    /// 16 lanes, x86-64 with AVX-512 F and VL.
    Avx512,
    /// 8 lanes, x86-64 with AVX2 and FMA.
    Avx2,
    /// 4 lanes, AArch64.
    Neon,
    /// 8 values at a time in plain Rust, anywhere.
    Scalar,
}

impl InstructionSet {
    /// The widest that this machine has, or the one named by the environment variable `GHOSTNET_SIMD`: `avx512`, `avx2`,
    /// `neon` or `scalar`. One that is unknown or that the machine lacks is passed over for the widest.
    pub fn current() -> Self {
        static CURRENT: OnceLock<InstructionSet> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let wanted = match std::env::var("GHOSTNET_SIMD").as_deref() {
                Ok("avx512") => Some(Self::Avx512),
                Ok("avx2") => Some(Self::Avx2),
                Ok("neon") => Some(Self::Neon),
                Ok("scalar") => Some(Self::Scalar),
                _ => None,
            };
            let order = [Self::Avx512, Self::Avx2, Self::Neon, Self::Scalar];
            wanted.into_iter().chain(order).find(|set| set.is_available()).unwrap_or(Self::Scalar)
        })
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512 => has_avx512(),
            Self::Avx2 => has_avx2(),
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Scalar => true,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && has_avx2()
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// Work that is compiled once for every instruction set. `run` and all that it calls must be `#[inline(always)]`, or the
/// instructions are not inlined.
pub(crate) trait Task {
    type Output;

    /// # Safety
    /// The machine must have the instruction set `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a task with the given instruction set.
///
/// # Panics
/// If the machine lacks it.
pub(crate) fn dispatch<T: Task>(set: InstructionSet, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    unsafe fn avx512<T: Task>(task: T) -> T::Output {
        // SAFETY: the caller has checked the features.
        unsafe { task.run::<Avx512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<T: Task>(task: T) -> T::Output {
        // SAFETY: the caller has checked the features.
        unsafe { task.run::<Avx2>() }
    }
    assert!(set.is_available(), "this machine has no {set:?}");
    match set {
        // SAFETY: `is_available` has asked the machine.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { avx512(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2(task) },
        // SAFETY: every AArch64 machine with an operating system has NEON.
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon => unsafe { task.run::<Neon>() },
        // SAFETY: plain Rust.
        _ => unsafe { task.run::<Scalar>() },
    }
}

/// Operations on a vector of `f32`.
///
/// All are unsafe to call where the machine lacks the instructions; those with pointers need the lanes that they touch to be
/// valid for reads or writes. No alignment is asked for.
pub(crate) trait Simd: Copy {
    /// Values in a vector.
    const LANES: usize;
    /// Vectors that the registers hold: 32 or 16.
    const REGISTERS: usize;
    type Vector: Copy;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// The first `count` lanes, at most `LANES`; zero in the others.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    /// The first `count` lanes, at most `LANES`.
    unsafe fn store_first(to: *mut f32, count: usize, value: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `max(a, 0)`, NaN where `a` is NaN.
    unsafe fn relu(a: Self::Vector) -> Self::Vector;
    /// `value` where `a` is above zero or NaN, zero elsewhere: the gradient of [`relu`](Self::relu).
    unsafe fn where_positive(a: Self::Vector, value: Self::Vector) -> Self::Vector;
    /// Transposes a block of `LANES` x `LANES` values, whose rows are `from_stride` apart, to rows `to_stride` apart.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the caller's.
                unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    // SAFETY (of every block here): the trait's contract is the contract of the instruction.
    impl Simd for Avx512 {
        const LANES: usize = 16;
        const REGISTERS: usize = 32;
        type Vector = __m512;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(first16(count), from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m512) {
            unsafe { _mm512_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, value: __m512) {
            unsafe { _mm512_mask_storeu_ps(to, first16(count), value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn relu(a: __m512) -> __m512 {
            // The second operand is the result where one of them is NaN.
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
        }
        #[inline(always)]
        unsafe fn where_positive(a: __m512, value: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(a, _mm512_setzero_ps()), value) }
        }
        /// Pairs, then fours within each quarter of the vectors, then the quarters: 64 shuffles for 256 values.
        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let mut rows = [_mm512_setzero_ps(); 16];
                for row in 0..16 {
                    rows[row] = _mm512_loadu_ps(from.add(row * from_stride));
                }
                let mut fours = [_mm512_setzero_ps(); 16];
                for four in 0..4 {
                    let [a, b, c, d] = [rows[4 * four], rows[4 * four + 1], rows[4 * four + 2], rows[4 * four + 3]];
                    let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                    let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                    fours[4 * four] = _mm512_shuffle_ps::<0x44>(ab_low, cd_low);
                    fours[4 * four + 1] = _mm512_shuffle_ps::<0xee>(ab_low, cd_low);
                    fours[4 * four + 2] = _mm512_shuffle_ps::<0x44>(ab_high, cd_high);
                    fours[4 * four + 3] = _mm512_shuffle_ps::<0xee>(ab_high, cd_high);
                }
                // Vector `column` of `fours[4 · four + column]` holds, quarter by quarter, columns `column + 4 · quarter` of four
                // rows.
                for column in 0..4 {
                    let [a, b, c, d] = [fours[column], fours[4 + column], fours[8 + column], fours[12 + column]];
                    let (ab_low, ab_high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                    let (cd_low, cd_high) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
                    let out = [
                        _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low),
                        _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low),
                        _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high),
                        _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high),
                    ];
                    for quarter in 0..4 {
                        _mm512_storeu_ps(to.add((column + 4 * quarter) * to_stride), out[quarter]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn first16(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    // SAFETY (of every block here): the trait's contract is the contract of the instruction.
    impl Simd for Avx2 {
        const LANES: usize = 8;
        const REGISTERS: usize = 16;
        type Vector = __m256;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(from, first8(count)) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m256) {
            unsafe { _mm256_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, value: __m256) {
            unsafe { _mm256_maskstore_ps(to, first8(count), value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn relu(a: __m256) -> __m256 {
            // The second operand is the result where one of them is NaN.
            unsafe { _mm256_max_ps(_mm256_setzero_ps(), a) }
        }
        #[inline(always)]
        unsafe fn where_positive(a: __m256, value: __m256) -> __m256 {
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(a, _mm256_setzero_ps()), value) }
        }
    }

    #[inline(always)]
    unsafe fn first8(count: usize) -> __m256i {
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Simd;

    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    // SAFETY (of every block here): the trait's contract is the contract of the instruction.
    impl Simd for Neon {
        const LANES: usize = 4;
        const REGISTERS: usize = 32;
        type Vector = float32x4_t;

        #[inline(always)]
        unsafe fn splat(value: f32) -> float32x4_t {
            unsafe { vdupq_n_f32(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> float32x4_t {
            unsafe { vld1q_f32(from) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> float32x4_t {
            let mut lanes = [0.0; 4];
            unsafe {
                std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
                vld1q_f32(lanes.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: float32x4_t) {
            unsafe { vst1q_f32(to, value) }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, value: float32x4_t) {
            let mut lanes = [0.0; 4];
            unsafe {
                vst1q_f32(lanes.as_mut_ptr(), value);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
            }
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn relu(a: float32x4_t) -> float32x4_t {
            unsafe { vmaxq_f32(a, vdupq_n_f32(0.0)) }
        }
        #[inline(always)]
        unsafe fn where_positive(a: float32x4_t, value: float32x4_t) -> float32x4_t {
            unsafe {
                let not_above = vcleq_f32(a, vdupq_n_f32(0.0));
                vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), not_above))
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Neon;

/// Arrays that the compiler turns into whatever the target has at least.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

// SAFETY (of every block here): the pointers are valid for the lanes that the caller names.
impl Simd for Scalar {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Vector = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> [f32; 8] {
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 8]) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, count: usize, value: [f32; 8]) {
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to, count) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Two roundings: without the instruction, `f32::mul_add` is a call.
        zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    unsafe fn relu(a: [f32; 8]) -> [f32; 8] {
        a.map(|a| if a < 0.0 { 0.0 } else { a })
    }
    #[inline(always)]
    unsafe fn where_positive(a: [f32; 8], value: [f32; 8]) -> [f32; 8] {
        zip(a, value, |a, value| if a <= 0.0 { 0.0 } else { value })
    }
}
