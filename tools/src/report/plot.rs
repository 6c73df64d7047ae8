//! A plot of percentiles: the value against the share of all values that are not larger. Both axes are logarithmic, the
//! lower one in nines, as in HdrHistogram's own plots, because the last percentiles matter most.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::report::log::Series;
use crate::units::nanos;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 20.0;
/// Points of a curve.
const STEPS: u32 = 240;
/// Okabe and Ito's colours, which people with any colour vision tell apart; further curves are dashed.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a6a6a"];

/// Returns an SVG. Text and lines take the colour of the page around them.
#[must_use]
pub fn svg(title: &str, series: &[Series]) -> String {
    let series: Vec<&Series> = series.iter().filter(|series| !series.histogram.is_empty()).collect();
    let nines = series.iter().map(|series| nines(&series.histogram)).fold(1.0, f64::max);
    let lowest = series.iter().map(|series| series.histogram.value_at_quantile(0.0)).min().unwrap_or(1).max(1);
    let highest = series.iter().map(|series| series.histogram.max()).max().unwrap_or(10).max(lowest + 1);
    let (bottom, top) = (10_f64.powf((lowest as f64).log10().floor()), 10_f64.powf((highest as f64).log10().ceil()));
    let x = |nine: f64| LEFT + (WIDTH - LEFT - RIGHT) * nine / nines;
    let y = |value: f64| {
        let share = (value.max(bottom) / bottom).log10() / (top / bottom).log10();
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share
    };
    let height = HEIGHT + LEGEND_LINE * series.len().div_ceil(2) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"currentColor\">\n",
        escape(title)
    );
    // Writing to a string cannot fail, here and below.
    let mut decade = bottom;
    while decade <= top * 1.001 {
        let at = y(decade);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"currentColor\" stroke-opacity=\".2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            nanos(decade as u64).replace(".00", "").replace(".0", "")
        );
        decade *= 10.0;
    }
    for (nine, name) in
        [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (5.0, "99.999 %")]
    {
        if nine > nines + 0.01 {
            break;
        }
        let (at, under) = (x(nine), HEIGHT - BOTTOM + 20.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"currentColor\" stroke-opacity=\".2\"/>\
             <text x=\"{at:.1}\" y=\"{under:.1}\" text-anchor=\"{}\">{name}</text>",
            HEIGHT - BOTTOM,
            if at > WIDTH - 60.0 { "end" } else { "middle" }
        );
    }
    for (index, series) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = ["none", "6 3", "2 3"][index / COLOURS.len() % 3];
        let line = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
        let _ = writeln!(svg, "<path d=\"{}\" {line}/>", curve(&series.histogram, x, y));
        let left = LEFT + (WIDTH - LEFT - RIGHT) / 2.0 * (index % 2) as f64;
        let below = HEIGHT + LEGEND_LINE * (index / 2) as f64 + 4.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {below:.1}h24\" {line}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 32.0,
            below + 4.0,
            escape(&series.name)
        );
    }
    svg + "</svg>\n"
}

/// Returns how many nines the last value of a histogram stands for.
fn nines(histogram: &Histogram<u64>) -> f64 {
    (histogram.len() as f64).log10().clamp(1.0, 6.0)
}

fn curve(histogram: &Histogram<u64>, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let most = nines(histogram);
    let mut path = String::new();
    for step in 0..=STEPS {
        let nine = most * f64::from(step) / f64::from(STEPS);
        let value = histogram.value_at_quantile(1.0 - 10_f64.powf(-nine));
        let _ = write!(path, "{}{:.1} {:.1}", if step == 0 { 'M' } else { 'L' }, x(nine), y(value as f64));
    }
    path
}

/// Escapes text for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_for_each_series_and_nothing_outside() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=10_000).for_each(|n| histogram.record(n * 100).unwrap());
        let series: Vec<Series> =
            ["a & b", "<c>"].map(|name| Series { name: name.to_owned(), histogram: histogram.clone() }).into();
        let svg = svg("title", &series);
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 4, "two curves, two marks in the legend");
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;c&gt;") && svg.contains("99.99 %"));
        for point in svg.split('L').skip(1).filter_map(|point| point.split('"').next()) {
            let (x, y) = point.split_once(' ').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.trim().parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{x} {y}");
        }
    }

    #[test]
    fn without_values_the_plot_is_empty() {
        assert!(svg("nothing", &[]).ends_with("</svg>\n"));
    }
}
