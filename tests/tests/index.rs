//! A cartridge's own index, read with no database and no controller, tells all that the catalog knows of it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use taf_format::index::{Body, Event, Head, Reader, Summary, items};
use taf_format::page::{self, Dictionaries};
use taf_format::table::SegmentTable;
use taf_tests::patience::until;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System};
use taf_tests::trees;

const CARTRIDGE: &str = "TAF001L8";
const PLAN: &str = "random";

#[test]
fn an_index_alone_tells_versions_parts_and_pages_of_its_cartridge() {
    let options = Options {
        drives: 1,
        cartridges: 1,
        controller: "index_after = \"0s\"\n".into(),
        ..Options::default()
    };
    let mut system = System::start(options).unwrap();
    let tree = system.data().join("tree");
    fs::create_dir(&tree).unwrap();
    let seed = 11;
    println!("seed {seed}");
    trees::build_random(&tree, seed, 300, 3000).unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system.plan(PLAN, &tree, "default").unwrap();
    system.taf(&["run", PLAN]).unwrap().expect(0).unwrap();
    fs::write(tree.join("later"), "in the second version").unwrap();
    system.taf(&["run", PLAN]).unwrap().expect(0).unwrap();

    // The drive falls idle, and soon every part and both versions are in an index.
    let volume = until("an index of all parts", Duration::from_mins(1), || {
        let volume = system.json(&["volume", "show", CARTRIDGE])?;
        let files = objects(&volume, "number");
        let kind = |kind: &str| files.iter().filter(|f| f["kind"] == kind).count();
        let open = files
            .iter()
            .any(|f| f["kind"] == "part" && f["indexed"] != true);
        let last = files
            .iter()
            .max_by_key(|f| number(&f["number"]))
            .map(|f| f["kind"] == "index");
        Ok((kind("part") == 2 && !open && last == Some(true)).then_some(volume))
    })
    .unwrap();
    let numbers = |kind: &str| -> BTreeSet<u64> {
        let files = objects(&volume, "number").into_iter();
        let files = files.filter(|f| f["kind"] == kind);
        files.map(|f| number(&f["number"])).collect()
    };
    let (parts, indexes) = (numbers("part"), numbers("index"));
    let versions = system.json(&["versions", "--plan", PLAN]).unwrap();
    let catalog: BTreeMap<u64, (u64, u64)> = objects(&versions, "number")
        .into_iter()
        .map(|v| {
            let counts = (number(&v["file_count"]), number(&v["byte_count"]));
            (number(&v["number"]), counts)
        })
        .collect();
    assert_eq!(catalog.len(), 2, "{versions}");

    // From here on there is only the cartridge.
    system.forget_everything().unwrap();
    let cartridge = system.cartridge(CARTRIDGE).display().to_string();
    let folder = system.restored("indexes").unwrap();
    let listed = system
        .taf(&["tape", "files", &cartridge])
        .unwrap()
        .expect(0)
        .unwrap();
    assert!(listed.text().contains("index"), "{}", listed.text());
    let mut summary = Summary::default();
    let mut paths: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut tables: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    // The newest names the one before it, and so on.
    let mut next = indexes.last().copied();
    let mut seen = BTreeSet::new();
    while let Some(file) = next {
        seen.insert(file);
        let line = format!("taf tape cat '{cartridge}' {file} > index-{file}");
        system.shell(&folder, &line).unwrap().expect(0).unwrap();
        let bytes = fs::read(folder.join(format!("index-{file}"))).unwrap();
        let size = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize + 8;
        let head = Head::decode(&bytes[..size]).unwrap();
        assert_eq!((head.tape_file, head.volume.as_str()), (file, CARTRIDGE));
        next = head.earlier.map(|(tape_file, _)| tape_file);
        let mut reader = Reader::new(Some(head.index_uuid), size as u64);
        bytes[size..]
            .chunks(size)
            .for_each(|block| reader.push_block(block));
        reader.finish();
        let mut one = Summary::default();
        while let Some(event) = reader.next_event() {
            one.take(&event);
            summary.take(&event);
            let Event::Piece(piece) = event else {
                panic!("{event:?}")
            };
            for item in items(&piece.records) {
                let item = item.unwrap();
                match (item.body, item.part) {
                    (Body::Table(bytes), Some(part)) => {
                        tables
                            .entry(part.tape_file)
                            .or_default()
                            .extend_from_slice(&bytes);
                    }
                    (Body::Page(record), Some(part)) => {
                        let hashes = Some(&record.hashes[..]);
                        let page =
                            page::decode(&record.chunk, &record.body, hashes, &Dictionaries::new())
                                .unwrap();
                        let files = paths.entry(part.version).or_default();
                        for entry in page.entries.iter().filter(|e| e.place.is_some()) {
                            files.insert([&page.directory[..], b"/", &entry.name].concat());
                        }
                    }
                    _ => {}
                }
            }
        }
        assert!(one.is_whole(), "{one:?}");
    }
    assert_eq!(seen, indexes);

    let [told] = &summary.recordings.values().collect::<Vec<_>>()[..] else {
        panic!("one recording")
    };
    assert_eq!(told.parts.keys().copied().collect::<BTreeSet<_>>(), parts);
    assert!(told.uncovered.is_empty() && told.orphans.is_empty());
    for (tape_file, part) in &told.parts {
        let table = SegmentTable::decode(&tables[tape_file]).unwrap();
        assert_eq!(table.byte_end(), part.part.byte_count);
        assert_eq!(
            table.tar_range(),
            part.part.first_tar_offset..part.part.end_tar_offset
        );
    }
    let closings: BTreeMap<u64, _> = summary.closings.iter().map(|c| (c.version, c)).collect();
    let counts: BTreeMap<u64, (u64, u64)> = closings
        .iter()
        .map(|(version, c)| (*version, (c.file_count, c.byte_count)))
        .collect();
    assert_eq!(counts, catalog);
    for (version, closing) in closings {
        assert_eq!((closing.plan.as_str(), closing.floor), (PLAN, version));
        let found = &paths[&version];
        assert_eq!(
            found.len() as u64,
            closing.file_count,
            "every file has its name in a page"
        );
        assert_eq!(
            found.iter().any(|path| path.ends_with(b"/later")),
            version == 2
        );
        let need = &closing.needs[0];
        let part = told
            .parts
            .values()
            .find(|p| p.part.version == version)
            .unwrap();
        assert_eq!(
            (need.version, need.part_number),
            (version, part.part.part_number)
        );
        assert_eq!(
            (need.row_count, need.entry_count),
            (part.found.page_count, closing.file_count)
        );
        assert_eq!(need.byte_count, closing.byte_count);
    }
}
