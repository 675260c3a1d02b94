//! Box plots: the middle half of each group as a box, its median as a line, all but what lies far
//! outside within the whiskers.

use plotters::prelude::{Circle, PathElement, Rectangle, Text};
use plotters::style::Color as _;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::{BLUE, GREY, GRID, INK, Result, Values, fitting, picture, style, width};
use crate::stats::Quartiles;

/// A group of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxRow {
    /// What it is of.
    pub label: String,
    /// The measurements, of which there is one or more.
    pub values: Vec<f64>,
}

const WIDTH: i32 = 720;
const ROW: i32 = 28;
const TOP: i32 = 10;

/// A box for each group.
///
/// # Errors
/// Never, as far as is known: it is drawn into memory.
pub fn boxes(rows: &[BoxRow], values: Values) -> Result<String> {
    let left = rows
        .iter()
        .map(|row| width(&row.label, 12))
        .max()
        .unwrap_or(0);
    let left = left.clamp(60, 300) + 16;
    let all = || rows.iter().flat_map(|row| row.values.iter().copied());
    let (low, high) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(0.0, f64::max),
    );
    // What is all far from zero would be drawn at one end.
    let low = if low > high / 2.0 && low.is_finite() {
        low
    } else {
        0.0
    };
    let axis = Axis::between(low, high, values, left..WIDTH - 30);
    let bottom = TOP + ROW * rows.len() as i32;
    picture((WIDTH as u32, (bottom + 30) as u32), |area| {
        for mark in axis.marks() {
            let x = axis.place(mark);
            area.draw(&PathElement::new([(x, TOP), (x, bottom)], GRID))?;
            area.draw(&Text::new(
                values.mark(mark),
                (x, bottom + 13),
                style(&INK, 11, HPos::Center),
            ))?;
        }
        for (nth, row) in rows.iter().enumerate() {
            let Some(quartiles) = Quartiles::of(&row.values) else {
                continue;
            };
            let (top, middle) = (TOP + ROW * nth as i32, TOP + ROW * nth as i32 + ROW / 2);
            let line = |from: (i32, i32), to| PathElement::new([from, to], INK.stroke_width(1));
            let [low, first, median, third, high] =
                quartiles.whiskers(&row.values).map(|it| axis.place(it));
            area.draw(&line((low, middle), (first, middle)))?;
            area.draw(&line((third, middle), (high, middle)))?;
            for end in [low, high] {
                area.draw(&line((end, middle - 4), (end, middle + 4)))?;
            }
            let corners = [(first, top + 6), (third.max(first + 1), top + ROW - 6)];
            area.draw(&Rectangle::new(corners, BLUE.filled()))?;
            area.draw(&Rectangle::new(corners, INK.stroke_width(1)))?;
            area.draw(&PathElement::new(
                [(median, top + 6), (median, top + ROW - 6)],
                INK.stroke_width(2),
            ))?;
            for value in quartiles.outliers(&row.values) {
                area.draw(&Circle::new((axis.place(value), middle), 2, GREY.filled()))?;
            }
            let label = fitting(&row.label, left - 16, 12);
            area.draw(&Text::new(
                label,
                (left - 8, middle),
                style(&INK, 12, HPos::Right),
            ))?;
        }
        area.draw(&PathElement::new([(left, TOP), (left, bottom)], GREY))?;
        Ok(())
    })
}
