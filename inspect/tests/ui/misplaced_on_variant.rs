use inspect::Inspect;

#[derive(Inspect)]
enum E {
    #[inspect(skip)]
    A(u8),
}

fn main() {}
