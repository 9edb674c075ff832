-- The paths that a restore was asked for, each with a zero byte behind it: apart from its request, which is looked at all the time, for
-- they may be very many. NULL: everything, or as the request of an older job says.

ALTER TABLE jobs ADD COLUMN restore_paths bytea;
