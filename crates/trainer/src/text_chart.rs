//! A curve in a few lines of text, for terminals and logs.

use std::fmt::Write as _;

/// Lines that a curve takes.
const ROWS: usize = 5;
/// Columns that a curve takes.
pub const COLUMNS: usize = 60;
/// From nothing to a whole cell, in eighths.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws a value for each column, the smallest at the foot and the largest at the top, whose `label`s stand on the right. Below it
/// stand the names of the first and the last column. Values that are not finite leave their column blank.
pub fn text_chart(values: &[f64], label: impl Fn(f64) -> String, ends: [&str; 2]) -> String {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let eighths = |value: f64| match high - low {
        _ if !value.is_finite() => 0,
        // The lowest value is still to be seen.
        range if range > 0.0 => 1 + ((value - low) / range * (ROWS * 8 - 1) as f64).round() as usize,
        _ => ROWS * 8 / 2,
    };
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        let mut line: String =
            values.iter().map(|&value| BLOCKS[eighths(value).saturating_sub(row * 8).min(8)]).collect();
        if row == ROWS - 1 && high.is_finite() {
            let _ = write!(line, " {}", label(high));
        } else if row == 0 && low < high {
            let _ = write!(line, " {}", label(low));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let [first, last] = ends;
    let _ = write!(text, "{first}{last:>width$}", width = values.len().saturating_sub(first.chars().count()));
    text
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_curve_fills_its_rows_and_names_its_ends() {
        let values: Vec<f64> = (0..24).map(|column| f64::from(column).min(12.0) / 12.0).collect();
        assert_snapshot!(text_chart(&values, |value| format!("{value:.1}"), ["start", "end"]), @"
                  ▂▅████████████ 1.0
                ▃▆██████████████
             ▁▅█████████████████
           ▃▆███████████████████
        ▁▄██████████████████████ 0.0
        start                end
        ");
    }

    #[test]
    fn a_flat_curve_and_one_with_holes_are_drawn_too() {
        assert_snapshot!(text_chart(&[2.0; 6], |value| format!("{value}"), ["a", "b"]), @"
               2

        ▄▄▄▄▄▄
        ██████
        ██████
        a    b
        ");
        assert_snapshot!(text_chart(&[f64::NAN, 1.0, 2.0], |value| format!("{value}"), ["a", "b"]), @"
          █ 2
          █
          █
          █
         ▁█ 1
        a b
        ");
    }
}
