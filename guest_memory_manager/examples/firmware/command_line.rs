//! The command line.

use crate::fw_cfg::Entries;
use crate::kernel::Kernel;
use crate::outcome::Failure;
use crate::settings::Settings;
use clap::Parser;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Boots PC firmware on guest memory with real PAM shadowing.
///
/// What the firmware writes to port 0x402 goes to standard output as it comes, everything else to
/// standard error. The exit code is 0 when the text of --until has appeared, 124 when the time of
/// --limit is up, 2 when the guest cannot go on, and (value << 1) | 1 when the guest writes a value to
/// port 0x501. A wrong command line is 64, a failure of the host 70.
#[derive(Parser)]
#[command(name = "firmware")]
pub struct Arguments {
    /// The firmware's image, such as /usr/share/seabios/bios-256k.bin.
    #[arg(long, value_name = "FILE")]
    bios: PathBuf,
    /// RAM in MiB, at least 1.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    mem: u64,
    /// The number of CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: u8,
    /// Offer a file through fw_cfg, for example floppyimg/disk=boot.img.
    #[arg(long, value_name = "NAME=FILE", value_parser = name_and_value)]
    fw_cfg: Vec<(String, String)>,
    /// Offer a number of 64 bits through fw_cfg, for example etc/show-boot-menu=0.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    fw_cfg_int: Vec<(String, String)>,
    /// Offer a Linux kernel through fw_cfg.
    #[arg(long, value_name = "BZIMAGE")]
    kernel: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "kernel")]
    cmdline: String,
    /// Offer etc/e820, the map of RAM.
    #[arg(long)]
    e820: bool,
    /// End with exit code 0 when the firmware has written this text.
    #[arg(long, value_name = "TEXT")]
    until: Option<String>,
    /// End with exit code 124 after so long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    limit: Option<Duration>,
    /// Write a report when the run ends.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Tell each PAM write, and each write to read-only memory that is dropped.
    #[arg(long)]
    trace: bool,
}

impl Arguments {
    /// Reads the files and makes settings of it all.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut entries = Entries::new(self.cpus);
        for (name, file) in &self.fw_cfg {
            entries.add_file(name, read(&file.into())?)?;
        }
        for (name, value) in &self.fw_cfg_int {
            let value = number(value).map_err(|error| format!("{name}: {error}"))?;
            entries.add_file(name, value.to_le_bytes().to_vec())?;
        }
        if let Some(path) = &self.kernel {
            let kernel = Kernel::parse(&read(path)?, &self.cmdline);
            let kernel = kernel.map_err(|error| format!("{}: {error}", path.display()))?;
            kernel.offer(&mut entries)?;
        }
        Ok(Settings {
            mem_mib: self.mem,
            entries,
            e820: self.e820,
            until: self.until.clone(),
            limit: self.limit,
            out: Box::new(std::io::stdout()),
            trace: self.trace.then(|| Box::new(std::io::stderr()) as _),
            ..Settings::new(read(&self.bios)?, self.cpus)
        })
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=...".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text:?} is no number: {error}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
