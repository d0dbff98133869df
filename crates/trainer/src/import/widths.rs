//! The widths of the networks that are recognised.

/// Widths that are tried after the published ones: 0.1 to 3 in steps of a twentieth.
pub(super) fn widths() -> impl Iterator<Item = f64> {
    [0.5, 1.0, 1.3, 1.6].into_iter().chain((2..=60).map(|twentieth| f64::from(twentieth) / 20.0))
}
