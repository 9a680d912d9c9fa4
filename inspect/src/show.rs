//! Ways to show an object other than its own.

use crate::from_text::Invalid;
use crate::request::{Inspect, InspectMut, Request};
use crate::value::Style;
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
pub fn hex<N: Number>(number: N) -> Styled<N> {
    Styled(number, Style::Hex)
}

/// Shows integers as binary, those in containers too, unless they choose a style themselves.
pub fn binary<N: Number>(number: N) -> Styled<N> {
    Styled(number, Style::Binary)
}

/// Shows integers as numbers that only grow, those in containers too, unless they choose a style
/// themselves.
pub fn counter<N: Number>(number: N) -> Styled<N> {
    Styled(number, Style::Counter)
}

/// Shows the integers of something in another style. It is made by [`hex`], [`binary`] and
/// [`counter`].
#[derive(Copy, Clone, Debug)]
pub struct Styled<N>(N, Style);

impl<N: Inspect> Inspect for Styled<N> {
    fn inspect(&self, req: Request<'_>) {
        self.0.inspect(req.with_style(self.1));
    }
}

impl<N: InspectMut> InspectMut for Styled<N> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.0.inspect_mut(req.with_style(self.1));
    }
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
    from_fn(move |req| req.bytes(&bytes))
}

/// Shows whatever a closure answers. It can be asked several times.
///
/// ```
/// let load = inspect::from_fn(|req| req.value(0.5));
/// assert_eq!(inspect::inspect(&load).to_string(), "0.5");
/// ```
pub fn from_fn<F: Fn(Request<'_>)>(answer: F) -> FromFn<F> {
    FromFn(answer)
}

/// Shows whatever a closure answers. It is made by [`from_fn`].
#[derive(Copy, Clone)]
pub struct FromFn<F>(F);

impl<F: Fn(Request<'_>)> Inspect for FromFn<F> {
    fn inspect(&self, req: Request<'_>) {
        (self.0)(req);
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

/// Shows whatever a closure answers, which may change what it has captured exclusively.
///
/// ```
/// let mut limit = 5_u32;
/// let mut queue = inspect::from_fn_mut(|req| {
///     req.respond().field_mut("limit", &mut limit);
/// });
/// inspect::Update::new("limit".parse()?, "6").run_mut(&mut queue)?;
/// assert_eq!(limit, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_fn_mut<F: FnMut(Request<'_>)>(answer: F) -> FromFnMut<F> {
    FromFnMut(answer)
}

/// Shows whatever a closure answers. It is made by [`from_fn_mut`].
pub struct FromFnMut<F>(F);

impl<F: FnMut(Request<'_>)> InspectMut for FromFnMut<F> {
    fn inspect_mut(&mut self, req: Request<'_>) {
        (self.0)(req);
    }
}

impl<F> fmt::Debug for FromFnMut<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFnMut").finish_non_exhaustive()
    }
}

/// Shows what `get` returns, and lets updates change it through `set`, which gets the new value as
/// text. If `set` returns an error, it must have changed nothing.
///
/// ```
/// use inspect::{Invalid, Path};
/// use std::cell::Cell;
///
/// let level = Cell::new("quiet");
/// let log = inspect::setter(
///     || level.get(),
///     |text| match text {
///         "quiet" => Ok(level.set("quiet")),
///         "loud" => Ok(level.set("loud")),
///         _ => Err(Invalid::expected("`quiet` or `loud`")),
///     },
/// );
/// inspect::update(&log, &Path::ROOT, "loud")?;
/// assert_eq!(level.get(), "loud");
/// # Ok::<(), inspect::UpdateError>(())
/// ```
pub fn setter<T, G, S>(get: G, set: S) -> Setter<G, S>
where
    T: Inspect,
    G: Fn() -> T,
    S: Fn(&str) -> Result<(), Invalid>,
{
    Setter { get, set }
}

/// Shows and changes something by two functions. It is made by [`setter`].
#[derive(Copy, Clone)]
pub struct Setter<G, S> {
    get: G,
    set: S,
}

impl<T, G, S> Inspect for Setter<G, S>
where
    T: Inspect,
    G: Fn() -> T,
    S: Fn(&str) -> Result<(), Invalid>,
{
    fn inspect(&self, req: Request<'_>) {
        let req = req.update(&self.set);
        (self.get)().inspect(req);
    }
}

impl<T, G, S> InspectMut for Setter<G, S>
where
    T: Inspect,
    G: Fn() -> T,
    S: Fn(&str) -> Result<(), Invalid>,
{
    fn inspect_mut(&mut self, req: Request<'_>) {
        self.inspect(req);
    }
}

impl<G, S> fmt::Debug for Setter<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setter").finish_non_exhaustive()
    }
}
