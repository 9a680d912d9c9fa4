use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(rename = "")]
    a: u8,
}

fn main() {}
