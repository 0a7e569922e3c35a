//! The picture of a move: how many people had come to the new rooms, over time, as a PNG. Pure.
//!
//! It is looked at on phones, in dark and in light themes: a ground of its own, few and large words.
//! The font comes with the program. Left out: the numbers in words, which stand below the picture.

use std::sync::Once;

use jiff::Timestamp;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Width of a picture, in pixels.
pub(crate) const WIDTH: u32 = 1000;

/// Height of a picture, in pixels.
pub(crate) const HEIGHT: u32 = 600;

/// Lines with a name of their own; a picture with more is not legible, and shows the largest rooms.
pub(crate) const LINES_MAX: usize = 6;

/// Points of one line; more cannot be seen.
const POINTS_MAX: usize = 500;

const GROUND: RGBColor = RGBColor(0x1b, 0x1f, 0x27);
const WORDS: RGBColor = RGBColor(0xf0, 0xf2, 0xf5);
const GRID: RGBColor = RGBColor(0x3a, 0x41, 0x4e);

/// Colours that people with colour blindness can tell apart on a dark ground.
/// Source: Okabe and Ito, "Color Universal Design".
const COLOURS: [RGBColor; LINES_MAX] = [
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0xc0, 0x8b),
    RGBColor(0xf0, 0xe4, 0x42),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xff, 0x7f, 0x50),
];

const FONT: &str = "sans-serif";

/// Sizes of words, in pixels.
const TITLE_SIZE: i32 = 40;
const WORD_SIZE: i32 = 30;

/// Longest name of a room in the picture, in characters.
const NAME_CHARS_MAX: usize = 24;

/// A room in the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its name. A picture of one room has it in the title.
    pub name: String,
    /// When people came, in order.
    pub arrivals: Vec<Timestamp>,
    /// How many could have come.
    pub expected: usize,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    /// It cannot be drawn.
    #[error("cannot draw the picture: {0}")]
    Draw(String),
    /// It cannot be written as a PNG.
    #[error("cannot write the picture")]
    Write(#[from] png::EncodingError),
}

/// A picture of rooms from one moment to another.
///
/// # Errors
/// When it cannot be drawn, which is a bug.
pub(crate) fn png(lines: &[Line], from: Timestamp, to: Timestamp) -> Result<Vec<u8>, PictureError> {
    let mut pixels = vec![0; WIDTH as usize * HEIGHT as usize * 3];
    draw(&mut pixels, lines, from, to).map_err(|error| PictureError::Draw(error.to_string()))?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

type DrawError = Box<dyn std::error::Error>;

fn draw(
    pixels: &mut [u8],
    lines: &[Line],
    from: Timestamp,
    to: Timestamp,
) -> Result<(), DrawError> {
    static FONT_REGISTERED: Once = Once::new();
    FONT_REGISTERED.call_once(|| {
        // It fails only for a file that is no font.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let lines = largest(lines);
    let scale = Scale::of(from, to);
    let area = BitMapBackend::with_buffer(pixels, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&GROUND)?;
    let words = (FONT, WORD_SIZE).into_font().color(&WORDS);
    let title = match lines.as_slice() {
        [only] => {
            let name = name(&only.name).map_or_else(String::new, |name| name + ": ");
            format!("{name}{} of {} moved", only.arrivals.len(), only.expected)
        }
        lines => format!(
            "{} of {} moved",
            lines.iter().map(|line| line.arrivals.len()).sum::<usize>(),
            lines.iter().map(|line| line.expected).sum::<usize>()
        ),
    };
    // Rooms of different sizes are told apart by the part that moved, one room by its people.
    let is_alone = lines.len() == 1;
    let top = match lines.as_slice() {
        [only] => f64::from(u32::try_from(only.expected.max(1))?),
        _ => 100.0,
    };
    let unit = if is_alone { "" } else { "%" };
    let mut chart = ChartBuilder::on(&area)
        .margin(24)
        .margin_right(44)
        .caption(title, (FONT, TITLE_SIZE).into_font().color(&WORDS))
        .x_label_area_size(56)
        .y_label_area_size(96)
        .build_cartesian_2d(0.0..scale.end, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(WORDS)
        .x_labels(5)
        .y_labels(if top < 5.0 { 2 } else { 5 })
        .x_label_formatter(&|at| scale.label(*at))
        .y_label_formatter(&|number| format!("{number:.0}{unit}"))
        .label_style(words.clone())
        .draw()?;
    for (number, (line, colour)) in (1..).zip(lines.iter().zip(COLOURS)) {
        let all = f64::from(u32::try_from(line.expected.max(1))?);
        let steps = steps(line, &scale)
            .into_iter()
            .map(|(x, people)| (x, people * top / all));
        let series = LineSeries::new(steps, colour.stroke_width(5));
        let drawn = chart.draw_series(series)?;
        if is_alone {
            chart.draw_series(DashedLineSeries::new(
                [(0.0, top), (scale.end, top)],
                12,
                10,
                WORDS.stroke_width(2),
            ))?;
        } else {
            drawn
                .label(format!(
                    "{}: {} of {}",
                    name(&line.name).unwrap_or_else(|| format!("Room {number}")),
                    line.arrivals.len(),
                    line.expected
                ))
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(6))
                });
        }
    }
    if !is_alone {
        chart
            .configure_series_labels()
            .position(free_corner(&lines))
            .background_style(GROUND.mix(0.85))
            .border_style(GRID)
            .legend_area_size(32)
            .label_font(words)
            .draw()?;
    }
    area.present()?;
    Ok(())
}

/// The corner that lines leave free: where most people came they run along the top.
fn free_corner(lines: &[Line]) -> SeriesLabelPosition {
    let moved: usize = lines.iter().map(|line| line.arrivals.len()).sum();
    let expected: usize = lines.iter().map(|line| line.expected).sum();
    if moved * 2 > expected {
        SeriesLabelPosition::LowerRight
    } else {
        SeriesLabelPosition::UpperLeft
    }
}

/// The rooms that have a line of their own, and one for all others.
fn largest(lines: &[Line]) -> Vec<Line> {
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| std::cmp::Reverse(line.expected));
    if lines.len() <= LINES_MAX {
        return lines;
    }
    let rest = lines.split_off(LINES_MAX - 1);
    let mut arrivals: Vec<_> = rest.iter().flat_map(|line| line.arrivals.clone()).collect();
    arrivals.sort();
    lines.push(Line {
        name: format!("{} other rooms", rest.len()),
        arrivals,
        expected: rest.iter().map(|line| line.expected).sum(),
    });
    lines
}

/// A name that fits into the picture; `None` where the font has no letters for it.
fn name(name: &str) -> Option<String> {
    // Latin, Greek and Cyrillic letters; boxes in the place of others would say nothing.
    let has_letters = |c: &char| *c < '\u{530}' && !c.is_control();
    let clean: String = name.chars().filter(has_letters).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = clean.chars().take(NAME_CHARS_MAX).collect();
    if clean.chars().nth(NAME_CHARS_MAX).is_some() {
        short.push('…');
    }
    short.chars().any(char::is_alphanumeric).then_some(short)
}

/// A line that rises at each arrival and runs on to the right edge.
fn steps(line: &Line, scale: &Scale) -> Vec<(f64, f64)> {
    let all = line.arrivals.len();
    let stride = all.div_ceil(POINTS_MAX).max(1);
    let mut steps = vec![(0.0, 0.0)];
    let mut height = 0.0;
    for (index, at) in line.arrivals.iter().enumerate() {
        let count = index + 1;
        if count % stride != 0 && count != all {
            continue;
        }
        let x = scale.x(*at);
        steps.push((x, height));
        height = u32::try_from(count).map_or(height, f64::from);
        steps.push((x, height));
    }
    steps.push((scale.end, height));
    steps
}

/// Time from the left to the right edge.
struct Scale {
    from: Timestamp,
    /// Of the right edge, in units.
    end: f64,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Minutes => 60.0,
            Self::Hours => 3_600.0,
            Self::Days => 86_400.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Minutes => "min",
            Self::Hours => "h",
            Self::Days => "d",
        }
    }
}

impl Scale {
    fn of(from: Timestamp, to: Timestamp) -> Self {
        // A clock that was set back leaves nothing to be shown, but no picture is worse.
        let seconds = to.duration_since(from).as_secs_f64().max(1.0);
        let unit = match seconds {
            0.0..300.0 => Unit::Seconds,
            300.0..10_800.0 => Unit::Minutes,
            10_800.0..259_200.0 => Unit::Hours,
            _ => Unit::Days,
        };
        Self {
            from,
            end: seconds / unit.seconds(),
            unit,
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let seconds = at.duration_since(self.from).as_secs_f64();
        (seconds / self.unit.seconds()).clamp(0.0, self.end)
    }

    fn label(&self, at: f64) -> String {
        let whole = (at - at.round()).abs() < 0.05;
        let number = if whole {
            format!("{at:.0}")
        } else {
            format!("{at:.1}")
        };
        format!("{number} {}", self.unit.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn line(name: &str, seconds: &[i64], expected: usize) -> Line {
        Line {
            name: name.to_owned(),
            arrivals: seconds.iter().map(|second| at(*second)).collect(),
            expected,
        }
    }

    /// The picture as it comes out of a decoder.
    fn seen(lines: &[Line], from: i64, to: i64) -> Vec<u8> {
        let bytes = png(lines, at(from), at(to)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes))
            .read_info()
            .unwrap();
        assert_eq!((reader.info().width, reader.info().height), (WIDTH, HEIGHT));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        // To be looked at: `ROOMLIFT_PICTURES=folder cargo test picture`.
        if let Ok(folder) = std::env::var("ROOMLIFT_PICTURES") {
            let path = format!("{folder}/{}-{to}.png", lines.len());
            std::fs::write(path, &bytes).unwrap();
        }
        pixels
    }

    fn has(pixels: &[u8], colour: RGBColor) -> usize {
        let colour = [colour.0, colour.1, colour.2];
        pixels.chunks(3).filter(|pixel| *pixel == colour).count()
    }

    #[test]
    fn one_room_has_a_line_words_and_a_ground_of_its_own() {
        let day = 86_400;
        let arrivals: Vec<_> = (0..41_i64).map(|n| n * n * 500).collect();
        let pixels = seen(&[line("Café ☕ & gardening", &arrivals, 50)], 0, 11 * day);
        assert!(has(&pixels, GROUND) > 300_000);
        assert!(has(&pixels, COLOURS[0]) > 2_000, "the line");
        assert!(has(&pixels, WORDS) > 2_000, "axes and words");
    }

    #[test]
    fn rooms_of_a_campaign_have_a_colour_each() {
        let lines: Vec<_> = (1..=9)
            .map(|n| {
                let arrivals: Vec<_> = (0..n * 5).map(|m| m * 600 + n * 100).collect();
                line(&format!("Room number {n}"), &arrivals, 60)
            })
            .collect();
        // Legible when few have come and when most have.
        let most: Vec<_> = lines
            .iter()
            .map(|line| Line {
                expected: line.arrivals.len() + 3,
                ..line.clone()
            })
            .collect();
        for (lines, to) in [(lines, 40_000), (most, 60_000)] {
            let pixels = seen(&lines, 0, to);
            for colour in COLOURS {
                assert!(has(&pixels, colour) > 500, "{colour:?}");
            }
        }
    }

    #[test]
    fn names_have_only_what_the_font_has() {
        for (given, shown) in [
            ("Café ☕ & gardening", Some("Café & gardening")),
            ("Чат о Rust", Some("Чат о Rust")),
            ("日本語", None),
            ("🎉", None),
            ("", None),
            (
                "A name that is much longer than that",
                Some("A name that is much long…"),
            ),
        ] {
            assert_eq!(name(given).as_deref(), shown, "{given}");
        }
    }

    #[test]
    fn odd_numbers_make_a_picture_all_the_same() {
        for (lines, from, to) in [
            (vec![], 0, 10),
            (vec![line("", &[], 0)], 0, 0),
            (vec![line("x", &[5], 1)], 9, 3),
            (vec![line("x", &[-5, 99_999_999], 2)], 0, 60),
            (vec![line("x", &[0; 10_000], 10_000)], 0, 90_000_000),
        ] {
            seen(&lines, from, to);
        }
    }
}
