use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(hex, display)]
    a: u8,
    #[inspect(bytes, debug)]
    b: [u8; 2],
}

#[derive(Inspect)]
#[inspect(display, debug)]
struct T;

fn main() {}
