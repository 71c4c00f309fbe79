//! Tests of the solver: fake ops that count, scripted orders of events, random graphs against a plain solver.
//!
//! `fake` has the ops, `plain` the solver to compare with, `simulation` a driver without threads or time that
//! ends effects in any order wanted. `scripted`, `ignoring`, `claims`, `modes` and `random` run the machine in it; `driver` runs the real thing.

mod claims;
mod driver;
mod fake;
mod ignoring;
mod modes;
mod plain;
mod random;
mod scripted;
mod simulation;
