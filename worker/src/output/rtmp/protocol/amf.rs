//! AMF0, the values in RTMP commands (Adobe AMF 0 specification, sections 2.2 to 2.18).

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 8;
/// Most values that are read from one message, nested ones included.
const MAX_VALUES: usize = 1024;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;

/// Names and values in the order of the wire.
pub type Fields = Vec<(String, Value)>;

/// One AMF0 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double; RTMP has no other number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text, short or long.
    Text(String),
    /// An anonymous object.
    Object(Fields),
    /// An ECMA array: an object by another name, used by onMetaData.
    Array(Fields),
    /// A strict array.
    List(Vec<Value>),
    /// Milliseconds since 1970.
    Date(f64),
    /// Nothing.
    Null,
    /// Less than nothing.
    Undefined,
}

impl Value {
    /// Text from anything textual.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The field of that name, in an object or ECMA array.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let (Self::Object(fields) | Self::Array(fields)) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of a text value.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number of a number value.
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Appends the values one after another, as the body of a command or data message.
pub fn encode(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        encode_one(value, out);
    }
}

fn encode_one(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => tagged(NUMBER, &number.to_be_bytes(), out),
        Value::Boolean(yes) => out.extend([BOOLEAN, u8::from(*yes)]),
        Value::Text(text) => encode_text(text, out),
        Value::Object(fields) => {
            out.push(OBJECT);
            encode_fields(fields, out);
        }
        Value::Array(fields) => {
            tagged(ECMA_ARRAY, &count(fields.len()), out);
            encode_fields(fields, out);
        }
        Value::List(values) => {
            tagged(STRICT_ARRAY, &count(values.len()), out);
            encode(values, out);
        }
        Value::Date(ms) => {
            tagged(DATE, &ms.to_be_bytes(), out);
            out.extend([0, 0]); // time zone, reserved
        }
        Value::Null => out.push(NULL),
        Value::Undefined => out.push(UNDEFINED),
    }
}

fn tagged(marker: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(marker);
    out.extend(bytes);
}

fn count(items: usize) -> [u8; 4] {
    u32::try_from(items).unwrap_or(u32::MAX).to_be_bytes()
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    match u16::try_from(text.len()) {
        Ok(length) => tagged(STRING, &length.to_be_bytes(), out),
        Err(_) => tagged(LONG_STRING, &count(text.len()), out),
    }
    out.extend(text.as_bytes());
}

/// A name longer than 65,535 bytes cannot be written and loses its field.
fn encode_fields(fields: &Fields, out: &mut Vec<u8>) {
    for (name, value) in fields {
        let Ok(length) = u16::try_from(name.len()) else { continue };
        out.extend(length.to_be_bytes());
        out.extend(name.as_bytes());
        encode_one(value, out);
    }
    out.extend([0, 0, OBJECT_END]);
}

/// Reads values up to the end, or up to the first one that cannot be read: servers append things of their own
/// (AMF3 values, typed objects), and what stands before them is still wanted.
pub fn decode(bytes: &[u8]) -> Vec<Value> {
    let mut reader = Reader { rest: bytes, values_left: MAX_VALUES };
    let mut values = Vec::new();
    while let Some(value) = reader.value(0) {
        values.push(value);
    }
    values
}

struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.values_left = self.values_left.checked_sub(1)?;
        let [marker] = self.array()?;
        match marker {
            NUMBER => Some(Value::Number(f64::from_be_bytes(self.array()?))),
            BOOLEAN => self.array().map(|[byte]| Value::Boolean(byte != 0)),
            STRING => self.short_text().map(Value::Text),
            LONG_STRING => {
                let length = u32::from_be_bytes(self.array()?);
                self.text(length as usize).map(Value::Text)
            }
            OBJECT => self.fields(depth).map(Value::Object),
            ECMA_ARRAY => {
                let _count_that_many_servers_get_wrong: [u8; 4] = self.array()?;
                self.fields(depth).map(Value::Array)
            }
            STRICT_ARRAY => self.list(depth).map(Value::List),
            DATE => {
                let ms = f64::from_be_bytes(self.array()?);
                let _time_zone: [u8; 2] = self.array()?;
                Some(Value::Date(ms))
            }
            NULL => Some(Value::Null),
            UNDEFINED => Some(Value::Undefined),
            _ => None,
        }
    }

    fn fields(&mut self, depth: usize) -> Option<Fields> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut fields = Vec::new();
        while !self.rest.starts_with(&[0, 0, OBJECT_END]) {
            let name = self.short_text()?;
            fields.push((name, self.value(depth + 1)?));
        }
        self.rest = &self.rest[3..];
        Some(fields)
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value>> {
        let length = u32::from_be_bytes(self.array()?);
        if depth >= MAX_DEPTH {
            return None;
        }
        (0..length).map(|_| self.value(depth + 1)).collect()
    }

    fn short_text(&mut self) -> Option<String> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zäß]{0,20}".prop_map(Value::Text),
            Just(Value::Text("x".repeat(70_000))),
            (0.0..1e15).prop_map(Value::Date),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let fields = vec(("[a-z]{1,8}", inner.clone()), 0..5);
            prop_oneof![
                fields.clone().prop_map(Value::Object),
                fields.prop_map(Value::Array),
                vec(inner, 0..5).prop_map(Value::List),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in vec(any_value(), 0..6)) {
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            prop_assert_eq!(decode(&bytes), values);
        }

        #[test]
        fn arbitrary_bytes_give_at_most_the_allowed_values(bytes in vec(0u8..14, 0..4096)) {
            prop_assert!(decode(&bytes).len() <= MAX_VALUES);
        }
    }

    #[test]
    fn endless_nesting_ends() {
        assert_eq!(decode(&[OBJECT, 0, 1, b'a'].repeat(100_000)), []);
        assert_eq!(decode(&[STRICT_ARRAY, 0xFF, 0xFF, 0xFF, 0xFF].repeat(100_000)), []);
    }

    #[test]
    fn what_stands_before_an_unknown_value_is_kept() {
        assert_eq!(decode(&[NULL, BOOLEAN, 1, 0x11, 4, 4]), [Value::Null, Value::Boolean(true)]);
    }
}
