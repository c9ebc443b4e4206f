-- How the subject of a run was opened (model, dictionary, hook point, dtype, base model), so that a run outside an
-- investigation can be made again. Rows from before do not say it and keep their ids.

ALTER TABLE experiments ADD COLUMN opening JSON;
