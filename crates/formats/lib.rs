//! Files that graphs come from and go to: derivations described in JSON, task graphs of other
//! tools, generated graphs, machines, priorities. Reads bytes that it is given and writes to sinks
//! it is given; knows neither stores nor the engine.

pub mod import;
pub mod includes;
pub mod json_graph;
pub mod machines;
pub mod ranks;
pub mod task_graph;
