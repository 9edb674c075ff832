-- When a recording is given up, the parts that only its indexes tell of are looked for.

CREATE INDEX parts_covered ON parts (covered_by) WHERE covered_by IS NOT NULL;
CREATE INDEX parts_listed ON parts (listed_by) WHERE listed_by IS NOT NULL;
