//! The system calls that take a SCSI command, or a tape's motion, to the kernel. **The only unsafe code of TAF.**
//!
//! Owns the layout of the kernel's `sg` interface, version 3 (`include/scsi/sg.h`), and of its tape interface
//! (`linux/mtio.h`), and nothing of their meaning: what a status says is [`super::sg`]'s and [`super::st`]'s. Whatever a safe caller passes, the kernel reads and writes only what
//! was lent to the call.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_short, c_uchar, c_uint, c_ushort, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::Data;

const SG_IO: u64 = 0x2285;
const SG_GET_VERSION_NUM: u64 = 0x2282;
const SG_SET_RESERVED_SIZE: u64 = 0x2275;

const INTERFACE: c_int = b'S' as c_int;
const DIRECTION_NONE: c_int = -1;
const DIRECTION_OUT: c_int = -2;
const DIRECTION_IN: c_int = -3;
/// The kernel may move the bytes without a copy of its own. It does so only where the administrator allowed it
/// (`allow_dio` of the module `sg`), and only to and from whole pages.
const DIRECT_IO: c_uint = 1;

/// Room for sense data. The kernel keeps 96 bytes at most.
const SENSE: usize = 252;

const MTIOCTOP: u64 = nix::request_code_write!(b'm', 1, size_of::<Motion>()) as u64;
const MTIOCGET: u64 = nix::request_code_read!(b'm', 2, size_of::<TapeStatus>()) as u64;
const MTIOCPOS: u64 = nix::request_code_read!(b'm', 3, size_of::<c_long>()) as u64;

/// `struct sg_io_hdr`.
#[repr(C)]
struct Header {
    interface_id: c_int,
    dxfer_direction: c_int,
    cmd_len: c_uchar,
    mx_sb_len: c_uchar,
    iovec_count: c_ushort,
    dxfer_len: c_uint,
    dxferp: *mut c_void,
    cmdp: *const c_uchar,
    sbp: *mut c_uchar,
    timeout: c_uint,
    flags: c_uint,
    pack_id: c_int,
    usr_ptr: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    msg_status: c_uchar,
    sb_len_wr: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    resid: c_int,
    duration: c_uint,
    info: c_uint,
}

/// What the kernel says of a command that it took: three statuses of three layers, kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    /// The device's own status byte.
    pub status: u8,
    /// What the host adapter met (`DID_*`); 0 is nothing.
    pub host: u16,
    /// What the kernel's driver met; 8 says only that there is sense data.
    pub driver: u16,
    /// Sense data, empty if none came.
    pub sense: Vec<u8>,
    /// Bytes of the data phase that were not moved. Some adapters say nonsense here.
    pub residual: i32,
}

/// Runs one command; blocks until the kernel has its outcome. An error is the kernel's own: it did not take the
/// command, or lost it.
///
/// No signal interrupts it: a handler that asks for interrupted calls to be restarted would have the command sent
/// a second time, and a block written twice.
pub(super) fn sg_io(
    device: BorrowedFd<'_>,
    cdb: &[u8],
    data: Data<'_>,
    timeout_ms: u32,
) -> io::Result<Answer> {
    let (dxfer_direction, pointer, length) = match data {
        Data::None => (DIRECTION_NONE, ptr::null_mut(), 0),
        Data::In(buffer) => (DIRECTION_IN, buffer.as_mut_ptr(), buffer.len()),
        // The kernel only reads what goes to a device; the field has one type for both directions.
        Data::Out(bytes) => (DIRECTION_OUT, bytes.as_ptr().cast_mut(), bytes.len()),
    };
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let mut sense = [0; SENSE];
    let mut header = Header {
        interface_id: INTERFACE,
        dxfer_direction,
        cmd_len: cdb.len().try_into().map_err(invalid)?,
        mx_sb_len: SENSE as c_uchar,
        iovec_count: 0,
        dxfer_len: length.try_into().map_err(invalid)?,
        dxferp: pointer.cast(),
        cmdp: cdb.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: timeout_ms,
        flags: DIRECT_IO,
        pack_id: 0,
        usr_ptr: ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    let signals = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: `header` has the layout that the kernel reads and writes for this request. Its three pointers are to
    // `cdb`, to `sense` and to the caller's data, each with its true length, all of which outlive the call. What
    // the kernel writes to, `sense` and a buffer of `Data::In`, is lent to us alone. The kernel keeps no pointer
    // once the call has returned: it waits for the command's end, which only a fatal signal cuts short, and then
    // nobody is left to use that memory.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO as _, &raw mut header) };
    let outcome = if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    };
    signals.thread_set_mask()?;
    outcome?;
    Ok(Answer {
        status: header.status,
        host: header.host_status,
        driver: header.driver_status,
        sense: sense[..usize::from(header.sb_len_wr).min(SENSE)].to_vec(),
        residual: header.resid,
    })
}

/// The version of the `sg` driver behind a device, such as 30536; an error if another driver is.
pub(super) fn version(device: BorrowedFd<'_>) -> io::Result<i32> {
    integer(device, SG_GET_VERSION_NUM, 0)
}

/// Has the kernel keep memory for transfers of so many bytes. It may keep less.
pub(super) fn reserve(device: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = bytes.try_into().unwrap_or(c_int::MAX);
    integer(device, SG_SET_RESERVED_SIZE, bytes).map(|_| ())
}

/// A request whose argument is a pointer to one integer, read or written.
fn integer(device: BorrowedFd<'_>, request: u64, value: c_int) -> io::Result<c_int> {
    let mut value = value;
    // SAFETY: both requests that come here read or write one `int` behind the pointer, and a driver that doesn't
    // know them refuses by their numbers alone. `value` outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request as _, &raw mut value) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

/// `struct mtop`.
#[repr(C)]
struct Motion {
    operation: c_short,
    count: c_int,
}

/// `struct mtget`, without the `mt_` of its fields: what the tape driver remembers.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TapeStatus {
    pub kind: c_long,
    pub resid: c_long,
    pub dsreg: c_long,
    pub gstat: c_long,
    pub erreg: c_long,
    pub fileno: c_int,
    pub blkno: c_int,
}

/// Has the tape driver move the tape, or set something. It waits for its lock first, which a signal may end (`EINTR`); nothing
/// was sent to the drive then.
pub(super) fn tape_move(device: BorrowedFd<'_>, operation: i16, count: i32) -> io::Result<()> {
    let mut motion = Motion { operation, count };
    // SAFETY: `motion` has the layout that the kernel reads for this request, whose number holds its length, and outlives the
    // call. Other drivers refuse by the number alone.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), MTIOCTOP as _, &raw mut motion) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What the tape driver remembers; nothing is sent to the drive.
pub(super) fn tape_status(device: BorrowedFd<'_>) -> io::Result<TapeStatus> {
    let mut status = TapeStatus::default();
    // SAFETY: `status` has the layout and length that the kernel writes for this request, and is lent to us alone until the
    // call returns.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), MTIOCGET as _, &raw mut status) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status)
}

/// Where the drive says that the tape stands.
pub(super) fn tape_tell(device: BorrowedFd<'_>) -> io::Result<i64> {
    let mut block: c_long = 0;
    // SAFETY: `struct mtpos` is one `long`, which the kernel writes; `block` is one, and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), MTIOCPOS as _, &raw mut block) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(block)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::mem::{offset_of, size_of};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_header_is_laid_out_as_the_kernel_has_it() {
        assert_eq!(size_of::<Header>(), 88);
        assert_eq!(offset_of!(Header, dxferp), 16);
        assert_eq!(offset_of!(Header, timeout), 40);
        assert_eq!(offset_of!(Header, usr_ptr), 56);
        assert_eq!(offset_of!(Header, status), 64);
        assert_eq!(offset_of!(Header, resid), 72);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_requests_to_the_tape_driver_have_the_kernels_numbers() {
        assert_eq!(
            (MTIOCTOP, MTIOCGET, MTIOCPOS),
            (0x4008_6d01, 0x8030_6d02, 0x8008_6d03)
        );
        assert_eq!(offset_of!(Motion, count), 4);
        assert_eq!(offset_of!(TapeStatus, blkno), 44);
        let file = File::open("/dev/null").unwrap();
        assert!(tape_move(file.as_fd(), 6, 1).is_err());
        assert!(tape_status(file.as_fd()).is_err());
        assert!(tape_tell(file.as_fd()).is_err());
    }

    #[test]
    fn a_file_that_is_no_device_is_an_error_and_signals_are_as_before() {
        let before = SigSet::thread_get_mask().unwrap();
        let file = File::open("/dev/null").unwrap();
        for data in [Data::None, Data::Out(&[1; 512]), Data::In(&mut [0; 512])] {
            let error = sg_io(file.as_fd(), &[0; 6], data, 1000).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        }
        assert!(version(file.as_fd()).is_err());
        assert!(reserve(file.as_fd(), 1 << 20).is_err());
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn a_command_longer_than_its_length_field_is_refused() {
        let file = File::open("/dev/null").unwrap();
        let error = sg_io(file.as_fd(), &[0; 256], Data::None, 1000).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
