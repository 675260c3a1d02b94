//! Times and sizes, as reports write them.

/// What the times of a run are counted in, each as whole millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Seconds,
    /// Millionths of the abstract units of a task graph.
    Units,
}

impl Unit {
    /// What stands behind a number of whole ones; nothing for abstract units.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Units => "",
        }
    }

    /// A time, for people.
    pub fn show(self, millionths: u64) -> String {
        match self {
            Self::Units => significant(millionths as f64 / 1e6),
            Self::Seconds => duration(millionths),
        }
    }
}

/// A duration in microseconds, for people.
pub fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match micros {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", significant(micros as f64 / 1e3)),
        1_000_000..60_000_000 => format!("{} s", significant(micros as f64 / 1e6)),
        60_000_000..3_600_000_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600_000_000..360_000_000_000 => {
            format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60)
        }
        _ => format!("{} h", seconds / 3600),
    }
}

/// A number with three figures that count, or all of a whole one.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 || size >= 100.0 {
        return format!("{value:.0}");
    }
    let digits = match size {
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A number of bytes, for people, in the units that memory is counted in.
pub fn bytes(count: u64) -> String {
    const NAMES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut name = 0;
    while value >= 1024.0 && name + 1 < NAMES.len() {
        value /= 1024.0;
        name += 1;
    }
    format!("{} {}", significant(value), NAMES[name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_the_figures_that_count() {
        let shown = [
            0,
            7,
            1_500,
            12_345,
            2_000_000,
            59_940_000,
            61_000_000,
            7_260_000_000,
        ];
        assert_eq!(
            shown.map(duration),
            [
                "0 s",
                "7 µs",
                "1.50 ms",
                "12.3 ms",
                "2 s",
                "59.9 s",
                "1 min 01 s",
                "2 h 01 min"
            ]
        );
        assert_eq!(Unit::Units.show(3_000_000), "3");
        assert_eq!(Unit::Units.show(3_250_000), "3.25");
        assert_eq!(
            [0, 1023, 1536, 5 << 30].map(bytes),
            ["0 B", "1023 B", "1.50 KiB", "5 GiB"]
        );
    }
}
