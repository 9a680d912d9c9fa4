use inspect::Inspect;

#[derive(Debug, Inspect)]
#[inspect(debug, safe)]
struct S {
    #[inspect(hex)]
    a: u8,
}

#[derive(Debug, Inspect)]
#[inspect(debug)]
enum E {
    #[inspect(rename = "B")]
    A(#[inspect(hex)] u8),
}

fn main() {}
