use inspect::Inspect;

#[derive(Inspect)]
#[inspect(tag = "kind")]
enum E {
    A { kind: u8 },
}

fn main() {}
