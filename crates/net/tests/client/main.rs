//! The client against a server that misbehaves. All of it on loopback.

mod common;
mod directories;
mod downloads;
mod limits;
mod logins;
mod requests;
mod tls;
mod tunnel;
mod uploads;
