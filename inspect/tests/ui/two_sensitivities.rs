use inspect::Inspect;

#[derive(Inspect)]
#[inspect(safe, sensitive)]
struct S {
    #[inspect(sensitive, safe)]
    a: u8,
}

fn main() {}
