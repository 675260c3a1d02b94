//! The binary caches of a simulation, as options describe them.

use std::time::Duration;

use clap::Args;
use windrow_components::task_graph::{TaskGraph, TimeUnit};
use windrow_formats::task_graph::{Distribution, bytes, time};
use windrow_systems::simulate::{ALL, Cache, CacheSet};

use super::probability;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    /// Add a binary cache; may be repeated. What is not said is as in
    /// latency=50ms,bandwidth=10MB/s,hit=1,errors=0,priority=0,connections=25; "dead" answers never
    #[arg(long = "cache", value_name = "CACHE", value_parser = cache)]
    caches: Vec<Cache>,

    /// How large the archives of outputs are: constant:1MB, uniform:1..10MB, exponential:2MB or
    /// lognormal:1MB/1.5
    #[arg(long, value_name = "FROM", default_value = "constant:1MB", requires = "caches",
          value_parser = Distribution::of_sizes)]
    sizes: Distribution,

    /// Let each output refer to each input of its task with this probability (0 to 1)
    #[arg(long, value_name = "P", default_value = "1", requires = "caches", value_parser = probability)]
    references: u32,

    /// Whether to build what takes much longer to fetch
    #[arg(long, value_name = "WHEN", default_value = "never", requires = "caches",
          value_parser = ["never", "auto"])]
    prefer_build: String,
}

impl CacheArgs {
    /// How many caches there are.
    pub(super) fn count(&self) -> usize {
        self.caches.len()
    }

    /// The caches, if there are any, with what they have of that graph.
    pub(super) fn set(&self, graph: &TaskGraph, seed: u64) -> Result<Option<CacheSet>> {
        if self.caches.is_empty() {
            return Ok(None);
        }
        if graph.unit() == TimeUnit::Units || !graph.has_durations() {
            return Err(Error::Unsupported(
                "caches need tasks that take seconds: give their durations with --durations"
                    .to_owned(),
            ));
        }
        let mut all = self.caches.clone();
        for (nth, cache) in all.iter_mut().enumerate() {
            cache.name = format!("cache {}", nth + 1);
        }
        Ok(Some(CacheSet {
            all,
            sizes: self.sizes.sample_sizes(graph.len(), seed),
            references: self.references,
            prefer_builds: self.prefer_build == "auto",
        }))
    }
}

/// A cache as it is written: `KEY=VALUE` and `dead`, separated by commas.
fn cache(text: &str) -> Result<Cache, String> {
    let mut cache = Cache {
        name: String::new(),
        latency: Duration::from_millis(50),
        bandwidth: 10_000_000,
        hit: ALL,
        errors: 0,
        priority: 0,
        connections: 25,
        is_dead: false,
    };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let whole = || format!("`{value}` is no whole number above 0");
        match key {
            "dead" if value.is_empty() => cache.is_dead = true,
            "latency" => cache.latency = Duration::from_micros(time(value, "s")?),
            "bandwidth" => {
                let value = value.strip_suffix("/s").unwrap_or(value);
                cache.bandwidth = bytes(value, "B")?;
                if cache.bandwidth == 0 {
                    return Err("a bandwidth should be above 0".to_owned());
                }
            }
            "hit" => cache.hit = probability(value)?,
            "errors" => cache.errors = probability(value)?,
            "priority" => cache.priority = value.parse().map_err(|_| whole())?,
            "connections" => {
                let count: Option<u32> = value.parse().ok().filter(|&count| count > 0);
                cache.connections = count.ok_or_else(whole)?;
            }
            _ => {
                return Err(format!(
                    "`{part}` is none of latency=…, bandwidth=…, hit=…, errors=…, priority=…, \
                     connections=… and dead"
                ));
            }
        }
    }
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_read() {
        let text = "latency=20ms,bandwidth=1.5MB/s,hit=0.9,errors=0.01,priority=-40,connections=3";
        let read = cache(text).unwrap();
        assert_eq!(read.latency, Duration::from_millis(20));
        assert_eq!(
            (read.bandwidth, read.hit, read.errors, read.priority),
            (1_500_000, 900_000, 10_000, -40)
        );
        assert!(read.connections == 3 && !read.is_dead);
        assert!(cache("dead").unwrap().is_dead);
        for wrong in [
            "",
            "latency",
            "latency=1MB",
            "bandwidth=0",
            "bandwidth=1s",
            "hit=2",
            "connections=0",
            "priority=x",
            "dead=1",
            "hit=1,",
            "size=1",
        ] {
            assert!(cache(wrong).is_err(), "{wrong}");
        }
    }
}
