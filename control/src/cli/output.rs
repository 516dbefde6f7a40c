//! Answers on standard output: tables as kubectl has them, JSON, YAML.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::args::Format;
use super::error::CliError;

/// What stands in a cell without content.
pub(super) const NONE: &str = "<none>";

/// Writes answers in the chosen format.
pub(super) struct Printer<'a> {
    format: Format,
    out: &'a mut dyn Write,
}

impl<'a> Printer<'a> {
    pub(super) fn new(format: Format, out: &'a mut dyn Write) -> Self {
        Self { format, out }
    }

    pub(super) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(CliError::Write)
    }

    /// One line for people; programs get `value`.
    pub(super) fn done(&mut self, value: &Value, line: &str) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.raw(format!("{line}\n").as_bytes()),
            _ => self.value(value),
        }
    }

    /// The API's own answer.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), CliError> {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(value).expect("a JSON value can be written as YAML"),
            _ => serde_json::to_string_pretty(value).expect("a JSON value can be written") + "\n",
        };
        self.raw(text.as_bytes())
    }

    /// A table; programs get `value`.
    pub(super) fn table(
        &mut self,
        value: &Value,
        header: &[&str],
        rows: Vec<Vec<String>>,
        empty: &str,
    ) -> Result<(), CliError> {
        if self.format != Format::Table {
            return self.value(value);
        }
        if rows.is_empty() {
            return self.raw(format!("{empty}\n").as_bytes());
        }
        self.raw(table_text(header, rows).as_bytes())
    }

    /// Names and values, one per line; programs get `value`.
    pub(super) fn details(&mut self, value: &Value, lines: &[(&str, String)]) -> Result<(), CliError> {
        if self.format != Format::Table {
            return self.value(value);
        }
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        let mut text = String::new();
        for (name, content) in lines {
            let label = if name.is_empty() { String::new() } else { format!("{name}:") };
            let content = if content.is_empty() { NONE } else { content };
            text.push_str(&format!("{label:width$}  {content}\n"));
        }
        self.raw(text.as_bytes())
    }
}

/// Upper-case header, no borders, three blanks between columns, never cut off.
pub(super) fn table_text(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 3));
    });
    table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A list in one cell.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { NONE.to_owned() } else { items.join(",") }
}

/// An optional value in one cell.
pub(super) fn or_none(item: Option<impl ToString>) -> String {
    item.map_or_else(|| NONE.to_owned(), |item| item.to_string())
}
