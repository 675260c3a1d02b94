//! Curves over a number, such as jobs, with an interval at each point. Curves differ by colour and
//! by the form of their points.

use plotters::prelude::{Circle, Cross, PathElement, Rectangle, Text, TriangleMarker};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, RGBColor};

use super::axis::Axis;
use super::{Area, GREY, GRID, INK, Result, SERIES, Values, fitting, picture, style};
use crate::time::significant;

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Where; above 0.
    pub x: f64,
    /// How high.
    pub y: f64,
    /// From where to where it lies with the confidence that the caller says.
    pub interval: Option<(f64, f64)>,
}

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is of.
    pub label: String,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

const WIDTH: i32 = 760;
const HEIGHT: i32 = 380;
const LEFT: i32 = 76;
const TOP: i32 = 14;
const BOTTOM: i32 = HEIGHT - 46;
const LEGEND: i32 = 190;

/// From this factor between the highest and the lowest value on, the axis is one of factors.
const FACTORS: f64 = 12.0;

/// Where the legend begins.
const END: i32 = WIDTH - LEGEND;

/// Both axes.
struct Axes {
    across: Axis,
    up: Axis,
}

impl Axes {
    fn of(curves: &[Curve], values: Values) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let least = |of: fn(&Point) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
        let high = most(|point| {
            point
                .interval
                .map_or(point.y, |(_, high)| high.max(point.y))
        });
        let low = least(|point| point.y);
        // Pixels are counted downwards.
        let upwards = -BOTTOM..-TOP;
        Self {
            across: Axis::in_factors(
                least(|point| point.x),
                most(|point| point.x),
                LEFT + 14..END - 20,
            ),
            up: match low > 0.0 && high / low >= FACTORS {
                true => Axis::in_factors(low * 0.9, high * 1.1, upwards),
                false => Axis::from_zero(high, values, upwards),
            },
        }
    }

    fn height(&self, value: f64) -> i32 {
        -self.up.place(value)
    }

    fn place(&self, point: &Point) -> (i32, i32) {
        (self.across.place(point.x), self.height(point.y))
    }
}

/// Curves; `x_is` and `y_is` name the axes,
///
/// # Errors
/// Never, as far as is known: it is drawn into memory.
pub fn curves(curves: &[Curve], (x_is, y_is): (&str, &str), values: Values) -> Result<String> {
    let axes = Axes::of(curves, values);
    picture((WIDTH as u32, HEIGHT as u32), |area| {
        draw_axes(area, curves, &axes, values)?;
        let middle = (LEFT + END) / 2;
        let text = |text: &str, at, side| Text::new(text.to_owned(), at, style(&INK, 12, side));
        area.draw(&text(x_is, (middle, HEIGHT - 12), HPos::Center))?;
        area.draw(&text(y_is, (LEFT + 8, TOP + 2), HPos::Left))?;
        for (nth, curve) in curves.iter().enumerate() {
            let intervals = curve.points.iter().filter_map(|point| {
                let (low, high) = point.interval?;
                Some((
                    axes.across.place(point.x),
                    axes.height(low),
                    axes.height(high),
                ))
            });
            let points = curve.points.iter().map(|point| axes.place(point));
            draw_curve(area, nth, &points.collect::<Vec<_>>(), intervals)?;
            let y = TOP + 10 + 20 * nth as i32;
            draw_curve(area, nth, &[(END + 16, y), (END + 36, y)], [])?;
            let label = fitting(&curve.label, LEGEND - 50, 12);
            area.draw(&text(&label, (END + 44, y), HPos::Left))?;
        }
        Ok(())
    })
}

fn draw_axes(area: &Area<'_>, curves: &[Curve], axes: &Axes, values: Values) -> Result {
    for mark in axes.up.marks() {
        let y = axes.height(mark);
        area.draw(&PathElement::new([(LEFT, y), (END, y)], GRID))?;
        let label = style(&INK, 11, HPos::Right);
        area.draw(&Text::new(values.mark(mark), (LEFT - 8, y), label))?;
    }
    let points = curves.iter().flat_map(|curve| &curve.points);
    let mut steps: Vec<f64> = points.map(|point| point.x).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let mut free = i32::MIN;
    for step in steps {
        let x = axes.across.place(step);
        area.draw(&PathElement::new([(x, BOTTOM), (x, BOTTOM + 4)], GREY))?;
        // Where two would be written over each other the first is.
        if x > free {
            let label = style(&INK, 11, HPos::Center);
            area.draw(&Text::new(significant(step), (x, BOTTOM + 14), label))?;
            free = x + 22;
        }
    }
    let frame = [(LEFT, TOP), (LEFT, BOTTOM), (END, BOTTOM)];
    area.draw(&PathElement::new(frame, GREY))?;
    Ok(())
}

fn draw_curve(
    area: &Area<'_>,
    nth: usize,
    points: &[(i32, i32)],
    intervals: impl IntoIterator<Item = (i32, i32, i32)>,
) -> Result {
    let colour: RGBColor = SERIES[nth % SERIES.len()];
    for (x, low, high) in intervals {
        for line in [
            [(x, low), (x, high)],
            [(x - 4, low), (x + 4, low)],
            [(x - 4, high), (x + 4, high)],
        ] {
            area.draw(&PathElement::new(line, colour.stroke_width(1)))?;
        }
    }
    area.draw(&PathElement::new(points.to_vec(), colour.stroke_width(2)))?;
    for &(x, y) in points {
        match nth % 4 {
            0 => area.draw(&Circle::new((x, y), 4, colour.filled()))?,
            1 => area.draw(&Rectangle::new(
                [(x - 4, y - 4), (x + 4, y + 4)],
                colour.filled(),
            ))?,
            2 => area.draw(&TriangleMarker::new((x, y), 6, colour.filled()))?,
            _ => area.draw(&Cross::new((x, y), 4, colour.stroke_width(2)))?,
        }
    }
    Ok(())
}
