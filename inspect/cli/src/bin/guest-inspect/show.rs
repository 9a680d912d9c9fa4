//! What is shown.

use crate::command_line::CommandLine;
use crate::failure::Failure;
use crate::source::Source;
use inspect::{MAX_DEPTH, Node, Path, Value};
use inspect_cli::{
    Ink, MemoryMap, Paint, SvgOptions, describe, diff, draw_svg, draw_svg_diff, draw_table,
};
use std::io::{ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

/// How far apart two snapshots are, where that was not chosen.
const INTERVAL: Duration = Duration::from_secs(1);

/// Does what the command line says.
pub(crate) fn run(args: &CommandLine) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    if let Some(both) = &args.diff {
        return compare(args, both, paint);
    }
    // Clap has made sure that there is one.
    let mut source = Source::open(args.source.as_deref().unwrap_or(FilePath::new("")))?;
    if !args.set.is_empty() {
        return set(args, &mut source, paint);
    }
    if args.rates && matches!(source, Source::Saved(_)) {
        return Err(Failure::OnlyLive);
    }
    let mut last = match args.rates {
        true => Some(snapshot(args, &mut source)?),
        false => None,
    };
    let mut times: u64 = 0;
    loop {
        if let Some((before, at)) = &mut last {
            std::thread::sleep(args.watch.unwrap_or(INTERVAL));
            let (after, now) = snapshot(args, &mut source)?;
            let rates = inspect::rates(before, &after, now.duration_since(*at));
            begin(args, times, paint)?;
            let rates = match args.json {
                true => rates,
                false => rounded(&rates),
            };
            print(&tree(args, &rates, paint))?;
            (*before, *at) = (after, now);
        } else {
            let text = picture(args, &mut source, paint)?;
            begin(args, times, paint)?;
            print(&text)?;
        }
        times = times.saturating_add(1);
        let Some(pause) = args.watch else {
            return Ok(());
        };
        if args.times.is_some_and(|most| times >= most) {
            return Ok(());
        }
        if !args.rates {
            std::thread::sleep(pause);
        }
    }
}

/// Rounds rates for people, to a digit after the point.
fn rounded(node: &Node) -> Node {
    match node {
        Node::Directory(directory) => {
            let children = directory.iter();
            let children = children.map(|(name, node)| (name.to_owned(), rounded(node)));
            Node::Directory(children.collect())
        }
        Node::Value(Value::Float(rate)) => Node::Value(Value::Float((rate * 10.0).round() / 10.0)),
        other => other.clone(),
    }
}

/// Starts one of several pictures: over the last one on a terminal, after an empty line elsewhere.
fn begin(args: &CommandLine, times: u64, paint: Paint) -> Result<(), Failure> {
    match (args.watch, paint.is_terminal()) {
        // Home, then erase to the end: what stood there does not flicker.
        (Some(_), true) => write("\x1b[H\x1b[J"),
        (Some(_), false) if times > 0 => write("\n"),
        _ => Ok(()),
    }
}

fn snapshot(args: &CommandLine, source: &mut Source) -> Result<(Node, Instant), Failure> {
    let depth = args.depth.unwrap_or(MAX_DEPTH);
    let node = source.get(&args.path, depth, args.sensitivity.into())?;
    Ok((node, Instant::now()))
}

/// What is asked for, as text; drawings are written on the way.
fn picture(args: &CommandLine, source: &mut Source, paint: Paint) -> Result<String, Failure> {
    if !args.map && args.svg.is_none() {
        let (node, _) = snapshot(args, source)?;
        return Ok(tree(args, &node, paint));
    }
    let map = map(args, source)?;
    if let Some(file) = &args.svg {
        let options = SvgOptions::new().theme(args.theme.into());
        write_svg(file, &draw_svg(&map, &options))?;
    }
    match args.map {
        true => Ok(draw_table(&map, paint)),
        false => Ok(String::new()),
    }
}

fn map(args: &CommandLine, source: &mut Source) -> Result<MemoryMap, Failure> {
    // The path may be that of a view, of which more is told by what stands beside it.
    let tree = source.get(&Path::ROOT, MAX_DEPTH, args.sensitivity.into())?;
    match args.path.is_root() {
        true => Ok(MemoryMap::find(&tree)?),
        false => Ok(MemoryMap::read(&tree, &args.path)?),
    }
}

fn compare(args: &CommandLine, both: &[PathBuf], paint: Paint) -> Result<(), Failure> {
    let [before, after] = both else {
        return Ok(());
    };
    let before = map(args, &mut Source::open(before)?)?;
    let after = map(args, &mut Source::open(after)?)?;
    if let Some(file) = &args.svg {
        let options = SvgOptions::new().theme(args.theme.into());
        write_svg(file, &draw_svg_diff(&before, &after, &options))?;
        if file == FilePath::new("-") {
            return Ok(());
        }
    }
    print(&describe(&diff(&before, &after), paint))
}

fn set(args: &CommandLine, source: &mut Source, paint: Paint) -> Result<(), Failure> {
    let Source::Live(client) = source else {
        return Err(Failure::OnlyLive);
    };
    for update in &args.set {
        let value = client.set(update.path(), update.text());
        let value = value.map_err(|error| Failure::of_request(error, update.path()))?;
        let text = match args.json {
            true => Node::Value(value).to_json_string(),
            false => {
                let name = paint.paint(Ink::Blue, &update.path().to_string());
                format!("{name}: {value}")
            }
        };
        print(&text)?;
    }
    Ok(())
}

fn tree(args: &CommandLine, node: &Node, paint: Paint) -> String {
    if args.json {
        // All keys are strings, so this can't fail.
        return serde_json::to_string_pretty(node).unwrap_or_else(|_| node.to_json_string());
    }
    let text = node.to_string();
    if !paint.has_colour() {
        return text;
    }
    let lines = text.lines().map(|line| coloured(line, paint));
    lines.collect::<Vec<_>>().join("\n")
}

/// Colours the name of a line of a tree.
fn coloured(line: &str, paint: Paint) -> String {
    let name = line.trim_start();
    let (indent, _) = line.split_at(line.len() - name.len());
    let end = match name.strip_prefix('"') {
        // A name in quotes ends at the quote that no backslash precedes.
        Some(rest) => {
            let mut escaped = false;
            let quote = rest.char_indices().find(|(_, letter)| {
                let ends = *letter == '"' && !escaped;
                escaped = *letter == '\\' && !escaped;
                ends
            });
            quote.map(|(index, _)| index + 2)
        }
        None => name
            .find(": ")
            .or_else(|| name.ends_with(':').then(|| name.len() - 1)),
    };
    match end {
        Some(end) if name.is_char_boundary(end) => {
            let (name, rest) = name.split_at(end);
            format!("{indent}{}{rest}", paint.paint(Ink::Blue, name))
        }
        _ => line.to_owned(),
    }
}

fn write_svg(file: &FilePath, svg: &str) -> Result<(), Failure> {
    if file == FilePath::new("-") {
        return write(svg);
    }
    std::fs::write(file, svg).map_err(|source| Failure::Write {
        path: file.to_owned(),
        source,
    })
}

fn print(text: &str) -> Result<(), Failure> {
    match text {
        "" => Ok(()),
        text => write(&format!("{text}\n")),
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::Output)
}

/// Tells whether a failure is only that nobody reads the output any more (`guest-inspect ... | head`).
pub(crate) fn nobody_reads(failure: &Failure) -> bool {
    matches!(failure, Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_digit_after_the_point() {
        let rates = [("a", Value::Float(22_947.706)), ("b", Value::Null)];
        let rates = rates.map(|(name, value)| (name, Node::Value(value)));
        let shown = rounded(&Node::Directory(rates.into_iter().collect()));
        assert_eq!(shown.compact().to_string(), "{a: 22947.7, b: none}");
    }

    #[test]
    fn names_are_coloured_and_nothing_else() {
        let check = |line: &str, expected: &str| {
            let shown = coloured(line, Paint::COLOUR)
                .replace("\x1b[34m", "<")
                .replace("\x1b[0m", ">");
            assert_eq!(shown, expected);
        };
        check("gpa: 0x1000", "<gpa>: 0x1000");
        check("  slots:", "  <slots>:");
        check("0 vtl0 kvm: {}", "<0 vtl0 kvm>: {}");
        check(r#"  "a: \"b": text: more"#, r#"  <"a: \"b">: text: more"#);
        check("just text", "just text");
        check(r#""open"#, r#""open"#);
    }
}
