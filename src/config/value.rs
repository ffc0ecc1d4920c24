//! Numbers as Java reads them. A key of the file takes decimal digits only and a bad one stops the server;
//! a system property also takes hexadecimal and octal, and a bad one silently means the default.
//!
//! Java: `Integer.parseInt` and `Long.parseLong`; `Integer.getInteger` and `Long.getLong`, that is `decode`.

/// Decimal digits with an optional sign, as `Integer.parseInt`.
pub(super) fn parse_int(text: &str) -> Option<i32> {
    text.parse().ok()
}

/// Decimal digits with an optional sign, as `Long.parseLong`.
pub(super) fn parse_long(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// As `Long.decode`: a sign, then decimal, `0x`, `0X` or `#` and hexadecimal, or a leading zero and octal.
pub(super) fn decode_long(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = if let Some(hex) = ["0x", "0X", "#"].iter().find_map(|prefix| digits.strip_prefix(prefix)) {
        (16, hex)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    // With the sign in front, so that the least number is not out of range on the way.
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// As `Integer.decode`.
pub(super) fn decode_int(text: &str) -> Option<i32> {
    decode_long(text).and_then(|long| i32::try_from(long).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_file_takes_decimal_digits_only() {
        assert_eq!(parse_int("+5"), Some(5));
        assert_eq!(parse_int("-0"), Some(0));
        for text in ["", " 1", "0x10", "2147483648", "abc", "3000 # x", "-"] {
            assert_eq!(parse_int(text), None, "{text:?}");
        }
        assert_eq!(parse_long("-9223372036854775808"), Some(i64::MIN));
    }

    #[test]
    fn a_property_also_takes_hexadecimal_and_octal() {
        let cases = [("+5", 5), ("-0x10", -16), ("#ff", 255), ("010", 8), ("0", 0), ("-0x80000000", i32::MIN)];
        for (text, expected) in cases {
            assert_eq!(decode_int(text), Some(expected), "{text:?}");
        }
        for text in ["0x80000000", "08", "", " 1", "-", "+", "#", "0x-1", "--1", "4194304L"] {
            assert_eq!(decode_int(text), None, "{text:?}");
        }
    }
}
