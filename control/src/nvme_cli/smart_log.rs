//! `nvme smart-log`.

use nvme_spec::log::{self, SmartHealth};
use serde_json::Value;

use super::{Fields, lines};

/// A data unit is a thousand blocks of 512 bytes.
const DATA_UNIT_BYTES: f64 = 512_000.0;

/// The bits of the critical warning, by name.
const WARNINGS: [(&str, u8); 6] = [
    ("spare", log::CRITICAL_WARNING_SPARE),
    ("temperature", log::CRITICAL_WARNING_TEMPERATURE),
    ("reliability", log::CRITICAL_WARNING_RELIABILITY),
    ("read-only", log::CRITICAL_WARNING_READ_ONLY),
    ("volatile-backup", log::CRITICAL_WARNING_VOLATILE_BACKUP),
    ("persistent-memory", 1 << 5),
];

/// Every kind of critical warning and whether it is given.
pub fn critical_warnings(health: &SmartHealth) -> impl Iterator<Item = (&'static str, bool)> {
    let given = health.critical_warning;
    WARNINGS.into_iter().map(move |(name, bit)| (name, given & bit != 0))
}

/// Controllers count from absolute zero in whole kelvins.
pub fn kelvins_to_celsius(kelvins: u16) -> i32 {
    i32::from(kelvins) - 273
}

/// Dwords that follow the temperature sensors.
fn thermal(health: &SmartHealth, index: usize) -> u32 {
    let bytes = health.thermal.chunks_exact(4).nth(index).and_then(|bytes| bytes.first_chunk());
    u32::from_le_bytes(*bytes.expect("the thermal part holds 74 dwords"))
}

/// The object that `nvme smart-log -o json` prints.
pub fn smart_log(health: &SmartHealth) -> Value {
    let mut fields = Fields::default();
    fields.put("critical_warning", health.critical_warning);
    fields.put("temperature", health.composite_temperature_kelvins.get());
    fields.put("avail_spare", health.available_spare);
    fields.put("spare_thresh", health.available_spare_threshold);
    fields.put("percent_used", health.percentage_used);
    fields.put("endurance_grp_critical_warning_summary", health.endurance_group_critical_warning);
    fields.wide("data_units_read", health.data_units_read.get());
    fields.wide("data_units_written", health.data_units_written.get());
    fields.wide("host_read_commands", health.host_read_commands.get());
    fields.wide("host_write_commands", health.host_write_commands.get());
    fields.wide("controller_busy_time", health.controller_busy_minutes.get());
    fields.wide("power_cycles", health.power_cycles.get());
    fields.wide("power_on_hours", health.power_on_hours.get());
    fields.wide("unsafe_shutdowns", health.unsafe_shutdowns.get());
    fields.wide("media_errors", health.media_errors.get());
    fields.wide("num_err_log_entries", health.error_log_entries.get());
    fields.put("warning_temp_time", health.warning_temperature_minutes.get());
    fields.put("critical_comp_time", health.critical_temperature_minutes.get());
    const SENSORS: [&str; 8] = [
        "temperature_sensor_1",
        "temperature_sensor_2",
        "temperature_sensor_3",
        "temperature_sensor_4",
        "temperature_sensor_5",
        "temperature_sensor_6",
        "temperature_sensor_7",
        "temperature_sensor_8",
    ];
    for (key, sensor) in SENSORS.into_iter().zip(health.temperature_sensor_kelvins) {
        if sensor.get() != 0 {
            fields.put(key, sensor.get());
        }
    }
    fields.put("thm_temp1_trans_count", thermal(health, 0));
    fields.put("thm_temp2_trans_count", thermal(health, 1));
    fields.put("thm_temp1_total_time", thermal(health, 2));
    fields.put("thm_temp2_total_time", thermal(health, 3));
    fields.into_value()
}

/// The lines that `nvme smart-log` prints.
pub fn smart_log_text(health: &SmartHealth) -> String {
    let degrees = |kelvins: u16| format!("{} °C ({kelvins} K)", kelvins_to_celsius(kelvins));
    let units = |units: u128| {
        let bytes = units as f64 * DATA_UNIT_BYTES;
        let scaled = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6)].into_iter().find(|(_, unit)| bytes >= *unit);
        let (name, unit) = scaled.unwrap_or(("KB", 1e3));
        format!("{units} ({:.2} {name})", bytes / unit)
    };
    let mut all: Vec<(String, String)> = [
        ("critical_warning", health.critical_warning.to_string()),
        ("temperature", degrees(health.composite_temperature_kelvins.get())),
        ("available_spare", format!("{}%", health.available_spare)),
        ("available_spare_threshold", format!("{}%", health.available_spare_threshold)),
        ("percentage_used", format!("{}%", health.percentage_used)),
        ("endurance group critical warning summary", health.endurance_group_critical_warning.to_string()),
        ("Data Units Read", units(health.data_units_read.get())),
        ("Data Units Written", units(health.data_units_written.get())),
        ("host_read_commands", health.host_read_commands.get().to_string()),
        ("host_write_commands", health.host_write_commands.get().to_string()),
        ("controller_busy_time", health.controller_busy_minutes.get().to_string()),
        ("power_cycles", health.power_cycles.get().to_string()),
        ("power_on_hours", health.power_on_hours.get().to_string()),
        ("unsafe_shutdowns", health.unsafe_shutdowns.get().to_string()),
        ("media_errors", health.media_errors.get().to_string()),
        ("num_err_log_entries", health.error_log_entries.get().to_string()),
        ("Warning Temperature Time", health.warning_temperature_minutes.get().to_string()),
        ("Critical Composite Temperature Time", health.critical_temperature_minutes.get().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (number, sensor) in (1..).zip(health.temperature_sensor_kelvins) {
        if sensor.get() != 0 {
            all.push((format!("Temperature Sensor {number}"), degrees(sensor.get())));
        }
    }
    for (index, name) in
        ["T1 Trans Count", "T2 Trans Count", "T1 Total Time", "T2 Total Time"].into_iter().enumerate()
    {
        all.push((format!("Thermal Management {name}"), thermal(health, index).to_string()));
    }
    lines(40, all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn health() -> SmartHealth {
        let mut health = SmartHealth { critical_warning: 0x0A, available_spare: 97, ..Default::default() };
        health.composite_temperature_kelvins.set(311);
        health.available_spare_threshold = 10;
        health.percentage_used = 254;
        health.data_units_written.set(2_000_000);
        health.media_errors.set(u128::from(u64::MAX) + 1);
        health.temperature_sensor_kelvins[1].set(320);
        health.thermal[4] = 7;
        health
    }

    #[test]
    fn keys_and_numbers_are_those_of_nvme_cli() {
        let value = smart_log(&health());
        for (key, expected) in [
            ("critical_warning", json!(10)),
            ("temperature", json!(311)),
            ("avail_spare", json!(97)),
            ("spare_thresh", json!(10)),
            ("percent_used", json!(254)),
            ("endurance_grp_critical_warning_summary", json!(0)),
            ("data_units_read", json!(0)),
            ("data_units_written", json!(2_000_000)),
            ("media_errors", json!("18446744073709551616")),
            ("num_err_log_entries", json!(0)),
            ("warning_temp_time", json!(0)),
            ("critical_comp_time", json!(0)),
            ("temperature_sensor_2", json!(320)),
            ("thm_temp2_trans_count", json!(7)),
            ("thm_temp1_total_time", json!(0)),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
        assert_eq!(value.get("temperature_sensor_1"), None);
        let given: Vec<_> =
            critical_warnings(&health()).filter(|(_, given)| *given).map(|(name, _)| name).collect();
        assert_eq!(given, ["temperature", "read-only"]);
    }

    #[test]
    fn lines_are_for_people() {
        let text = smart_log_text(&health());
        for line in [
            "temperature                             : 38 °C (311 K)",
            "available_spare                         : 97%",
            "percentage_used                         : 254%",
            "Data Units Read                         : 0 (0.00 KB)",
            "Data Units Written                      : 2000000 (1.02 TB)",
            "Temperature Sensor 2                    : 47 °C (320 K)",
            "Thermal Management T2 Trans Count       : 7",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert_eq!(kelvins_to_celsius(0), -273);
    }
}
