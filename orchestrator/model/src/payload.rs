//! The payload of a specification: image, environment and arguments. It crosses the wire in one message and becomes the
//! arguments of an `execve`, so its size is bounded, and values that no program can receive are refused.

use crate::{FunctionSpec, SpecError, text::shortened};

/// Most bytes of image, environment, arguments and policy names together. Far above common programs, and a message of
/// specifications stays far below its bound.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Overhead of each variable and argument on the wire and in memory.
const ENTRY_BYTES: usize = 16;

/// The variable that passes a sandbox its port, so users may not set it.
const RESERVED_VARIABLE: &str = "PORT";

/// Characters of a variable's name shown in a message.
const MAX_NAME_SHOWN: usize = 40;

impl FunctionSpec {
    /// Bytes that count towards [`MAX_PAYLOAD_BYTES`].
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let names = [&self.scale.policy, &self.placement, &self.balance];
        let names = names.into_iter().flatten().map(String::len);
        let variables = self.env.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len());
        let arguments = self.args.iter().map(|argument| ENTRY_BYTES + argument.len());
        self.image.len() + names.chain(variables).chain(arguments).sum::<usize>()
    }

    /// Checks the values that a sandbox is given.
    pub(crate) fn check_payload(&self) -> Result<(), SpecError> {
        let fail = |field, problem: String| Err(SpecError { field, problem });
        let nul = "expected no NUL character, got one";
        if self.image.contains('\0') {
            return fail("image", nul.to_owned());
        }
        for (name, value) in &self.env {
            if !is_variable_name(name) {
                let expected = "expected letters, digits and '_', not beginning with a digit";
                return fail("env", format!("a variable is called {:?}: {expected}", shortened(name, MAX_NAME_SHOWN)));
            }
            if name == RESERVED_VARIABLE {
                return fail("env", format!("{name} cannot be set: a sandbox is told its port by it"));
            }
            if value.contains('\0') {
                return fail("env", format!("variable {name}: {nul}", name = shortened(name, MAX_NAME_SHOWN)));
            }
        }
        if self.args.iter().any(|argument| argument.contains('\0')) {
            return fail("args", nul.to_owned());
        }
        self.check_payload_bytes()
    }

    pub(crate) fn check_payload_bytes(&self) -> Result<(), SpecError> {
        let bytes = self.payload_bytes();
        if bytes > MAX_PAYLOAD_BYTES {
            let problem = format!("expected at most 64 KiB with all else of the specification, got {bytes} bytes");
            return Err(SpecError { field: self.largest_field(), problem });
        }
        Ok(())
    }

    /// The field with the most bytes.
    fn largest_field(&self) -> &'static str {
        let variables = self.env.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum();
        let arguments = self.args.iter().map(|argument| ENTRY_BYTES + argument.len()).sum();
        let sizes: [(usize, &'static str); 3] = [(self.image.len(), "image"), (variables, "env"), (arguments, "args")];
        sizes.into_iter().max().map_or("image", |(_, field)| field)
    }
}

/// Returns true if every shell and every C library accepts the name (POSIX.1, 8.1).
fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(fields: &str) -> FunctionSpec {
        serde_json::from_str(&format!(r#"{{"name":"f","image":"builtin:function"{fields}}}"#)).unwrap()
    }

    #[test]
    fn an_unusable_environment_or_argument_is_refused_with_its_field() {
        for (fields, field, message) in [
            (r#","env":{"":"x"}"#, "env", "expected letters"),
            (r#","env":{"A=B":"x"}"#, "env", "\"A=B\""),
            (r#","env":{"A\u0000B":"x"}"#, "env", "expected letters"),
            (r#","env":{"1A":"x"}"#, "env", "\"1A\""),
            (r#","env":{"É":"x"}"#, "env", "\"É\""),
            (r#","env":{"A":"x\u0000y"}"#, "env", "variable A: expected no NUL"),
            (r#","env":{"PORT":"1234"}"#, "env", "PORT"),
            (r#","args":["x\u0000y"]"#, "args", "NUL"),
        ] {
            let refused = spec(fields).check().unwrap_err();
            assert_eq!(refused.field, field, "{fields}");
            assert!(refused.to_string().contains(message), "{fields}: {refused}");
        }
        let mut bad = spec("");
        bad.image = "file:/bin/a\0b".to_owned();
        assert_eq!(bad.check().unwrap_err().field, "image");
        let long = "x".repeat(1000) + "=";
        let mut bad = spec("");
        bad.env.insert(long, String::new());
        assert!(bad.check().unwrap_err().to_string().len() < 300, "a long name is shortened");
        assert_eq!(spec(r#","env":{"LD_PRELOAD":"/x.so","_a1":""},"args":["","é"]"#).check(), Ok(()));
    }

    #[test]
    fn a_specification_is_bounded_as_a_whole() {
        let mut large = spec("");
        large.args = vec!["x".repeat(MAX_PAYLOAD_BYTES - ENTRY_BYTES - large.image.len())];
        assert_eq!(large.check(), Ok(()), "exactly the bound");
        large.args[0].push('x');
        let refused = large.check().unwrap_err();
        assert_eq!(refused.field, "args");
        assert!(
            refused.to_string().contains("expected at most 64 KiB with all else of the specification, got 65537 bytes"),
            "{refused}"
        );
        let mut many = spec("");
        many.args = vec![String::new(); 5000];
        assert_eq!(many.check().unwrap_err().field, "args", "empty arguments cost as well");
        let mut policy = spec("");
        policy.placement = Some("x".repeat(MAX_PAYLOAD_BYTES));
        assert!(policy.check().is_err());
        let mut image = spec("");
        image.image = "i".repeat(MAX_PAYLOAD_BYTES + 1);
        assert_eq!(image.check().unwrap_err().field, "image");
    }
}
