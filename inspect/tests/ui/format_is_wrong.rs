use inspect::Inspect;

struct Opaque;

#[derive(Inspect)]
struct S {
    #[inspect(format)]
    no_format: u8,
    #[inspect(format = path)]
    no_text: u8,
    #[inspect(format = "{}", display)]
    two_forms: u8,
}

#[derive(Inspect)]
struct T {
    #[inspect(format = "nothing")]
    no_place: u8,
    #[inspect(format = "{} {}")]
    two_places: u8,
    #[inspect(format = "{:x}")]
    no_integer: Opaque,
}

fn main() {}
