use inspect::{Deferred, Inspect};
use std::sync::mpsc::Sender;

struct Message(Deferred);

#[derive(Inspect)]
struct S {
    #[inspect(send = "Message", hex)]
    a: Sender<Message>,
    #[inspect(send = "Message", with = "f")]
    b: Sender<Message>,
    #[inspect(send = "Message", iter_by_index)]
    c: Sender<Message>,
    #[inspect(send = "Message", mut)]
    d: Sender<Message>,
}

fn main() {}
