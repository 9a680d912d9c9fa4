use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(rename("b"))]
    a: u8,
}

fn main() {}
