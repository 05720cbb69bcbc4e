//! Volumes as a table, or as paragraphs if there is no room for one.

use std::fmt::Write;

use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::go_duration::short;
use svid_csi_core::quoted::one_line;

use super::answer::VolumeRow;

/// Narrower output has a paragraph for each volume.
const NARROW: usize = 100;
const HEADS: [&str; 7] = ["NODE", "POD", "STATE", "LEFT", "PLAN", "SERIAL", "SPIFFE ID"];
/// The column with the state.
const STATE: usize = 2;

pub(super) fn rows(rows: &[(&str, &VolumeRow)], width: Option<usize>, is_coloured: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "\n".to_owned();
    match width {
        Some(width) if width < NARROW => rows.iter().for_each(|row| paragraph(&mut text, *row, is_coloured)),
        _ => table(&mut text, rows, is_coloured),
    }
    text
}

fn table(text: &mut String, rows: &[(&str, &VolumeRow)], is_coloured: bool) {
    let all: Vec<_> = rows.iter().map(|row| cells(*row)).collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).chain([HEADS[column].len()]).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEADS.len()).map(width).collect();
    let mut line = |cells: [&str; 7], volume: Option<&VolumeRow>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padded = format!("{cell:width$}  ");
            match volume.filter(|_| column == STATE) {
                Some(volume) => line += &painted(&padded, volume, is_coloured),
                None => line += &padded,
            }
        }
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(HEADS, None);
    for ((_, volume), cells) in rows.iter().zip(&all) {
        line(cells.each_ref().map(String::as_str), Some(volume));
    }
    for (_, volume) in rows {
        if let Some(why) = &volume.why {
            let _ = writeln!(text, "{}: {}", one_line(about(volume)), one_line(why));
        }
    }
}

fn paragraph(text: &mut String, row: (&str, &VolumeRow), is_coloured: bool) {
    let [node, pod, state, left, plan, _, spiffe_id] = cells(row);
    let state = painted(&state, row.1, is_coloured);
    let _ = writeln!(text, "{pod}\n  {state}, {left} left\n  {plan}\n  {spiffe_id}\n  {node}");
    if let Some(why) = &row.1.why {
        let _ = writeln!(text, "  {}", one_line(why));
    }
}

fn cells((node, volume): (&str, &VolumeRow)) -> [String; 7] {
    let or_dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), one_line);
    let left = volume
        .seconds_left
        .map_or_else(|| "-".to_owned(), |seconds| u64::try_from(seconds).map_or_else(|_| "over".to_owned(), short));
    [
        one_line(node),
        one_line(about(volume)),
        one_line(&volume.state),
        left,
        one_line(&volume.plan),
        or_dash(&volume.serial),
        or_dash(&volume.spiffe_id),
    ]
}

fn about(volume: &VolumeRow) -> &str {
    volume.pod.as_deref().unwrap_or(&volume.id)
}

fn painted(text: &str, volume: &VolumeRow, is_coloured: bool) -> String {
    let colour = match volume.known_state() {
        _ if !is_coloured => return text.to_owned(),
        Some(VolumeState::Ok) => 32,
        Some(VolumeState::Expired | VolumeState::Missing | VolumeState::Untrusted) => 31,
        Some(VolumeState::Starting | VolumeState::Renewing | VolumeState::Removing) | None => 33,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}
