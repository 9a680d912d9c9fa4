use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(hex = "8")]
    a: u8,
    #[inspect(skip = true)]
    b: u8,
}

fn main() {}
