//! A run's timeline as a picture: a row for each lane, as narrow as there are many. What is
//! narrower than a part of a pixel is drawn together with what is beside it.

use plotters::prelude::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, RGBColor};

use super::axis::Axis;
use super::{
    Area, BLUE, GREEN, GREY, GRID, INK, ORANGE, PINK, RED, Result, Values, fitting, picture, style,
    width,
};
use crate::page;
use crate::run::{Kind, Run, Span, Verdict};

const WIDTH: i32 = 1200;
const LEFT: i32 = 130;
const TOP: i32 = 44;

/// The timeline of a run; `names` are those that its spans refer to.
///
/// # Errors
/// Never, as far as is known: it is drawn into memory.
pub fn gantt(run: &Run, names: &[String]) -> Result<String> {
    let lanes: u32 = run.groups.iter().map(|group| group.count).sum();
    let row = match lanes {
        0..=30 => 20,
        31..=100 => 10,
        101..=400 => 4,
        _ => 2,
    };
    let bottom = TOP + row * i32::try_from(lanes).unwrap_or(i32::MAX / 4);
    let end = run.end() as f64 / 1e6;
    let values = Values::Times(run.unit);
    let axis = Axis::from_zero(end, values, LEFT..WIDTH - 24);
    let critical = critical(run);
    picture((WIDTH as u32, (bottom + 40) as u32), |area| {
        for mark in axis.marks() {
            let x = axis.place(mark);
            area.draw(&PathElement::new([(x, TOP), (x, bottom)], GRID))?;
            let label = values.mark(mark);
            area.draw(&Text::new(
                label,
                (x, bottom + 14),
                style(&INK, 11, HPos::Center),
            ))?;
        }
        let title = fitting(&run.name, 500, 14);
        area.draw(&Text::new(title, (LEFT, 18), style(&INK, 14, HPos::Left)))?;
        draw_legend(area, run)?;
        draw_lane_names(area, run, row)?;
        for (place, lane) in by_lane(run, lanes).into_iter().enumerate() {
            let top = TOP + row * place as i32;
            for block in blocks(run, &lane, &critical, &axis) {
                draw_block(area, &block, (top, row), names)?;
            }
        }
        area.draw(&PathElement::new([(LEFT, TOP), (LEFT, bottom)], GREY))?;
        Ok(())
    })
}

fn critical(run: &Run) -> Vec<bool> {
    let mut critical = vec![false; run.spans().len()];
    for &span in run.critical_path() {
        critical[span as usize] = true;
    }
    critical
}

/// The spans of each lane, by their places.
fn by_lane(run: &Run, lanes: u32) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new(); lanes as usize];
    for (at, span) in run.spans().iter().enumerate() {
        for &lane in [span.lane].iter().chain(&span.more_lanes) {
            if let Some(lane) = all.get_mut(lane as usize) {
                lane.push(at);
            }
        }
    }
    all
}

/// A span, or several that are drawn as one.
struct Block {
    from: i32,
    to: i32,
    colour: RGBColor,
    /// Its name, if it is a span by itself.
    name: Option<u32>,
}

fn colour(span: &Span, critical: bool) -> RGBColor {
    match (span.verdict, span.kind) {
        (Verdict::Failed, _) => RED,
        _ if critical => ORANGE,
        (Verdict::Cancelled, _) => GREY,
        (Verdict::Good, Kind::Build) => BLUE,
        (Verdict::Good, Kind::Fetch) => GREEN,
        (Verdict::Good, Kind::Hook) => PINK,
    }
}

fn blocks(run: &Run, lane: &[usize], critical: &[bool], axis: &Axis) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for &at in lane {
        let span = &run.spans()[at];
        let place = |time: u64| axis.place(time as f64 / 1e6);
        let (from, to) = (
            place(span.start),
            place(span.end).max(place(span.start) + 1),
        );
        let colour = colour(span, critical[at]);
        if let Some(last) = blocks.last_mut()
            && last.colour == colour
            && from - last.to < 1
            && to - from <= 2
        {
            last.to = last.to.max(to);
            last.name = None;
            continue;
        }
        blocks.push(Block {
            from,
            to,
            colour,
            name: Some(span.name),
        });
    }
    blocks
}

fn draw_block(area: &Area<'_>, block: &Block, (top, row): (i32, i32), names: &[String]) -> Result {
    let gap = if row >= 10 { 2 } else { 0 };
    // A line between neighbours, where there is room for one.
    let to = if block.to - block.from > 3 {
        block.to - 1
    } else {
        block.to
    };
    let corners = [(block.from, top + gap), (to, top + row - gap.min(1))];
    area.draw(&Rectangle::new(corners, block.colour.filled()))?;
    let name = block.name.and_then(|name| names.get(name as usize));
    let room = block.to - block.from - 8;
    if let Some(name) = name
        && row >= 20
        && room >= width("abc", 11)
    {
        let text = Text::new(
            fitting(name, room, 11),
            (block.from + 4, top + row / 2 + 1),
            style(&INK, 11, HPos::Left),
        );
        area.draw(&text)?;
    }
    Ok(())
}

fn draw_lane_names(area: &Area<'_>, run: &Run, row: i32) -> Result {
    let mut lane = 0;
    let mut free = i32::MIN;
    for group in &run.groups {
        for number in 0..group.count {
            let y = TOP + row * lane + row / 2;
            let label = match (row >= 20, number) {
                (true, _) => page::lane(run, lane as u32),
                (false, 0) => group.name.clone(),
                _ => String::new(),
            };
            if !label.is_empty() && y > free {
                let label = fitting(&label, LEFT - 14, 11);
                area.draw(&Text::new(
                    label,
                    (LEFT - 8, y),
                    style(&INK, 11, HPos::Right),
                ))?;
                free = y + 12;
            }
            lane += 1;
        }
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>, run: &Run) -> Result {
    let any = |is: fn(&Span) -> bool| run.spans().iter().any(is);
    let entries = [
        (RED, "failed", any(|span| span.verdict == Verdict::Failed)),
        (ORANGE, "critical path", run.critical_path().len() > 1),
        (
            GREY,
            "ended early",
            any(|span| span.verdict == Verdict::Cancelled),
        ),
        (PINK, "built by a hook", any(|span| span.kind == Kind::Hook)),
        (GREEN, "fetched", any(|span| span.kind == Kind::Fetch)),
        (BLUE, "run", any(|span| span.kind == Kind::Build)),
    ];
    let mut x = WIDTH - 24;
    for (colour, label, _) in entries.into_iter().filter(|entry| entry.2) {
        x -= width(label, 11);
        area.draw(&Text::new(
            label.to_owned(),
            (x, 18),
            style(&INK, 11, HPos::Left),
        ))?;
        x -= 16;
        area.draw(&Rectangle::new([(x, 13), (x + 11, 24)], colour.filled()))?;
        x -= 14;
    }
    Ok(())
}
