//! The options of comparisons by pairs. `cargo xtask bench access --help` and `adapter --help` describe
//! them.

use std::str::FromStr;

/// The fewest pairs of which a median is taken.
const LEAST_PAIRS: usize = 40;

pub(crate) struct Options {
    /// Fail where a bar is missed.
    pub(crate) check: bool,
    /// Print one JSON document.
    pub(crate) json: bool,
    /// Measure only rows whose name contains this.
    pub(crate) only: Option<String>,
    /// How many pairs of slices make a ratio.
    pub(crate) pairs: usize,
    /// Measure for real: cargo passes `--bench` when it does not merely test.
    pub(crate) bench: bool,
}

impl Options {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            check: false,
            json: false,
            only: None,
            pairs: 257,
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
                "--pairs" => {
                    options.pairs = usize::from_str(&value()?)
                        .ok()
                        .filter(|pairs| *pairs >= LEAST_PAIRS)
                        .ok_or(format!("--pairs takes a number from {LEAST_PAIRS} on"))?;
                }
                // What cargo and its wrappers hand to every test program.
                "--test" | "--nocapture" | "--quiet" => {}
                _ => return Err(format!("what is {word:?}?")),
            }
        }
        if !options.bench {
            options.pairs = 3;
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}
