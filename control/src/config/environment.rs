//! `VEGA_<SECTION>__<KEY>`: single values from the environment.
//!
//! Two underscores stand for the dot, so that a variable can be read in one way only, and so that the variables
//! which Kubernetes makes of services (`VEGA_API_PORT`) are never taken for ours.

/// The variables that may change a configuration, as `(path, text)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    values: Vec<(Vec<String>, String)>,
}

impl Environment {
    /// Picks ours out of the variables of this process.
    pub fn of_process() -> Self {
        Self::from_variables(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Picks ours out of any variables.
    pub fn from_variables(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut values: Vec<_> = variables
            .filter_map(|(name, value)| {
                let path = name.strip_prefix("VEGA_").filter(|path| path.contains("__"))?;
                Some((path.split("__").map(str::to_ascii_lowercase).collect(), value))
            })
            .collect();
        values.sort();
        Self { values }
    }

    /// Puts the values into a document. A text that reads as a TOML value is one, else it is a string.
    pub(super) fn apply(&self, document: &mut toml::Table) {
        for (path, text) in &self.values {
            let (key, sections) = path.split_last().expect("a split has at least one part");
            let mut table = &mut *document;
            for section in sections {
                let entry = table.entry(section.clone()).or_insert_with(|| toml::Table::new().into());
                let toml::Value::Table(inner) = entry else {
                    *entry = toml::Table::new().into();
                    let toml::Value::Table(inner) = entry else { unreachable!("it was just made a table") };
                    table = inner;
                    continue;
                };
                table = inner;
            }
            table.insert(key.clone(), value_of(text));
        }
    }
}

fn value_of(text: &str) -> toml::Value {
    let as_value = format!("value = {text}").parse::<toml::Table>().ok();
    let parsed = as_value.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_paths_and_values() {
        let variables = [
            ("VEGA_REACTOR__SPIN_US", "20"),
            ("VEGA_REACTOR__CORES", "[0, 2]"),
            ("VEGA_NODE__DATA_DIR", "/var/lib/vega"),
            ("VEGA_API_PORT", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
        ];
        let own = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut document = toml::Table::new();
        Environment::from_variables(own.into_iter()).apply(&mut document);
        let expected = "[node]\ndata_dir = '/var/lib/vega'\n[reactor]\ncores = [0, 2]\nspin_us = 20\n";
        assert_eq!(document, expected.parse::<toml::Table>().unwrap());
    }
}
