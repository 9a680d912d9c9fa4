use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(hex, hex)]
    a: u8,
    #[inspect(rename = "c")]
    #[inspect(rename = "d")]
    b: u8,
}

fn main() {}
