//! Aligned columns that fit a terminal of 80 columns.

use crate::log::escape;

/// What a table may take of a line.
const WIDTH: usize = 80;
/// No column is cut below this.
const NARROWEST: usize = 8;
/// What stands in front of a note.
const INDENT: &str = "    ";

/// One row: a cell for each column, and a sentence that is printed below them in full.
pub(super) struct Row<const N: usize> {
    pub(super) cells: [String; N],
    pub(super) note: String,
}

/// The rows under their columns' names; empty where there are no rows. Columns that hold nothing are left out, and the
/// widest are cut until a line fits. Control characters are escaped.
pub(super) fn table<const N: usize>(
    names: [&str; N],
    rows: impl Iterator<Item = Row<N>>,
) -> String {
    let rows: Vec<Row<N>> = rows.map(printable).collect();
    if rows.is_empty() {
        return String::new();
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.max().filter(|&widest| widest > 0)
    };
    // A column that is left out has no width.
    let widths: [Option<usize>; N] =
        std::array::from_fn(|column| Some(width(column)?.max(names[column].len())));
    let widths = fit(widths);
    let mut text = line(&names.map(str::to_owned), &widths);
    for row in &rows {
        text.push_str(&line(&row.cells, &widths));
        text.push_str(&wrap(&row.note));
    }
    text
}

fn printable<const N: usize>(row: Row<N>) -> Row<N> {
    Row {
        cells: row.cells.map(|cell| escape(&cell).into_owned()),
        note: escape(&row.note).into_owned(),
    }
}

fn line<const N: usize>(cells: &[String; N], widths: &[Option<usize>; N]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .filter_map(|(cell, width)| width.map(|width| format!("{:<width$}", cut(cell, width))))
        .collect();
    padded.join("  ").trim_end().to_owned() + "\n"
}

/// Takes from the widest column, again and again, until all fit into a line with two blanks between them.
fn fit<const N: usize>(mut widths: [Option<usize>; N]) -> [Option<usize>; N] {
    let gaps = widths.iter().flatten().count().saturating_sub(1);
    while widths.iter().flatten().sum::<usize>() + 2 * gaps > WIDTH {
        match widths.iter_mut().flatten().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// The note in indented lines, broken between words; a word that is longer than a line stays whole.
fn wrap(note: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in note.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{INDENT}{word}")),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N], note: &str) -> Row<N> {
        Row {
            cells: cells.map(str::to_owned),
            note: note.to_owned(),
        }
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let rows = [row(["a", "", "1"], ""), row(["bcd", "", "two"], "")];
        assert_eq!(
            table(["NAME", "GONE", "N"], rows.into_iter()),
            "NAME  N\na     1\nbcd   two\n"
        );
        assert_eq!(table(["NAME"], std::iter::empty()), "");
    }

    #[test]
    fn the_widest_column_is_cut_and_a_note_is_wrapped() {
        let (long, words) = ("é".repeat(100), "word ".repeat(30));
        let text = table(["A", "B"], [row([&long, "short"], &words)].into_iter());
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [76, 80, 78, 78], "{text}");
        assert_eq!(
            text.matches("word").count(),
            30,
            "no word of a note is lost"
        );
        assert!(text.contains("é…  short"), "{text}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = table(["A"], [row(["a\x1b[2J"], "b\rc")].into_iter());
        assert_eq!(text, "A\na\\u{1b}[2J\n    b\\rc\n");
    }
}
