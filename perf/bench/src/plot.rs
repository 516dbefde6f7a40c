//! The latency of every percentile as a picture (SVG 1.1), with one line per kind of request.

use std::fmt::Write as _;

use crate::report::{Latency, Report};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// The axis of percentiles is stretched towards 100 %: each nine takes as much room as the one before.
const MARKS: [(f64, &str); 7] = [
    (0.0, "0"),
    (50.0, "50 %"),
    (90.0, "90 %"),
    (99.0, "99 %"),
    (99.9, "99.9 %"),
    (99.99, "99.99 %"),
    (99.999, "99.999 %"),
];
/// Nines on the axis.
const NINES: f64 = 5.0;

/// Draws a report.
pub fn svg(report: &Report) -> String {
    let kinds = [("read", "#0072b2", &report.read), ("write", "#d55e00", &report.write)];
    let lines: Vec<(&str, &str, &Latency)> = kinds
        .iter()
        .filter_map(|(name, colour, line)| Some((*name, *colour, &line.as_ref()?.latency)))
        .collect();
    let scale = Scale::new(&lines);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut svg, (LEFT, 24.0), "start", &report.target);
    let rate = report.total.requests_per_second;
    text(&mut svg, (LEFT, 42.0), "start", &format!("{rate:.0} requests per second; latency in microseconds"));
    draw_axes(&mut svg, &scale);
    for (index, (name, colour, latency)) in lines.iter().enumerate() {
        let points: Vec<String> = latency
            .curve
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.percent), scale.y(point.us)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
        let at = TOP + 16.0 * (index as f64 + 1.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            LEFT + 12.0,
            at - 6.0
        );
        text(&mut svg, (LEFT + 32.0, at), "start", name);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a percentile stands.
fn x(percent: f64) -> f64 {
    let rest = (1.0 - percent / 100.0).max(10_f64.powf(-NINES));
    LEFT + -rest.log10() / NINES * (WIDTH - LEFT - RIGHT)
}

/// The axis of latencies: logarithmic, over whole powers of ten.
struct Scale {
    lowest: i32,
    highest: i32,
}

impl Scale {
    fn new(lines: &[(&str, &str, &Latency)]) -> Self {
        let all =
            || lines.iter().flat_map(|(_, _, latency)| latency.curve.iter().map(|point| point.us.max(0.001)));
        let least = all().fold(f64::INFINITY, f64::min);
        let most = all().fold(0.001, f64::max);
        let lowest = if least.is_finite() { least.log10().floor() as i32 } else { 0 };
        Self { lowest, highest: (most.log10().ceil() as i32).max(lowest + 1) }
    }

    fn y(&self, us: f64) -> f64 {
        let share = (us.max(0.001).log10() - f64::from(self.lowest)) / f64::from(self.highest - self.lowest);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw_axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (percent, name) in MARKS {
        let x = x(percent);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>");
        text(svg, (x, bottom + 18.0), "middle", name);
    }
    for power in scale.lowest..=scale.highest {
        let us = 10_f64.powi(power);
        let y = scale.y(us);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        text(svg, (LEFT - 8.0, y + 4.0), "end", &format!("{us}"));
    }
    let _ = writeln!(svg, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>");
    text(svg, ((LEFT + right) / 2.0, HEIGHT - 16.0), "middle", "so many requests took at most");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_plot_has_a_line_per_kind_inside_its_frame() {
        let svg = svg(&report(50));
        assert_eq!(svg.matches("<polyline").count(), 2);
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("two coordinates");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
        }
    }
}
