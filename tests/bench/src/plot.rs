//! Plots in SVG.

use std::path::Path;

use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 380);
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x7f, 0x7f, 0x7f),
    RGBColor(0x94, 0x67, 0xbd),
];

#[derive(Debug)]
pub(crate) struct Plot {
    /// The file name without its extension.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) y: &'static str,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Bars with labels.
    Bars(Vec<(String, f64)>),
    /// Lines through points, over a logarithmic axis with base 2.
    Lines {
        x: &'static str,
        series: Vec<(String, Vec<(f64, f64)>)>,
    },
}

impl Plot {
    /// Draws the plot into a file of the folder.
    pub(crate) fn draw(&self, folder: &Path) {
        let path = folder.join(format!("{}.svg", self.name));
        let area = SVGBackend::new(&path, SIZE).into_drawing_area();
        area.fill(&WHITE).unwrap();
        match &self.content {
            Content::Bars(bars) => self.draw_bars(&area, bars),
            Content::Lines { x, series } => self.draw_lines(&area, x, series),
        }
        area.present().unwrap();
    }

    fn draw_bars(&self, area: &Area<'_>, bars: &[(String, f64)]) {
        let highest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((0..bars.len()).into_segmented(), 0.0..highest * 1.1)
            .unwrap();
        let label = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(at) => bars.get(*at).map_or("", |(label, _)| label).to_owned(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(bars.len())
            .x_label_formatter(&label)
            .y_desc(self.y)
            .draw()
            .unwrap();
        let bar = |(at, (_, value)): (usize, &(String, f64))| {
            let corners = [
                (SegmentValue::Exact(at), 0.0),
                (SegmentValue::Exact(at + 1), *value),
            ];
            let mut bar = Rectangle::new(corners, COLOURS[0].filled());
            bar.set_margin(0, 0, 6, 6);
            bar
        };
        chart.draw_series(bars.iter().enumerate().map(bar)).unwrap();
    }

    fn draw_lines(&self, area: &Area<'_>, x: &str, series: &[(String, Vec<(f64, f64)>)]) {
        let points = || series.iter().flat_map(|(_, points)| points);
        let lowest = points().map(|point| point.0).fold(f64::MAX, f64::min);
        let widest = points().map(|point| point.0).fold(0.0, f64::max);
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((lowest..widest).log_scale().base(2.0), 0.0..highest * 1.1)
            .unwrap();
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(self.y)
            .draw()
            .unwrap();
        for ((label, points), colour) in series.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    colour.stroke_width(2),
                ))
                .unwrap()
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()
            .unwrap();
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
