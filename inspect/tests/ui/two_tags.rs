use inspect::Inspect;

#[derive(Inspect)]
#[inspect(tag = "kind", untagged)]
enum E {
    A(u8),
}

#[derive(Inspect)]
#[inspect(external_tag, tag = "kind")]
enum F {
    A(u8),
}

#[derive(Inspect)]
#[inspect(untagged, external_tag)]
enum G {
    A(u8),
}

fn main() {}
