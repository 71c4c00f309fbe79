//! What Dockerfiles become, beyond the golden cases: where variables hold, triggers, named contexts, several platforms,
//! and what is told of mistakes.

mod any;
mod arguments;
mod bench;
mod contexts;
mod requests;
mod run;
mod stages;
mod transfer;
mod triggers;
mod wrong;
