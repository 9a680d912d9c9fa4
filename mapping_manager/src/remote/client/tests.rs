//! A client against a manager whose every word the test chooses.

mod changes;
mod hostile;
mod lazy;
mod manager;
mod model;
mod reconnecting;
mod serving;
mod slots;
