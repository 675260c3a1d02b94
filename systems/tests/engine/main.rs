//! The engine's own systems in worlds without processes.

mod arrivals;
mod cached;
mod decisions;
mod disks;
mod machines;
mod model;
mod one_writer;
mod outages;
mod outputs;
mod planned;
mod schedule;
mod simulate;
mod uncertain;
