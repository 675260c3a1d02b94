//! Pictures as SVG, each complete in itself: a timeline, bars, curves, box plots.

mod axis;
mod bars;
mod boxes;
mod curves;
mod gantt;
mod values;

use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor, SVGBackend, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use bars::{Bar, bars};
pub use boxes::{BoxRow, boxes};
pub use curves::{Curve, Point, curves};
pub use gantt::gantt;
pub use values::Values;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the picture: {0}")]
pub struct PlotError(String);

type Result<T = ()> = std::result::Result<T, PlotError>;

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>>
    for PlotError
{
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// Where it is drawn, in pixels.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

// The page's style sheet knows these four by their values.
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x1d, 0x24, 0x30);
const GRID: RGBColor = RGBColor(0xe1, 0xe5, 0xea);
const GREY: RGBColor = RGBColor(0x9a, 0xa3, 0xaf);

const BLUE: RGBColor = RGBColor(0x5b, 0x9b, 0xd0);
const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
const RED: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const PINK: RGBColor = RGBColor(0xcc, 0x79, 0xa7);

/// Colours of curves, which people with colour blindness can tell apart (Okabe and Ito).
const SERIES: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    ORANGE,
    GREEN,
    RED,
    PINK,
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8a, 0x7a, 0x00),
];

/// Draws a picture of that size.
fn picture(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&PAPER)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// A text's style, anchored at its middle line.
fn style<'a>(colour: &'a RGBColor, size: u32, side: HPos) -> TextStyle<'a> {
    // The library divides sizes by 1.24.
    let font = ("sans-serif", f64::from(size) * 1.24).into_font();
    TextStyle::from(font)
        .color(colour)
        .pos(Pos::new(side, VPos::Center))
}

/// A text that fits into about that many pixels, without what may not be in XML.
fn fitting(text: &str, pixels: i32, size: u32) -> String {
    let clean = text.chars().filter(|c| !c.is_control());
    // Half of its size is what a letter of such a font takes, or a little more.
    let most = (f64::from(pixels) / (f64::from(size) * 0.56)).max(1.0) as usize;
    let clean: String = clean.collect();
    match clean.chars().count() > most {
        true => clean.chars().take(most - 1).chain(['…']).collect(),
        false => clean,
    }
}

/// About how wide a text is, in pixels.
fn width(text: &str, size: u32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.56).ceil() as i32
}

#[cfg(test)]
mod tests;
