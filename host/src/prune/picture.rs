//! Fidelity against MACs as an SVG, for the bundle and for reports.

use plotters::prelude::*;

use super::report::RungReport;

/// Draws fidelity (vertical) against the share of the dense model's MACs.
///
/// # Errors
/// If the drawing library fails; `ladder` must not be empty.
pub fn svg(title: &str, ladder: &[RungReport]) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (720, 440)).into_drawing_area();
        root.fill(&WHITE).map_err(own)?;
        let lowest = ladder.iter().map(|rung| f64::from(rung.fidelity)).fold(1.0, f64::min);
        let bottom = ((lowest - 0.02) * 20.0).floor() / 20.0;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..105.0, bottom..1.005)
            .map_err(own)?;
        chart
            .configure_mesh()
            .x_desc("MACs, % of the dense model")
            .y_desc("fidelity (mean cosine to dense)")
            .light_line_style(WHITE)
            .draw()
            .map_err(own)?;
        let points: Vec<(f64, f64)> =
            ladder.iter().map(|rung| (rung.macs_share * 100.0, f64::from(rung.fidelity))).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2))).map_err(own)?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, BLUE.filled()))).map_err(own)?;
        root.present().map_err(own)?;
    }
    Ok(text)
}

/// The library's errors borrow the string that is drawn to.
fn own(error: impl std::error::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}
