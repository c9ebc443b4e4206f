-- Which tools is the agent offered, which does it use, and which of those runs were of use? `decided` counts runs that
-- settled a prediction, `cited` those that a conclusion rests on, `useful` those that did either.
CREATE OR REPLACE VIEW tool_use AS
WITH offer AS (
    SELECT step, unnest(from_json(tools, '["VARCHAR"]')) AS tool FROM tool_offers
),
offered AS (
    SELECT step, tool, count(*) AS offered FROM offer GROUP BY step, tool
),
citation AS (
    SELECT DISTINCT unnest(from_json(claim -> 'evidence', '["VARCHAR"]')) AS experiment
    FROM (SELECT unnest(from_json(claims, '["JSON"]')) AS claim FROM conclusions)
),
run AS (
    SELECT
        use.step,
        experiment.tool,
        experiment.error IS NOT NULL AS failed,
        EXISTS (SELECT 1 FROM judgements j WHERE j.experiment = experiment.id AND j.held IS NOT NULL) AS decided,
        experiment.id IN (SELECT experiment FROM citation) AS cited,
        experiment.seconds
    FROM tool_uses use
    JOIN experiments experiment ON experiment.id = use.experiment
),
used AS (
    SELECT
        step,
        tool,
        count(*) AS used,
        count(*) FILTER (failed) AS failed,
        count(*) FILTER (decided) AS decided,
        count(*) FILTER (cited) AS cited,
        count(*) FILTER (decided OR cited) AS useful,
        sum(seconds) AS seconds
    FROM run
    GROUP BY step, tool
)
SELECT
    tool,
    step,
    coalesce(offered, 0) AS offered,
    coalesce(used, 0) AS used,
    coalesce(failed, 0) AS failed,
    coalesce(decided, 0) AS decided,
    coalesce(cited, 0) AS cited,
    coalesce(useful, 0) AS useful,
    coalesce(seconds, 0) AS seconds
FROM offered FULL JOIN used USING (step, tool)
ORDER BY useful DESC, used DESC, offered DESC, tool, step;
