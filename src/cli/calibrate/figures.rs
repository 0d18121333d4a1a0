//! Figures: what is drawn, and how, as SVG and as PNG.

use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

/// A colour by what it stands for, so that the page can show it in another one in the dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Paper,
    Text,
    Grid,
    Mated,
    NonMated,
    First,
    Second,
    Third,
    Fourth,
}

/// Each ink in print, and the page's name for it.
pub(super) const INKS: [(Ink, RGBColor, &str); 9] = [
    (Ink::Paper, RGBColor(0xff, 0xff, 0xff), "paper"),
    (Ink::Text, RGBColor(0x1c, 0x24, 0x30), "text"),
    (Ink::Grid, RGBColor(0xd3, 0xd9, 0xe0), "grid"),
    (Ink::Mated, RGBColor(0x16, 0x76, 0x4a), "mated"),
    (Ink::NonMated, RGBColor(0xb4, 0x3c, 0x26), "non-mated"),
    (Ink::First, RGBColor(0x1f, 0x5f, 0xae), "first"),
    (Ink::Second, RGBColor(0x95, 0x5a, 0x05), "second"),
    (Ink::Third, RGBColor(0x7a, 0x3d, 0x9b), "third"),
    (Ink::Fourth, RGBColor(0x0f, 0x70, 0x7a), "fourth"),
];

/// In the order in which several series of a kind take them.
pub(super) const SERIES_INKS: [Ink; 6] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth, Ink::Mated, Ink::NonMated];

impl Ink {
    fn color(self) -> RGBColor {
        INKS.iter().find(|(ink, _, _)| *ink == self).map_or(BLACK, |(_, color, _)| *color)
    }
}

/// An axis; of a logarithmic one, all numbers are logarithms to the base of ten.
pub(super) struct Axis {
    pub title: String,
    pub range: Range<f64>,
    pub is_log: bool,
}

pub(super) enum Shape {
    Line,
    Dashed,
    /// Bars of a width.
    Bars(f64),
    /// From the second number to the third.
    Band(Vec<(f64, f64, f64)>),
    Dots,
}

pub(super) struct Series {
    pub label: String,
    pub ink: Ink,
    pub shape: Shape,
    pub points: Vec<(f64, f64)>,
}

pub(super) struct Figure {
    /// Of its files.
    pub name: &'static str,
    pub title: String,
    /// What it shows, for those who cannot see it and those who can.
    pub caption: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Lines from bottom to top.
    pub marks: Vec<(f64, String)>,
    pub legend: Corner,
}

/// Where the legend is.
#[derive(Clone, Copy)]
pub(super) enum Corner {
    UpperLeft,
    UpperRight,
    LowerLeft,
    LowerRight,
}

/// In SVG pixels: hardly more than a phone is wide, so that letters stay readable there. A PNG has three times as many.
const SIZE: (u32, u32) = (480, 340);
const PNG_SCALE: u32 = 3;

/// Points of a line at most: more are not seen.
const POINTS_MAX: usize = 600;

impl Figure {
    /// Writes NAME.svg and NAME.png.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let (svg, png) = (folder.join(format!("{}.svg", self.name)), folder.join(format!("{}.png", self.name)));
        std::fs::write(&svg, self.svg()?).with_context(|| format!("cannot write {}", svg.display()))?;
        let (width, height) = (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE);
        let mut pixels = vec![0u8; width as usize * height as usize * 3];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            self.draw(&area, f64::from(PNG_SCALE))?;
        }
        let picture = image::RgbImage::from_raw(width, height, pixels).context("a picture of this size")?;
        picture.save(&png).with_context(|| format!("cannot write {}", png.display()))
    }

    /// Draws it as SVG, in the colours of print.
    pub fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), 1.0)?;
        Ok(svg)
    }

    /// Draws it as SVG whose colours are the page's: named, so that they change with its theme.
    pub fn svg_of_page(&self) -> anyhow::Result<String> {
        let svg = self.svg()?;
        let named = INKS.iter().fold(svg, |svg, (_, RGBColor(red, green, blue), name)| {
            svg.replace(&format!("#{red:02X}{green:02X}{blue:02X}"), &format!("var(--{name})"))
        });
        let label = super::page::escape(&format!("{}. {}", self.title, self.caption));
        Ok(named.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> anyhow::Result<()>
    where
        B::ErrorType: 'static,
    {
        register_letters();
        self.draw_chart(area, scale).map_err(|error| anyhow!("cannot draw {}: {error}", self.name))
    }

    fn draw_chart<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let px = |length: f64| (length * scale).round() as i32;
        let letters = |size: f64| ("sans-serif", size * scale).into_font().color(&Ink::Text.color());
        area.fill(&Ink::Paper.color())?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, letters(17.0))
            .margin(px(8.0))
            .margin_right(px(16.0))
            .x_label_area_size(px(44.0))
            .y_label_area_size(px(62.0))
            .build_cartesian_2d(self.x.range.clone(), self.y.range.clone())?;
        let label = |axis: &Axis| {
            let is_log = axis.is_log;
            let digits = if axis.range.end - axis.range.start < 0.2 { 3 } else { 2 };
            let is_whole = axis.range.end - axis.range.start > 5.0;
            move |value: &f64| match (is_log, is_whole) {
                (true, _) if (value - value.round()).abs() > 1e-6 => String::new(),
                (true, _) => log_label(value.round() as i32),
                (false, true) => format!("{value:.0}"),
                (false, false) => format!("{value:.digits$}"),
            }
        };
        let ticks = |axis: &Axis| if axis.is_log { (axis.range.end - axis.range.start).ceil() as usize + 2 } else { 9 };
        chart
            .configure_mesh()
            .max_light_lines(0)
            .x_labels(ticks(&self.x))
            .y_labels(ticks(&self.y))
            .x_label_formatter(&label(&self.x))
            .y_label_formatter(&label(&self.y))
            .x_desc(&self.x.title)
            .y_desc(&self.y.title)
            .label_style(letters(13.0))
            .axis_desc_style(letters(14.0))
            .bold_line_style(Ink::Grid.color())
            .axis_style(Ink::Text.color())
            .draw()?;
        let inside = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let clamp = |(x, y): (f64, f64)| {
            (x.clamp(self.x.range.start, self.x.range.end), y.clamp(self.y.range.start, self.y.range.end))
        };
        for series in &self.series {
            let color = series.ink.color();
            let stroke = color.stroke_width(px(2.0).unsigned_abs());
            let points: Vec<(f64, f64)> = series.points.iter().copied().filter(inside).map(clamp).collect();
            let drawn = match &series.shape {
                Shape::Line => chart.draw_series(LineSeries::new(fewer(&points), stroke))?,
                Shape::Dashed => chart.draw_series(DashedLineSeries::new(fewer(&points), px(5.0), px(4.0), stroke))?,
                Shape::Dots => {
                    chart.draw_series(points.iter().map(|point| Circle::new(*point, px(4.0), color.filled())))?
                }
                Shape::Bars(width) => chart.draw_series(points.iter().map(|(x, y)| {
                    Rectangle::new([(*x, self.y.range.start), clamp((x + width, *y))], color.mix(0.55).filled())
                }))?,
                Shape::Band(band) => {
                    let edge = |upper: bool| {
                        band.iter().map(move |(x, low, high)| (*x, if upper { *high } else { *low })).map(clamp)
                    };
                    let outline: Vec<_> = edge(false).chain(edge(true).rev()).collect();
                    chart.draw_series([Polygon::new(outline, color.mix(0.18))])?
                }
            };
            if !series.label.is_empty() {
                let (width, half) = (px(18.0), px(4.0));
                drawn.label(&series.label).legend(move |(x, y)| {
                    Rectangle::new([(x, y - half / 2), (x + width, y + half / 2)], color.filled())
                });
            }
        }
        let (bottom, top) = (self.y.range.start, self.y.range.end);
        for (number, (x, text)) in self.marks.iter().enumerate() {
            chart.draw_series(DashedLineSeries::new(
                [(*x, bottom), (*x, top)],
                px(3.0),
                px(3.0),
                Ink::Text.color().stroke_width(px(1.0).unsigned_abs()),
            ))?;
            let y = top - (top - bottom) * (0.02 + 0.06 * number as f64);
            let x = x + (self.x.range.end - self.x.range.start) * 0.008;
            chart.draw_series([Text::new(text.clone(), (x, y), letters(12.0))])?;
        }
        if self.series.iter().any(|series| !series.label.is_empty()) {
            chart
                .configure_series_labels()
                .position(match self.legend {
                    Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                    Corner::UpperRight => SeriesLabelPosition::UpperRight,
                    Corner::LowerLeft => SeriesLabelPosition::LowerLeft,
                    Corner::LowerRight => SeriesLabelPosition::LowerRight,
                })
                .background_style(Ink::Paper.color().mix(0.85))
                .border_style(Ink::Grid.color())
                .label_font(letters(13.0))
                .legend_area_size(px(24.0))
                .margin(px(8.0))
                .draw()?;
        }
        area.present()
    }
}

fn log_label(exponent: i32) -> String {
    match exponent {
        -2..=0 => format!("{}", 10f64.powi(exponent)),
        1..=4 => format!("{}", 10u64.pow(exponent.unsigned_abs())),
        _ => format!("1e{exponent}"),
    }
}

/// Every so many of the points, the first and the last among them.
fn fewer(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.last().copied().filter(|_| step > 1);
    points.iter().step_by(step).copied().chain(last).collect()
}

/// The letters of the PNGs, and the widths by which SVGs are laid out: the same on every machine.
fn register_letters() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
            tracing::error!("the font of the figures cannot be read");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let axis = |title: &str, is_log| Axis { title: title.to_owned(), range: -4.0..0.0, is_log };
        let band = Shape::Band(vec![(-3.0, -2.0, -1.0), (-1.0, -3.0, -2.0)]);
        let series = |label: &str, shape, ink| Series {
            label: label.to_owned(),
            ink,
            shape,
            points: vec![(-3.0, -1.0), (-2.0, f64::NAN), (-1.0, -9.0)],
        };
        Figure {
            name: "det",
            title: "a < b".to_owned(),
            caption: "\"quoted\"".to_owned(),
            x: axis("FMR", true),
            y: axis("FNMR", true),
            series: vec![
                series("line", Shape::Line, Ink::Mated),
                series("", band, Ink::NonMated),
                series("bars", Shape::Bars(0.5), Ink::First),
                series("dots", Shape::Dots, Ink::Second),
                series("dashes", Shape::Dashed, Ink::Third),
            ],
            marks: vec![(-2.0, "here".to_owned())],
            legend: Corner::UpperRight,
        }
    }

    #[test]
    fn figure_is_written_as_svg_and_png_with_letters() {
        let folder = tempfile::tempdir().expect("a folder");
        figure().write(folder.path()).expect("written");
        let svg = std::fs::read_to_string(folder.path().join("det.svg")).expect("the SVG");
        assert!(
            svg.contains("1e-3") && svg.contains("a &lt; b") && svg.contains("FNMR") && !svg.contains("NaN"),
            "{svg}"
        );
        let png = image::open(folder.path().join("det.png")).expect("the PNG").to_rgb8();
        assert_eq!(png.dimensions(), (1_440, 1_020));
        let dark = png.enumerate_pixels().filter(|(_, y, pixel)| *y < 90 && pixel.0[0] < 120).count();
        assert!(dark > 50, "{dark} pixels of a title");
    }

    #[test]
    fn figure_of_a_page_names_its_colours_and_what_it_shows() {
        let svg = figure().svg_of_page().expect("drawn");
        assert!(svg.contains("var(--mated)") && svg.contains("var(--paper)") && !svg.contains("\"#"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; b. &quot;quoted&quot;\""), "{svg}");
    }
}
