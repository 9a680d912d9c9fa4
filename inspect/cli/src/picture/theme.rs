//! The colours of a drawing.

use std::fmt::Write as _;

/// Tells whether a drawing is dark or light.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Theme {
    /// As whoever looks at it prefers (`prefers-color-scheme`); light where that is not known.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// How many hues there are. More backings than that share them.
pub(crate) const HUES: usize = 8;

struct Palette {
    ground: &'static str,
    text: &'static str,
    muted: &'static str,
    rule: &'static str,
    gap: &'static str,
    neutral: (&'static str, &'static str),
    alarm: (&'static str, &'static str),
    hatch: &'static str,
    /// Fill and frame.
    hues: [(&'static str, &'static str); HUES],
    added: &'static str,
    removed: &'static str,
    changed: &'static str,
}

const LIGHT: Palette = Palette {
    ground: "#ffffff",
    text: "#1b2330",
    muted: "#667085",
    rule: "#e4e8ee",
    gap: "#f6f7f9",
    neutral: ("#eceff3", "#93a0b2"),
    alarm: ("#fde0dd", "#cf222e"),
    hatch: "#1b2330",
    hues: [
        ("#dbe9fb", "#3b78c9"),
        ("#e8dffb", "#7b53c9"),
        ("#fde6cf", "#c9772a"),
        ("#d3f1ea", "#1d8f78"),
        ("#fbdcea", "#c23f80"),
        ("#e6f2cc", "#6b8e1f"),
        ("#d5eff7", "#2487a5"),
        ("#efe3d6", "#94683a"),
    ],
    added: "#1a7f37",
    removed: "#cf222e",
    changed: "#b35900",
};

const DARK: Palette = Palette {
    ground: "#0d1117",
    text: "#e6edf3",
    muted: "#93a0b1",
    rule: "#222a35",
    gap: "#131922",
    neutral: ("#212a36", "#5f6e82"),
    alarm: ("#4a1d20", "#ff7b72"),
    hatch: "#e6edf3",
    hues: [
        ("#17355a", "#6ea5ec"),
        ("#32285c", "#a68af0"),
        ("#4d3311", "#e5a15a"),
        ("#0f4037", "#4cc2aa"),
        ("#4d1f39", "#ee7fb2"),
        ("#344212", "#a9cc55"),
        ("#103c4c", "#5dc0de"),
        ("#412f1e", "#cb9e6d"),
    ],
    added: "#3fb950",
    removed: "#ff7b72",
    changed: "#e3a03c",
};

impl Theme {
    /// Writes the style sheet. It names each colour where it is used, rather than by a variable,
    /// which not every program that shows SVG knows.
    pub(crate) fn style(self) -> String {
        let mut css = String::from(SHAPES);
        match self {
            Self::Light => css.push_str(&LIGHT.rules("")),
            Self::Dark => css.push_str(&DARK.rules("")),
            Self::Auto => {
                // What of the window the drawing leaves free follows, too.
                css.push_str(":root { color-scheme: light dark; }\n");
                css.push_str(&LIGHT.rules(""));
                css.push_str("@media (prefers-color-scheme: dark) {\n");
                css.push_str(&DARK.rules("  "));
                css.push_str("}\n");
            }
        }
        css
    }
}

/// What does not depend on the theme.
const SHAPES: &str = "\
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; \
white-space: pre; }
.title { font: 600 17px system-ui, 'Segoe UI', Helvetica, 'DejaVu Sans', sans-serif; }
.subtitle { font: 12px system-ui, 'Segoe UI', Helvetica, 'DejaVu Sans', sans-serif; }
.heading { font-weight: 600; }
.name { font-weight: 600; }
.gap { font-style: italic; }
.box { stroke-width: 1; }
.faded { fill-opacity: 0.4; stroke-dasharray: 3 2; }
.frame { fill: none; stroke-dasharray: 3 2; }
.leader { fill: none; stroke-width: 0.8; }
.rule { stroke-width: 1; }
.hatch { stroke-opacity: 0.16; stroke-width: 2; }
.dots { fill-opacity: 0.28; }
.same { opacity: 0.5; }
.added, .removed, .changed { stroke-width: 2; }
.removed { stroke-dasharray: 5 3; fill-opacity: 0.25; }
.bar { fill-opacity: 1; }
";

impl Palette {
    fn rules(&self, indent: &str) -> String {
        let mut css = String::new();
        let mut rule = |selector: &str, fill: &str, stroke: &str| {
            let fill = match fill {
                "" => String::new(),
                fill => format!(" fill: {fill};"),
            };
            let stroke = match stroke {
                "" => String::new(),
                stroke => format!(" stroke: {stroke};"),
            };
            // Writing to a string never fails.
            let _ = writeln!(css, "{indent}{selector} {{{fill}{stroke} }}");
        };
        rule(".ground", self.ground, "");
        rule("text", self.text, "");
        rule(
            ".subtitle, .detail, .size, .gap, .address, .was, .legend",
            self.muted,
            "",
        );
        rule(".rule", "", self.rule);
        rule(".leader", "", self.muted);
        rule(".void", self.gap, "");
        rule(".hatch", "", self.hatch);
        rule(".dots", self.hatch, "");
        rule(".neutral", self.neutral.0, self.neutral.1);
        rule(".alarm", self.alarm.0, self.alarm.1);
        rule(".frame", "none", self.muted);
        for (index, (fill, stroke)) in self.hues.iter().enumerate() {
            rule(&format!(".hue{index}"), fill, stroke);
        }
        rule("rect.added", "", self.added);
        rule("rect.removed", "", self.removed);
        rule("rect.changed", "", self.changed);
        rule(".bar.added", self.added, "none");
        rule(".bar.removed", self.removed, "none");
        rule(".bar.changed", self.changed, "none");
        css
    }
}
