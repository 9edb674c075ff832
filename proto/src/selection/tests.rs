use super::*;

fn rules(texts: &[&str]) -> Rules {
    let rules: Vec<_> = texts.iter().map(|text| parse(text)).collect();
    Rules::new(&rules).expect("the rules are good")
}

fn left_out(rules: &Rules, path: &str, is_directory: bool) -> bool {
    rules
        .word(path.as_bytes(), is_directory)
        .is_some_and(|word| !word.take)
}

#[test]
fn globs_are_like_those_of_git() {
    let rules = rules(&[
        "*.tmp",
        "/srv/scratch/",
        "build/*.o",
        "**/cache/**",
        "a?[b-d]",
        "{x,y}.log",
    ]);
    for (path, directory, out) in [
        ("srv/a.tmp", false, true),
        ("a.tmp", true, true),
        ("srv/a.tmpx", false, false),
        ("srv/scratch", true, true),
        ("srv/scratch", false, false),
        ("home/srv/scratch", true, false),
        ("p/build/x.o", false, true),
        ("p/build/sub/x.o", false, false),
        ("p/cache/x/y", false, true),
        ("p/cache", true, false),
        ("q/axc", false, true),
        ("q/axe", false, false),
        ("q/y.log", false, true),
    ] {
        assert_eq!(left_out(&rules, path, directory), out, "{path}");
    }
}

#[test]
fn the_last_rule_that_matches_counts() {
    let rules = rules(&[
        "*.log",
        "!keep.log",
        r"re:/2019-\d\d/",
        "!re:/2019-12/.*\\.log$",
    ]);
    assert!(left_out(&rules, "a/x.log", false));
    assert!(!left_out(&rules, "a/keep.log", false));
    assert!(left_out(&rules, "2019-01/keep.log", false));
    assert_eq!(
        rules.word(b"2019-12/x.log", false),
        Some(Word {
            rule: 3,
            take: true
        })
    );
    assert_eq!(rules.word(b"other", false), None);
}

#[test]
fn names_that_are_no_text_match_as_bytes() {
    let rules = rules(&["*.tmp", "re:(?-u:\\xff)$"]);
    assert!(rules.word(b"a/\xfe\xfd.tmp", false).is_some());
    assert!(rules.word(b"a/b\xff", false).is_some());
    assert!(rules.word(b"a/b\xfe", false).is_none());
}

#[test]
fn a_bad_rule_is_named() {
    for (bad, said) in [
        ("[a", "not a glob"),
        ("re:(", "not a regular expression"),
        ("re:(?:\\w{1000}){1000}", "too large"),
        ("/", "everything"),
        ("", "bytes"),
    ] {
        let error = Rules::new(&[parse("*.o"), parse(bad)]).expect_err(bad);
        assert_eq!(error.rule, 1, "{bad}");
        assert!(error.why.contains(said), "{bad}: {}", error.why);
    }
}

#[test]
fn text_and_rules_are_the_same() {
    for text in ["*.tmp", "!a", "re:^/x", "!re:b$", "\\!odd", "\\re:x", "!!x"] {
        assert_eq!(show(&parse(text)), text);
        assert_eq!(parse(&show(&parse(text))), parse(text));
    }
    let file = "# a comment\n*.o  \n\n!x.o\r\n";
    assert_eq!(parse_file(file), [parse("*.o"), parse("!x.o")]);
}

#[test]
fn old_patterns_do_what_they_did() {
    // What Python's fnmatch did with each, tried on the path and on every directory above it.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("*.tmp", &["a/b/c.tmp", "a/x.tmp/y"], &["a/b/c.tmpx"]),
        ("*/cache", &["a/cache", "a/cache/x"], &["a/cached"]),
        ("/a/cache", &["a/cache/x", "a/cache"], &["b/a/cache"]),
        ("/a/cache/*", &["a/cache/x", "a/cache/x/y"], &["a/cache"]),
        ("*b*", &["ab/x", "x/y/b"], &["x/y"]),
        ("/x/[!a-c]?", &["x/zz", "x/zz/a"], &["x/az", "x/z"]),
        ("/x/[", &["x/["], &["x/a"]),
        ("/x/[]a]", &["x/]", "x/a"], &["x/b"]),
    ];
    for (pattern, out, kept) in cases {
        let imported = fnmatch::import(pattern);
        let rules = Rules::new(&[imported.rule.expect("a rule")]).expect(pattern);
        // A directory that is left out takes everything below with it.
        let gone = |path: &str| {
            let mut ends = path
                .match_indices('/')
                .map(|(at, _)| at)
                .collect::<Vec<_>>();
            ends.push(path.len());
            ends.iter()
                .any(|end| left_out(&rules, &path[..*end], *end < path.len()))
        };
        for path in *out {
            assert!(gone(path), "{pattern} leaves out {path}");
        }
        for path in *kept {
            assert!(!gone(path), "{pattern} keeps {path}");
        }
    }
}

#[test]
fn surprises_are_told() {
    let bare = fnmatch::import("cache");
    assert_eq!(bare.rule, None);
    assert!(bare.warnings[0].contains("matched nothing"));
    assert!(fnmatch::import("*.tmp").warnings[0].contains("directories"));
    assert!(fnmatch::import("*b*").warnings[0].contains("far above"));
    assert!(fnmatch::import("/a/*.o").warnings[0].contains("subdirectories"));
    assert!(fnmatch::import("/a/b").warnings.is_empty());
}

/// What can be left out by looking at all names at once is what no rule has a word on.
#[test]
fn names_that_may_not_match_do_not() {
    let globs = [
        "*.pdf", "a", "b*", "*a?b", "x/*.a", "/x/a", "x/**/b.a", "**/a.b", "a/", "*", "a**b",
        "{a,b}.a", r"a\?b", ".*.*", "x/**", "a.b*/", "ab",
    ];
    let names = [
        "a", "b", "ab", "a.b", "b.a", ".a.pdf", "a?b", "axb", "pdf", "xa", "A",
    ];
    let mut left_out = 0;
    for one in globs {
        for other in globs {
            let rules = rules(&[one, other]);
            for name in names {
                for directory in [false, true] {
                    let matches = ["", "x/", "x/a/", "a/"].iter().any(|above| {
                        rules
                            .word(format!("{above}{name}").as_bytes(), directory)
                            .is_some()
                    });
                    let may = rules.may_match(name.as_bytes());
                    assert!(may || !matches, "{one} {other} {name}");
                    left_out += u32::from(!may);
                }
            }
        }
    }
    assert!(left_out > 100);
    let needles = rules(&["*.pdf", "x*"]);
    assert!(!needles.may_match(b"aabbcc.doc"));
    assert!(needles.may_match(b"aab.pdfcc") && needles.may_match(b"aaxbb"));
    assert!(rules(&["re:x"]).may_match(b"a"));
}
