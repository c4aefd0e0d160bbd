//! Plots as SVG, drawn by hand: bars and dots over equal slots of time. What a colour says, a place, a pattern or a
//! shape says as well.

use maud::{Markup, html};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 164.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 4.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;
/// The foot of the drawing.
const FOOT: f64 = HEIGHT - BOTTOM;

/// How many agents have a colour and a pattern of their own; the last stands for all others.
pub(super) const SERIES: usize = 5;

/// A plot with its words: a title, what it says in a sentence, and the numbers behind it.
pub(super) struct Figure<'a> {
    /// Part of its elements' names.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// The text alternative, for screen readers.
    pub(super) summary: &'a str,
    /// The slots that have a label below them, each with its label.
    pub(super) labels: &'a [(usize, String)],
    pub(super) slots: usize,
    pub(super) drawing: &'a Markup,
    pub(super) key: &'a Markup,
    /// A table; empty where there is nothing to draw.
    pub(super) numbers: Option<&'a Markup>,
}

impl Figure<'_> {
    pub(super) fn markup(&self) -> Markup {
        let (title, summary) = (format!("t-{}", self.id), format!("d-{}", self.id));
        let Some(numbers) = self.numbers else {
            return html! {
                figure {
                    figcaption { (self.title) }
                    p .none { (self.summary) }
                }
            };
        };
        html! {
            figure {
                figcaption { (self.title) }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby={ (title) " " (summary) } {
                    title id=(title) { (self.title) }
                    desc id=(summary) { (self.summary) }
                    (self.drawing)
                    @for (slot, label) in self.labels {
                        @let (x, width) = place(*slot, self.slots);
                        text x=(short(x + width / 2.0)) y=(short(HEIGHT - 4.0)) text-anchor="middle" { (label) }
                    }
                }
                (self.key)
                details {
                    summary { "The numbers" }
                    (numbers)
                }
            }
        }
    }
}

/// One bar of a slot: how much, and what it says when it is pointed at.
pub(super) struct Bar {
    pub(super) slot: usize,
    pub(super) value: f64,
    pub(super) tooltip: String,
}

/// Bars up and down from one line; the direction tells them apart.
pub(super) fn up_and_down(slots: usize, up: &[Bar], down: &[Bar]) -> Markup {
    let most = |bars: &[Bar]| bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let (above, below) = (most(up), most(down));
    let step = step(above.max(below)).max(1.0);
    // The ends of both halves are marks of the scale.
    let (above, below) = (round_up(above, step), round_up(below, step));
    let scale = (FOOT - TOP) / (above + below).max(1.0);
    let line = TOP + above * scale;
    let y = |value: f64| line - value * scale;
    let draw = |bar: &Bar, class: &str, sign: f64| {
        let (x, width) = place(bar.slot, slots);
        let (from, to) = (y(0.0), y(sign * bar.value));
        html! {
            rect .(class) x=(short(x)) y=(short(from.min(to))) width=(short(width)) height=(short((from - to).abs())) {
                title { (bar.tooltip) }
            }
        }
    };
    let mut marks = Vec::new();
    let mut value = -below;
    // Half a step more, since a sum of floats may end just above the last mark.
    while value <= above + step / 2.0 {
        marks.push((y(value), number(value.abs())));
        value += step;
    }
    html! {
        (scale_of(&marks))
        @for bar in up { (draw(bar, "done", 1.0)) }
        @for bar in down { (draw(bar, "failed", -1.0)) }
        line .axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(line)) y2=(short(line)) {}
    }
}

/// Bars that stand on each other, one for each series of a slot.
pub(super) fn stacked(slots: usize, series: &[Vec<Bar>]) -> Markup {
    let mut sums = vec![0.0; slots];
    for bar in series.iter().flatten() {
        sums[bar.slot] += bar.value;
    }
    let most = sums.iter().copied().fold(0.0, f64::max);
    let step = step(most);
    let top = round_up(most, step);
    let y = |value: f64| FOOT - value / top.max(f64::MIN_POSITIVE) * (FOOT - TOP);
    let mut marks = Vec::new();
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        marks.push((y(value), number(value)));
        value += step;
    }
    let mut feet = vec![0.0; slots];
    let mut standing = Vec::new();
    for (index, bar) in
        series.iter().enumerate().flat_map(|(index, bars)| bars.iter().map(move |bar| (index, bar)))
    {
        standing.push((index, bar, feet[bar.slot]));
        feet[bar.slot] += bar.value;
    }
    html! {
        (scale_of(&marks))
        @for (index, bar, foot) in standing {
            @let (x, width) = place(bar.slot, slots);
            @let (from, to) = (y(foot), y(foot + bar.value));
            (patterned(index, x, to, width, from - to, Some(&bar.tooltip)))
        }
        line .axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(FOOT)) y2=(short(FOOT)) {}
    }
}

/// A rectangle in the colour and the pattern of a series.
fn patterned(
    index: usize,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    tooltip: Option<&str>,
) -> Markup {
    let (x, y, width, height) = (short(x), short(y), short(width), short(height.max(0.0)));
    let index = index.min(SERIES - 1);
    html! {
        rect .(format!("f{index}")) x=(x) y=(y) width=(width) height=(height) {
            @if let Some(tooltip) = tooltip { title { (tooltip) } }
        }
        @if index > 0 {
            rect fill=(format!("url(#p{index})")) x=(x) y=(y) width=(width) height=(height) pointer-events="none" {}
        }
    }
}

/// The patterns of all series but the first, which has none. They lie over the colour.
pub(super) fn patterns() -> Markup {
    html! {
        svg .defs aria-hidden="true" {
            defs {
                pattern #p1 width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    line .mark x1="0" y1="0" x2="0" y2="6" {}
                }
                pattern #p2 width="5" height="5" patternUnits="userSpaceOnUse" {
                    circle cx="2.5" cy="2.5" r="1" .dotmark {}
                }
                pattern #p3 width="6" height="6" patternUnits="userSpaceOnUse" {
                    line .mark x1="0" y1="3" x2="6" y2="3" {}
                }
                pattern #p4 width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)" {
                    path .mark d="M0 0H6M0 0V6" {}
                }
            }
        }
    }
}

/// What the series are called.
pub(super) fn key_of_series(names: &[(usize, String)]) -> Markup {
    html! {
        ul .key {
            @for (index, name) in names {
                li {
                    svg viewBox="0 0 14 11" aria-hidden="true" { (patterned(*index, 0.0, 0.0, 14.0, 11.0, None)) }
                    bdi { (crate::text::escape(name)) }
                }
            }
        }
    }
}

/// From a slot's median, a filled dot, to its 90th percentile, a ring; in seconds, on a scale of powers.
pub(super) struct WaitRange {
    pub(super) slot: usize,
    pub(super) median: u64,
    pub(super) p90: u64,
    pub(super) tooltip: String,
}

pub(super) fn ranges(slots: usize, ranges: &[WaitRange]) -> Markup {
    /// What a reader can distinguish at a glance.
    const MARKS: [(u64, &str); 11] = [
        (1, "1 s"),
        (5, "5 s"),
        (15, "15 s"),
        (60, "1 min"),
        (300, "5 min"),
        (900, "15 min"),
        (3600, "1 h"),
        (4 * 3600, "4 h"),
        (86_400, "1 day"),
        (7 * 86_400, "7 days"),
        (30 * 86_400, "30 days"),
    ];
    let least = ranges.iter().map(|range| range.median).min().unwrap_or(0).max(1);
    let most = ranges.iter().map(|range| range.p90).max().unwrap_or(0).max(1);
    let first = MARKS.iter().rposition(|(seconds, _)| *seconds <= least).unwrap_or(0);
    // At least one mark further than the first, or the scale would have no height.
    let last = MARKS.iter().position(|(seconds, _)| *seconds >= most && *seconds > MARKS[first].0);
    let last = last.unwrap_or(MARKS.len() - 1);
    let log = |seconds: u64| (seconds.max(1) as f64).ln();
    let (low, high) = (log(MARKS[first].0), log(MARKS[last].0).max(log(most)));
    let y = |seconds: u64| {
        let share = (log(seconds) - low) / (high - low).max(f64::MIN_POSITIVE);
        FOOT - share.clamp(0.0, 1.0) * (FOOT - TOP)
    };
    let marks: Vec<_> = MARKS[first..=last.max(first)]
        .iter()
        .map(|(seconds, word)| (y(*seconds), (*word).to_owned()))
        .collect();
    html! {
        (scale_of(&marks))
        line .axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(FOOT)) y2=(short(FOOT)) {}
        @for range in ranges {
            @let (x, width) = place(range.slot, slots);
            @let x = short(x + width / 2.0);
            g {
                title { (range.tooltip) }
                line .range x1=(x) x2=(x) y1=(short(y(range.median))) y2=(short(y(range.p90))) {}
                circle .ring cx=(x) cy=(short(y(range.p90))) r="3" {}
                circle .dot cx=(x) cy=(short(y(range.median))) r="3" {}
            }
        }
    }
}

/// The marks of the scale at the left, and fine lines through the drawing.
fn scale_of(marks: &[(f64, String)]) -> Markup {
    html! {
        @for (y, word) in marks {
            line .grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(*y)) y2=(short(*y)) {}
            text x=(LEFT - 4.0) y=(short(y + 3.5)) text-anchor="end" { (word) }
        }
    }
}

/// Where a slot's bar stands, and how wide it is.
fn place(slot: usize, slots: usize) -> (f64, f64) {
    let width = (WIDTH - LEFT - RIGHT) / slots.max(1) as f64;
    // Between two bars a quarter of a slot stays empty.
    (LEFT + width * slot as f64 + width * 0.12, width * 0.76)
}

/// A step of the scale, 1, 2 or 5 times a power of ten, of which a few make up the whole.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / 3.0;
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= rough).unwrap_or(10.0);
    times * power
}

fn round_up(value: f64, step: f64) -> f64 {
    // What is on a mark, but for a rounding error, stays there.
    (value / step - 1e-9).ceil().max(0.0) * step
}

/// A number of the scale: no more digits than it needs.
fn number(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{}k", short(v / 1000.0)),
        v if v >= 10.0 => format!("{v:.0}"),
        v => {
            let digits = format!("{v:.4}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// A coordinate with one digit behind the point at most.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_few_and_round_steps() {
        for (most, expected) in [
            (0.0, 1.0),
            (1.0, 0.5),
            (3.0, 1.0),
            (4.0, 2.0),
            (10.0, 5.0),
            (31.0, 20.0),
            (0.012, 0.005),
            (1234.0, 500.0),
        ] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
            assert!(round_up(most, step(most)) >= most);
        }
        assert_eq!(
            [0.0, 0.005, 2.5, 40.0, 12_000.0].map(number),
            ["0", "0.005", "2.5", "40", "12k"]
        );
    }

    /// The numbers in all attributes of this name.
    fn values(markup: &Markup, name: &str) -> Vec<f64> {
        let start = format!(" {name}=\"");
        let parts = markup.0.split(&start).skip(1);
        parts.filter_map(|part| part.split('"').next()?.parse().ok()).collect()
    }

    fn bars(values: &[f64]) -> Vec<Bar> {
        let bar =
            |(slot, value): (usize, &f64)| Bar { slot, value: *value, tooltip: String::new() };
        values.iter().enumerate().map(bar).collect()
    }

    #[test]
    fn nothing_is_drawn_outside_of_the_plot() {
        for (up, down) in
            [(&[3.0, 0.0][..], &[][..]), (&[], &[1.0, 7.0]), (&[100.0, 1.0], &[1.0, 2.0])]
        {
            let drawn = up_and_down(2, &bars(up), &bars(down));
            let y = values(&drawn, "y");
            assert!(y.iter().all(|y| (TOP - 1.0..=FOOT + 5.0).contains(y)), "{drawn:?}");
            assert_eq!(drawn.0.matches("class=\"done\"").count(), up.len());
            assert_eq!(drawn.0.matches("class=\"failed\"").count(), down.len());
        }
        let drawn = stacked(2, &[bars(&[0.1, 0.2]), bars(&[0.3, 0.0])]);
        let (y, height) = (values(&drawn, "y"), values(&drawn, "height"));
        assert!(y.iter().all(|y| *y >= TOP - 1.0) && height.iter().all(|it| *it <= FOOT - TOP));
    }

    #[test]
    fn waits_of_any_length_have_a_scale() {
        for (median, p90) in [(0, 0), (1, 1), (3, 40), (59, 7 * 86_400), (90 * 86_400, u64::MAX)] {
            let range = WaitRange { slot: 0, median, p90, tooltip: String::new() };
            let drawn = ranges(1, &[range]);
            let y = values(&drawn, "cy");
            assert!(y.iter().all(|y| (TOP..=FOOT).contains(y)), "{median} {p90}: {drawn:?}");
            assert!(y[0] <= y[1], "the 90th percentile is no lower");
            assert!(!drawn.0.contains("NaN") && !drawn.0.contains("inf"));
        }
    }
}
