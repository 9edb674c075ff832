#![allow(clippy::unwrap_used)]
use std::os::unix::fs::symlink;

use nix::sys::stat::makedev;
use tempfile::TempDir;

use super::*;

/// A kernel's folders, made up.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn put(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A device at an address, behind `sgN`; with `st` also `stM` and its kin.
    fn device(
        &self,
        sg: u32,
        address: &str,
        device_type: u8,
        serial: Option<&str>,
        st: Option<u32>,
    ) {
        let device = format!("sys/devices/host0/{address}");
        self.put(&format!("{device}/type"), format!("{device_type}\n"));
        self.put(&format!("{device}/vendor"), "IBM     \n");
        self.put(&format!("{device}/model"), "ULT3580-TD8     \n");
        self.put(&format!("{device}/rev"), "K4K1\n");
        self.put(&format!("{device}/state"), "running\n");
        if let Some(serial) = serial {
            self.put(
                &format!("{device}/vpd_pg80"),
                vpd::serial_build(device_type, serial),
            );
        }
        if let Some(st) = st {
            for (name, minor) in [
                (format!("st{st}"), st),
                (format!("nst{st}"), 128 + st),
                (format!("nst{st}a"), 224 + st),
            ] {
                self.put(
                    &format!("{device}/scsi_tape/{name}/dev"),
                    format!("9:{minor}\n"),
                );
            }
            self.put("sys/bus/scsi/drivers/st/bind", "");
            symlink(
                self.0.path().join("sys/bus/scsi/drivers/st"),
                self.0.path().join(&device).join("driver"),
            )
            .unwrap();
        }
        let generic = format!("{device}/scsi_generic/sg{sg}");
        self.put(&format!("{generic}/dev"), format!("21:{sg}\n"));
        symlink(
            self.0.path().join(&device),
            self.0.path().join(&generic).join("device"),
        )
        .unwrap();
        let class = self.0.path().join("sys/class/scsi_generic");
        fs::create_dir_all(&class).unwrap();
        symlink(self.0.path().join(&generic), class.join(format!("sg{sg}"))).unwrap();
    }

    fn host(&self) -> Host {
        Host::below(self.0.path())
    }
}

#[test]
fn drives_and_changers_are_found_with_all_that_the_kernel_says() {
    let made = Made::new();
    made.device(0, "0:0:0:0", 0, Some("DISK"), None);
    made.device(10, "2:0:0:0", 1, Some("  DRIVE2"), Some(0));
    made.device(2, "10:0:0:0", 1, Some("DRIVE10"), None);
    made.device(3, "2:0:0:1", 8, Some("ROBOT"), None);
    let devices = made.host().devices().unwrap();
    let names: Vec<String> = devices.iter().map(Device::name).collect();
    assert_eq!(names, ["serial:DRIVE2", "serial:ROBOT", "serial:DRIVE10"]);
    let drive = &devices[0];
    let mut numbers = drive.st_numbers.clone();
    numbers.sort_unstable();
    assert_eq!(numbers, [makedev(9, 0), makedev(9, 128), makedev(9, 224)]);
    let dev = made.0.path().join("dev");
    assert_eq!(
        *drive,
        Device {
            kind: Kind::Drive,
            vendor: "IBM".into(),
            product: "ULT3580-TD8".into(),
            revision: "K4K1".into(),
            serial: Some("DRIVE2".into()),
            node: dev.join("sg10"),
            number: makedev(21, 10),
            st_node: Some(dev.join("nst0")),
            st_numbers: drive.st_numbers.clone(),
            driver: Some("st".into()),
            address: "2:0:0:0".into(),
            state: "running".into(),
        }
    );
    assert_eq!(
        (devices[1].kind, &devices[1].driver),
        (Kind::Changer, &None)
    );
}

#[test]
fn a_drive_that_ibms_driver_has_is_told_and_how_to_get_it_back() {
    let made = Made::new();
    made.device(1, "3:0:5:0", 1, Some("ST"), Some(0));
    made.device(2, "3:0:6:0", 1, Some("LIN"), None);
    made.device(3, "3:0:7:0", 1, Some("FREE"), None);
    made.device(4, "3:0:7:1", 8, Some("ROBOT"), None);
    made.put("sys/bus/scsi/drivers/lin_tape/bind", "");
    symlink(
        made.0.path().join("sys/bus/scsi/drivers/lin_tape"),
        made.0.path().join("sys/devices/host0/3:0:6:0/driver"),
    )
    .unwrap();
    let devices = made.host().devices().unwrap();
    let why: Vec<Option<String>> = devices.iter().map(Device::why_no_st).collect();
    assert_eq!((&why[0], &why[3]), (&None, &None));
    let lin = why[1].as_deref().unwrap();
    assert!(
        lin.contains("lin_tape") && lin.contains("echo 3:0:6:0 > /sys/bus/scsi/drivers/st/bind"),
        "{lin}"
    );
    assert!(lin.contains("serial:LIN"), "{lin}");
    assert!(why[2].as_deref().unwrap().contains("modprobe st"));
}

#[test]
fn a_device_that_tells_no_serial_number_is_named_by_its_node() {
    let made = Made::new();
    made.device(4, "0:0:0:1", 1, None, None);
    made.device(5, "0:0:0:2", 1, Some("   "), None);
    let devices = made.host().devices().unwrap();
    assert_eq!(devices[0].serial, None);
    assert_eq!(
        devices[0].name(),
        made.0.path().join("dev/sg4").display().to_string()
    );
    assert_eq!(devices[1].serial, None);
}

#[test]
fn half_a_device_is_none_and_no_driver_is_an_error_that_says_what_to_do() {
    let made = Made::new();
    let error = made.host().devices().unwrap_err().to_string();
    assert!(error.contains("modprobe sg"), "{error}");
    made.put("sys/class/scsi_generic/sg0/dev", "21:0\n");
    made.put("sys/class/scsi_generic/sg1/device/type", "tape\n");
    made.put("sys/class/scsi_generic/sg2/device/type", "1\n");
    made.put("sys/class/scsi_generic/sg2/dev", "21\n");
    assert_eq!(made.host().devices().unwrap(), []);
}

#[test]
fn who_has_a_device_open_is_found_by_its_number() {
    let made = Made::new();
    made.device(1, "0:0:0:1", 1, Some("D"), None);
    let mut device = made.host().devices().unwrap().remove(0);
    // Any character device will do.
    device.number = std::os::unix::fs::MetadataExt::rdev(&fs::metadata("/dev/null").unwrap());
    for (pid, target) in [
        ("41", "/dev/null"),
        ("42", "/dev/zero"),
        ("40", "/dev/null"),
    ] {
        made.put(&format!("proc/{pid}/comm"), format!("program{pid}\n"));
        let fd = made.0.path().join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&fd).unwrap();
        symlink(target, fd.join("3")).unwrap();
    }
    made.put("proc/version", "");
    let users = made.host().users(&device);
    assert_eq!(users.to_string(), "program40 (40), program41 (41)");
    assert!(users.complete);
    // A process that can't be looked into: here, since its folder is no folder.
    made.put("proc/43/fd", "");
    assert!(!made.host().users(&device).complete);
}

#[test]
fn numbers_in_names_count_as_numbers() {
    let mut names = [
        "sg10", "sg9", "sg", "10:0:0:0", "2:0:10:1", "2:0:9:1", "sg9a",
    ];
    names.sort_by(|a, b| by_number(a, b));
    assert_eq!(
        names,
        [
            "2:0:9:1", "2:0:10:1", "10:0:0:0", "sg9", "sg9a", "sg10", "sg"
        ]
    );
}
