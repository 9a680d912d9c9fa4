use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(tag = "kind")]
    a: u8,
    #[inspect(transparent)]
    b: u8,
}

fn main() {}
