//! The fields in which two specifications differ, as a message names them.

use model::FunctionSpec;
use serde_json::Value;

/// Characters of a value that a message shows: enough to recognise an image by.
const SHOWN: usize = 60;

/// One field with two values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Its path, for example `scale.max`.
    pub(super) field: String,
    /// Both values, the registered and the requested one, as text that follows the name of the field.
    pub(super) problem: String,
}

/// Every field in which the `asked` specification differs from the `registered` one.
pub(super) fn differences(registered: &FunctionSpec, asked: &FunctionSpec) -> Vec<Difference> {
    let mut found = Vec::new();
    if let (Ok(registered), Ok(asked)) = (serde_json::to_value(registered), serde_json::to_value(asked)) {
        compare("", &registered, &asked, &mut found);
    }
    found
}

fn compare(path: &str, registered: &Value, asked: &Value, found: &mut Vec<Difference>) {
    if let (Value::Object(left), Value::Object(right)) = (registered, asked) {
        let added = right.keys().filter(|name| !left.contains_key(*name));
        for name in left.keys().chain(added) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let value = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
            compare(&path, &value(left), &value(right), found);
        }
    } else if registered != asked {
        // Values of variables may be secrets.
        let problem = match path.strip_prefix("env.") {
            Some(_) => "differs".to_owned(),
            None => format!("is {}, this one asks for {}", shown(registered), shown(asked)),
        };
        found.push(Difference { field: path.to_owned(), problem });
    }
}

fn shown(value: &Value) -> String {
    let text = if value.is_null() { "not set".to_owned() } else { value.to_string() };
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_by_their_path_with_both_values() {
        let registered = FunctionSpec::new("f".parse().unwrap(), "i");
        let mut asked = registered.clone();
        assert_eq!(differences(&registered, &asked), []);
        asked.memory = 256;
        asked.scale.max = Some(9);
        asked.env.insert("A".to_owned(), "1".to_owned());
        let found: Vec<_> =
            differences(&registered, &asked).into_iter().map(|found| (found.field, found.problem)).collect();
        let expected = [
            ("env.A", "differs"),
            ("memory", "is 128, this one asks for 256"),
            ("scale.max", "is not set, this one asks for 9"),
        ];
        assert_eq!(found, expected.map(|(field, problem)| (field.to_owned(), problem.to_owned())));
    }

    #[test]
    fn a_long_value_is_cut() {
        let registered = FunctionSpec::new("f".parse().unwrap(), "i");
        let asked = FunctionSpec { image: "x".repeat(10_000), ..registered.clone() };
        let problem = differences(&registered, &asked).remove(0).problem;
        assert!(problem.ends_with('…') && problem.len() < 200, "{problem}");
    }
}
