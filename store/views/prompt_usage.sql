-- Which prompts were sent to which model, how often, and how did they fare? `cut_off` counts replies that hit the
-- token limit, `unpriced` calls whose price is unknown (they are not in `usd`).
CREATE OR REPLACE VIEW prompt_usage AS
SELECT
    template,
    template_hash,
    role,
    model,
    count(*) AS calls,
    count(*) FILTER (finish_reason = 'length') AS cut_off,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    avg(seconds) AS mean_seconds,
    sum(usd) AS usd,
    count(*) FILTER (usd IS NULL) AS unpriced,
    min(created_at) AS first_call,
    max(created_at) AS last_call
FROM llm_calls
GROUP BY template, template_hash, role, model
ORDER BY template, role, model, template_hash;
