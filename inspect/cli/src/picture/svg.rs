//! Drawings as SVG.

use crate::map::MemoryMap;
use crate::paint::clean;
use crate::picture::layout::{
    FONT, LINE, Layout, PlacedBlock, PlacedColumn, Rect, Text, text_width,
};
use crate::picture::theme::HUES;
use crate::picture::{Fill, Look, Picture, Status, Theme, combine};
use std::fmt::{self, Write as _};

/// The most backings that the legend names.
const NAMED: usize = 16;

/// Tells what a drawing looks like.
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until something is drawn with them"]
pub struct SvgOptions {
    theme: Theme,
    title: Option<String>,
}

impl SvgOptions {
    /// Chooses [`Theme::Auto`] and a title that says what is drawn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the theme.
    pub fn theme(mut self, theme: Theme) -> Self {
        self.theme = theme;
        self
    }

    /// Chooses the title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }
}

/// Draws a memory map as an SVG document that needs nothing else.
///
/// Columns stand side by side over one axis of guest physical addresses: the flat view, the regions
/// of each priority, the mappings, and the slots of each listener. Heights are logarithmic, and each
/// piece between two borders is high enough to be seen. Labels don't overlap; those that don't fit
/// their block stand beside it, at the end of a line. Tooltips tell everything.
#[must_use]
pub fn draw(map: &MemoryMap, options: &SvgOptions) -> String {
    let subtitle = format!("{}, {}", map.space, map.space.size());
    document(
        &Picture::of(map),
        options,
        "Guest memory map",
        &subtitle,
        false,
    )
}

/// Draws what changed between two states, in the form of [`draw`]: added, removed and changed pieces
/// in colour, everything else pale.
#[must_use]
pub fn draw_diff(before: &MemoryMap, after: &MemoryMap, options: &SvgOptions) -> String {
    let picture = combine(&Picture::of(before), &Picture::of(after));
    let blocks = || picture.columns.iter().flat_map(|column| &column.blocks);
    let count = |is: fn(&Status) -> bool| blocks().filter(|block| is(&block.status)).count();
    let subtitle = format!(
        "{} added, {} removed, {} changed",
        count(|status| *status == Status::Added),
        count(|status| *status == Status::Removed),
        count(|status| matches!(status, Status::Changed { .. })),
    );
    document(
        &picture,
        options,
        "Guest memory map: what changed",
        &subtitle,
        true,
    )
}

fn document(
    picture: &Picture,
    options: &SvgOptions,
    title: &str,
    subtitle: &str,
    compares: bool,
) -> String {
    let layout = Layout::of(picture);
    let legend = legend(picture, &layout, compares);
    let title = options.title.as_deref().unwrap_or(title);
    let mut svg = String::new();
    // Writing to a string never fails.
    let _ = write(
        &mut svg,
        &layout,
        &legend,
        options.theme,
        (title, subtitle),
        compares,
    );
    svg
}

fn write(
    svg: &mut String,
    layout: &Layout<'_>,
    legend: &[Sample],
    theme: Theme,
    (title, subtitle): (&str, &str),
    compares: bool,
) -> fmt::Result {
    let width = layout
        .width
        .max(24.0 + 10.5 * title.chars().count() as f64)
        .ceil();
    let last = legend
        .last()
        .map_or(layout.bottom, |sample| sample.y + LINE);
    let height = (last + 18.0).ceil();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">"#,
    )?;
    writeln!(svg, "<title>{}</title>", Xml(title))?;
    writeln!(svg, "<style>\n{}</style>", theme.style())?;
    svg.push_str(PATTERNS);
    writeln!(
        svg,
        r#"<rect class="ground" width="{width}" height="{height}"/>"#
    )?;
    writeln!(
        svg,
        r#"<text class="title" x="24" y="34">{}</text>"#,
        Xml(title)
    )?;
    writeln!(
        svg,
        r#"<text class="subtitle" x="24" y="53">{}</text>"#,
        Xml(subtitle)
    )?;
    axis(svg, layout)?;
    for column in &layout.columns {
        draw_column(svg, column, compares)?;
    }
    for sample in legend {
        swatch(svg, sample)?;
    }
    svg.push_str("</svg>\n");
    Ok(())
}

/// Lines that slant for what is read-only, and dots for holes.
const PATTERNS: &str = r#"<defs>
<pattern id="lines" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="hatch" d="M0 0V7"/></pattern>
<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse"><circle class="dots" cx="3" cy="3" r="0.8"/></pattern>
</defs>
"#;

fn axis(svg: &mut String, layout: &Layout<'_>) -> fmt::Result {
    let x = layout.axis.x;
    let right = layout.width - 24.0;
    svg.push_str("<g>\n");
    for mark in &layout.axis.marks {
        let y = Number(mark.y);
        let label = mark.label;
        writeln!(
            svg,
            r#"<path class="rule" d="M{} {y}H{}"/>"#,
            Number(x),
            Number(right)
        )?;
        writeln!(
            svg,
            r#"<path class="leader" d="M{} {y}H{}"/>"#,
            Number(label.right() + 4.0),
            Number(x),
        )?;
        writeln!(
            svg,
            r#"<text class="address" x="{}" y="{}">{}</text>"#,
            Number(label.x),
            Number(label.middle() + 4.0),
            Xml(&mark.text)
        )?;
    }
    svg.push_str("</g>\n");
    Ok(())
}

fn draw_column(svg: &mut String, column: &PlacedColumn<'_>, compares: bool) -> fmt::Result {
    svg.push_str("<g>\n");
    let lines = column.heading.len();
    for (index, line) in column.heading.iter().enumerate() {
        let y = 84.0 - LINE * (lines - 1 - index) as f64;
        writeln!(
            svg,
            r#"<text class="heading" x="{}" y="{}">{}</text>"#,
            Number(column.x),
            Number(y),
            Xml(line)
        )?;
    }
    for placed in &column.ground {
        let ground = placed.ground;
        let tooltip = format!("{}  {}\n{}", ground.range, ground.range.size(), ground.name);
        writeln!(svg, "<g><title>{}</title>", Xml(&tooltip))?;
        rectangle(svg, "void", placed.rect)?;
        if ground.hole {
            filled(svg, "dots", placed.rect)?;
        }
        write_texts(svg, &placed.texts)?;
        svg.push_str("</g>\n");
    }
    for placed in &column.boxes {
        draw_block(svg, placed, compares)?;
    }
    svg.push_str("</g>\n");
    Ok(())
}

fn draw_block(svg: &mut String, placed: &PlacedBlock<'_>, compares: bool) -> fmt::Result {
    let block = placed.block;
    let (status, was) = match &block.status {
        Status::Same => ("", None),
        Status::Added => ("added", None),
        Status::Removed => ("removed", None),
        Status::Changed { before, .. } => ("changed", Some(before)),
    };
    let group = match compares && block.status == Status::Same {
        true => r#" class="same""#,
        false => "",
    };
    let mut tooltip = format!("{}  {}\n{}", block.range, block.range.size(), block.text());
    if !status.is_empty() {
        write!(tooltip, "\n{status}")?;
    }
    if let Some(was) = was {
        write!(tooltip, ", was {was}")?;
    }
    writeln!(svg, "<g{group}><title>{}</title>", Xml(&tooltip))?;
    let class = class(block.look);
    let rect = placed.rect;
    rectangle(svg, format!("box {class} {status}").trim_end(), rect)?;
    if block.look.read_only {
        filled(svg, "lines", rect)?;
    }
    if !status.is_empty() {
        let bar = Rect { width: 4.0, ..rect };
        rectangle(svg, &format!("bar {status}"), bar)?;
    }
    if let Some((from, to)) = placed.leader {
        let y = Number(rect.middle());
        let (from, to) = (Number(from), Number(to));
        writeln!(svg, r#"<path class="leader" d="M{from} {y}H{to}"/>"#)?;
    }
    write_texts(svg, &placed.texts)?;
    svg.push_str("</g>\n");
    Ok(())
}

fn class(look: Look) -> String {
    let fill = match look.fill {
        Fill::Hue(index) => format!("hue{}", index % HUES),
        Fill::Neutral => "neutral".to_owned(),
        Fill::Frame => "frame".to_owned(),
        Fill::Alarm => "alarm".to_owned(),
    };
    match look.faded && look.fill != Fill::Frame {
        true => format!("{fill} faded"),
        false => fill,
    }
}

fn rectangle(svg: &mut String, class: &str, rect: Rect) -> fmt::Result {
    writeln!(
        svg,
        r#"<rect class="{class}" x="{}" y="{}" width="{}" height="{}" rx="3"/>"#,
        Number(rect.x),
        Number(rect.y),
        Number(rect.width),
        Number(rect.height)
    )
}

fn filled(svg: &mut String, pattern: &str, rect: Rect) -> fmt::Result {
    writeln!(
        svg,
        r#"<rect fill="url(#{pattern})" x="{}" y="{}" width="{}" height="{}" rx="3"/>"#,
        Number(rect.x),
        Number(rect.y),
        Number(rect.width),
        Number(rect.height)
    )
}

fn write_texts(svg: &mut String, texts: &[Text]) -> fmt::Result {
    for text in texts {
        writeln!(
            svg,
            r#"<text class="{}" x="{}" y="{}">{}</text>"#,
            text.class,
            Number(text.rect.x),
            Number(text.rect.middle() + 4.0),
            Xml(&text.text)
        )?;
    }
    Ok(())
}

/// An entry of the legend.
struct Sample {
    x: f64,
    y: f64,
    class: String,
    pattern: Option<&'static str>,
    text: String,
}

/// Sets the legend below the columns, in as many lines as it takes.
fn legend(picture: &Picture, layout: &Layout<'_>, compares: bool) -> Vec<Sample> {
    let mut entries: Vec<(String, Option<&'static str>, String)> = Vec::new();
    if compares {
        for status in ["added", "removed", "changed"] {
            entries.push((format!("bar {status}"), None, status.to_owned()));
        }
    }
    let named = picture.backings.iter().take(NAMED).enumerate();
    entries
        .extend(named.map(|(index, name)| (format!("box hue{}", index % HUES), None, clean(name))));
    if let Some(more @ 1..) = picture.backings.len().checked_sub(NAMED) {
        entries.push(("void".to_owned(), None, format!("{more} more backings")));
    }
    let has = |is: &dyn Fn(&Look) -> bool| {
        let mut blocks = picture.columns.iter().flat_map(|column| &column.blocks);
        blocks.any(|block| is(&block.look))
    };
    if has(&|look| look.read_only) {
        entries.push((
            "box neutral".to_owned(),
            Some("lines"),
            "read-only".to_owned(),
        ));
    }
    if has(&|look| look.faded && look.fill != Fill::Frame) {
        entries.push(("box neutral faded".to_owned(), None, "hidden".to_owned()));
    }
    if has(&|look| look.fill == Fill::Frame) {
        entries.push((
            "box frame".to_owned(),
            None,
            "unmapped, or without mappings".to_owned(),
        ));
    }
    let mut holes = picture.columns.iter().flat_map(|column| &column.ground);
    if holes.any(|ground| ground.hole) {
        entries.push((
            "void".to_owned(),
            Some("dots"),
            "hole in a region".to_owned(),
        ));
    }
    let left = layout.axis.x + 11.0;
    let limit = layout.width - 24.0;
    let (mut x, mut y) = (left, layout.bottom + 30.0);
    let samples = entries.into_iter().map(|(class, pattern, text)| {
        let width = 20.0 + text_width(&text);
        if x > left && x + width > limit {
            x = left;
            y += LINE + 6.0;
        }
        let sample = Sample {
            x,
            y,
            class,
            pattern,
            text,
        };
        x += width + 20.0;
        sample
    });
    samples.collect()
}

fn swatch(svg: &mut String, sample: &Sample) -> fmt::Result {
    let rect = Rect {
        x: sample.x,
        y: sample.y - FONT + 1.0,
        width: 14.0,
        height: FONT,
    };
    rectangle(svg, &sample.class, rect)?;
    if let Some(pattern) = sample.pattern {
        filled(svg, pattern, rect)?;
    }
    writeln!(
        svg,
        r#"<text class="legend" x="{}" y="{}">{}</text>"#,
        Number(sample.x + 20.0),
        Number(sample.y),
        Xml(&sample.text)
    )
}

/// Writes a coordinate with no more digits than can be seen.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{rounded}")
    }
}

/// Writes text so that it is text in XML, whatever it contains.
struct Xml<'a>(&'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\n' => f.write_str("\n")?,
                // No XML document may contain these, not even escaped.
                letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                    f.write_char(char::REPLACEMENT_CHARACTER)?;
                }
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}
