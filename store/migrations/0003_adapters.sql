-- What LoRA was in the subject's model, so that a run can be made again. Rows from before had none and keep their ids.

ALTER TABLE experiments ADD COLUMN adapter VARCHAR;
