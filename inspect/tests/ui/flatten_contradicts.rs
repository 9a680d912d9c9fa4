use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(flatten, rename = "b")]
    a: Vec<u8>,
    #[inspect(display, flatten)]
    b: u8,
}

fn main() {}
