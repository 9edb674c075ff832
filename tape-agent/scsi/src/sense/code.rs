//! Additional sense codes (ASC, ASCQ) that a tape drive or a library gives (SPC-5 annex F).

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = ($asc:literal, $ascq:literal, $words:literal);)*) => {
        $(
            #[doc = $words]
            pub const $name: (u8, u8) = ($asc, $ascq);
        )*

        /// The code in words, if it is one of this list.
        pub fn words(code: (u8, u8)) -> Option<&'static str> {
            match code {
                (0x00, 0x00) => None,
                $(($asc, $ascq) => Some($words),)*
                _ => None,
            }
        }
    };
}

/// No additional information.
pub const NONE: (u8, u8) = (0x00, 0x00);

codes! {
    FILEMARK_DETECTED = (0x00, 0x01, "filemark detected");
    END_OF_MEDIUM_DETECTED = (0x00, 0x02, "end of partition or medium detected");
    BEGINNING_OF_MEDIUM_DETECTED = (0x00, 0x04, "beginning of partition or medium detected");
    END_OF_DATA_DETECTED = (0x00, 0x05, "end of data detected");
    PROGRAMMABLE_EARLY_WARNING = (0x00, 0x07, "programmable early warning detected");
    BECOMING_READY = (0x04, 0x01, "becoming ready");
    LOAD_REQUIRED = (0x04, 0x02, "a load command is required");
    MANUAL_INTERVENTION = (0x04, 0x03, "manual intervention is required");
    FORMAT_IN_PROGRESS = (0x04, 0x04, "format in progress");
    OPERATION_IN_PROGRESS = (0x04, 0x07, "operation in progress");
    DOOR_OPEN = (0x04, 0x18, "a door is open");
    NOT_RESPONDING = (0x04, 0x12, "offline");
    LOGICAL_UNIT_COMMUNICATION_FAILURE = (0x08, 0x00, "communication failure inside the device");
    WRITE_ERROR = (0x0c, 0x00, "write error");
    UNRECOVERED_READ_ERROR = (0x11, 0x00, "unrecovered read error");
    RECORDED_ENTITY_NOT_FOUND = (0x14, 0x00, "what was sought is not on the medium");
    END_OF_DATA_NOT_FOUND = (0x14, 0x03, "end of data not found");
    POSITIONING_ERROR = (0x15, 0x01, "mechanical positioning error");
    INVALID_PARAMETER_LENGTH = (0x1a, 0x00, "parameter list length error");
    INVALID_OPCODE = (0x20, 0x00, "invalid command operation code");
    NOT_IN_APPEND_ONLY_MODE = (0x20, 0x0c, "the command is for append-only mode");
    INVALID_ELEMENT_ADDRESS = (0x21, 0x01, "invalid element address");
    INVALID_FIELD_IN_CDB = (0x24, 0x00, "invalid field in the command");
    LOGICAL_UNIT_NOT_SUPPORTED = (0x25, 0x00, "logical unit not supported");
    INVALID_FIELD_IN_PARAMETERS = (0x26, 0x00, "invalid field in the parameter list");
    INVALID_RELEASE = (0x26, 0x04, "invalid release of a persistent reservation");
    WRITE_PROTECTED = (0x27, 0x00, "write protected");
    HARDWARE_WRITE_PROTECTED = (0x27, 0x01, "write protected by the drive");
    SOFTWARE_WRITE_PROTECTED = (0x27, 0x02, "write protected by software");
    PERMANENT_WRITE_PROTECT = (0x27, 0x05, "medium permanently write protected");
    ASSOCIATED_WRITE_PROTECT = (0x27, 0x03, "associated write protect");
    PERSISTENT_WRITE_PROTECT = (0x27, 0x04, "persistent write protect");
    SPACE_ALLOCATION_WRITE_PROTECT = (0x27, 0x07, "write protect by the cartridge's tab or allocation");
    MEDIUM_MAY_HAVE_CHANGED = (0x28, 0x00, "medium may have changed");
    IMPORT_EXPORT_ACCESSED = (0x28, 0x01, "a mail slot was accessed");
    POWER_ON_OR_RESET = (0x29, 0x00, "power on, reset or bus device reset");
    POWER_ON = (0x29, 0x01, "power on");
    BUS_RESET = (0x29, 0x02, "bus reset");
    DEVICE_RESET = (0x29, 0x03, "device reset");
    NEXUS_LOSS = (0x29, 0x07, "connection lost");
    MODE_PARAMETERS_CHANGED = (0x2a, 0x01, "mode parameters changed");
    RESERVATIONS_PREEMPTED = (0x2a, 0x03, "reservations pre-empted");
    RESERVATIONS_RELEASED = (0x2a, 0x04, "reservations released");
    REGISTRATIONS_PREEMPTED = (0x2a, 0x05, "registrations pre-empted");
    COMMAND_SEQUENCE_ERROR = (0x2c, 0x00, "command sequence error");
    COMMANDS_CLEARED = (0x2f, 0x00, "commands cleared by another initiator");
    INCOMPATIBLE_MEDIUM = (0x30, 0x00, "incompatible medium");
    UNKNOWN_FORMAT = (0x30, 0x01, "can't read the medium: unknown format");
    INCOMPATIBLE_FORMAT = (0x30, 0x02, "can't read the medium: incompatible format");
    CLEANING_CARTRIDGE = (0x30, 0x03, "cleaning cartridge installed");
    CANNOT_WRITE_MEDIUM = (0x30, 0x05, "can't write the medium: incompatible format");
    WORM_OVERWRITE = (0x30, 0x0c, "a write-once medium: overwrite attempted");
    WORM_INTEGRITY = (0x30, 0x0d, "a write-once medium: integrity check failed");
    CLEANING_EXPIRED = (0x30, 0x13, "the cleaning cartridge is used up");
    MEDIUM_FORMAT_CORRUPTED = (0x31, 0x00, "medium format corrupted");
    MEDIUM_NOT_PRESENT = (0x3a, 0x00, "no medium");
    MEDIUM_NOT_PRESENT_TRAY_CLOSED = (0x3a, 0x01, "no medium, tray closed");
    MEDIUM_NOT_PRESENT_LOADABLE = (0x3a, 0x03, "no medium, loadable");
    MEDIUM_NOT_PRESENT_MAM = (0x3a, 0x04, "no medium threaded, memory accessible");
    SEQUENTIAL_POSITIONING_ERROR = (0x3b, 0x00, "sequential positioning error");
    POSITION_PAST_BEGINNING = (0x3b, 0x0c, "the position is past the beginning of the medium");
    DESTINATION_FULL = (0x3b, 0x0d, "the destination element is full");
    SOURCE_EMPTY = (0x3b, 0x0e, "the source element is empty");
    MAGAZINE_NOT_ACCESSIBLE = (0x3b, 0x11, "the magazine is not accessible");
    MAGAZINE_REMOVED = (0x3b, 0x12, "a magazine was removed");
    MAGAZINE_INSERTED = (0x3b, 0x13, "a magazine was inserted");
    MICROCODE_CHANGED = (0x3f, 0x01, "microcode changed");
    INTERNAL_FAILURE = (0x44, 0x00, "internal target failure");
    DATA_PHASE_ERROR = (0x4b, 0x00, "data phase error");
    WRITE_APPEND_POSITION = (0x50, 0x01, "write append position error");
    CARTRIDGE_FAULT = (0x52, 0x00, "the cartridge is bad");
    MEDIA_LOAD_FAILED = (0x53, 0x00, "loading or ejecting the medium failed");
    MEDIUM_REMOVAL_PREVENTED = (0x53, 0x02, "removing the medium is prevented");
    SECURITY_ERROR = (0x74, 0x00, "encrypted, and there is no key for it");
    UNABLE_TO_DECRYPT = (0x74, 0x01, "unable to decrypt");
    UNENCRYPTED_DATA = (0x74, 0x02, "not encrypted, but a key is set");
    INCORRECT_KEY = (0x74, 0x03, "another key is needed to decrypt");
    INSUFFICIENT_RESOURCES = (0x55, 0x03, "insufficient resources");
    AUXILIARY_MEMORY_FULL = (0x55, 0x06, "the cartridge's memory is full");
}
