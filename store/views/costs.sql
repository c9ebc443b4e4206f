-- What was spent, per day (UTC), role and model? `usd` is null while no price is known; `unpriced` counts such calls.
CREATE OR REPLACE VIEW costs AS
SELECT
    created_at::DATE AS day,
    role,
    model,
    count(*) AS calls,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    sum(usd) AS usd,
    count(*) FILTER (usd IS NULL) AS unpriced,
    sum(seconds) AS seconds
FROM llm_calls
GROUP BY day, role, model
ORDER BY day, role, model;
