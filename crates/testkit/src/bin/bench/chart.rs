//! Line charts as SVG, both axes logarithmic. Text and lines take the colour of the page around them, or follow the
//! reader's preference for light or dark if the image is shown alone.

use std::fmt::{self, Write};

use crate::growth::{Growth, Line};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 52.0;
/// Readable on white and on black, and different in brightness and in the form of the points.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}\
.grid{stroke:#8c959f;stroke-opacity:.35}.s0{stroke:#0969da;fill:#0969da}.s1{stroke:#bc4c00;fill:#bc4c00}\
.s2{stroke:#6e7781;fill:#6e7781;stroke-dasharray:4 4}.line{fill:none;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s0{stroke:#58a6ff;fill:#58a6ff}.s1{stroke:#f0883e;fill:#f0883e}\
.s2{stroke:#9198a1;fill:#9198a1}}";

/// The range of an axis, in powers of ten.
struct Axis {
    first: f64,
    last: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut first, mut last) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            first = first.min(value.log10().floor());
            last = last.max(value.log10().ceil());
        }
        Self { first, last: last.max(first + 1.0) }
    }

    /// From 0 to 1.
    fn part(&self, value: f64) -> f64 {
        (value.log10() - self.first) / (self.last - self.first)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        let (mut power, last) = (self.first, self.last);
        std::iter::from_fn(move || {
            let this = power;
            power += 1.0;
            (this <= last).then(|| 10_f64.powf(this))
        })
    }
}

/// Nothing is where a logarithmic axis has no place: it is shown as one.
fn size(count: u32) -> f64 {
    f64::from(count.max(1))
}

fn x(axis: &Axis, count: u32) -> f64 {
    LEFT + axis.part(size(count)) * (WIDTH - LEFT - RIGHT)
}

fn y(axis: &Axis, milliseconds: f64) -> f64 {
    HEIGHT - BOTTOM - axis.part(milliseconds) * (HEIGHT - TOP - BOTTOM)
}

/// The chart of a growth.
pub(crate) fn draw(growth: &Growth) -> Result<String, fmt::Error> {
    let points = || growth.lines.iter().flat_map(|line| &line.points);
    let across = Axis::over(points().map(|(count, _)| size(*count)));
    let up = Axis::over(points().map(|(_, milliseconds)| *milliseconds));
    let title = format!("Time of a publish (p50) by {}", growth.of);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">{title}</title>\n<desc id=\"d\">{}</desc>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>\n",
        described(growth)?
    );
    for power in across.powers() {
        let at = LEFT + across.part(power) * (WIDTH - LEFT - RIGHT);
        let (bottom, label) = (HEIGHT - BOTTOM, number(power));
        writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>")?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0)?;
    }
    for power in up.powers() {
        let (at, right) = (y(&up, power), WIDTH - RIGHT);
        writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>")?;
        let label = number(power);
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label} ms</text>", LEFT - 8.0, at + 4.0)?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 12.0, growth.of)?;
    for (number, line) in growth.lines.iter().enumerate() {
        draw_line(&mut svg, number, line, &across, &up)?;
    }
    svg += "</svg>\n";
    Ok(svg)
}

fn draw_line(svg: &mut String, number: usize, line: &Line, across: &Axis, up: &Axis) -> fmt::Result {
    let points: Vec<_> = line.points.iter().map(|(count, time)| (x(across, *count), y(up, *time))).collect();
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    writeln!(svg, "<path class=\"line s{number}\" d=\"M{}\"/>", path.join("L"))?;
    let legend = [LEFT, LEFT + 110.0, LEFT + 330.0][number.min(2)];
    for (x, y) in points.into_iter().chain([(legend + 6.0, 43.0)]) {
        match number {
            0 => writeln!(svg, "<circle class=\"s0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")?,
            1 => writeln!(svg, "<path class=\"s1\" d=\"M{:.1} {:.1}h8v8h-8z\"/>", x - 4.0, y - 4.0)?,
            _ => writeln!(svg, "<circle class=\"s2\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>")?,
        }
    }
    writeln!(svg, "<text x=\"{}\" y=\"48\">{}</text>", legend + 16.0, line.name)
}

/// The same in words.
fn described(growth: &Growth) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for Line { name, points } in &growth.lines {
        let mut separator = "";
        write!(text, "{name}: ")?;
        for (count, milliseconds) in points {
            write!(text, "{separator}{milliseconds:.3} ms at {count}")?;
            separator = ", ";
        }
        text += ". ";
    }
    Ok(text.trim_end().to_owned())
}

/// A power of ten.
fn number(power: f64) -> String {
    if power < 1.0 { power.to_string() } else { thousands(&format!("{power:.0}")) }
}

fn thousands(digits: &str) -> String {
    let place = |(index, digit): (usize, char)| {
        let comma = index > 0 && (digits.len() - index).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(points: &[(u32, f64)]) -> Growth {
        let line = Line { name: "one".to_owned(), points: points.to_vec() };
        Growth { of: "things".to_owned(), lines: vec![line] }
    }

    #[test]
    fn a_tenfold_value_is_one_step_further() {
        let svg = draw(&growth(&[(1, 0.1), (10, 1.0), (100, 10.0)])).unwrap();
        let path = svg.lines().find(|line| line.contains("class=\"line s0\"")).unwrap();
        assert!(path.contains("M70.0 348.0L385.0 212.0L700.0 76.0"), "{path}");
    }

    #[test]
    fn nothing_is_drawn_where_one_is() {
        let svg = draw(&growth(&[(0, 0.1), (1, 0.1), (10, 0.2)])).unwrap();
        assert!(svg.contains("M70.0 348.0L70.0 348.0L"), "{svg}");
    }

    #[test]
    fn a_reader_who_sees_nothing_learns_every_value() {
        let svg = draw(&growth(&[(1, 0.25), (50_000, 131.5)])).unwrap();
        assert!(svg.contains("one: 0.250 ms at 1, 131.500 ms at 50000."), "{svg}");
        assert!(svg.contains(">100,000<") && svg.contains("role=\"img\""), "{svg}");
    }
}
