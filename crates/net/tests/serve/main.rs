//! A store that is served, asked by clients of every kind. All of it on loopback.

mod answers;
mod clients;
mod common;
mod trouble;
