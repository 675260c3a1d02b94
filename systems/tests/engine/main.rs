//! The engine's own systems in worlds without processes.

mod cached;
mod model;
mod one_writer;
mod outputs;
mod schedule;
mod simulate;
