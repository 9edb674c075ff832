//! What block 0 tells people: the commands, literally, and what must be known to use them.

use super::Block0;
use crate::segment::Method;
use crate::text;

const UNPACK: &str = "tar -xpf - --numeric-owner --xattrs --xattrs-include='*'";

/// What differs between methods.
struct Words {
    needed: &'static str,
    layout: &'static str,
    damage: &'static str,
}

fn words(method: Method) -> Words {
    match method {
        Method::Zstd => Words {
            needed: "mt, dd, zstd and GNU tar 1.27 or later",
            layout: "This first block is a zstd skippable frame; behind it come zstd frames that
hold a POSIX tar stream, and more skippable frames.",
            damage: "zstd stops at the first damaged frame.",
        },
        Method::Gzip => Words {
            needed: "mt, dd, gzip and GNU tar 1.27 or later",
            layout: "This first block is empty gzip members with an extra field; behind it come gzip
members that hold a POSIX tar stream, and more empty ones.",
            damage: "gzip stops at the first damaged member.",
        },
        Method::Tar => Words {
            needed: "mt, dd and GNU tar 1.27 or later",
            layout: "It is a tar archive. This first block is its first member; behind it come members
`tar` that hold, in pieces, the POSIX tar stream of the files, and others that are TAF's own.",
            damage: "tar stops where it finds no member's header.",
        },
        Method::SevenZip => Words {
            needed: "mt, dd, 7z (or 7zz, 7zr) and GNU tar 1.27 or later",
            layout: "It is a tar archive. This first block is its first member; behind it come members
`7z`, each a 7z archive that holds a piece of the POSIX tar stream of the files, and others that are TAF's own.",
            damage: "7z stops at the first damaged piece.",
        },
    }
}

/// Reads a tape file from its first block to its filemark.
fn read(tape_file: u32, block_size: u32) -> String {
    format!(
        "mt -f /dev/nst0 rewind && mt -f /dev/nst0 fsf {tape_file} && dd if=/dev/nst0 bs={block_size}"
    )
}

impl Block0 {
    /// The command that gives this part's bytes.
    pub fn read_command(&self) -> String {
        read(self.tape_file, self.block_size)
    }

    /// The command that unpacks the bytes of all parts of the archive, in order, into the current folder.
    pub fn filter(&self) -> String {
        format!("{} | {UNPACK}", self.method.unpacker())
    }

    /// The command that unpacks this part's bytes alone, from the first entry that begins in it. `None` if it is
    /// not known where that is.
    pub fn filter_alone(&self) -> Option<String> {
        let skip = self.skip?;
        let unpack = self.method.unpacker();
        Some(format!("{unpack} | tail -c +{} | {UNPACK}", skip + 1))
    }

    pub(super) fn prose(&self) -> String {
        let Self {
            part,
            volume,
            tape_file,
            version,
            archive_uuid,
            ..
        } = self;
        let (source, plan) = (text::escape(&self.source), text::escape(&self.plan));
        let created = text::time(self.created_at_unix_nanos);
        let whole = self.whole();
        let alone = self.alone();
        let Words {
            needed,
            layout,
            damage,
        } = words(self.method);
        format!(
            "
This tape file is part {part} of archive {archive_uuid},
a backup of source '{source}' by plan '{plan}', version {version}, made by TAF, begun {created}.
It is tape file {tape_file} of cartridge {volume}; the label is tape file 0.

It needs no TAF to be read. {layout} The parts of an archive in order are one stream.
You need {needed}. First let the drive take blocks of any size:

    mt -f /dev/nst0 setblk 0

1. To unpack the whole archive into the current folder:

{whole}
2. To unpack what begins in this part, without the others:

{alone}
{damage} To read past damage use `taf tape extract`.
"
        )
    }

    fn whole(&self) -> String {
        let read_this = self.read_command();
        let filter = self.filter();
        // The user stops only where the cartridge changes.
        let stop = |volume: &str| {
            format!("echo 'load {volume}, then press return' >&2; read x < /dev/tty; ")
        };
        let Some(before) = &self.predecessor else {
            return format!(
                "    ( {read_this} ) | {filter}

   If there are further parts (the archive's next part says that it follows this one), put for each
   `; echo 'load the next cartridge' >&2; read x < /dev/tty;` and its own line `Read:` from its first
   block before the closing parenthesis. tar says 'Unexpected EOF' if a part is missing at the end.
"
            );
        };
        let mut read_before = read(before.tape_file, self.block_size);
        let mut remark = String::new();
        if let Some(bytes) = before.bytes {
            read_before = format!("{read_before} | head -c {bytes}");
            remark = format!(
                "   The part before this one was cut off by a write error: only its first {bytes} bytes count.\n"
            );
        }
        if self.part > 2 {
            remark.push_str(
                "   The parts before that one come before it, inside the parenthesis, in the same way;\n   \
                 the first block of each names its own predecessor.\n",
            );
        }
        remark.push_str("   Parts that follow this one come behind it, inside the parenthesis.\n");
        let (first, second) = if before.volume == self.volume {
            (String::new(), String::new())
        } else {
            (stop(&before.volume), stop(&self.volume))
        };
        format!("    ( {first}{read_before}; {second}{read_this} ) | {filter}\n\n{remark}")
    }

    fn alone(&self) -> String {
        match self.filter_alone() {
            Some(filter) => format!("    ( {} ) | {filter}\n", self.read_command()),
            None => "    It was not known where the first entry begins in this part.\n".to_owned(),
        }
    }
}
