use inspect::Inspect;

struct Opaque;

#[derive(Inspect)]
struct S<T> {
    items: Vec<T>,
}

fn main() {
    inspect::inspect(&S { items: vec![Opaque] });
}
