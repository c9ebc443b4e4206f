-- Which runs failed, and why? `resolved` says that the same run (equal key) has succeeded since.
CREATE OR REPLACE VIEW failures AS
SELECT
    failed.latent,
    failed.tool,
    failed.error,
    EXISTS (
        SELECT 1 FROM experiments again
        WHERE again.key = failed.key AND again.error IS NULL AND again.created_at > failed.created_at
    ) AS resolved,
    failed.id AS experiment,
    failed.subject,
    failed.seed,
    failed.created_at
FROM experiments failed
WHERE failed.error IS NOT NULL
ORDER BY failed.created_at DESC, failed.id;
