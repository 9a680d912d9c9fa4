use inspect::Inspect;

#[derive(Inspect)]
#[inspect(untagged)]
enum E {
    #[inspect(rename = "a")]
    Shown,
    #[inspect(rename = "b")]
    Hidden(u8),
    #[inspect(rename = "c", transparent)]
    Transparent(u8),
}

#[derive(Inspect)]
#[inspect(untagged)]
enum F {
    #[inspect(transparent, sensitive)]
    A(u8),
}

#[derive(Inspect)]
#[inspect(untagged, extra = "more")]
enum G {
    A(u8),
}

fn main() {}
