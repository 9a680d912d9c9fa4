//! The options. `cargo xtask bench changes --help` describes them.

use std::str::FromStr;

/// The fewest rounds of which a median is taken.
const LEAST_ROUNDS: usize = 40;

pub(crate) struct Options {
    /// Fail where a bar is missed.
    pub(crate) check: bool,
    /// Print one JSON document.
    pub(crate) json: bool,
    /// Measure only changes whose name contains this.
    pub(crate) only: Option<String>,
    /// How many rounds make a median.
    pub(crate) rounds: usize,
    /// How many windows "many" is.
    pub(crate) others: usize,
    /// Measure for real: cargo passes `--bench` when it does not merely test.
    pub(crate) bench: bool,
}

impl Options {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            check: false,
            json: false,
            only: None,
            rounds: 257,
            others: 30_000,
            bench: false,
        };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--check" => options.check = true,
                "--json" => options.json = true,
                "--bench" => options.bench = true,
                "--only" => options.only = Some(value()?),
                "--rounds" => {
                    options.rounds = usize::from_str(&value()?)
                        .ok()
                        .filter(|rounds| *rounds >= LEAST_ROUNDS)
                        .ok_or(format!("--rounds takes a number from {LEAST_ROUNDS} on"))?;
                }
                // What cargo and its wrappers hand to every test program.
                "--test" | "--nocapture" | "--quiet" => {}
                _ => return Err(format!("what is {word:?}?")),
            }
        }
        if !options.bench {
            options.rounds = 3;
            options.others = 100;
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}
