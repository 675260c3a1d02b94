//! Real children as the engine sees them: their environment, what they say, their logs, and what
//! waits for all that.

pub mod ahead;
pub mod environment;
pub mod helper;
pub mod hook;
pub mod hook_answer;
pub mod kill;
pub mod lines;
pub mod log_writer;
pub mod pool;
pub mod reactor;
pub mod side_channel;
pub mod spare;
pub mod too_long;
