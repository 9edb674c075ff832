-- What a job waits for is told as fully as why one fails.

ALTER TABLE jobs ALTER COLUMN waiting_for TYPE varchar(2000);
ALTER TABLE attempts ALTER COLUMN waiting_for TYPE varchar(2000);
