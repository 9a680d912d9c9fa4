use inspect::Inspect;

#[derive(Inspect)]
#[inspect(transparent)]
struct S {
    a: u8,
    b: u8,
}

#[derive(Inspect)]
#[inspect(transparent)]
struct T;

#[derive(Inspect)]
enum E {
    #[inspect(transparent)]
    A(#[inspect(skip)] u8),
}

fn main() {}
