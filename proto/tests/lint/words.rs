//! The ways in which names are written.

/// `lower_snake`, without doubled, leading or trailing underscores.
pub fn is_lower_snake(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('_').all(|word| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

/// `UPPER_SNAKE`.
pub fn is_upper_snake(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_lowercase()) && is_lower_snake(&text.to_ascii_lowercase())
}

/// `PascalCase`.
pub fn is_pascal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// `PascalCase` as `PASCAL_CASE`; a run of capitals is one word.
pub fn upper_snake(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let follows_small = at > 0 && !chars[at - 1].is_ascii_uppercase();
        let begins_word = at > 0 && chars.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (follows_small || begins_word) {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[test]
fn names_split_into_words() {
    assert_eq!(upper_snake("VersionType"), "VERSION_TYPE");
    assert_eq!(upper_snake("HTTPRule"), "HTTP_RULE");
    assert_eq!(upper_snake("Role"), "ROLE");
    assert!(is_lower_snake("blake3_prefix") && !is_lower_snake("a__b") && !is_lower_snake("3d"));
}
