//! Reading a JSON object field by field, so that every problem is found at once and named by its JSON pointer
//! (RFC 6901), and nothing unknown slips through.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use state::channel::FieldProblem;

/// An object that is being read.
pub(crate) struct Fields<'a> {
    left: Map<String, Value>,
    pointer: String,
    problems: &'a mut Vec<FieldProblem>,
}

impl<'a> Fields<'a> {
    /// Begins with the object at `pointer`; `None`, and a problem, when it is something else.
    pub(crate) fn of(value: Value, pointer: &str, problems: &'a mut Vec<FieldProblem>) -> Option<Self> {
        match value {
            Value::Object(left) => Some(Self { left, pointer: pointer.to_owned(), problems }),
            other => {
                let words = format!("must be an object, not {}", kind(&other));
                problems.push(FieldProblem::at(pointer, words));
                None
            }
        }
    }

    /// Takes a field out; `None` when it is absent, `Some(Null)` when it is null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// A field of one kind; `None` when it is absent or wrong, and then a problem is noted.
    pub(crate) fn get<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.take(name)?;
        let read = serde_json::from_value(value);
        if read.is_err() {
            self.problem(name, format!("must be {expected}"));
        }
        read.ok()
    }

    /// A name for people: text that is shown as it is written.
    pub(crate) fn name(&mut self) -> Option<String> {
        let name = self.get::<String>("name", "text")?;
        if name.chars().any(is_hidden) {
            self.problem(
                "name",
                "must not hold control characters, line breaks or marks that turn the writing",
            );
        }
        Some(name)
    }

    /// A field that may be null: `Some(None)` then.
    pub(crate) fn nullable<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<Option<T>> {
        if self.left.get(name).is_some_and(Value::is_null) {
            self.left.remove(name);
            return Some(None);
        }
        self.get(name, expected).map(Some)
    }

    /// A field that must be there.
    pub(super) fn needed<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if !self.left.contains_key(name) {
            self.problem(name, format!("is needed: {expected}"));
        }
        self.get(name, expected)
    }

    /// Notes what is wrong with a field.
    pub(crate) fn problem(&mut self, name: &str, words: impl Into<String>) {
        let pointer = self.place(name);
        self.problems.push(FieldProblem::at(pointer, words));
    }

    /// The pointer of a field.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }

    /// Where problems are noted, for readers of what is inside.
    pub(crate) fn problems(&mut self) -> &mut Vec<FieldProblem> {
        self.problems
    }

    /// Whatever nobody took is unknown.
    pub(crate) fn finish(self) {
        for name in self.left.keys() {
            let pointer = self.place(name);
            self.problems.push(FieldProblem::at(pointer, "is not a known field"));
        }
    }
}

/// Nobody sees these, and they change how everything after them is shown. What joins letters and pictures is none.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
