//! What the drive and the cartridge's memory say of what happened.

use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::log::counters::{
    DataCompression, ErrorCounters, SequentialAccess, TapeCapacity, TapeUsage, VOLUME_BARCODE,
    VolumeStatistics,
};
use taf_scsi::page::log::status::DeviceStatus;
use taf_scsi::page::log::{self, Parameter};
use taf_scsi::page::tape_alert::Flags;

use super::*;

const MIB: u64 = 1 << 20;

impl Bench {
    fn page(&mut self, page: u8) -> Vec<Parameter> {
        let bytes = self.ok(&cdb::log_sense(page, 0, 8192));
        log::parse(page, &bytes).unwrap()
    }

    fn attributes(&mut self) -> Vec<Attribute> {
        attribute::parse(&self.ok(&cdb::read_attribute(0, 32_768))).unwrap()
    }

    fn attribute(&mut self, id: u16) -> Attribute {
        let all = self.attributes();
        attribute::find(&all, id).unwrap().clone()
    }

    fn write_attributes(&mut self, list: &[Attribute]) -> Got {
        let list = attribute::build(list);
        self.run(&cdb::write_attribute(list.len() as u32), &list)
    }

    fn reload(&mut self) {
        self.ok(&cdb::load_unload(false));
        self.ok(&cdb::load_unload(true));
    }
}

#[test]
fn it_counts_what_was_written_and_read() {
    let mut bench = Bench::with_capacity(64 * MIB, Options::default());
    let supported = bench.ok(&cdb::log_sense(0, 0, 255));
    let supported = log::supported_pages_parse(&supported).unwrap();
    for page in &supported {
        let bytes = bench.ok(&cdb::log_sense(*page, 0, 8192));
        assert_eq!(bytes[0], *page);
    }
    for page in [0x02, 0x03, 0x0c, 0x11, 0x12, 0x17, 0x2e, 0x30, 0x31, 0x32] {
        assert!(supported.contains(&page), "{page:#04x}");
    }
    for _ in 0..5 {
        bench.write(&vec![1; 1 << 20]);
    }
    bench.marks(1);
    bench.ok(&cdb::rewind());
    for _ in 0..3 {
        bench.read(1 << 20).unwrap();
    }
    let access = SequentialAccess::of(&bench.page(log::SEQUENTIAL_ACCESS));
    assert_eq!(access.received, Some(5 * MIB));
    assert_eq!(access.written, Some(5 * MIB));
    assert_eq!(access.sent, Some(3 * MIB));
    assert_eq!(access.cleaning_requested, Some(0));
    let volume = bench.page(log::VOLUME_STATISTICS);
    assert_eq!(
        log::find(&volume, VOLUME_BARCODE).unwrap().text(),
        "A00001L8"
    );
    let volume = VolumeStatistics::of(&volume);
    assert_eq!((volume.valid, volume.mounts), (Some(1), Some(1)));
    assert_eq!(volume.last_megabytes_written, Some(5));
    assert_eq!(volume.capacity_megabytes, Some(67));
    let capacity = TapeCapacity::of(&bench.page(log::TAPE_CAPACITY));
    assert_eq!(capacity.maximum, Some(64));
    assert_eq!(capacity.remaining, Some(58));
    assert_eq!(capacity.maximum_1, Some(0));
    let compression = DataCompression::of(&bench.page(log::DATA_COMPRESSION));
    assert_eq!(compression.megabytes_received, Some(5));
    assert_eq!(compression.bytes_received, Some(5 * MIB - 5_000_000));
    let status = DeviceStatus::of(&bench.page(log::DEVICE_STATUS)).unwrap();
    assert!(status.mounted && status.medium_threaded && status.memory_accessible);

    // What is of the last load begins anew, what is of the cartridge's life goes on.
    bench.reload();
    let usage = TapeUsage::of(&bench.page(log::TAPE_USAGE));
    assert_eq!(
        (usage.thread_count, usage.data_sets_written),
        (Some(2), Some(2))
    );
    let access = SequentialAccess::of(&bench.page(log::SEQUENTIAL_ACCESS));
    assert_eq!(access.received, Some(0));
    let volume = VolumeStatistics::of(&bench.page(log::VOLUME_STATISTICS));
    assert_eq!(
        (volume.megabytes_written, volume.megabytes_read),
        (Some(5), Some(3))
    );
    bench.ok(&cdb::load_unload(false));
    let volume = VolumeStatistics::of(&bench.page(log::VOLUME_STATISTICS));
    assert_eq!((volume.valid, volume.mounts), (Some(0), None));
}

#[test]
fn a_log_page_can_be_asked_for_from_a_parameter_on() {
    let mut bench = Bench::new();
    let mut cdb = cdb::log_sense(log::TAPE_USAGE, 0, 255);
    cdb[6] = 7;
    let rest = log::parse(log::TAPE_USAGE, &bench.ok(&cdb)).unwrap();
    assert_eq!(rest.first().unwrap().code, 7);
    cdb[6] = 0x20;
    bench.refused(&cdb, Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    for (page, subpage) in [(0x3e, 0), (log::TAPE_USAGE, 1)] {
        let cdb = cdb::log_sense(page, subpage, 255);
        bench.refused(&cdb, Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn alerts_are_raised_by_what_happens_and_cleared_by_one_page_only() {
    let mut bench = Bench::new();
    bench.write(b"0");
    bench.fault(At::Medium, Some(0));
    bench.sense(&cdb::write_filemarks_6(0, false));
    let want = Flags::of(&[3, 6]);
    for _ in 0..2 {
        let page = bench.ok(&cdb::log_sense(log::TAPE_ALERT_RESPONSE, 0, 255));
        assert_eq!(Flags::parse_response(&page), Ok(want));
    }
    let mut flags = || Flags::parse(&bench.ok(&cdb::log_sense(log::TAPE_ALERT, 0, 1024))).unwrap();
    assert_eq!(flags(), want);
    assert_eq!(flags(), Flags::NONE);
    let memory = bench.attribute(attribute::TAPE_ALERT_FLAGS);
    assert_eq!(memory.value, want.to_bytes());
    let errors = ErrorCounters::of(&bench.page(log::WRITE_ERRORS));
    assert_eq!(errors.uncorrected, Some(1));

    bench.write(b"0");
    bench.ok(&cdb::rewind());
    bench.fault(At::Read, None);
    assert_eq!(bench.read(10).unwrap_err().0.key, Key::MediumError);
    let errors = ErrorCounters::of(&bench.page(log::READ_ERRORS));
    assert_eq!(errors.uncorrected, Some(1));
    let status = DeviceStatus::of(&bench.page(log::DEVICE_STATUS)).unwrap();
    assert!(status.alerts_changed);
    bench.reload();
    let memory = bench.attribute(attribute::TAPE_ALERT_FLAGS);
    assert_eq!(memory.number(), Some(0), "a new load");
}

#[test]
fn the_memory_is_read_from_an_attribute_on() {
    let mut bench = Bench::with_capacity(64 * MIB, Options::default());
    let all = bench.attributes();
    assert!(all.is_sorted_by_key(|one| one.id));
    for id in [
        0x0000, 0x0001, 0x0002, 0x0003, 0x0009, 0x0220, 0x0221, 0x0222, 0x0223, 0x0400, 0x0401,
        0x0405, 0x0406,
    ] {
        let one = attribute::find(&all, id).unwrap();
        assert!(one.read_only, "{id:#06x}");
    }
    assert_eq!(bench.attribute(attribute::MEDIUM_SERIAL_NUMBER).text(), "S");
    assert_eq!(
        bench.attribute(attribute::MAXIMUM_CAPACITY).number(),
        Some(64)
    );
    assert_eq!(
        bench.attribute(attribute::MEDIUM_DENSITY).number(),
        Some(0x5e)
    );
    let part = bench.ok(&cdb::read_attribute(attribute::MEDIUM_DENSITY, 100));
    assert_eq!(
        attribute::parse(&part).unwrap()[0].id,
        attribute::MEDIUM_DENSITY
    );
    // An attribute that nobody has written does not exist.
    let cdb = cdb::read_attribute(attribute::BARCODE, 100);
    bench.refused(&cdb, Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    let list = bench.ok(&cdb::read_attribute_list(0, 1000));
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    assert_eq!(attribute::list_parse(&list).unwrap(), ids);
    let mut other_partition = cdb::read_attribute(0, 100);
    other_partition[7] = 1;
    bench.refused(
        &other_partition,
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );

    // Readable before it is threaded, and gone with the cartridge.
    bench.ok(&cdb::load_unload(false));
    assert_eq!(bench.attribute(attribute::LOAD_COUNT).number(), Some(1));
    bench.drive.remove().unwrap();
    let cdb = cdb::read_attribute(0, 100);
    bench.refused(&cdb, Key::NotReady, code::MEDIUM_NOT_PRESENT);
}

#[test]
fn hosts_write_their_own_attributes_and_no_others() {
    let mut bench = Bench::new();
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    let ours = [
        Attribute::host_text(attribute::APPLICATION_VENDOR, "TAF"),
        Attribute::host_text(attribute::BARCODE, "A00001L8"),
        Attribute {
            id: attribute::VOLUME_COHERENCY,
            read_only: false,
            format: attribute::format::BINARY,
            value: vec![7; 70],
        },
    ];
    bench.write_attributes(&ours).unwrap();
    assert_eq!(bench.attribute(attribute::BARCODE), ours[1]);
    let refused = |list: &[Attribute], bench: &mut Bench| {
        let (sense, _) = bench.write_attributes(list).unwrap_err();
        assert_eq!(sense.key, Key::IllegalRequest);
        sense.code()
    };
    let short = Attribute {
        value: vec![b'x'; 31],
        ..ours[1].clone()
    };
    let binary = Attribute {
        format: attribute::format::BINARY,
        ..ours[1].clone()
    };
    let serial = Attribute::fixed_text(attribute::MEDIUM_SERIAL_NUMBER, "MINE", 32);
    let descending = [ours[1].clone(), ours[0].clone()];
    for list in [&[short][..], &[binary], &[serial], &descending] {
        assert_eq!(refused(list, &mut bench), code::INVALID_FIELD_IN_PARAMETERS);
    }
    let huge = Attribute {
        id: 0x1400,
        read_only: false,
        format: 0,
        value: vec![0; 2000],
    };
    let with_huge = [
        Attribute::host_text(attribute::APPLICATION_NAME, "half"),
        huge,
    ];
    assert_eq!(refused(&with_huge, &mut bench), code::AUXILIARY_MEMORY_FULL);
    assert!(attribute::find(&bench.attributes(), attribute::APPLICATION_NAME).is_none());
    let list = attribute::build(&ours);
    let (sense, _) = bench
        .run(&cdb::write_attribute(list.len() as u32 - 1), &list)
        .unwrap_err();
    assert_eq!(sense.code(), code::INVALID_PARAMETER_LENGTH);
    let gone = Attribute {
        value: Vec::new(),
        ..ours[0].clone()
    };
    bench.write_attributes(&[gone]).unwrap();

    // It is the cartridge that remembers, in whatever drive, after a crash too.
    bench.drive = Drive::new(Options::default(), Faults::new(None));
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    bench.drive.power_on_with(cartridge);
    let _ = bench.run(&cdb::test_unit_ready(), &[]);
    let all = bench.attributes();
    assert!(attribute::find(&all, attribute::APPLICATION_VENDOR).is_none());
    assert_eq!(attribute::find(&all, attribute::BARCODE), Some(&ours[1]));
    assert_eq!(
        attribute::find(&all, attribute::VOLUME_COHERENCY),
        Some(&ours[2])
    );
}

#[test]
fn a_protected_cartridge_keeps_its_memory_and_a_damaged_memory_is_told() {
    let mut bench = Bench::empty(Options::default());
    let path = bench.blank("W", 1 << 20, true);
    bench.load(&path);
    let list = [Attribute::host_text(attribute::BARCODE, "W")];
    let (sense, _) = bench.write_attributes(&list).unwrap_err();
    assert_eq!(sense.key, Key::DataProtect);

    let path = bench.blank("D", 1 << 20, false);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2560] = 9;
    std::fs::write(&path, bytes).unwrap();
    bench.ok(&cdb::load_unload(false));
    bench.drive.remove().unwrap();
    bench.load(&path);
    let cdb = cdb::read_attribute(0, 100);
    bench.refused(&cdb, Key::MediumError, (0x11, 0x12));
    let flags = bench.ok(&cdb::log_sense(log::TAPE_ALERT, 0, 1024));
    assert_eq!(Flags::parse(&flags), Ok(Flags::of(&[0x0f])));
    bench.write(b"the tape itself is none the worse");
}

#[test]
fn whatever_is_written_changes_the_reference() {
    let mut bench = Bench::new();
    let mut last = 0;
    let mut changed = |bench: &mut Bench| {
        let now = bench.attribute(attribute::VOLUME_CHANGE_REFERENCE).number();
        let changed = now != Some(last);
        last = now.unwrap();
        changed
    };
    changed(&mut bench);
    bench.write(b"x");
    assert!(changed(&mut bench));
    bench.write(b"y");
    bench.marks(1);
    changed(&mut bench);
    bench.ok(&cdb::rewind());
    bench.read(10).unwrap();
    bench.reload();
    assert!(!changed(&mut bench));
    bench.marks(1);
    assert!(changed(&mut bench));
    bench.ok(&cdb::rewind());
    bench.ok(&cdb::erase(false, false));
    assert!(changed(&mut bench));
}
