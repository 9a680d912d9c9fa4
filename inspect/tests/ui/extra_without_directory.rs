use inspect::Inspect;

#[derive(Inspect)]
#[inspect(extra = "more")]
enum E {
    A,
}

fn main() {}
