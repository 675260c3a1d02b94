//! The build hook, a program that may do builds elsewhere: who is offered to it, and who waits for
//! what it said. What is said to a real one is in `instance`; other worlds answer as they like.

pub mod instance;
pub mod talk;
