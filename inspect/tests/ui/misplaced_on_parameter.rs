use inspect::Inspect;

#[derive(Inspect)]
struct S<#[inspect(skip)] T>(T);

fn main() {}
