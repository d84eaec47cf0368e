//! What the `halloo` command is made of: its arguments, the endpoint behind `call` and `answer`, the demo, and the measuring
//! of calls from outside.

pub mod cli;
pub mod data;
pub mod demo;
pub mod devices;
pub mod endpoint;
pub mod exit;
pub mod load;
pub mod measure;
mod own_server;
pub mod report;
pub mod serve;
pub mod span;
pub mod token;
