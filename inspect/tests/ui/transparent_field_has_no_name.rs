use inspect::Inspect;

#[derive(Inspect)]
#[inspect(transparent)]
struct S(#[inspect(rename = "a")] u8);

#[derive(Inspect)]
#[inspect(transparent)]
struct T(#[inspect(sensitive)] u8);

fn main() {}
