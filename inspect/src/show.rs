//! Ways to show an object other than its own.

use crate::request::{Inspect, Request};
use crate::value::{Style, Value};
use core::fmt;

/// Marks what answers with integers, and so can be shown as hexadecimal, binary or a counter.
///
/// Containers of numbers are numbers in this sense. Implement it for a type of yours whose
/// [`Inspect`] answers with an integer, such as a transparent wrapper of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number, and has no other style to be shown in",
    note = "implement `inspect::Number` for it if its `Inspect` answers with an integer"
)]
pub trait Number: Inspect {}

/// Shows integers as hexadecimal, those in containers too, unless they choose a style themselves.
///
/// ```
/// let tree = inspect::inspect(&inspect::hex(vec![16, 255]));
/// assert_eq!(tree.compact().to_string(), "{0: 0x10, 1: 0xff}");
/// ```
pub fn hex(number: impl Number) -> impl Inspect {
    styled(number, Style::Hex)
}

/// Shows integers as binary, those in containers too, unless they choose a style themselves.
pub fn binary(number: impl Number) -> impl Inspect {
    styled(number, Style::Binary)
}

/// Shows integers as numbers that only grow, those in containers too, unless they choose a style
/// themselves.
pub fn counter(number: impl Number) -> impl Inspect {
    styled(number, Style::Counter)
}

fn styled(number: impl Number, style: Style) -> impl Inspect {
    from_fn(move |req| number.inspect(req.with_style(style)))
}

/// Shows what `value` displays, as text.
pub fn display(value: impl fmt::Display) -> impl Inspect {
    from_fn(move |req| req.display(&value))
}

/// Shows `value`'s `Debug`, as text.
pub fn debug(value: impl fmt::Debug) -> impl Inspect {
    from_fn(move |req| req.debug(&value))
}

/// Shows bytes as one value, rather than as a directory of numbers.
pub fn bytes(bytes: impl AsRef<[u8]>) -> impl Inspect {
    from_fn(move |req| req.value_with(|| Value::from(bytes.as_ref())))
}

/// Shows whatever a closure answers. It can be asked several times.
///
/// ```
/// let load = inspect::from_fn(|req| req.value(0.5));
/// assert_eq!(inspect::inspect(&load).to_string(), "0.5");
/// ```
pub fn from_fn(answer: impl Fn(Request<'_>)) -> impl Inspect {
    FromFn(answer)
}

struct FromFn<F>(F);

impl<F: Fn(Request<'_>)> Inspect for FromFn<F> {
    fn inspect(&self, req: Request<'_>) {
        (self.0)(req);
    }
}
