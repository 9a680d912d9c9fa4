use inspect::Inspect;

#[derive(Inspect)]
struct S {
    a: u8,
    #[inspect(rename = "a")]
    b: u8,
}

#[derive(Inspect)]
enum E {
    #[inspect(rename = "B")]
    A,
    B,
}

fn main() {}
