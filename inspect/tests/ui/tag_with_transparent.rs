use inspect::Inspect;

#[derive(Inspect)]
#[inspect(tag = "kind")]
enum E {
    #[inspect(transparent)]
    A(u8),
}

fn main() {}
