use inspect::Inspect;

#[derive(Inspect)]
#[inspect(hex)]
enum E {
    A(u8),
}

#[derive(Inspect)]
#[inspect(transparent)]
enum F {
    A(u8),
}

fn main() {}
