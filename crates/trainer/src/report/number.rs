//! Numbers as a person reads them: `87.2 %`, `5 182 508`, `1 min 48 s`. The spaces within do not break.

use imageset::source::plural;

const SPACE: char = '\u{a0}';

/// A share of 1 in percent, with one digit.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}{SPACE}%", share * 100.0)
}

/// The same, or a dash where there is no share.
pub(super) fn percent_or_dash(share: Option<f64>) -> String {
    share.map_or("–".to_string(), percent)
}

/// A whole number with a space between groups of three digits.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(SPACE);
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 image`, `2 images`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{}{SPACE}{noun}{}", count(number), plural(number, noun))
}

/// A time in its two largest units.
pub(super) fn time(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}{SPACE}s"),
        (0, 0, _) => format!("{minutes}{SPACE}min {rest}{SPACE}s"),
        (0, _, _) => format!("{hours}{SPACE}h {minutes}{SPACE}min"),
        _ => format!("{days}{SPACE}d {hours}{SPACE}h"),
    }
}

/// An epoch: `3`, or `3.25` within the fourth.
pub(super) fn epoch(epoch: f64) -> String {
    if (epoch - epoch.round()).abs() < 1e-6 { format!("{epoch:.0}") } else { format!("{epoch:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_units_and_groups() {
        let spaced = |text: String| text.replace(SPACE, " ");
        assert_eq!(spaced(percent(0.8717)), "87.2 %");
        assert_eq!(percent_or_dash(None), "–");
        assert_eq!([0, 999, 4692, 5_182_508].map(|number| spaced(count(number))), ["0", "999", "4 692", "5 182 508"]);
        assert_eq!([1, 2000].map(|number| spaced(counted(number, "image"))), ["1 image", "2 000 images"]);
        assert_eq!(
            [0.4, 42.0, 108.2, 11_520.0, 200_000.0].map(|seconds| spaced(time(seconds))),
            ["0 s", "42 s", "1 min 48 s", "3 h 12 min", "2 d 7 h"]
        );
        assert_eq!([3.0, 0.2046].map(epoch), ["3", "0.20"]);
    }
}
