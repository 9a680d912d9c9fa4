use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(rename)]
    a: u8,
    #[inspect(with)]
    b: u8,
}

#[derive(Inspect)]
#[inspect(bound)]
struct T;

fn main() {}
