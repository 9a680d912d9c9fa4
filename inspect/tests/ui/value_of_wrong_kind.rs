use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(rename = 5)]
    a: u8,
    #[inspect(rename = b)]
    b: u8,
    #[inspect(with = 5)]
    c: u8,
    #[inspect(with = |c| c)]
    d: u8,
}

fn main() {}
