//! Bars beside each other, with intervals where there are several measurements.

use plotters::prelude::{PathElement, Rectangle, Text};
use plotters::style::Color as _;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::{BLUE, GREEN, GREY, GRID, INK, Result, Values, fitting, picture, style, width};

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// How long it is.
    pub value: f64,
    /// From where to where the value lies with the confidence that the caller says.
    pub interval: Option<(f64, f64)>,
}

const WIDTH: i32 = 720;
const ROW: i32 = 26;
const TOP: i32 = 10;

/// Bars from zero; the shortest has a colour of its own.
///
/// # Errors
/// Never, as far as is known: it is drawn into memory.
pub fn bars(bars: &[Bar], values: Values) -> Result<String> {
    let left = bars
        .iter()
        .map(|bar| width(&bar.label, 12))
        .max()
        .unwrap_or(0);
    let left = left.clamp(60, 300) + 16;
    let texts: Vec<String> = bars.iter().map(|bar| values.show(bar.value)).collect();
    let right = texts.iter().map(|text| width(text, 12)).max().unwrap_or(0) + 20;
    let most = |bar: &Bar| {
        bar.interval
            .map_or(bar.value, |(_, high)| high.max(bar.value))
    };
    let high = bars.iter().map(most).fold(0.0, f64::max);
    let axis = Axis::from_zero(high, values, left..WIDTH - right);
    let least = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::INFINITY, f64::min);
    let bottom = TOP + ROW * bars.len() as i32;
    picture((WIDTH as u32, (bottom + 30) as u32), |area| {
        for mark in axis.marks() {
            let x = axis.place(mark);
            area.draw(&PathElement::new([(x, TOP), (x, bottom)], GRID))?;
            let text = style(&INK, 11, HPos::Center);
            area.draw(&Text::new(values.mark(mark), (x, bottom + 13), text))?;
        }
        for (nth, (bar, text)) in bars.iter().zip(texts).enumerate() {
            let (top, middle) = (TOP + ROW * nth as i32, TOP + ROW * nth as i32 + ROW / 2);
            let colour = if bar.value == least { GREEN } else { BLUE };
            let end = axis.place(bar.value);
            let corners = [(left, top + 5), (end, top + ROW - 5)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            if let Some((from, to)) = bar.interval {
                let (from, to) = (axis.place(from), axis.place(to));
                for line in [
                    [(from, middle), (to, middle)],
                    [(from, middle - 4), (from, middle + 4)],
                    [(to, middle - 4), (to, middle + 4)],
                ] {
                    area.draw(&PathElement::new(line, INK.stroke_width(1)))?;
                }
            }
            let label = fitting(&bar.label, left - 16, 12);
            area.draw(&Text::new(
                label,
                (left - 8, middle),
                style(&INK, 12, HPos::Right),
            ))?;
            let beside = axis.place(most(bar)) + 7;
            area.draw(&Text::new(
                text,
                (beside, middle),
                style(&INK, 12, HPos::Left),
            ))?;
        }
        area.draw(&PathElement::new([(left, TOP), (left, bottom)], GREY))?;
        Ok(())
    })
}
