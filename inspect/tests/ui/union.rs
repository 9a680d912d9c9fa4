use inspect::Inspect;

#[derive(Inspect)]
union U {
    a: u8,
}

fn main() {}
