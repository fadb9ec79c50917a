//! Lines against MACs as an SVG, for bundles and reports.

use plotters::prelude::*;

/// Colours that stay apart for most kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

/// A point of a line, with the interval that it is known to.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Share of the dense model's MACs, 0 to 1.
    pub macs_share: f64,
    pub value: f64,
    /// Drawn as a bar.
    pub interval: Option<(f64, f64)>,
}

/// Draws `series` against the share of the dense model's MACs. One line needs no legend.
///
/// # Errors
/// If the drawing library fails.
pub fn svg(
    title: &str,
    value_name: &str,
    series: &[Series],
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (720, 440)).into_drawing_area();
        root.fill(&WHITE).map_err(own)?;
        let points = || series.iter().flat_map(|series| &series.points);
        let ends = |point: &Point| point.interval.unwrap_or((point.value, point.value));
        let lowest = points().map(|point| ends(point).0).fold(1.0, f64::min);
        let highest = points().map(|point| ends(point).1).fold(0.0, f64::max);
        let bottom = ((lowest - 0.02) * 20.0).floor() / 20.0;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..105.0, bottom..highest + 0.005)
            .map_err(own)?;
        chart
            .configure_mesh()
            .x_desc("MACs, % of the dense model")
            .y_desc(value_name)
            .light_line_style(WHITE)
            .draw()
            .map_err(own)?;
        for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let at = |point: &Point| (point.macs_share * 100.0, point.value);
            let line = LineSeries::new(series.points.iter().map(at), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(own)?;
            drawn.label(&series.name).legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
            chart
                .draw_series(series.points.iter().map(|point| Circle::new(at(point), 3, colour.filled())))
                .map_err(own)?;
            let bars = series.points.iter().filter_map(|point| {
                let (x, (low, high)) = (at(point).0, point.interval?);
                Some(PathElement::new([(x, low), (x, high)], colour.mix(0.5).stroke_width(1)))
            });
            chart.draw_series(bars).map_err(own)?;
        }
        if series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()
                .map_err(own)?;
        }
        root.present().map_err(own)?;
    }
    Ok(text)
}

/// The library's errors borrow the string that is drawn to.
fn own(error: impl std::error::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_named_and_drawn() {
        let point = |macs_share, value| Point { macs_share, value, interval: Some((value - 0.1, value)) };
        let series = |name: &str| Series { name: name.into(), points: vec![point(1.0, 0.9), point(0.5, 0.7)] };
        let text = svg("title <&>", "accuracy", &[series("first"), series("second")]).unwrap();
        for word in ["title &lt;&amp;&gt;", "accuracy", "first", "second", "<polyline", "<circle"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!svg("title", "accuracy", &[series("alone")]).unwrap().contains("alone"));
    }
}
