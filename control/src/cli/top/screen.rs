//! The live view.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::rates::{self, HEADER, Rates};
use crate::cli::error::CliError;
use crate::service::{StatsView, SubsystemReading};

/// Shows one reading after the other until `q`, Escape or Ctrl-C.
pub(super) fn run(
    interval: Duration,
    mut read: impl FnMut() -> Result<StatsView, CliError>,
) -> Result<(), CliError> {
    let mut earlier = read()?;
    let mut terminal = ratatui::try_init().map_err(CliError::Terminal)?;
    let result = watch(&mut terminal, interval, &mut earlier, &mut read);
    ratatui::restore();
    result
}

fn watch(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    earlier: &mut StatsView,
    read: &mut dyn FnMut() -> Result<StatsView, CliError>,
) -> Result<(), CliError> {
    let mut shown = Vec::new();
    let mut status = status_line(earlier);
    loop {
        terminal.draw(|frame| draw(frame, &shown, &status)).map_err(CliError::Terminal)?;
        if left(interval)? {
            return Ok(());
        }
        let later = read()?;
        shown = rates::between(earlier, &later);
        status = status_line(&later);
        *earlier = later;
    }
}

/// Waits for the interval; true when a key said to leave.
fn left(interval: Duration) -> Result<bool, CliError> {
    let end = Instant::now() + interval;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        if !event::poll(rest).map_err(CliError::Terminal)? {
            break;
        }
        if let Event::Key(key) = event::read().map_err(CliError::Terminal)?
            && key.kind == KeyEventKind::Press
        {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn status_line(stats: &StatsView) -> String {
    let cores: Vec<String> = stats
        .cores
        .iter()
        .map(|core| {
            let all_seconds = (core.busy_seconds + core.idle_seconds).max(f64::MIN_POSITIVE);
            format!("core {} {:.0} % busy", core.core, 100.0 * core.busy_seconds / all_seconds)
        })
        .collect();
    let StatsView { sessions, controllers, connections, .. } = stats;
    format!(
        "{sessions} sessions, {controllers} controllers, {connections} connections; since start: {}   (q quits)\n{}",
        cores.join(", "),
        subsystem_line(stats)
    )
}

/// Who is served over NVMe/TCP; subsystems that nobody is connected to are left out.
fn subsystem_line(stats: &StatsView) -> String {
    let used = stats.subsystems.iter().filter(|subsystem| subsystem.controllers > 0);
    let parts: Vec<String> = used
        .map(|reading| {
            let SubsystemReading { subsystem, core, controllers, connections } = reading;
            format!("{subsystem} on core {core}: {controllers} controllers, {connections} queues")
        })
        .collect();
    parts.join("; ")
}

fn draw(frame: &mut Frame<'_>, rates: &[Rates], status: &str) {
    let [top, body] = Layout::vertical([Constraint::Length(3), Constraint::Min(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(status), top);
    let numeric = |at: usize| if at < 2 { Alignment::Left } else { Alignment::Right };
    let cell = |(at, text): (usize, String)| Cell::new(Text::from(Line::from(text).alignment(numeric(at))));
    let header = Row::new(HEADER.iter().map(ToString::to_string).enumerate().map(cell));
    let rows = rates.iter().map(|rates| Row::new(rates.cells().into_iter().enumerate().map(cell)));
    let name = rates.iter().map(|rates| rates.volume.len()).max().unwrap_or(0).max(HEADER[0].len());
    let name = u16::try_from(name).unwrap_or(u16::MAX);
    let widths = [Constraint::Length(name), Constraint::Length(9)].into_iter();
    let widths = widths.chain(std::iter::repeat_n(Constraint::Length(9), HEADER.len() - 2));
    let table = Table::new(rows, widths).header(header.style(Style::new().add_modifier(Modifier::BOLD)));
    frame.render_widget(table, body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn a_screen_shows_every_volume_and_every_column() {
        let rates = Rates {
            volume: "data-1".to_owned(),
            operation: "write".to_owned(),
            operations_per_second: 123_456.0,
            megabytes_per_second: 505.7,
            errors: 1,
            mean_us: 20.0,
            p50_us: 18.5,
            p99_us: 41.0,
            p999_us: 1_250.0,
            max_us: 3_000_000.0,
        };
        let subsystem = SubsystemReading {
            subsystem: "nqn.2026-11.io.vega:s".parse().unwrap(),
            core: 1,
            controllers: 3,
            connections: 27,
        };
        let idle = SubsystemReading { controllers: 0, core: 9, ..subsystem.clone() };
        let stats = StatsView {
            sessions: 2,
            controllers: 3,
            subsystems: vec![subsystem, idle],
            ..StatsView::default()
        };
        let mut terminal = Terminal::new(TestBackend::new(110, 6)).unwrap();
        terminal.draw(|frame| draw(frame, &[rates], &status_line(&stats))).unwrap();
        let text: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        for part in [
            "2 sessions, 3 controllers",
            "vega:s on core 1: 3 controllers, 27 queues",
            "VOLUME",
            "P99.9",
            "data-1",
            "123456",
            "505.7",
            "18.5us",
            "1.25ms",
            "3.00s",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("core 9"), "{text}");
    }
}
