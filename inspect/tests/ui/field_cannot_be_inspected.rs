use inspect::Inspect;

struct Opaque;

#[derive(Inspect)]
struct S {
    opaque: Opaque,
    list: Vec<Opaque>,
    #[inspect(iter_by_index)]
    items: Vec<Opaque>,
}

fn main() {}
