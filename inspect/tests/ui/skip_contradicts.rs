use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(skip, rename = "b")]
    a: u8,
    #[inspect(hex, skip)]
    b: u8,
}

fn main() {}
