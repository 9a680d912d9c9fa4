use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(with = "a + b")]
    a: u8,
}

#[derive(Inspect)]
#[inspect(extra = "")]
struct T;

fn main() {}
