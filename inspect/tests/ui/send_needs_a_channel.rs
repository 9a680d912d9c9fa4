use inspect::{Deferred, Inspect};
use std::sync::mpsc::Sender;

struct Message(Deferred);

#[derive(Inspect)]
struct S {
    #[inspect(send = "Message")]
    no_channel: u8,
    #[inspect(send = "Message")]
    other_message: Sender<String>,
}

fn main() {}
