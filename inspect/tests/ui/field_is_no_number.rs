use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(hex)]
    name: String,
}

fn main() {}
