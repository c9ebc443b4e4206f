-- Which tools is the agent's LLM offered, which does it use, and which runs were of use? `offered` counts the rounds of
-- steps in which a question named the tool, asked again or not; `used` the runs that the LLM chose, now or by predicting
-- about them; `by_code` those that code chose: no question before them had offered the tool. `decided` counts runs that
-- settled a prediction, `cited` those that a conclusion rests on, `useful` those that did either.
CREATE OR REPLACE VIEW tool_use AS
WITH offer AS (
    SELECT investigation, step, round, created_at, unnest(from_json(tools, '["VARCHAR"]')) AS tool FROM tool_offers
),
offered AS (
    SELECT tool, count(DISTINCT (investigation, step, round)) AS offered FROM offer GROUP BY tool
),
citation AS (
    SELECT DISTINCT unnest(from_json(claim -> 'evidence', '["VARCHAR"]')) AS experiment
    FROM (SELECT unnest(from_json(claims, '["JSON"]')) AS claim FROM conclusions)
),
run AS (
    SELECT
        experiment.tool,
        NOT EXISTS (
            SELECT 1 FROM offer
            WHERE offer.investigation = use.investigation
            AND offer.tool = experiment.tool
            AND offer.created_at <= use.created_at
        ) AS by_code,
        experiment.error IS NOT NULL AS failed,
        EXISTS (SELECT 1 FROM judgements j WHERE j.experiment = experiment.id AND j.held IS NOT NULL) AS decided,
        experiment.id IN (SELECT experiment FROM citation) AS cited,
        experiment.seconds
    FROM tool_uses use
    JOIN experiments experiment ON experiment.id = use.experiment
),
used AS (
    SELECT
        tool,
        count(*) FILTER (NOT by_code) AS used,
        count(*) FILTER (by_code) AS by_code,
        count(*) FILTER (failed) AS failed,
        count(*) FILTER (decided) AS decided,
        count(*) FILTER (cited) AS cited,
        count(*) FILTER (decided OR cited) AS useful,
        sum(seconds) AS seconds
    FROM run
    GROUP BY tool
)
SELECT
    tool,
    coalesce(offered, 0) AS offered,
    coalesce(used, 0) AS used,
    coalesce(by_code, 0) AS by_code,
    coalesce(failed, 0) AS failed,
    coalesce(decided, 0) AS decided,
    coalesce(cited, 0) AS cited,
    coalesce(useful, 0) AS useful,
    coalesce(seconds, 0) AS seconds
FROM offered FULL JOIN used USING (tool)
ORDER BY useful DESC, used DESC, offered DESC, tool;
