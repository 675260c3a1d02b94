//! Results of simulations, as `windrow simulate --json` writes them, and what comparing them shows:
//! means with their intervals, curves over jobs, box plots, tables.

use serde::Deserialize;

use crate::page::{Cell, Picture, Table};
use crate::plots::{Bar, BoxRow, Curve, PlotError, Point, Values, bars, boxes, curves};
use crate::stats::{Mean, Quartiles};
use crate::time::Unit;

/// A result, as it is written. What else stands there is passed over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    policy: String,
    makespan: f64,
    #[serde(default)]
    graph: Option<String>,
    #[serde(default)]
    jobs: Option<u64>,
    #[serde(default)]
    machines: Option<u64>,
    #[serde(default)]
    cores: Option<u64>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    utilisation: Option<f64>,
    #[serde(default)]
    failed: u64,
}

/// The result of one simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Of which graph.
    pub graph: String,
    /// By which policy.
    pub policy: String,
    /// With how many slots, or cores of machines.
    pub jobs: u64,
    /// What `makespan` is counted in.
    pub unit: Unit,
    /// In whole ones, not in millionths.
    pub makespan: f64,
    /// The makespan over its lower bound, if that is known.
    pub ratio: Option<f64>,
    /// The busy share of all slots or cores, if that is known.
    pub utilisation: Option<f64>,
    /// How many tasks failed.
    pub failed: u64,
}

impl Outcome {
    /// Reads a result, of that graph if it names none itself.
    ///
    /// # Errors
    /// When it lacks a policy or a makespan, or one of its fields is of another kind.
    pub fn from_json(row: serde_json::Value, graph: &str) -> Result<Self, serde_json::Error> {
        let row = Written::deserialize(row)?;
        let (unit, scale) = match row.unit.as_deref() {
            Some("us") => (Unit::Seconds, 1e6),
            Some("s") => (Unit::Seconds, 1.0),
            _ => (Unit::Units, 1.0),
        };
        Ok(Self {
            graph: row.graph.unwrap_or_else(|| graph.to_owned()),
            policy: row.policy,
            jobs: row.jobs.or(row.cores).or(row.machines).unwrap_or(0),
            unit,
            makespan: row.makespan / scale,
            ratio: row.ratio,
            utilisation: row.utilisation,
            failed: row.failed,
        })
    }
}

/// How many pictures of one kind there are at most: beyond that a reader looks at the table.
const PICTURES: usize = 12;

/// Results of one graph, one policy and one number of jobs: one for each seed.
struct Group<'a> {
    graph: &'a str,
    policy: &'a str,
    jobs: u64,
    unit: Unit,
    all: Vec<&'a Outcome>,
}

impl Group<'_> {
    fn makespans(&self) -> Vec<f64> {
        self.all.iter().map(|it| it.makespan).collect()
    }

    /// There is always one or more.
    fn mean(&self) -> Mean {
        Mean::of(&self.makespans()).unwrap_or(Mean {
            count: 0,
            mean: f64::NAN,
            half: None,
        })
    }
}

/// What results show beside each other.
pub struct Comparison<'a> {
    groups: Vec<Group<'a>>,
}

impl<'a> Comparison<'a> {
    /// Groups results by graph, policy and jobs, in the order in which they come.
    pub fn new(outcomes: &'a [Outcome]) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for it in outcomes {
            let key = (&it.graph, &it.policy, it.jobs);
            let place = *places.entry(key).or_insert_with(|| {
                groups.push(Group {
                    graph: &it.graph,
                    policy: &it.policy,
                    jobs: it.jobs,
                    unit: it.unit,
                    all: Vec::new(),
                });
                groups.len() - 1
            });
            groups[place].all.push(it);
        }
        Self { groups }
    }

    fn graphs(&self) -> Vec<&'a str> {
        distinct(self.groups.iter().map(|group| group.graph))
    }

    fn of_graph(&self, graph: &str) -> Vec<&Group<'a>> {
        self.groups.iter().filter(|it| it.graph == graph).collect()
    }

    /// The name of a graph in front of a title, where there are several.
    fn titled(&self, graph: &str, title: &str) -> String {
        match self.graphs().len() {
            0 | 1 => title.to_owned(),
            _ => format!("{graph}: {}", title.to_lowercase()),
        }
    }

    /// Bars of makespans, curves over jobs, box plots: those that there is something to show in.
    ///
    /// # Errors
    /// When a picture can't be drawn.
    pub fn pictures(&self) -> Result<Vec<Picture>, PlotError> {
        let mut pictures = self.scaling()?;
        let mut all_bars = Vec::new();
        for graph in self.graphs() {
            let of_graph = self.of_graph(graph);
            for jobs in distinct(of_graph.iter().map(|it| it.jobs)) {
                let here = of_graph.iter().filter(|it| it.jobs == jobs);
                let here: Vec<&Group<'_>> = here.copied().collect();
                if here.len() > 1 && all_bars.len() < PICTURES {
                    all_bars.push(self.bars(graph, jobs, &here)?);
                }
            }
        }
        pictures.extend(all_bars);
        pictures.extend(self.boxes()?);
        Ok(pictures)
    }

    fn bars(&self, graph: &str, jobs: u64, groups: &[&Group<'_>]) -> Result<Picture, PlotError> {
        let rows: Vec<Bar> = groups
            .iter()
            .map(|group| {
                let mean = group.mean();
                Bar {
                    label: group.policy.to_owned(),
                    value: mean.mean,
                    interval: mean.interval(),
                }
            })
            .collect();
        let seeds = groups.iter().map(|it| it.all.len()).max().unwrap_or(0);
        Ok(Picture {
            title: self.titled(graph, &format!("Makespan with {jobs} slots or cores")),
            note: match seeds {
                0 | 1 => "The shortest is green.".to_owned(),
                _ => format!(
                    "Means of {seeds} seeds, lines are 95 % confidence intervals (Student's t); the shortest is green."
                ),
            },
            svg: bars(&rows, Values::Times(groups[0].unit))?,
        })
    }

    /// Makespans over jobs, for each graph with several numbers of them.
    ///
    /// # Errors
    /// When a picture can't be drawn.
    pub fn scaling(&self) -> Result<Vec<Picture>, PlotError> {
        let mut pictures = Vec::new();
        for graph in self.graphs() {
            let groups = self.of_graph(graph);
            if distinct(groups.iter().map(|it| it.jobs)).len() < 2 || pictures.len() == PICTURES {
                continue;
            }
            let policies = distinct(groups.iter().map(|it| it.policy));
            let all = policies.iter().map(|&policy| curve(policy, &groups));
            let all: Vec<Curve> = all.collect();
            pictures.push(Picture {
                title: self.titled(graph, "Makespan over slots or cores"),
                note: "Means; vertical lines are 95 % confidence intervals where there are several seeds.".to_owned(),
                svg: curves(&all, ("slots or cores", "makespan"), Values::Times(groups[0].unit))?,
            });
        }
        Ok(pictures)
    }

    /// How far makespans are above their lower bounds, over all graphs and seeds.
    fn boxes(&self) -> Result<Option<Picture>, PlotError> {
        let policies = distinct(self.groups.iter().map(|it| it.policy));
        let row = |&policy: &&str| BoxRow {
            label: policy.to_owned(),
            values: self.ratios(policy),
        };
        let rows: Vec<BoxRow> = policies.iter().map(row).collect();
        if rows.len() < 2 || rows.iter().any(|row| row.values.len() < 3) {
            return Ok(None);
        }
        Ok(Some(Picture {
            title: "Makespan over its lower bound".to_owned(),
            note: "All graphs, numbers of slots and seeds. A box is the middle half, its line the median; points lie more than one and a half boxes outside.".to_owned(),
            svg: boxes(&rows, Values::Numbers)?,
        }))
    }

    fn ratios(&self, policy: &str) -> Vec<f64> {
        let groups = self.groups.iter().filter(|it| it.policy == policy);
        groups
            .flat_map(|group| group.all.iter().filter_map(|it| it.ratio))
            .collect()
    }

    /// A row for each graph, policy and number of jobs.
    pub fn table(&self) -> Table {
        let columns = [
            "Graph",
            "Policy",
            "Jobs",
            "Runs",
            "Makespan",
            "± 95 %",
            "Median",
            "Least",
            "Greatest",
            "Over bound",
            "Utilisation",
            "Failed tasks",
        ];
        // One graph needs no name.
        let skipped = usize::from(self.graphs().len() < 2);
        let rows = self
            .groups
            .iter()
            .map(|group| table_row(group).split_off(skipped));
        Table {
            title: "Results".to_owned(),
            columns: columns.map(str::to_owned).to_vec().split_off(skipped),
            rows: rows.collect(),
        }
    }
}

fn curve(policy: &str, groups: &[&Group<'_>]) -> Curve {
    let groups = groups.iter().filter(|it| it.policy == policy);
    let mut points: Vec<Point> = groups
        .map(|group| {
            let mean = group.mean();
            Point {
                x: group.jobs.max(1) as f64,
                y: mean.mean,
                interval: mean.interval(),
            }
        })
        .collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    Curve {
        label: policy.to_owned(),
        points,
    }
}

fn table_row(group: &Group<'_>) -> Vec<Cell> {
    let values = group.makespans();
    let mean = group.mean();
    let time = |value: f64| Cell::number(value, show(value, group.unit));
    let median = Quartiles::of(&values).map_or(f64::NAN, |it| it.median);
    let mean_of = |value: fn(&Outcome) -> Option<f64>| {
        let known: Vec<f64> = group.all.iter().filter_map(|it| value(it)).collect();
        Mean::of(&known).map(|it| it.mean)
    };
    let unknown = || Cell::number(-1.0, "–");
    let failed: u64 = group.all.iter().map(|it| it.failed).sum();
    vec![
        Cell::text(group.graph),
        Cell::text(group.policy),
        Cell::number(group.jobs as f64, group.jobs.to_string()),
        Cell::number(mean.count as f64, mean.count.to_string()),
        time(mean.mean),
        mean.half.map_or_else(unknown, time),
        time(median),
        time(values.iter().copied().fold(f64::INFINITY, f64::min)),
        time(values.iter().copied().fold(0.0, f64::max)),
        mean_of(|it| it.ratio).map_or_else(unknown, |it| Cell::number(it, format!("{it:.3}"))),
        mean_of(|it| it.utilisation).map_or_else(unknown, |it| {
            Cell::number(it, format!("{:.1} %", it * 100.0))
        }),
        Cell::number(failed as f64, failed.to_string()),
    ]
}

/// A time in whole ones, for people.
fn show(value: f64, unit: Unit) -> String {
    unit.show((value * 1e6).round() as u64)
}

/// Each value once, in the order in which they come.
fn distinct<T: PartialEq + Copy>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(policy: &str, jobs: u64, makespan: f64) -> Outcome {
        let row = json!({
            "policy": policy, "jobs": jobs, "unit": "us", "makespan": makespan, "ratio": 1.25,
            "utilisation": 0.5, "somethingNew": [1, 2],
        });
        Outcome::from_json(row, "g").unwrap()
    }

    #[test]
    fn rows_are_read_whatever_else_is_in_them() {
        let it = outcome("fifo", 4, 3e6);
        assert_eq!(
            (it.graph.as_str(), it.jobs, it.makespan, it.unit),
            ("g", 4, 3.0, Unit::Seconds)
        );
        let machines = json!({"policy": "heft", "graph": "x", "cores": 8, "machines": 2, "unit": "s", "makespan": 1.5});
        let it = Outcome::from_json(machines, "g").unwrap();
        assert_eq!(
            (it.graph.as_str(), it.jobs, it.makespan, it.ratio),
            ("x", 8, 1.5, None)
        );
        assert!(Outcome::from_json(json!({"policy": "fifo"}), "g").is_err());
        assert!(Outcome::from_json(json!({"policy": "fifo", "makespan": "x"}), "g").is_err());
    }

    #[test]
    fn what_is_compared_is_what_differs() {
        let one = [outcome("fifo", 4, 1e6)];
        assert!(Comparison::new(&one).pictures().unwrap().is_empty());
        let policies = [outcome("fifo", 4, 3e6), outcome("random", 4, 2e6)];
        let titles = |outcomes: &[Outcome]| -> Vec<String> {
            let pictures = Comparison::new(outcomes).pictures().unwrap();
            pictures.into_iter().map(|it| it.title).collect()
        };
        assert_eq!(titles(&policies), ["Makespan with 4 slots or cores"]);
        let mut all = Vec::new();
        for jobs in [2, 4] {
            for seed in 0..3 {
                all.push(outcome("fifo", jobs, 3e6 + f64::from(seed)));
                all.push(outcome("random", jobs, 2e6));
            }
        }
        assert_eq!(
            titles(&all),
            [
                "Makespan over slots or cores",
                "Makespan with 2 slots or cores",
                "Makespan with 4 slots or cores",
                "Makespan over its lower bound"
            ]
        );
        let table = Comparison::new(&all).table();
        assert_eq!(table.rows.len(), 4);
        assert_eq!(table.rows[0][2].text, "3");
    }
}
