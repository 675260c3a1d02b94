//! The engine's own systems in worlds without processes.

mod model;
mod outputs;
mod schedule;
mod simulate;
