use inspect::Inspect;

#[derive(Inspect)]
#[inspect(bound = "T is Copy")]
struct S<T>(T);

fn main() {}
