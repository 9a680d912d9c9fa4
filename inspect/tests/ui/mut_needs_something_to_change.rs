use inspect::{Inspect, InspectMut};
use std::sync::{Arc, Mutex};

struct Opaque;

#[derive(Inspect)]
struct S {
    #[inspect(mut)]
    plain: u8,
    #[inspect(mut)]
    shared: Arc<String>,
    #[inspect(mut)]
    lock: Mutex<Opaque>,
}

#[derive(InspectMut)]
struct T {
    #[inspect(mut)]
    opaque: Opaque,
    #[inspect(mut)]
    optional: Option<Opaque>,
}

fn main() {}
