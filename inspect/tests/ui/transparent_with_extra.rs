use inspect::Inspect;

#[derive(Inspect)]
#[inspect(transparent, extra = "more")]
struct S(u8);

fn main() {}
