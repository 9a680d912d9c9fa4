use inspect::Inspect;

#[derive(Inspect)]
struct S {
    #[inspect(hx)]
    gpa: u64,
}

#[derive(Inspect)]
#[inspect(transparant)]
struct T(u8);

#[derive(Inspect)]
#[inspect(tagged = "kind")]
enum E {
    #[inspect(name = "b")]
    A,
}

fn main() {}
