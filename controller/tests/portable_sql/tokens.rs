//! Cuts SQL into tokens, as far as the rules need it.

/// A word, number, parameter, string or sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// As written; a string or quoted name with its quotes.
    pub text: String,
    /// Line within the text, from 1.
    pub line: usize,
}

impl Token {
    /// Whether it is this keyword or sign, in whatever case.
    pub fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is a name: our keywords are in capitals, our names are not.
    pub fn is_name(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_ascii_lowercase() || c == '_' || c == '"')
    }

    /// Whether it is `$1` or the like.
    pub fn is_parameter(&self) -> bool {
        self.text.starts_with('$')
    }
}

/// The tokens of `sql`; comments are left out. Strings are one token, and so is a `{hole}` of a format.
pub fn tokens(sql: &str) -> Vec<Token> {
    let chars: Vec<char> = sql.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, keep) = match rest {
            ['-', '-', ..] => (until(rest, |c| c == '\n'), false),
            ['/', '*', ..] => (closed(rest, "*/"), false),
            [c, ..] if c.is_whitespace() => (1, false),
            ['\'', ..] => (closed(rest, "'"), true),
            ['"', ..] => (closed(rest, "\""), true),
            ['{', ..] => (closed(rest, "}"), true),
            [c, ..] if is_word(*c) || *c == '$' => (1 + until(&rest[1..], |c| !is_word(c)), true),
            [':', ':', ..] => (2, true),
            _ => (1, true),
        };
        if keep {
            let text = rest[..length].iter().collect();
            found.push(Token { text, line });
        }
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn until(chars: &[char], is: impl Fn(char) -> bool) -> usize {
    chars.iter().position(|c| is(*c)).unwrap_or(chars.len())
}

/// Length of what begins here and ends with `end`, or with the text.
fn closed(chars: &[char], end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    let inside = chars[1..].windows(end.len()).position(|w| w == end);
    inside.map_or(chars.len(), |length| 1 + length + end.len())
}

/// The position behind the bracket that closes the one at `open`, and the number of arguments between.
pub fn call(tokens: &[Token], open: usize) -> (usize, usize) {
    let (mut depth, mut arguments) = (0_usize, 1);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "," if depth == 1 => arguments += 1,
            _ => {}
        }
        if depth == 0 {
            return (at + 1, arguments);
        }
    }
    (tokens.len(), arguments)
}

#[test]
fn sql_falls_into_tokens() {
    let found: Vec<String> =
        tokens("SELECT a.b::bigint, 'it''s' -- x\n FROM {T} /* y */ WHERE c>=$12")
            .into_iter()
            .map(|token| token.text)
            .collect();
    let expected = [
        "SELECT", "a", ".", "b", "::", "bigint", ",", "'it'", "'s'", "FROM", "{T}", "WHERE", "c",
        ">", "=", "$12",
    ];
    assert_eq!(found, expected);
}
