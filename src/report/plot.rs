//! Small line plots as inline SVG. Colours come from the page's style sheet, so that light and dark both read well.

use maud::{Markup, html};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 8.0;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// For the legend; also the CSS class of its colour.
    pub name: &'static str,
    /// Seconds and values.
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// Above it.
    pub title: &'static str,
    /// Of its values.
    pub unit: &'static str,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl Plot {
    /// As a figure with a caption and a text for screen readers.
    pub(super) fn draw(&self) -> Markup {
        let points = || self.lines.iter().flat_map(|l| &l.points);
        let longest = points().map(|p| p.0).fold(1.0, f64::max);
        let top = nice(points().map(|p| p.1).fold(0.0, f64::max));
        let x = |t: f64| LEFT + t.max(0.0) / longest * (WIDTH - LEFT - 8.0);
        let y = |v: f64| HEIGHT - BOTTOM - v / top * (HEIGHT - BOTTOM - TOP);
        let path = |line: &Line| {
            let mut d = String::new();
            for (i, &(t, v)) in line.points.iter().enumerate() {
                d.push_str(&format!("{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(t), y(v)));
            }
            d
        };
        let step = nice(longest / 5.0);
        let seconds: Vec<f64> = (0..).map(|i| f64::from(i) * step).take_while(|t| *t <= longest + 1e-9).collect();
        html! {
            figure.plot {
                figcaption { (self.title) " " span.unit { "(" (self.unit) ")" }
                    @for line in &self.lines { span class=(format!("key {}", line.name)) { (line.name) } }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.words()) {
                    @for part in 0..=2 {
                        @let value = top * f64::from(part) / 2.0;
                        line.grid x1=(LEFT) x2=(WIDTH - 8.0) y1=(y(value)) y2=(y(value)) {}
                        text.tick x=(LEFT - 6.0) y=(y(value) + 4.0) text-anchor="end" { (label(value)) }
                    }
                    @for t in seconds {
                        text.tick x=(x(t)) y=(HEIGHT - 6.0) text-anchor="middle" { (label(t)) " s" }
                    }
                    @for line in &self.lines { path class=(line.name) d=(path(line)) {} }
                }
            }
        }
    }

    fn words(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let n = line.points.len().max(1) as f64;
            let mean = line.points.iter().map(|p| p.1).sum::<f64>() / n;
            format!("{} {mean:.1} on average", line.name)
        });
        format!("{}, {}: {}", self.title, self.unit, lines.collect::<Vec<_>>().join(", "))
    }
}

/// The next of 1, 2, 5, 10, 20, ...
fn nice(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|v| *v >= value * 0.999).unwrap_or(10.0 * power)
}

fn label(value: f64) -> String {
    if value >= 1_000.0 {
        format!("{:.1}k", value / 1_000.0)
    } else if value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, want) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (31.0, 50.0), (1_400.0, 2_000.0)] {
            assert!((nice(value) - want).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }

    #[test]
    fn a_plot_without_points_draws_its_axes() {
        let plot = Plot { title: "Loss", unit: "%", lines: vec![Line { name: "alice", points: Vec::new() }] };
        assert!(plot.draw().into_string().contains("<svg"));
    }
}
