use inspect::Inspect;

fn show(number: &u32) -> u32 {
    *number
}

#[derive(Inspect)]
struct S {
    #[inspect(with = "show")]
    a: u8,
}

fn main() {}
