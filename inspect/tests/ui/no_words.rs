use inspect::Inspect;

#[derive(Inspect)]
#[inspect]
struct S;

#[derive(Inspect)]
struct T {
    #[inspect()]
    a: u8,
    #[inspect = "hex"]
    b: u8,
}

fn main() {}
