use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(iter_by_index, iter_by_key)]
    a: Vec<(u8, u8)>,
}

fn main() {}
