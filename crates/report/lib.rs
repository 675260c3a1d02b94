//! Reports of runs, real and simulated: what ran when, as one HTML file that needs no network, and
//! pictures as SVG. Knows neither stores nor the engine, only what it is given.

pub mod page;
pub mod plots;
pub mod results;
pub mod run;
pub mod stats;
pub mod time;
pub mod trace;
