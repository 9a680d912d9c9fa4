use inspect::Inspect;

#[derive(Inspect)]
#[inspect(safe)]
struct S;

#[derive(Inspect)]
enum E {
    #[inspect(sensitive)]
    A,
}

#[derive(Inspect)]
#[inspect(safe)]
enum F {
    A,
    B {},
}

fn main() {}
