use inspect::Inspect;

#[derive(Inspect)]
#[inspect(rename = "T")]
struct S;

#[derive(Inspect)]
#[inspect(tag = "kind")]
struct T;

fn main() {}
