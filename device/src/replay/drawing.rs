//! Draws a run over time, as an SVG and for a terminal.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Moment, Scenario};

type Value = fn(&Moment) -> f64;
type DrawError = Box<dyn std::error::Error + Send + Sync>;

/// What is drawn: a name with its unit, and the value at a moment.
const QUANTITIES: [(&str, Value); 4] = [
    ("temperature, °C", |moment| moment.celsius),
    ("power, W", |moment| moment.watts),
    ("latency, ms", |moment| moment.milliseconds),
    ("rung", |moment| moment.rung as f64),
];
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const WIDTH: usize = 100;

/// One chart under the other, with the limits as lines.
///
/// # Errors
/// If the drawing library fails.
pub(super) fn svg(scenario: &Scenario, history: &[Moment]) -> Result<String, DrawError> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (900, 880)).into_drawing_area();
        root.fill(&WHITE).map_err(own)?;
        let titled = root.titled(&scenario.name, ("sans-serif", 20)).map_err(own)?;
        let limits = [
            vec![
                scenario.limits.target_celsius,
                Some(scenario.board.passive_celsius),
                Some(scenario.board.critical_celsius),
            ],
            vec![scenario.limits.power_watts],
            vec![scenario.limits.deadline_milliseconds],
            vec![],
        ];
        for (area, ((name, value), limits)) in titled.split_evenly((4, 1)).iter().zip(QUANTITIES.iter().zip(limits)) {
            let limits: Vec<f64> = limits.into_iter().flatten().collect();
            chart(area, name, history, *value, &limits)?;
        }
        root.present().map_err(own)?;
    }
    Ok(text)
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    history: &[Moment],
    value: Value,
    limits: &[f64],
) -> Result<(), DrawError> {
    let all = || history.iter().map(value).chain(limits.iter().copied());
    let (low, high) =
        all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let room = 0.05 * (high - low).max(1.0);
    let end = history.last().map_or(1.0, |moment| moment.seconds + 1.0);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, low - room..high + room)
        .map_err(own)?;
    chart.configure_mesh().x_desc("seconds").y_desc(name).light_line_style(WHITE).draw().map_err(own)?;
    let points = history.iter().map(|moment| (moment.seconds, value(moment)));
    chart.draw_series(LineSeries::new(points, BLUE.stroke_width(1))).map_err(own)?;
    for limit in limits {
        chart.draw_series(LineSeries::new([(0.0, *limit), (end, *limit)], VERMILION.stroke_width(1))).map_err(own)?;
    }
    Ok(())
}

/// The library's errors borrow the string that is drawn to.
fn own(error: impl std::error::Error) -> DrawError {
    error.to_string().into()
}

/// One small chart under the other.
pub(super) fn terminal(history: &[Moment]) -> String {
    let mut text = String::new();
    if history.is_empty() {
        return text;
    }
    for (name, value) in QUANTITIES {
        // The highest of every column, so that no peak is hidden.
        let columns = WIDTH.min(history.len());
        let column = |index: usize| {
            let part = index * history.len() / columns..(index + 1) * history.len() / columns;
            history[part].iter().map(value).fold(f64::NEG_INFINITY, f64::max)
        };
        let config = rasciigraph::Config::default().with_height(7).with_offset(2);
        let plot = rasciigraph::plot((0..columns).map(column).collect(), config);
        text += &format!("{name}\n{}\n", plot.trim_end());
    }
    let end = history.last().map_or(0.0, |moment| moment.seconds + 1.0);
    text += &format!(
        "          0 s{:>width$}\n",
        format!("{end:.0} s"),
        width = WIDTH.min(history.len()).saturating_sub(3)
    );
    text
}
