//! Numbers from a name: FNV-1a of the name seeds splitmix64; `tests/fixtures/gen/hashrule.py` is the same rule in Python.

fn fnv1a(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `count` numbers in [0, 1), each a multiple of 2^-24.
pub(crate) fn uniform(key: &str, count: usize) -> Vec<f64> {
    let hash = fnv1a(key);
    (1..=count as u64)
        .map(|i| {
            let z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let z = z ^ (z >> 31);
            (z >> 40) as f64 / f64::from(1 << 24)
        })
        .collect()
}
