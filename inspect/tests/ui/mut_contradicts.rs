use inspect::Inspect;
use std::sync::atomic::AtomicU8;

#[derive(Inspect)]
struct S {
    #[inspect(mut, display)]
    a: AtomicU8,
    #[inspect(debug, mut)]
    b: AtomicU8,
    #[inspect(mut, bytes)]
    c: [u8; 2],
    #[inspect(format = "{}", mut)]
    d: u8,
    #[inspect(mut, skip)]
    e: u8,
}

fn main() {}
