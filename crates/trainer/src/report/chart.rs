//! Charts as SVG inside the page: lines over epochs, and the reliability diagram. Colours come from the page's style sheet, by class
//! (`c0`, `c1`, …), so that they follow light and dark.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::history::Point;
use super::number::{count, counted, epoch, percent};
use crate::calibration::Bin;

/// Colours of the style sheet. With [`DASHES`], which are one fewer, 35 lines differ.
const NUM_COLORS: usize = 7;

/// Lengths of dashes and gaps, for those who do not tell the colours apart.
const DASHES: [&str; 5] = ["none", "7 4", "2 3", "10 3 2 3", "4 2"];

/// Points of a line; more of them are averaged, since a screen shows no more.
const MAX_POINTS: usize = 240;

/// Lines of up to so many points show each of them.
const MAX_DOTS: usize = 24;

// The picture, in units that are about a pixel.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// How the values of a chart are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// As they are.
    Plain,
    /// Shares of 1, in percent.
    Percent,
    /// Whole numbers.
    Count,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// What it shows.
    pub(super) label: String,
    /// Which colour and dash.
    pub(super) look: usize,
    /// In the order of their epochs.
    pub(super) points: Vec<Point>,
    /// A point to stand out.
    pub(super) mark: Option<Point>,
}

/// Lines over epochs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// What is on the vertical axis.
    pub(super) title: &'static str,
    /// Unit of the vertical axis.
    pub(super) unit: Unit,
    /// Whether the vertical axis begins at zero whatever the values are.
    pub(super) from_zero: bool,
    /// The lines; those without points are left out.
    pub(super) series: Vec<Series>,
}

/// Evenly spaced round numbers that span some values.
#[derive(Debug, Clone, PartialEq)]
struct Ticks {
    /// From the first at or below the lowest value to the last at or above the highest.
    values: Vec<f64>,
    step: f64,
}

impl Ticks {
    /// About `wanted` intervals of 1, 2 or 5 times a power of ten.
    fn new(low: f64, high: f64, wanted: f64) -> Self {
        // A flat line gets some room.
        let (low, high) = if high > low { (low, high) } else { (low - 0.1 * low.abs(), high + 0.1 * high.abs()) };
        let (low, high) = if high > low { (low, high) } else { (0.0, 1.0) };
        let rough = (high - low) / wanted;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
        let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * magnitude);
        let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
        Self { values: (first..=last).map(|index| index as f64 * step).collect(), step }
    }

    /// The ends.
    fn span(&self) -> (f64, f64) {
        (self.values.first().copied().unwrap_or(0.0), self.values.last().copied().unwrap_or(1.0))
    }

    fn label(&self, value: f64, unit: Unit) -> String {
        let step = if unit == Unit::Percent { 100.0 * self.step } else { self.step };
        let digits = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        // `-0` looks like a mistake.
        let value = if value.abs() < 1e-9 * self.step { 0.0 } else { value };
        match unit {
            Unit::Percent => format!("{:.digits$}\u{a0}%", 100.0 * value),
            Unit::Count if digits == 0 && value >= 0.0 => count(value.round() as u64),
            Unit::Plain | Unit::Count if digits > 4 && value == 0.0 => "0".to_string(),
            Unit::Plain | Unit::Count if digits > 4 => format!("{value:.0e}"),
            Unit::Plain | Unit::Count => format!("{value:.digits$}"),
        }
    }
}

/// A line's points, at most [`MAX_POINTS`] of them, each the mean of as many as there are in its place.
fn thinned(points: &[Point]) -> Vec<Point> {
    let size = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |points: &[Point]| {
        let of = |value: fn(&Point) -> f64| points.iter().map(value).sum::<f64>() / points.len() as f64;
        Point { epoch: of(|point| point.epoch), value: of(|point| point.value) }
    };
    points.chunks(size).map(mean).collect()
}

/// The class of a line's colour.
pub(super) fn color(look: usize) -> String {
    format!("c{}", look % NUM_COLORS)
}

/// A line's dash pattern.
fn dash(look: usize) -> &'static str {
    DASHES[look % DASHES.len()]
}

/// A short piece of a line, to stand beside its name.
pub(super) fn swatch(look: usize) -> Markup {
    html! {
        svg.swatch width="28" height="10" viewBox="0 0 28 10" aria-hidden="true" {
            path.line.(color(look)) d="M1 5H27" stroke-dasharray=(dash(look)) {}
        }
    }
}

/// A point in the picture.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn x(&self, epoch: f64) -> f64 {
        LEFT + (epoch - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, points: &[Point]) -> String {
        let mut path = String::new();
        for (index, point) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(point.epoch), self.y(point.value));
        }
        path
    }
}

impl Chart {
    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// A value with its unit.
    fn value(&self, value: f64) -> String {
        match self.unit {
            Unit::Percent => percent(value),
            Unit::Count => count(value.round().max(0.0) as u64),
            Unit::Plain if value != 0.0 && value.abs() < 1e-3 => format!("{value:.2e}"),
            Unit::Plain => format!("{value:.4}"),
        }
    }

    /// The chart with its title and legend.
    pub(super) fn render(&self) -> Markup {
        let lines: Vec<(&Series, Vec<Point>)> = self
            .series
            .iter()
            .filter(|series| !series.points.is_empty())
            .map(|series| (series, thinned(&series.points)))
            .collect();
        let all = || lines.iter().flat_map(|(series, points)| points.iter().chain(&series.mark));
        let ends = |value: fn(&Point) -> f64| {
            all()
                .map(value)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
        };
        let (low, high) = ends(|point| point.value);
        let (_, last_epoch) = ends(|point| point.epoch);
        let y_ticks = Ticks::new(if self.from_zero { 0.0 } else { low }, high, 4.0);
        let x_ticks = Ticks::new(0.0, last_epoch, 6.0);
        // The lines reach the edge even where no round number is.
        let scale = Scale { x: (0.0, last_epoch.max(f64::MIN_POSITIVE)), y: y_ticks.span() };
        let has_legend = lines.len() > 1 || self.series.len() > 1;
        html! {
            figure.card.chart {
                figcaption { (self.title) }
                @if has_legend {
                    ul.legend { @for (series, _) in &lines { li { (swatch(series.look)) (series.label) } } }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.summary()) {
                    @for value in &y_ticks.values {
                        @let y = scale.y(*value);
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                        text.tick x=(LEFT - 8.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" {
                            (y_ticks.label(*value, self.unit))
                        }
                    }
                    @for value in x_ticks.values.iter().filter(|value| **value <= last_epoch * 1.001) {
                        @let x = scale.x(*value);
                        line.grid x1=(format!("{x:.1}")) x2=(format!("{x:.1}")) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM + 4.0) {}
                        text.tick x=(format!("{x:.1}")) y=(HEIGHT - BOTTOM + 18.0) text-anchor="middle" {
                            (x_ticks.label(*value, Unit::Plain))
                        }
                    }
                    text.tick x=(WIDTH - RIGHT) y=(HEIGHT - 4.0) text-anchor="end" { "epoch" }
                    @for (series, points) in &lines {
                        (self.line(series, points, &scale))
                    }
                }
            }
        }
    }

    fn line(&self, series: &Series, points: &[Point], scale: &Scale) -> Markup {
        let dots = if points.len() <= MAX_DOTS { points } else { &[] };
        let said =
            |point: &Point| format!("{}, epoch {}: {}", series.label, epoch(point.epoch), self.value(point.value));
        html! {
            g.(color(series.look)) {
                path.line d=(scale.path(points)) stroke-dasharray=(dash(series.look)) {}
                @for point in dots {
                    circle.dot cx=(format!("{:.1}", scale.x(point.epoch))) cy=(format!("{:.1}", scale.y(point.value))) r="2.4" {
                        title { (said(point)) }
                    }
                }
                @if let Some(point) = &series.mark {
                    circle.mark cx=(format!("{:.1}", scale.x(point.epoch))) cy=(format!("{:.1}", scale.y(point.value))) r="6" {
                        title { "best: " (said(point)) }
                    }
                }
            }
        }
    }

    /// The chart for those who do not see it.
    fn summary(&self) -> String {
        let lines = self.series.iter().filter_map(|series| {
            let (first, last) = (series.points.first()?, series.points.last()?);
            Some(format!("{} from {} to {}", series.label, self.value(first.value), self.value(last.value)))
        });
        format!("{} over epochs: {}", self.title, lines.collect::<Vec<_>>().join("; "))
    }
}

/// Accuracy over confidence, with the images at each confidence below.
pub(super) fn reliability(bins: &[Bin]) -> Markup {
    const SIDE: f64 = 200.0;
    const STRIP: f64 = 44.0;
    const GAP: f64 = 10.0;
    const BASE: f64 = TOP + SIDE;
    const FOOT: f64 = BASE + GAP + STRIP;
    let most = bins.iter().map(|bin| bin.num_images).max().unwrap_or(0).max(1) as f64;
    // The bins of a few sure images and of most images are to be seen beside each other.
    let tall = |num_images: u64| (num_images as f64 / most).sqrt() * STRIP;
    let wide = WIDTH - LEFT - RIGHT;
    let x = |share: f64| LEFT + share * wide;
    let y = |share: f64| BASE - share * SIDE;
    let short = |value: f64| format!("{value:.1}");
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", FOOT + 36.0)) role="img" aria-label="Accuracy over confidence" {
            @for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(y(share))) y2=(short(y(share))) {}
                text.tick x=(LEFT - 8.0) y=(short(y(share) + 4.0)) text-anchor="end" { (format!("{:.0}\u{a0}%", share * 100.0)) }
                text.tick x=(short(x(share))) y=(short(FOOT + 16.0)) text-anchor="middle" { (format!("{:.0}", share * 100.0)) }
            }
            @for bin in bins {
                @if let (Some(confidence), Some(accuracy)) = (bin.confidence, bin.accuracy) {
                    @let (left, width) = (x(bin.lower) + 1.0, (bin.upper - bin.lower) * wide - 2.0);
                    @let kind = if accuracy < confidence { "missing" } else { "surplus" };
                    @let (top, height) = (y(accuracy.max(confidence)), (accuracy - confidence).abs() * SIDE);
                    g {
                        title {
                            (format!("{} sure, {} right, {}", percent(confidence), percent(accuracy), counted(bin.num_images, "image")))
                        }
                        rect.right x=(short(left)) width=(short(width)) y=(short(y(accuracy))) height=(short(accuracy * SIDE)) {}
                        rect.(kind) x=(short(left)) width=(short(width)) y=(short(top)) height=(short(height)) {}
                        rect.images x=(short(left)) width=(short(width)) y=(short(FOOT - tall(bin.num_images)))
                            height=(short(tall(bin.num_images))) {}
                    }
                }
            }
            line.diagonal x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y(0.0)) y2=(y(1.0)) {}
            line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(FOOT) y2=(FOOT) {}
            text.tick x=(LEFT - 8.0) y=(short(FOOT - STRIP / 2.0 + 4.0)) text-anchor="end" { "images" }
            text.tick x=(WIDTH - RIGHT) y=(short(FOOT + 32.0)) text-anchor="end" { "sure, %" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, unit: Unit) -> Vec<String> {
        let ticks = Ticks::new(low, high, 4.0);
        ticks.values.iter().map(|value| ticks.label(*value, unit).replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(labels(0.0, 2.3, Unit::Plain), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.31, 0.87, Unit::Percent), ["20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(labels(0.861, 0.872, Unit::Percent), ["86.0 %", "86.5 %", "87.0 %", "87.5 %"]);
        assert_eq!(labels(0.0, 0.05, Unit::Plain), ["0.00", "0.02", "0.04", "0.06"]);
        assert_eq!(labels(0.0, 3900.0, Unit::Count), ["0", "1 000", "2 000", "3 000", "4 000"]);
        assert_eq!(labels(0.0, 4e-6, Unit::Plain), ["0", "1e-6", "2e-6", "3e-6", "4e-6"]);
    }

    #[test]
    fn a_flat_line_has_room_around_it() {
        for value in [0.0, 0.1, 5.0] {
            let (low, high) = Ticks::new(value, value, 4.0).span();
            assert!(low <= value && value <= high && low < high, "{value}: {low} {high}");
        }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_mean() {
        let points: Vec<Point> =
            (0..10_000_u32).map(|index| Point { epoch: f64::from(index), value: f64::from(index % 2) }).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= MAX_POINTS && thin.len() > MAX_POINTS / 2);
        assert!(thin.iter().all(|point| (point.value - 0.5).abs() < 0.02));
        assert_eq!(thinned(&points[..7]), points[..7]);
    }

    #[test]
    fn a_chart_names_its_lines_and_escapes_the_names() {
        let point = Point { epoch: 1.0, value: 0.5 };
        let series = |label: &str, look| Series { label: label.into(), look, points: vec![point], mark: Some(point) };
        let chart = Chart {
            title: "top-1",
            unit: Unit::Percent,
            from_zero: false,
            series: vec![series("a<b>&", 0), series("b", 8)],
        };
        let page = chart.render().into_string();
        assert!(page.contains("a&lt;b&gt;&amp;") && !page.contains("a<b>"), "{page}");
        assert!(page.contains("stroke-dasharray=\"10 3 2 3\"") && page.contains("class=\"c1\""), "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn an_empty_chart_is_known_to_be_empty() {
        let series = Series { label: "val".into(), look: 0, points: Vec::new(), mark: None };
        assert!(Chart { title: "loss", unit: Unit::Plain, from_zero: false, series: vec![series] }.is_empty());
    }
}
