use inspect::InspectMut;

#[derive(InspectMut, Debug)]
#[inspect(debug)]
struct S {
    a: u8,
}

fn main() {}
