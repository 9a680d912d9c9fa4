use inspect::Inspect;

#[derive(Inspect)]
#[inspect(transparent, sensitive)]
struct S(u8);

fn main() {}
