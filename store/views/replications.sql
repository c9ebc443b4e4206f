-- Which runs were made more than once, and did they agree? Equal keys are the same tool, version, subject, input, seed.
CREATE OR REPLACE VIEW replications AS
SELECT
    any_value(tool) AS tool,
    any_value(latent) AS latent,
    count(*) AS runs,
    count(*) FILTER (error IS NOT NULL) AS failed,
    count(DISTINCT output::VARCHAR) AS different_outputs,
    arg_min(id, created_at) AS first,
    arg_max(id, created_at) AS last,
    any_value(input) AS input,
    key
FROM experiments
GROUP BY key
HAVING count(*) > 1
ORDER BY max(created_at) DESC, key;
