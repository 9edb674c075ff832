//! Pages of counters, as structures: each field is `None` if the drive does not have the parameter.
//!
//! Pages 30h, 31h and 32h are the makers' own; IBM, HP and Quantum agree on what is here.

use super::Parameter;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident = ($code:literal, $width:literal);)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[$of])* pub $field: Option<u64>,)*
        }

        impl $name {
            /// Picks its own out of a page's parameters. A value over eight bytes counts as missing.
            pub fn of(parameters: &[Parameter]) -> Self {
                let mut found = Self::default();
                for one in parameters {
                    match one.code {
                        $($code => found.$field = one.number(),)*
                        _ => {}
                    }
                }
                found
            }

            /// The parameters, in the order of their codes.
            pub fn parameters(&self) -> Vec<Parameter> {
                [$(self.$field.map(|value| Parameter::counter($code, value, $width)),)*]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        }
    };
}

counters! {
    /// Pages 02h (writing) and 03h (reading), since the cartridge was loaded (SPC-5 7.3.7).
    ErrorCounters {
        /// Errors corrected without delay.
        corrected_without_delay = (0x0000, 4);
        /// Errors corrected with possible delays.
        corrected_with_delay = (0x0001, 4);
        /// Rewrites or rereads.
        retries = (0x0002, 4);
        /// Errors corrected in all.
        corrected = (0x0003, 4);
        /// How often the correction algorithm ran.
        algorithm_runs = (0x0004, 4);
        /// Bytes processed.
        bytes = (0x0005, 8);
        /// Errors that stayed.
        uncorrected = (0x0006, 4);
    }
}

counters! {
    /// Page 0Ch, since the cartridge was loaded (SSC-5 8.3.3).
    SequentialAccess {
        /// Bytes that WRITE commands brought, before compression.
        received = (0x0000, 8);
        /// Bytes written to the medium, after compression.
        written = (0x0001, 8);
        /// Bytes read from the medium, still compressed.
        read = (0x0002, 8);
        /// Bytes that READ commands took, after decompression.
        sent = (0x0003, 8);
        /// Native capacity from beginning to end of data, in MB.
        to_end_of_data = (0x0004, 4);
        /// Native capacity from the beginning to early warning, in MB.
        to_early_warning = (0x0005, 4);
        /// The least between early warning and the end of the partition, in MB.
        behind_early_warning = (0x0006, 4);
        /// Native capacity from the beginning to the position, in MB.
        to_position = (0x0007, 4);
        /// The most that the drive's buffer holds, in MB.
        buffer = (0x0008, 4);
        /// Not zero: the drive wants to be cleaned.
        cleaning_requested = (0x0100, 4);
    }
}

counters! {
    /// Page 17h, over the cartridge's life unless a name says *last* (SSC-5 8.3.9).
    VolumeStatistics {
        /// 1: the page is valid.
        valid = (0x0000, 1);
        /// How often the cartridge was threaded.
        mounts = (0x0001, 4);
        /// Data sets written.
        data_sets_written = (0x0002, 8);
        /// Write retries.
        write_retries = (0x0003, 4);
        /// Write errors that stayed.
        unrecovered_write_errors = (0x0004, 4);
        /// Writes suspended.
        suspended_writes = (0x0005, 4);
        /// Writes that failed for being suspended.
        fatal_suspended_writes = (0x0006, 4);
        /// Data sets read.
        data_sets_read = (0x0007, 8);
        /// Read retries.
        read_retries = (0x0008, 4);
        /// Read errors that stayed.
        unrecovered_read_errors = (0x0009, 4);
        /// Reads suspended.
        suspended_reads = (0x000a, 4);
        /// Reads that failed for being suspended.
        fatal_suspended_reads = (0x000b, 4);
        /// Write errors that stayed, in the last mount.
        last_unrecovered_write_errors = (0x000c, 4);
        /// Read errors that stayed, in the last mount.
        last_unrecovered_read_errors = (0x000d, 4);
        /// MB written in the last mount.
        last_megabytes_written = (0x000e, 4);
        /// MB read in the last mount.
        last_megabytes_read = (0x000f, 4);
        /// MB written.
        megabytes_written = (0x0010, 8);
        /// MB read.
        megabytes_read = (0x0011, 8);
        /// Compression ratio of writing, times 100, in the last mount.
        last_write_ratio = (0x0012, 4);
        /// Compression ratio of reading, times 100, in the last mount.
        last_read_ratio = (0x0013, 4);
        /// Native capacity in MB.
        capacity_megabytes = (0x0016, 8);
        /// Native capacity in use in MB.
        used_megabytes = (0x0017, 8);
        /// 1: write protected.
        write_protected = (0x0080, 1);
        /// 1: write once.
        worm = (0x0081, 1);
        /// How often the beginning of the medium passed the head.
        beginning_passes = (0x0101, 8);
        /// How often the middle of the medium passed the head.
        middle_passes = (0x0102, 8);
    }
}

/// Code of page 17h's parameter with the medium's serial number, as text.
pub const VOLUME_SERIAL: u16 = 0x0040;
/// Code of page 17h's parameter with the barcode, as text.
pub const VOLUME_BARCODE: u16 = 0x0042;

counters! {
    /// Page 30h: tape usage, over the cartridge's life.
    TapeUsage {
        /// How often the cartridge was threaded.
        thread_count = (0x0001, 4);
        /// Data sets written.
        data_sets_written = (0x0002, 8);
        /// Write retries.
        write_retries = (0x0003, 4);
        /// Write errors that stayed.
        unrecovered_write_errors = (0x0004, 2);
        /// Writes suspended.
        suspended_writes = (0x0005, 2);
        /// Writes that failed for being suspended.
        fatal_suspended_writes = (0x0006, 2);
        /// Data sets read.
        data_sets_read = (0x0007, 8);
        /// Read retries.
        read_retries = (0x0008, 4);
        /// Read errors that stayed.
        unrecovered_read_errors = (0x0009, 2);
        /// Reads suspended.
        suspended_reads = (0x000a, 2);
        /// Reads that failed for being suspended.
        fatal_suspended_reads = (0x000b, 2);
    }
}

counters! {
    /// Page 31h: tape capacity, in MiB.
    TapeCapacity {
        /// What is left of partition 0.
        remaining = (0x0001, 4);
        /// What is left of partition 1.
        remaining_1 = (0x0002, 4);
        /// The size of partition 0.
        maximum = (0x0003, 4);
        /// The size of partition 1; 0 if there is none.
        maximum_1 = (0x0004, 4);
    }
}

counters! {
    /// Page 32h: data compression, since the cartridge was loaded. The bytes are what is beyond the whole MB.
    DataCompression {
        /// Ratio of reading, times 100.
        read_ratio = (0x0000, 2);
        /// Ratio of writing, times 100.
        write_ratio = (0x0001, 2);
        /// MB sent to initiators.
        megabytes_sent = (0x0002, 4);
        /// Bytes beyond.
        bytes_sent = (0x0003, 4);
        /// MB read from the medium.
        megabytes_read = (0x0004, 4);
        /// Bytes beyond.
        bytes_read = (0x0005, 4);
        /// MB received from initiators.
        megabytes_received = (0x0006, 4);
        /// Bytes beyond.
        bytes_received = (0x0007, 4);
        /// MB written to the medium.
        megabytes_written = (0x0008, 4);
        /// Bytes beyond.
        bytes_written = (0x0009, 4);
    }
}
