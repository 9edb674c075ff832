-- Cleaning without being told. clean_due: the drive has begun to ask, and nothing was done for it yet; clean_waits_for: why not.
-- cleaned_at: when it was cleaned last. One that asks again within a day has another fault, and is left to people.
ALTER TABLE drives ADD COLUMN clean_due boolean NOT NULL DEFAULT false;
ALTER TABLE drives ADD COLUMN clean_waits_for varchar(400);
ALTER TABLE drives ADD COLUMN cleaned_at timestamptz;
UPDATE drives SET clean_due = true WHERE cleaning IN ('requested', 'required');
