//! Finds the string literals of a Rust source file. Knows just enough of the language not to be misled by comments,
//! characters, lifetimes and raw strings.

/// A string literal with its escapes resolved.
#[derive(Debug, PartialEq, Eq)]
pub struct Literal {
    /// Line on which it begins, from 1.
    pub line: usize,
    /// What it means.
    pub text: String,
}

/// All string literals, in order.
pub fn literals(source: &str) -> Vec<Literal> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    while at < chars.len() {
        line += count_lines(&chars[counted..at]);
        counted = at;
        let rest = &chars[at..];
        at += match rest {
            ['/', '/', ..] => position(rest, |c| c == '\n'),
            ['/', '*', ..] => block_comment(rest),
            ['\'', '\\', ..] => 3 + position(&rest[3..], |c| c == '\''),
            ['\'', _, '\'', ..] => 3,
            ['"', ..] => {
                let (text, length) = plain(rest);
                found.push(Literal { line, text });
                length
            }
            ['r', '"' | '#', ..] if at == 0 || !in_name(&chars, at - 1) => match raw(rest) {
                Some((text, length)) => {
                    found.push(Literal { line, text });
                    length
                }
                None => 1,
            },
            _ => 1,
        };
    }
    found
}

fn count_lines(chars: &[char]) -> usize {
    chars.iter().filter(|c| **c == '\n').count()
}

fn position(chars: &[char], is: impl Fn(char) -> bool) -> usize {
    chars.iter().position(|c| is(*c)).unwrap_or(chars.len())
}

/// Whether the `r` behind this character ends a name rather than begins a raw string; `br"` begins one.
fn in_name(chars: &[char], at: usize) -> bool {
    let name = |c: char| c.is_alphanumeric() || c == '_';
    match chars[at] {
        'b' | 'c' => at > 0 && name(chars[at - 1]),
        c => name(c),
    }
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn plain(chars: &[char]) -> (String, usize) {
    let mut text = String::new();
    let mut at = 1;
    while at < chars.len() {
        match chars.get(at..).unwrap_or_default() {
            ['"', ..] => return (text, at + 1),
            // A line that goes on: the break and the indent are nothing.
            ['\\', '\n', ..] => at += 1 + position(&chars[at + 1..], |c| !c.is_whitespace()),
            ['\\', c, ..] => {
                text.push(if *c == 'n' { '\n' } else { *c });
                at += 2;
            }
            [c, ..] => {
                text.push(*c);
                at += 1;
            }
            // A source that ends within a literal does not compile.
            [] => return (text, chars.len()),
        }
    }
    (text, at)
}

fn raw(chars: &[char]) -> Option<(String, usize)> {
    let hashes = position(&chars[1..], |c| c != '#');
    let begin = hashes + 2;
    if chars.get(begin - 1) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let length = chars[begin..].windows(end.len()).position(|w| w == end)?;
    let text = chars[begin..begin + length].iter().collect();
    Some((text, begin + length + end.len()))
}

#[cfg(test)]
#[test]
fn literals_are_found_where_they_are() {
    let source = r##"
// "comment" and it's one
fn f<'a>(c: char) -> &'a str { /* "x /* y */ " */
    let quote = ['"', '\'', '\\'];
    for_r("one \
           line", r#"raw "quoted" text"#, br"bytes");
}"##;
    let found: Vec<(usize, String)> = literals(source)
        .into_iter()
        .map(|l| (l.line, l.text))
        .collect();
    let expected = [(5, "one line"), (6, r#"raw "quoted" text"#), (6, "bytes")];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}
