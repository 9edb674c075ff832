//! Standard output: tables for people, or JSON for programs. Nothing else in the program writes there.
//!
//! JSON is protobuf's own mapping of the API's messages, with the field names of the protobuf files, every field
//! present, and 64-bit numbers as text. A list is one object with one array, written as it comes, so that a directory
//! of a million entries needs no memory.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::LazyLock;

use comfy_table::{CellAlignment, Table};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::failure::Failure;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(taf_proto::DESCRIPTOR_SET)
        .expect("the descriptors that were compiled into this program are whole")
});

const OPTIONS: SerializeOptions = SerializeOptions::new()
    .use_proto_field_name(true)
    .skip_default_fields(false);

/// Where data goes.
#[derive(Debug)]
pub struct Output {
    json: bool,
    out: BufWriter<Stdout>,
    items: u64,
}

impl Output {
    /// For people, or as JSON.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            out: BufWriter::new(io::stdout()),
            items: 0,
        }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Writes one line for people.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref()).map_err(|e| Failure::output(&e))
    }

    /// Writes a table.
    pub fn table(&mut self, rows: &Rows) -> Result<(), Failure> {
        write!(self.out, "{}", rows.text()).map_err(|e| Failure::output(&e))
    }

    /// Writes a document of ours.
    pub fn document(&mut self, document: &serde_json::Value) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, document).map_err(|e| Failure::output(&e.into()))?;
        self.line("")
    }

    /// Writes a message of the API, whose full name is `taf.v1.` and `name`.
    pub fn message(&mut self, name: &str, message: &impl Message) -> Result<(), Failure> {
        let document = document(name, message)?;
        self.document(&document)
    }

    /// Begins a list under this key.
    pub fn begin(&mut self, key: &str) -> Result<(), Failure> {
        self.items = 0;
        write!(self.out, "{{\"{key}\": [").map_err(|e| Failure::output(&e))
    }

    /// Writes the next message of the list, on a line of its own.
    pub fn item(&mut self, name: &str, message: &impl Message) -> Result<(), Failure> {
        let document = document(name, message)?;
        self.item_document(&document)
    }

    /// Writes the next document of the list, on a line of its own.
    pub fn item_document(&mut self, document: &serde_json::Value) -> Result<(), Failure> {
        let separator = if self.items == 0 { "\n" } else { ",\n" };
        self.items += 1;
        write!(self.out, "{separator}{document}").map_err(|e| Failure::output(&e))
    }

    /// Ends the list.
    pub fn end(&mut self) -> Result<(), Failure> {
        self.line(if self.items == 0 { "]}" } else { "\n]}" })
    }

    /// Raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|e| Failure::output(&e))
    }

    /// Brings everything out; to be called before the program ends.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|e| Failure::output(&e))
    }

    /// A whole list, as JSON or as a table.
    pub fn list<M: Message>(
        &mut self,
        key: &str,
        name: &str,
        messages: &[M],
        table: impl FnOnce(&[M]) -> Rows,
    ) -> Result<(), Failure> {
        if !self.json {
            if messages.is_empty() {
                say(format!("there are no {key}"));
                return Ok(());
            }
            return self.table(&table(messages));
        }
        self.begin(key)?;
        for message in messages {
            self.item(name, message)?;
        }
        self.end()
    }
}

/// Something for people to read that is no data: on standard error.
pub fn say(text: impl AsRef<str>) {
    eprintln!("{}", crate::human::clean(text.as_ref()));
}

/// The JSON of a message of the API.
pub fn document(name: &str, message: &impl Message) -> Result<serde_json::Value, Failure> {
    let broken = |error: String| {
        Failure::new(
            "INTERNAL",
            format!("the message {name} can't be shown as JSON: {error}"),
            "leave --json out, and report this",
        )
    };
    let descriptor = POOL
        .get_message_by_name(&format!("taf.v1.{name}"))
        .ok_or_else(|| broken("it is not in the API".to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| broken(error.to_string()))?;
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &OPTIONS)
        .map_err(|error| broken(error.to_string()))
}

/// A table without lines: a head and rows, columns two blanks apart.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    right: Vec<usize>,
}

impl Rows {
    /// A table with these column heads. A head that begins with `>` is of a column of numbers, set to the right.
    pub fn new(heads: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(heads.iter().map(|head| head.trim_start_matches('>')));
        let right = (0..heads.len())
            .filter(|&i| heads[i].starts_with('>'))
            .collect();
        Self { table, right }
    }

    /// Adds a row.
    pub fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.table
            .add_row(cells.map(|cell| crate::human::clean(&cell).into_owned()));
    }

    fn text(&self) -> String {
        let mut table = self.table.clone();
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_proto::v1;

    #[test]
    fn messages_are_json_with_the_names_of_the_protobuf_files() {
        let job = v1::Job {
            name: "jobs/7".into(),
            state: v1::JobState::SucceededWithIssues as i32,
            progress: Some(v1::Progress {
                stored_byte_count: 1 << 60,
                current_path: Some(taf_proto::path::from_raw(&b"/a\xff"[..])),
                ..Default::default()
            }),
            ..Default::default()
        };
        let json = document("Job", &job).unwrap();
        assert_eq!(json["state"], "JOB_STATE_SUCCEEDED_WITH_ISSUES");
        assert_eq!(json["progress"]["stored_byte_count"], "1152921504606846976");
        assert_eq!(json["progress"]["current_path"]["display"], "/a\\xff");
        assert_eq!(json["waiting_for"], "");
    }

    #[test]
    fn tables_have_no_lines_and_no_tails() {
        let mut rows = Rows::new(&["NAME", ">BYTES"]);
        rows.push(["a\nb".into(), "1".into()]);
        rows.push(["c".into(), "1000".into()]);
        assert_eq!(
            rows.text(),
            "NAME    BYTES\na\\x0ab      1\nc        1000\n"
        );
    }
}
